"""The words of a finished text on many masked pictures: each mask once, in short slices.

A helper of the engine's. n masks, K regions, Q words of an explanation.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from vitdemo.attention.masking import Masker
from vitdemo.backends.base import Backend
from vitdemo.cache import LRU
from vitdemo.lock import DeviceLock
from vitdemo.preprocess import Picture
from vitdemo.records import Request
from vitdemo.slices import Slices
from vitdemo.streams import width

# (masked pictures done, masked pictures in all), after every batch.
Progress = Callable[[int, int], object]

MOST = 128  # masked pictures at once
RESULTS = 16  # results whose numbers are kept


@dataclass
class _Known:
    """Word probabilities of one result by what was blurred: one array (Q,) for each of its
    explanations."""

    rows: dict[bytes, tuple[np.ndarray, ...]] = field(default_factory=dict)


class Trials:
    """Word probabilities on masked pictures.

    Every mask of one result goes through the model once: the pictures that all words share (random
    orders, centre, whole, blank) cost nothing when the next word or method is checked. Those that
    are new go in short slices (`Slices`), with the device free for others in between.
    """

    def __init__(self, backend: Backend, lock: DeviceLock) -> None:
        self._backend, self._lock = backend, lock
        self._guard = threading.Lock()  # of what is known
        self._known: LRU[_Known] = LRU(RESULTS)
        # Two, as reading a text costs about as much for one picture as for eight.
        self._encoding, self._reading = Slices(width(), MOST), Slices(width(), MOST)

    def probabilities(self, picture: Picture, request: Request, boxes: np.ndarray,
                      hidden: np.ndarray,
                      progress: Progress | None = None) -> tuple[np.ndarray, ...]:
        """Each word's probability with these regions blurred: bool (n, K) to float32 (n, Q), one
        for each explanation of the request. ``boxes`` are what `Masker` takes. The caller does not
        hold the lock."""
        keys = [row.tobytes() for row in np.packbits(hidden, axis=1)]
        name = f"{picture.digest} {sha256(boxes.tobytes()).hexdigest()} {request!r}"
        known = self._of(name)
        missing = {key: row for key, row in zip(keys, hidden, strict=True)
                   if key not in known.rows}
        if missing:
            masker = Masker(picture.image, boxes)
            waiting = list(missing)
            done = 0
            while done < len(waiting):
                batch = waiting[done:done + self._reading()]
                pictures = list(masker.pictures(np.stack([missing[key] for key in batch])))
                features = [one for some in self._encoding.each(
                    pictures, self._backend.encode_pictures, self._lock.later) for one in some]
                with self._lock.later, self._reading.timed(len(batch)):
                    found = self._backend.word_probabilities(features, request)
                for number, key in enumerate(batch):
                    known.rows[key] = tuple(one[number] for one in found)
                done += len(batch)
                if progress is not None:
                    progress(done, len(waiting))
        rows = [known.rows[key] for key in keys]
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    def _of(self, name: str) -> _Known:
        with self._guard:
            known = self._known.get(name) or _Known()
            self._known.put(name, known)
            return known
