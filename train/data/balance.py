"""Draws from data sets of different sizes, so that a large one does not drown the others."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
ALPHA = 0.5  # of a group's size, whose power is its share


class Balanced(Generic[T]):
    """Items of several groups: the share of a group goes with the square root of its size, and
    within a group all are as likely (temperature sampling: Devlin 2018, multilingual BERT;
    Arivazhagan et al. 2019, arXiv:1907.05019, section 4.2)."""

    def __init__(self, items: Sequence[T], groups: Sequence[Hashable]) -> None:
        """``groups``: of each item."""
        sizes = Counter(groups)
        self.items = list(items)
        self.weights = [sizes[group] ** (ALPHA - 1) for group in groups]
        self._sums = list(itertools.accumulate(self.weights))

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, maker: random.Random) -> T:
        """One item."""
        return maker.choices(self.items, cum_weights=self._sums)[0]

    def sample(self, maker: random.Random, count: int) -> list[T]:
        """Different items, at most as many as there are (Efraimidis, Spirakis 2006)."""
        waits = [maker.expovariate(weight) for weight in self.weights]
        chosen = heapq.nsmallest(count, range(len(waits)), waits.__getitem__)
        return [self.items[i] for i in chosen]
