"""The words of a finished text on many masked pictures: each mask once, a few seconds at a time.

A helper of the engine's. n masks, K regions, Q words of an explanation.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vitdemo.attention.masking import Masker
from vitdemo.backends.base import Backend
from vitdemo.cache import LRU
from vitdemo.lock import FairLock
from vitdemo.preprocess import Picture

# (masked pictures done, masked pictures in all), after every batch.
Progress = Callable[[int, int], object]

LOCK_SECONDS = 4.0  # for about so long the device is held at a time
# Masked pictures at once: while the pace is not known, at least and at most.
FIRST_BATCH, FEWEST, MOST = 16, 8, 128
RESULTS = 16  # results whose numbers are kept


@dataclass(frozen=True)
class Request:
    """What a backend's `explain` and `word_probabilities` are asked about."""

    instruction: str
    text: str
    language: str
    task: str

    def arguments(self) -> dict[str, str]:
        """As keyword arguments."""
        return {"instruction": self.instruction, "text": self.text, "language": self.language,
                "task": self.task}


@dataclass
class _Known:
    """Word probabilities of one result by what was blurred: one array (Q,) for each of its
    explanations."""

    rows: dict[bytes, tuple[np.ndarray, ...]] = field(default_factory=dict)


class Trials:
    """Word probabilities on masked pictures.

    Every mask of one result goes through the model once: the pictures that all words share (random
    orders, centre, whole, blank) cost nothing when the next word or method is checked. All
    that are new go as one batch, or, where that would hold the device for longer than about
    `LOCK_SECONDS`, as several, with the device free for others in between.
    """

    def __init__(self, backend: Backend, lock: FairLock) -> None:
        self._backend, self._lock = backend, lock
        self._known: LRU[_Known] = LRU(RESULTS)
        self._pace = 0.0  # seconds per masked picture; 0 is not known yet

    def probabilities(self, picture: Picture, request: Request, boxes: np.ndarray,
                      hidden: np.ndarray,
                      progress: Progress | None = None) -> tuple[np.ndarray, ...]:
        """Each word's probability with these regions blurred: bool (n, K) to float32 (n, Q), one
        for each explanation of the request. The caller does not hold the lock."""
        keys = [row.tobytes() for row in np.packbits(hidden, axis=1)]
        name = f"{picture.digest} {boxes.tobytes().hex()} {request!r}"
        with self._lock:
            known = self._known.get(name) or _Known()
            self._known.put(name, known)
            missing = {key: row for key, row in zip(keys, hidden, strict=True)
                       if key not in known.rows}
        if missing:
            masker = Masker(picture.image, boxes)
            waiting = list(missing)
            done = 0
            while done < len(waiting):
                batch = waiting[done:done + self._batch_size()]
                pictures = list(masker.pictures(np.stack([missing[key] for key in batch])))
                with self._lock:
                    start = time.perf_counter()
                    features = self._backend.encode_pictures(pictures)
                    found = self._backend.word_probabilities(features, **request.arguments())
                    self._pace = (time.perf_counter() - start) / len(batch)
                    for number, key in enumerate(batch):
                        known.rows[key] = tuple(one[number] for one in found)
                done += len(batch)
                if progress is not None:
                    progress(done, len(waiting))
        rows = [known.rows[key] for key in keys]
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    def _batch_size(self) -> int:
        if not self._pace:
            return FIRST_BATCH
        return min(MOST, max(FEWEST, int(LOCK_SECONDS / self._pace)))
