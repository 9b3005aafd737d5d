"""Teaches the match head what answers claim (`vitdemo.statements`), true or not.

Each question comes with the claim of a right answer and of a wrong one. Wrong answers are drawn as
often as they are right elsewhere, where the question begins alike: so what the words alone make
likely tells nothing, and the logit becomes log p(picture | claim) / p(picture), which is what
answers are weighed by (`vitdemo.models.answering`). A yes/no question comes with what yes claims.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from train.data.instructions import Example
from train.data.reading import Row
from vitdemo.models.vlm import VLM
from vitdemo.statements import is_no, is_yes, statement
from vitdemo.words import normalise_answer

Claim = tuple[str, bool]  # a sentence, and whether it is true of the picture
_OPENING = 5  # first words of a question, at most, that others must share
_FEWEST = 6  # different answers to questions that begin alike, or fewer words must be shared


@dataclass
class ClaimBatch:
    """Pictures with claims: features (P, N, C), rows (P,), noise (P, N); of the R claims ids and
    mask (R, T), the place of their picture ``about`` (R,), ``right`` (R,) 1 or 0; ``total``: how
    many claims all processes hold."""

    features: Tensor
    rows: Tensor
    noise: Tensor
    ids: Tensor
    mask: Tensor
    about: Tensor
    right: Tensor
    total: int


class ClaimMaker:
    """Makes claims of questions with their right answers."""

    def __init__(self, examples: Sequence[Example], rows: Sequence[Row]) -> None:
        """``examples``: all there are, from which wrong answers are drawn."""
        self._right: dict[tuple[int, str], set[str]] = {}
        for i, row in enumerate(rows):
            for asked in row.questions:
                self._right.setdefault((i, asked.question), set()).update(
                    map(normalise_answer, (asked.answer, *asked.answers)))
        counts: dict[tuple[str, ...], Counter[str]] = {}
        for example in examples:
            answer = normalise_answer(example.target)
            self._right.setdefault((example.row, example.instruction), set()).add(answer)
            for opening in _openings(example):
                counts.setdefault(opening, Counter())[answer] += 1
        self._others = {opening: (list(found), list(found.values()))
                        for opening, found in counts.items() if len(found) >= _FEWEST}

    def claims(self, example: Example, maker: random.Random) -> list[Claim]:
        """A true and a false one; or what yes claims, true or not; or, where no wrong answer is
        known, the true one alone."""
        answer, asked = normalise_answer(example.target), example.instruction
        if is_no(answer) or is_yes(answer):
            return [(statement(asked, answer), is_yes(answer))]
        said, right = statement(asked, answer), self._right[(example.row, asked)]
        for opening in _openings(example):
            answers, odds = self._others.get(opening, ((), ()))
            kept = [(other, weight) for other, weight in zip(answers, odds, strict=True)
                    if other not in right and not is_no(other) and not is_yes(other)]
            if kept:
                [wrong] = maker.choices([other for other, _ in kept], [w for _, w in kept])
                claimed = statement(asked, wrong)
                return [(said, True)] + [(claimed, False)] * (claimed != said)  # three is 3
        return [(said, True)]


def _openings(example: Example) -> list[tuple[str, ...]]:
    """What questions with a like answer share: their first words, the most first; in Chinese,
    where those tell little, their kind."""
    if example.language != "en":
        return [(example.language, example.kind)]
    words = example.instruction.lower().rstrip(" ?").split()
    return [tuple(words[:n]) for n in range(min(_OPENING, len(words)), 0, -1)]


def claim_loss(model: VLM, batch: ClaimBatch, tokens: Tensor) -> Tensor:
    """Binary cross entropy of the match head's logits of all claims, meaned over those of all
    processes. ``tokens`` (P, n, D): the picture tokens that are kept."""
    words, z = model.encode_text(batch.ids, batch.mask)
    memory = model.fuse(tokens[batch.about], words, batch.mask, z)
    evidence = model.weigh_words(model.regions(batch.features)[batch.about], batch.ids, batch.mask)
    pictures = model.picture_head(batch.features)[batch.about]
    logits = model.match(memory, batch.mask, pictures, z, evidence, claimed=True)
    loss = F.binary_cross_entropy_with_logits(logits.float(), batch.right, reduction="sum")
    return loss / batch.total
