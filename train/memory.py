"""Pairs of the steps before, as further wrong ones for the contrastive loss.

With small steps there are few wrong pairs to tell from the right one; vectors of steps that are not
long ago have hardly changed and serve as well (Wang, Zhang, Huang, Scott 2020, "Cross-Batch Memory
for Embedding Learning", section 3.2). Shapes: A pairs of a step, M kept ones, E embedding width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Pairs:
    """``rows`` (M,) say which row of the data each picture is; vectors of ``pictures`` and
    ``texts`` (M, E)."""

    rows: Tensor
    pictures: Tensor
    texts: Tensor


class PairMemory:
    """The last ``size`` pairs of each language."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: dict[str, Pairs] = {}

    def get(self, language: str, like: Tensor) -> Pairs:
        """What is kept of a language, on the device and in the type of ``like`` (A, E)."""
        kept = self.kept.get(language)
        if kept is None:
            none = like.new_zeros(0, like.shape[1])
            return Pairs(torch.zeros(0, dtype=torch.long, device=like.device), none, none)
        return Pairs(kept.rows.to(like.device), kept.pictures.to(like), kept.texts.to(like))

    @torch.no_grad()
    def add(self, language: str, rows: Tensor, pictures: Tensor, texts: Tensor) -> None:
        """Keep a step's pairs, of all processes, and drop the oldest ones."""
        if not self.size:
            return
        now = Pairs(rows.cpu(), pictures.detach().float().cpu(), texts.detach().float().cpu())
        before = self.kept.get(language, Pairs(now.rows[:0], now.pictures[:0], now.texts[:0]))
        self.kept[language] = Pairs(*(
            torch.cat((getattr(before, name), getattr(now, name)))[-self.size:]
            for name in ("rows", "pictures", "texts")))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a resumed run needs: plain tensors."""
        return {language: vars(pairs) for language, pairs in self.kept.items()}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Put back what `state` gave."""
        self.kept = {language: Pairs(**found) for language, found in state.items()}


def without_own(similarity: Tensor, rows: Tensor, kept: Tensor) -> Tensor:
    """Cosines (P, M) with kept pairs: those of the same picture (``rows`` (P,), ``kept`` (M,)) are
    right ones and count for nothing."""
    same = rows[:, None] == kept[None]
    return similarity.float().masked_fill(same, -torch.inf)
