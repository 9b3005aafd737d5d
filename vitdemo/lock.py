"""A lock that is given in the order it was asked for."""

import threading
from collections import deque
from types import TracebackType

from vitdemo import wanted


class FairLock:
    """Like `threading.Lock`, first come, first served.

    A plain lock may be taken again by the thread that has just let it go; a folder that is being
    indexed, batch after batch, would then keep a caption waiting. Use it in a `with` statement.
    Work that nobody waits for any more does not get it: it ends with `wanted.NotWanted`.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()  # held only for the few lines below
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> "FairLock":
        wanted.check()
        self._take()
        try:
            wanted.check()  # it may have waited for long
        except wanted.NotWanted:
            self.__exit__(None, None, None)
            raise
        return self

    def _take(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()  # until the one before hands over
        except BaseException:  # Ctrl-C while waiting: leave the queue, or pass the turn on
            with self._guard:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._hand_over()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with self._guard:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()  # stays held, by the next
        else:
            self._held = False
