"""The memory that decoded pictures may take, all together: one budget for the whole process.

It is counted in pixels of 4 bytes, as Pillow keeps RGB. Who decodes takes a share first, as large
as the work's peak, keeps less of it while the picture is in use, and gives it back with the
picture. Shares are given in the order of asking, so that a large picture is not passed over for
ever by small ones.
"""

import contextlib
import gc
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterator

from vitdemo.config import LIMITS
from vitdemo.errors import BusyError

PATIENCE = 60.0  # seconds that a picture waits for its share
_SHORT = 1.0  # seconds, until pictures are looked for that nobody uses and nobody has let go


class Share:
    """What one decode, and then its picture, holds of a budget."""

    def __init__(self, budget: "PixelBudget", pixels: int, holder: int) -> None:
        self._budget = budget
        self._pixels = pixels
        self._holder = holder

    def keep(self, pixels: int, owner: object = None) -> None:
        """Give back all but so many pixels, and those together with ``owner``."""
        back, self._pixels = max(0, self._pixels - pixels), min(pixels, self._pixels)
        self._budget._give_back(back, self._holder)
        if owner is not None:
            weakref.finalize(owner, self.keep, 0).atexit = False


class PixelBudget:
    """So many ``pixels`` may be decoded at once. Safe to use from several threads."""

    def __init__(self, pixels: int, patience: float = PATIENCE) -> None:
        self.total = pixels
        self.patience = patience
        self.peak = 0  # most that were held at once
        self._used = 0
        self._holders: Counter[int] = Counter()  # by thread
        self._waiting: deque[object] = deque()
        self._several = threading.Lock()  # of who holds some and waits for more
        self._changed = threading.Condition()  # its lock may be taken again within a finalizer

    @property
    def used(self) -> int:
        """Pixels that are held now."""
        return self._used

    def take(self, pixels: int, name: str = "The picture", patience: float | None = None) -> Share:
        """Wait for a share. One that is larger than the whole budget takes all of it, alone.

        Raises:
            BusyError: others did not let go in time; or this thread holds so many itself that
                waiting would be for ever.
        """
        pixels = min(pixels, self.total)
        thread, ticket = threading.get_ident(), object()
        patience = self.patience if patience is None else patience
        with self._changed:
            if self._holders[thread] + pixels > self.total:
                raise BusyError("picture.too_many_open", name=name,
                                most=f"{self.total / 1e6:g}")
            # Who holds something is served first: the others may be waiting for just that.
            add = self._waiting.appendleft if self._holders[thread] else self._waiting.append
            add(ticket)

        def fits() -> bool:
            return self._waiting[0] is ticket and self._used + pixels <= self.total

        try:
            with self._changed:
                ready = self._changed.wait_for(fits, min(_SHORT, patience))
            if not ready:
                gc.collect()  # a picture in a circle of references is let go here
            with self._changed:
                if not self._changed.wait_for(fits, max(0.0, patience - _SHORT)):
                    raise BusyError("picture.others_open", name=name)
                self._used += pixels
                self.peak = max(self.peak, self._used)
                self._holders[thread] += pixels
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        return Share(self, pixels, thread)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """For who needs several shares at the same time: one at a time, so that no two of them wait
        for what the other holds.

        Raises:
            BusyError: another one took too long.
        """
        if not self._several.acquire(timeout=self.patience):
            raise BusyError("picture.others_are_read")
        try:
            yield
        finally:
            self._several.release()

    def _give_back(self, pixels: int, holder: int) -> None:
        if not pixels:
            return
        with self._changed:
            self._used -= pixels
            self._holders[holder] -= pixels
            if not self._holders[holder]:
                del self._holders[holder]
            self._changed.notify_all()


BUDGET = PixelBudget(LIMITS.max_open_megapixels * 1_000_000)
