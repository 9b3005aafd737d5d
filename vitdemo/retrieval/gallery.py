"""Pictures of one store, searchable by text and by picture. E embedding width."""

import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL.ExifTags import IFD, Base

from vitdemo.errors import PictureError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.records import Hit
from vitdemo.retrieval.base import Condition, Entry, Index
from vitdemo.retrieval.filters import orientation_of
from vitdemo.retrieval.query import Embedder

BATCH = 16  # pictures in one pass of the encoder
BATCH_MEGAPIXELS = 100  # at most, of the pictures of one batch together: they lie in memory
STORE_EVERY = 256  # pictures; each change of a store has its price
# Endings of files that are taken for pictures; the rest of a folder is left alone. HEIC cannot be
# read, but its owner should be told so.
SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib",
                      ".tif", ".tiff", ".mpo", ".avif", ".jp2", ".ppm", ".pgm", ".heic", ".heif"))

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read, and why, in a sentence."""

    path: str
    reason: str


@dataclass(frozen=True)
class FolderReport:
    """What came of a folder: pictures added, files skipped, files that are no pictures by their
    ending (``ignored``), and the time it took."""

    folder: str
    added: int
    skipped: tuple[Skipped, ...]
    ignored: int
    seconds: float


class Gallery:
    """Pictures of one store. A picture is known by its path: the same path replaces it.

    Safe to call from several threads.
    """

    def __init__(self, index: Index, embedder: Embedder) -> None:
        self._index = index
        self._embedder = embedder

    def add(self, sources: Sequence[tuple[str, Picture]]) -> int:
        """Add pictures with their path or name; returns how many different ones there were.

        Raises:
            StoreError: the store cannot be written, or a name is not valid text.
        """
        unique = dict(sources)
        self._index.add(self._entries(list(unique.items())))
        return len(unique)

    def add_folder(self, folder: Path, progress: Progress | None = None) -> FolderReport:
        """Add every picture of a folder and the folders in it, hidden ones left out.

        Links are followed, each folder once. A file that cannot be read is skipped and reported.
        ``progress(done, total, name)`` is called after every file. What was read is stored every
        `STORE_EVERY` pictures, and also where an error or Ctrl-C ends the work.

        Raises:
            PictureError: there is no such folder.
            StoreError: the store cannot be written.
        """
        start = time.perf_counter()
        folder = Path(os.path.abspath(Path(folder).expanduser()))
        if not folder.is_dir():
            raise PictureError(f"{folder} is not a folder. Give a folder of pictures.")
        skipped: list[Skipped] = []
        paths, ignored = self._list(folder, skipped)
        waiting: list[Entry] = []
        added = 0
        try:
            for entries in self._read(paths, skipped, progress):
                waiting += entries
                added += len(entries)
                if len(waiting) >= STORE_EVERY:
                    ready, waiting = waiting, []
                    self._index.add(ready)
        finally:
            self._index.add(waiting)
        return FolderReport(str(folder), added, tuple(skipped), ignored,
                            time.perf_counter() - start)

    def search_text(self, text: str, limit: int = 12,
                    where: Sequence[Condition] = ()) -> list[Hit]:
        """The pictures that fit a text best, best first.

        Raises:
            TextError: the text is empty or too long.
            StoreError: the store cannot be read, or the limit is below 1.
        """
        return self.search(self._embedder.embed_texts([text])[0], limit, where)

    def search_picture(self, picture: Picture, limit: int = 12,
                       where: Sequence[Condition] = ()) -> list[Hit]:
        """The pictures most like one, best first; itself among them where it was added."""
        return self.search(self._embedder.embed_pictures([picture])[0], limit, where)

    def search(self, vector: np.ndarray, limit: int = 12,
               where: Sequence[Condition] = ()) -> list[Hit]:
        """The pictures nearest to a unit vector (E,), such as `Query.vector` gives, best first."""
        return [Hit(one.id, one.path, one.score, one.width, one.height, one.metadata)
                for one in self._index.search(vector, limit, where)]

    def remove(self, paths: Sequence[str]) -> int:
        """Take pictures out by their paths; returns how many were there."""
        return self._index.delete([entry_id(path) for path in paths])

    def count(self) -> int:
        """How many pictures there are."""
        return self._index.count()

    def close(self) -> None:
        """Let go of the store."""
        self._index.close()


    def _entries(self, sources: Sequence[tuple[str, Picture]]) -> list[Entry]:
        vectors = self._embedder.embed_pictures([picture for _, picture in sources])  # (P, E)
        return [Entry(entry_id(path), path, vector, picture.image.width, picture.image.height,
                      metadata_of(path, picture))
                for (path, picture), vector in zip(sources, vectors, strict=True)]

    def _list(self, folder: Path, skipped: list[Skipped]) -> tuple[list[Path], int]:
        def unreadable(error: OSError) -> None:
            skipped.append(Skipped(_shown(str(error.filename)),
                                   f"The folder cannot be opened: {error.strerror}."))

        files = list(walk(folder, unreadable))
        pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
        return pictures, len(files) - len(pictures)

    def _read(self, paths: Sequence[Path], skipped: list[Skipped],
              progress: Progress | None) -> Iterator[list[Entry]]:
        batch: list[tuple[str, Picture]] = []
        pixels = 0
        for done, path in enumerate(paths, 1):
            shown = _shown(str(path))
            try:
                if shown != str(path):
                    raise PictureError("Its name is not valid text (UTF-8). Rename the file.")
                picture = open_picture(path)
            except PictureError as error:
                skipped.append(Skipped(shown, str(error)))
            else:
                size = picture.image.width * picture.image.height
                if batch and pixels + size > BATCH_MEGAPIXELS * 1_000_000:
                    yield self._entries(batch)
                    batch, pixels = [], 0
                batch.append((str(path), picture))
                pixels += size
            if len(batch) == BATCH or (done == len(paths) and batch):
                yield self._entries(batch)
                batch, pixels = [], 0
            if progress is not None:
                progress(done, len(paths), _shown(path.name))


def entry_id(path: str) -> str:
    """The id of a path: 32 hexadecimal digits, the same on every machine."""
    return sha256(path.encode(errors="surrogateescape")).hexdigest()[:32]


def walk(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """The plain files of a folder and those in it, by name, hidden ones left out.

    Links are followed; a folder that was seen already (a link that leads back) is left out.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        try:
            status = os.stat(place)
        except OSError as error:
            unreadable(error)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def metadata_of(path: str, picture: Picture) -> dict[str, str | int | float]:
    """What a store keeps of a picture beside its vector: see `METADATA`. What is not known, or
    damaged in the file, is left out."""
    known: dict[str, str | int | float] = {
        "digest": picture.digest, "orientation": orientation_of(*picture.image.size)}
    place = Path(path)
    if place.is_absolute():
        known["folder"] = str(place.parent)
        try:
            status = place.stat()
            known["bytes"], known["modified"] = status.st_size, status.st_mtime
            known["day"] = datetime.fromtimestamp(status.st_mtime).date().isoformat()
        except OSError:
            pass  # a name that only looks like a path: nothing to add
    known.update(_from_camera(picture))
    if "taken" in known:
        known["day"] = str(known["taken"])[:10]
    return known


def _from_camera(picture: Picture) -> dict[str, str | int | float]:
    known: dict[str, str | int | float] = {}
    try:
        exif = picture.image.getexif()
        detail = exif.get_ifd(IFD.Exif)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error):
        return known  # damaged EXIF data in a sound picture
    try:
        taken = str(detail.get(Base.DateTimeOriginal) or exif.get(Base.DateTime) or "")
        known["taken"] = datetime.strptime(taken.strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        pass  # no date, or not one
    maker, model = (str(exif.get(tag) or "").strip("\0 ") for tag in (Base.Make, Base.Model))
    camera = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
    if camera.isprintable() and camera:
        known["camera"] = camera[:200]
    return known


def _shown(name: str) -> str:
    """A file's name as text that can be printed and stored."""
    return name.encode(errors="backslashreplace").decode()
