"""Long work that shows how far it is, can be cancelled, and ends when its page is left."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass
from typing import Generic, TypeVar

from vitdemo.texts import phrase
from vitdemo.wanted import for_a_thread

T = TypeVar("T")
Now = TypeVar("Now")
Said = TypeVar("Said")

SECONDS = 0.4  # between two looks at how far it is


class Cancelled(Exception):
    """Raised within a call whose job was cancelled."""


@dataclass
class Job(Generic[Now]):
    """One page's long work: what it said last of how far it is. ``stop`` ends it soon."""

    running: bool = False
    stopped: bool = False
    now: Now | None = None

    def stop(self) -> None:
        """Ask the work to end; it may take a moment to."""
        self.stopped = True

    def tell(self, now: Now) -> None:
        """To be called by the work, with how far it is.

        Raises:
            Cancelled: it was asked to end.
        """
        self.now = now
        if self.stopped:
            raise Cancelled

    def count(self: "Job[tuple[int, int]]", done: int, total: int) -> None:
        """`tell` of two numbers."""
        self.tell((done, total))


def followed(job: Job[Now], call: Callable[[], T], say: Callable[[Now], Said],
             seconds: float = SECONDS) -> Generator[Said, None, T]:
    """Run ``call()`` in a thread; yields what ``say`` makes of what it tells the job, whenever that
    is new. Gives what the call gives.

    Where the generator is closed before its end, as when the page is left, the job is stopped and
    its end is waited for.
    """
    job.running, job.stopped, job.now = True, False, None
    told: Now | None = None
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(for_a_thread(call))
        try:
            while True:
                try:
                    return work.result(timeout=seconds)
                except StillRunning:
                    if work.done():  # it was the call itself that timed out
                        raise
                if job.now is not None and job.now is not told:
                    told = job.now
                    yield say(told)
        finally:
            job.stop()
            job.running = False


def duration(seconds: float) -> str:
    """A time for a person: "about 3 minutes"."""
    if seconds < 10:
        return phrase("duration.few")
    if seconds < 90:
        return phrase("duration.seconds", number=10 * round(seconds / 10))
    if seconds < 5400:
        return phrase("duration.minutes", number=round(seconds / 60))
    return phrase("duration.hours", number=round(seconds / 3600))
