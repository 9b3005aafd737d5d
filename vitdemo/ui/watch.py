"""Long calls of the engine that tell how far they are, and end early when nobody waits for them."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from typing import TypeVar

from vitdemo.wanted import for_a_thread

T = TypeVar("T")
Tell = Callable[[int, int], None]

SECONDS = 3.0  # between two sentences about how far it is


class _LeftAlone(Exception):
    """Raised within a call that nobody waits for any more."""


def watched(call: Callable[[Tell], T], seconds: float = SECONDS) -> Generator[str, None, T]:
    """Run ``call(tell)`` in a thread; yields how far it is now and then and returns its result.

    ``tell(done, total)`` is to be called with the number of blurred pictures done and in all. Where
    the generator is closed before its end, the next `tell` ends the call.
    """
    left = threading.Event()
    far = (0, 0)

    def tell(done: int, total: int) -> None:
        nonlocal far
        if left.is_set():
            raise _LeftAlone
        far = (done, total)

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(for_a_thread(lambda: call(tell)))
        try:
            while True:
                try:
                    return job.result(timeout=seconds)
                except StillRunning:
                    if job.done():  # it was the call itself that timed out
                        raise
                yield (f"Trying the picture with parts of it blurred: {far[0]} of {far[1]} …"
                       if far[1] else "Checking the maps …")
        finally:
            left.set()
