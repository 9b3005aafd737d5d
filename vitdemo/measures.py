"""What is counted while the model works: numbers alone, never a text or a picture."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Measures:
    """Sums by name, and by a word that tells apart what is summed. Safe for several threads.

    ``values`` maps (name, word) to how many values there were, and their sum.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, str], tuple[int, float]] = {}

    def add(self, name: str, word: str, value: float) -> None:
        """Count one value."""
        with self._lock:
            count, total = self._values.get((name, word), (0, 0.0))
            self._values[name, word] = (count + 1, total + value)

    @contextmanager
    def stage(self, word: str) -> Iterator[None]:
        """A block whose seconds are counted, also where it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add("seconds", word, time.perf_counter() - start)

    def values(self) -> dict[tuple[str, str], tuple[int, float]]:
        """All sums so far."""
        with self._lock:
            return dict(self._values)
