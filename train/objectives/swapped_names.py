"""Names that are swapped: what teaches the decoder to believe the eyes' names.

In a share of the pictures a name that the caption holds is replaced by another one, in the caption
and among the names that may be copied: then only copying explains the word (the idea of a copy that
cannot be guessed; cf. See et al. 2017, where unseen words force the pointer). Shapes as in
`vitdemo.models.pointer`; S tokens of a target.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from train.data.batches import TextBatch
from vitdemo.models.names import NamesHead
from vitdemo.models.pointer import Names

SHARE = 0.3  # of pictures with a name replaced, where they hold one


def swap_names(batch: TextBatch, names: Names, head: NamesHead,
               share: float = SHARE) -> tuple[TextBatch, Names, Tensor]:
    """The batch and its names with a name of about ``share`` of the pictures replaced, and of which
    pictures the texts are still true, bool (P,)."""
    assert head.forms is not None and head.starts is not None
    forms = head.forms.tolist()  # language, name, form, tokens
    count = len(names.ids)
    each = len(batch.targets) // count
    targets, mask = batch.targets.clone(), batch.target_mask.clone()
    ids, true = names.ids.clone(), torch.ones_like(batch.rows, dtype=torch.bool)
    for picture, (chance, choice) in enumerate(batch.swaps.tolist()):
        if chance >= share:
            continue
        rows = range(picture * each, (picture + 1) * each)
        language = int(targets[rows[0], 0] == names.starts[1])
        texts = {row: targets[row][mask[row]].tolist() for row in rows}
        shown = [[t for t in entry if t >= 0] for entry in ids[picture, language].tolist()]
        for place in range(0, len(shown), 2):
            if names.chances[picture, place] > 0 and any(
                    _find(text, form) is not None for text in texts.values()
                    for form in shown[place:place + 2] if form):
                break
        else:
            continue
        pair = shown[place:place + 2]
        other = [[t for t in form if t >= 0]
                 for form in forms[language][int(choice * len(forms[language]))]]
        if not other[0] or other[0] in shown or (head.vowel(other[0]) != head.vowel(pair[0])):
            continue
        longest = targets.shape[1]
        changed = {row: _replaced(text, pair, other)[:longest] for row, text in texts.items()}
        for row, text in changed.items():
            targets[row], mask[row] = 0, False
            targets[row, :len(text)] = torch.tensor(text, device=targets.device)
            mask[row, :len(text)] = True
        for k in range(2):
            ids[picture, language, place + k] = -1
            ids[picture, language, place + k, :len(other[k])] = torch.tensor(other[k])
        true[picture] = False
    swapped = dataclasses.replace(batch, targets=targets, target_mask=mask)
    return swapped, dataclasses.replace(names, ids=ids), true


def _find(text: Sequence[int], form: Sequence[int], start: int = 1) -> int | None:
    size = len(form)
    return next((i for i in range(start, len(text) - size + 1)
                 if list(text[i:i + size]) == list(form)), None)


def _replaced(text: list[int], pair: Sequence[list[int]], other: Sequence[list[int]]) -> list[int]:
    """The text with each form of a name replaced by the same form of another; what was put in is
    not looked at again."""
    for form, new in zip(pair, other, strict=True):
        if not form:
            continue
        instead = new or other[0]
        at = _find(text, form)
        while at is not None:
            text = [*text[:at], *instead, *text[at + len(form):]]
            at = _find(text, form, at + len(instead))
    return text
