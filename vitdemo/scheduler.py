"""Texts of several visitors, written as one batch: each joins and leaves between two words.

There is no thread of its own. Whoever waits for a word and gets the device writes a word of
everybody's text, and the others find theirs there (continuous batching: Yu et al. 2022, "Orca",
section 3; flat combining: Hendler et al. 2010). A model that writes one text at a time goes the
same way, by batches of one.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar

from vitdemo import wanted
from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.feature_cache import FeatureCache
from vitdemo.lock import DeviceLock
from vitdemo.measures import Measures
from vitdemo.preprocess import Picture
from vitdemo.streams import width
from vitdemo.wanted import NotWanted

T = TypeVar("T")
Begin = Callable[[PictureFeatures], Iterator[T]]


class _Job(Generic[T]):
    """A text, what was written of it and not yet taken, and how it ended."""

    def __init__(self, backend: Backend, picture: Picture, begin: Begin[T]) -> None:
        self.backend, self.picture, self.begin = backend, picture, begin
        self.wanted = wanted.current()
        self.text: Iterator[T] | None = None
        self.made: deque[T] = deque()
        self.over = False
        self.error: Exception | None = None
        self.last = 0  # the number of its last word among all texts'
        self.start = time.perf_counter()

    def waits(self) -> bool:
        """Whether its owner has nothing to take."""
        return not (self.made or self.over)

    def fail(self, error: Exception) -> None:
        """It ends, and its owner is raised ``error``."""
        self.over, self.error = True, error


class Scheduler:
    """Gives each text that is being written its words, in turns of the device.

    In a turn at most as many new pictures are encoded as there are cores, and then every text of
    the model that is asked has a word. Where there are more than ``Backend.together``, those have
    one that have waited for longest. A model that writes one at a time writes for who has the
    device.
    """

    def __init__(self, lock: DeviceLock, features: FeatureCache, measures: Measures) -> None:
        self._lock, self._features, self._measures = lock, features, measures
        # An ordered set. It is changed by single calls alone, which need no lock: that a text was
        # left may be told by the garbage collector, in any thread.
        self._jobs: dict[_Job[Any], None] = {}
        self._words = 0

    def write(self, backend: Backend, picture: Picture, begin: Begin[T]
              ) -> Generator[T, None, None]:
        """What ``begin`` yields of the features of a picture: `Backend.generate` or `answering`,
        of this very backend. It may be left at any time, and then has no part in the next turn.

        Raises:
            NotWanted: nobody waits for it any more.
        """
        job = _Job(backend, picture, begin)
        self._jobs[job] = None
        try:
            while True:
                while job.waits():
                    with self._lock.unless(lambda: not job.waits()) as mine:
                        if mine and job.waits():
                            self._turn(job)
                over = job.over  # looked at first: nothing is made after that
                while job.made:
                    yield job.made.popleft()
                    wanted.check()
                if over and job.error is not None:
                    raise job.error
                if over:
                    return
        finally:
            self._jobs.pop(job, None)
            job.error = None  # which knows of this very frame
            close = getattr(job.text, "close", None)
            if close is not None:
                close()

    def _turn(self, mine: _Job[Any]) -> None:
        """A word of every text that has its turn with ``mine``. To be called with the device."""
        backend, batch = mine.backend, [mine]
        if backend.together > 1:
            batch = [job for job in list(self._jobs) if job.backend is backend and not job.over
                     and _still_wanted(job)]
            batch = sorted(batch, key=lambda job: job.last)[:backend.together]
        self._join([job for job in batch if job.text is None])
        batch = [job for job in batch if job.text is not None]
        if not batch:
            return
        self._measures.add("batch", "write", len(batch))
        try:
            states = backend.advance([job.text for job in batch if job.text is not None])
        except Exception as error:
            for job in batch:
                job.fail(error)
            return
        for job, state in zip(batch, states, strict=True):
            self._words += 1
            job.last = self._words
            if state is None:
                job.over = True
            else:
                job.made.append(state)

    def _join(self, jobs: Sequence[_Job[Any]]) -> None:
        """Begin the texts of these, as far as their pictures' turn has come."""
        later = set(self._features.lacks(job.picture for job in jobs)[width():])
        jobs = [job for job in jobs if job.picture.digest not in later]
        if not jobs:
            return
        try:
            features = self._features.of([job.picture for job in jobs])
        except Exception as error:
            for job in jobs:
                job.fail(error)
            return
        for job, own in zip(jobs, features, strict=True):
            self._measures.add("seconds", "wait", time.perf_counter() - job.start)
            try:
                job.text = job.begin(own)
            except Exception as error:
                job.fail(error)


def _still_wanted(job: _Job[Any]) -> bool:
    try:
        job.wanted()
    except NotWanted:
        return False
    return True
