"""Names that are swapped: what teaches the decoder to believe the eyes' names.

In a share of the pictures a name that the caption holds is replaced by another one, in the caption
and among the names that may be copied: then only copying explains the word (the idea of a copy that
cannot be guessed; cf. See et al. 2017, where unseen words force the pointer). Only whole words are
replaced, and no part of a longer name: a "dog" in "hot dog" and the 钟 of 时钟 stay. Shapes as in
`vitdemo.models.pointer`; S tokens of a target.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from train.data.batch_sampler import TextBatch
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
    for picture, (chance, choice) in enumerate(batch.draws.tolist()):
        if chance >= share:
            continue
        rows = range(picture * each, (picture + 1) * each)
        language = int(targets[rows[0], 0] == names.starts[1])
        longer = functools.partial(_longer, forms[language])
        texts = {row: targets[row][mask[row]].tolist() for row in rows}
        bounds = {row: _bounds(batch.words[row].tolist()) for row in rows}
        shown = [[t for t in entry if t >= 0] for entry in ids[picture, language].tolist()]
        for place in range(0, len(shown), 2):
            if names.chances[picture, place] > 0 and any(
                    _places(texts[row], form, bounds[row], longer(form)) for row in rows
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
        changed = {row: _replaced(text, pair, other, bounds[row], longer)[:longest]
                   for row, text in texts.items()}
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


def _bounds(words: Sequence[int]) -> set[int]:
    """The places in a row where a whole word may begin, or where one has ended."""
    return {i for i in range(1, len(words)) if words[i] < 0 or words[i] != words[i - 1]}


def _longer(names: Sequence[Sequence[Sequence[int]]], form: Sequence[int]) -> list[list[int]]:
    """The forms of other names that hold this one and more."""
    return [other for name in names for padded in name
            if len(other := [t for t in padded if t >= 0]) > len(form) and _found(other, form)]


def _found(text: Sequence[int], form: Sequence[int]) -> list[int]:
    """Where these tokens stand in a text."""
    size = len(form)
    return [i for i in range(len(text) - size + 1) if list(text[i:i + size]) == list(form)]


def _places(text: Sequence[int], form: Sequence[int], bounds: set[int],
            longer: Sequence[Sequence[int]]) -> list[int]:
    """Where a form of a name stands as whole words, and in no longer name."""
    size = len(form)
    taken = {i for other in longer for start in _found(text, other)
             for i in range(start, start + len(other))}
    return [i for i in _found(text, form)
            if i in bounds and i + size in bounds and i not in taken]


def _replaced(text: list[int], pair: Sequence[list[int]], other: Sequence[list[int]],
              bounds: set[int], longer: Callable[[Sequence[int]], list[list[int]]]) -> list[int]:
    """The text with each form of a name replaced by the same form of another."""
    changes = {place: (len(form), new or other[0])
               for form, new in zip(pair, other, strict=True) if form
               for place in _places(text, form, bounds, longer(form))}
    made, i = [], 0
    while i < len(text):
        size, instead = changes.get(i, (1, text[i:i + 1]))
        made += instead
        i += size
    return made
