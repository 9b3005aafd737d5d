"""A lock on the device that lets what a person waits for go before checks."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from types import TracebackType

from vitdemo import wanted

PAUSE = 0.05  # seconds without a user action after which checks begin
SHARE = 16  # turns of user actions after which one slice of a check has its turn


class DeviceLock:
    """Like `threading.Lock`, with two lines to wait in, each first come, first served.

    ``with lock:`` is for what a person waits for, ``with lock.later:`` for checks: work that is
    long, is cut into short slices, and goes on while nobody waits for anything else. A word that
    is being written comes back for the next one a moment after it let the lock go; so a check
    begins only ``pause`` seconds after the last user action, and the word waits for no slice. That
    no check waits for ever, one slice has its turn after ``share`` turns of user actions.
    Work that nobody waits for any more gets no turn: it ends with `wanted.NotWanted`. ``clock``
    gives seconds.
    """

    def __init__(self, pause: float = PAUSE, share: int = SHARE,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._pause, self._share, self._clock = pause, share, clock
        self._changed = threading.Condition(threading.Lock())
        self._holder: deque[object] | None = None  # the line of whoever has it
        self._users: deque[object] = deque()
        self._checks: deque[object] = deque()
        self._closed: Exception | None = None
        self._passed = 0  # user turns that went before the check that is first in line
        self._quiet_since = -pause  # when the last user turn ended
        self.later = _Later(self)

    def __enter__(self) -> "DeviceLock":
        self._take(self._users)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._give_back()

    @contextmanager
    def unless(self, needless: Callable[[], bool]) -> Iterator[bool]:
        """``with lock:``, but who waits leaves the line when ``needless()``; whether it was got.
        That is looked at whenever a turn ends."""
        got = self._take(self._users, needless)
        try:
            yield got
        finally:
            if got:
                self._give_back()

    def close(self, error: Exception) -> None:
        """Nobody gets it any more: who waits for it, or asks for it later, is raised ``error``. To
        be called by who has it."""
        with self._changed:
            self._closed = error

    def waiting(self) -> tuple[int, int]:
        """How many user actions and how many checks wait."""
        with self._changed:
            return len(self._users), len(self._checks)

    def _take(self, line: deque[object], needless: Callable[[], bool] = lambda: False) -> bool:
        wanted.check()
        if not self._wait(line, needless):
            return False
        try:
            wanted.check()  # it may have waited for long
            if self._closed is not None:
                raise copy(self._closed)  # which comes to know of what is under way here
        except Exception:
            self._give_back()
            raise
        return True

    def _wait(self, line: deque[object], needless: Callable[[], bool]) -> bool:
        me = object()
        with self._changed:
            line.append(me)
            try:
                while (seconds := self._seconds_until(me)) != 0:
                    if needless():
                        return False
                    self._changed.wait(seconds)
                self._holder = line
                return True
            finally:  # also where Ctrl-C ends the waiting
                line.remove(me)
                self._changed.notify_all()

    def _seconds_until(self, me: object) -> float | None:
        """0: it is this one's turn; None: not before something changes."""
        urgent = bool(self._checks) and self._passed >= self._share
        line = self._users if self._users and not urgent else self._checks
        if self._holder is not None or not line or line[0] is not me:
            return None
        if line is self._users or urgent:
            return 0
        # For a check: how long nobody must come yet.
        return max(0.0, self._quiet_since + self._pause - self._clock())

    def _give_back(self) -> None:
        with self._changed:
            if self._holder is self._users:
                self._quiet_since = self._clock()
                self._passed += bool(self._checks)
            else:
                self._passed = 0
            self._holder = None
            self._changed.notify_all()


class _Later:
    """The line of checks."""

    def __init__(self, lock: DeviceLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock._take(self._lock._checks)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._lock._give_back()
