"""Small copies of pictures, made once and kept as long as there is room."""

import io
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cachetools import LRUCache
from PIL import Image

from vitdemo.errors import PictureError
from vitdemo.preprocess import open_small
from vitdemo.retrieval.duplicates import perceptual_hash
from vitdemo.video import file_of

MAX_BYTES = 64 * 2**20  # about 5,000 thumbnails
SIDE = 320  # pixels, the longest
_QUALITY = 82
_HASHES = 20_000  # that are kept
_PLAIN = 8  # of 255, from the darkest to the lightest: less is one colour
_THREADS = 4  # decoding lets other threads run

_Key = tuple[str, int, int]


class Thumbnails:
    """JPEG copies of picture files, in memory. Safe to call from several threads.

    All together take at most ``max_bytes``; the one not used for longest goes first. One that
    several ask for at once is made once. A file that was changed gets a new one.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, side: int = SIDE) -> None:
        self.side = side
        self._lock = threading.Lock()
        self._kept: LRUCache[_Key, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._hashes: LRUCache[_Key, np.ndarray] = LRUCache(_HASHES)
        self._making: dict[_Key, threading.Lock] = {}
        self.made = 0  # since the start

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        with self._lock:
            return int(self._kept.currsize)

    def get(self, path: str) -> bytes:
        """The JPEG of one file.

        Raises:
            PictureError: the file is gone or cannot be read.
        """
        key = _key(path)
        with self._lock:
            found: bytes | None = self._kept.get(key)
            if found is not None:
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                found = self._kept.get(key)
            if found is not None:  # another thread was faster
                return found
            try:
                found = self._make(path)
                self._keep(key, found)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return found

    def many(self, paths: Sequence[str]) -> list[bytes | PictureError]:
        """`get` of several files, side by side; an error stands where a thumbnail would."""
        def attempt(path: str) -> bytes | PictureError:
            try:
                return self.get(path)
            except PictureError as error:
                return error

        if len(paths) < 2:
            return [attempt(path) for path in paths]
        with ThreadPoolExecutor(min(_THREADS, len(paths))) as pool:
            return list(pool.map(attempt, paths))

    def hash_of(self, path: str) -> np.ndarray | None:
        """Its perceptual hash, bool (64,); None where the file cannot be read, or is of one plain
        colour, as all such have the same."""
        try:
            key = _key(path)
            with self._lock:
                found: np.ndarray | None = self._hashes.get(key)
            if found is None:
                image = Image.open(io.BytesIO(self.get(path))).convert("L")
                if np.ptp(np.asarray(image)) < _PLAIN:
                    return None
                found = perceptual_hash(image)
                with self._lock:
                    self._hashes[key] = found
            return found
        except PictureError:
            return None

    def _make(self, path: str) -> bytes:
        stream = io.BytesIO()
        open_small(path, self.side).save(stream, "JPEG", quality=_QUALITY)
        with self._lock:
            self.made += 1
        return stream.getvalue()

    def _keep(self, key: _Key, thumbnail: bytes) -> None:
        with self._lock:
            if len(thumbnail) <= self._kept.maxsize:
                self._kept[key] = thumbnail


def _key(path: str) -> _Key:
    """A file as it is now: changed, it has another key."""
    try:
        status = os.stat(file_of(path))
    except (OSError, ValueError) as error:
        raise PictureError("folder.picture_gone", name=path) from error
    return path, status.st_mtime_ns, status.st_size
