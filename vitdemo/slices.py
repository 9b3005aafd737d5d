"""Long work in short slices, cut by the time that the last ones took."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SLICE_SECONDS = 0.08  # for about so long work that can be cut holds the device at a time


class Slices:
    """How many items the next slice takes: about as many as fit in ``seconds``.

    ``fewest`` is how many a slice takes at least, so that a slow or busy machine does not spend its
    time on starting anew, and how many the first one takes; ``most`` bounds its memory. A slice
    takes at most twice as many as the one before. ``clock`` gives seconds.
    """

    def __init__(self, fewest: int, most: int, seconds: float = SLICE_SECONDS,
                 clock: Callable[[], float] = time.perf_counter) -> None:
        self.fewest, self.most, self.seconds = fewest, most, seconds
        self._clock = clock
        self._size = fewest

    def __call__(self) -> int:
        """Items in the next slice; a multiple of ``fewest`` but for the bound."""
        return self._size

    @contextmanager
    def timed(self, count: int) -> Iterator[None]:
        """Around the work on ``count`` items, learns from how long it takes."""
        start = self._clock()
        yield
        pace = (self._clock() - start) / count
        fits = self.most if pace * self.most <= self.seconds else int(self.seconds / pace)
        fits = min(fits, 2 * max(count, self.fewest), self.most)
        self._size = max(self.fewest, fits - fits % self.fewest)

    def each(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Result],
             turn: AbstractContextManager[object]) -> list[Result]:
        """``work`` of all items, a slice at a time, each within ``turn``: the device's lock."""
        results: list[Result] = []
        first = 0
        while first < len(items):
            some = items[first:first + self()]
            with turn, self.timed(len(some)):
                results.append(work(some))
            first += len(some)
        return results
