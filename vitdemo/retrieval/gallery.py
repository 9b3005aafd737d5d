"""Pictures of one store, searchable by text and by picture. E embedding width."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from vitdemo.errors import PictureError
from vitdemo.preprocess import Picture, open_picture, squeezed
from vitdemo.records import Hit
from vitdemo.retrieval import query
from vitdemo.retrieval.base import Condition, Entry, Found, Index
from vitdemo.retrieval.metadata import derived, entry_id, file_metadata, metadata_of
from vitdemo.retrieval.readers import Readers, Reading
from vitdemo.retrieval.text_words import AskedWord
from vitdemo.retrieval.vanished import Vanished
from vitdemo.retrieval.walk import Skipped
from vitdemo.video import is_video

BATCH = 16  # pictures in one pass of the encoder
STORE_EVERY = 256  # pictures; each change of a store has its price

Progress = Callable[[int, int, str], None]


class Embedder(query.Embedder, Protocol):
    """The same for a gallery."""

    @property
    def picture_side(self) -> int:
        """Pixels of the square that every picture is squeezed to; 0 where that is not one size."""


@dataclass(frozen=True)
class FolderReport:
    """What came of a folder: pictures added or replaced, files skipped, how many files are no
    pictures by their ending (``ignored``) and of which kinds, and the time it took."""

    folder: str
    added: int
    skipped: tuple[Skipped, ...]
    ignored: int
    seconds: float
    passed_over: Mapping[str, int] = field(default_factory=dict)
    vanished: tuple[Vanished, ...] = ()


class Gallery:
    """Pictures of one store. A picture is known by its path: the same path replaces it.

    Safe to call from several threads.
    """

    def __init__(self, index: Index, embedder: Embedder) -> None:
        self.index = index
        self.embedder = embedder

    def add(self, sources: Sequence[tuple[str, Picture]]) -> int:
        """Add pictures with their path or name; returns how many different ones there were.

        Raises:
            StoreError: the store cannot be written, or a name is not valid text.
        """
        unique = dict(sources)
        self.index.add(self._entries(list(unique.items())))
        return len(unique)

    def add_files(self, paths: Sequence[str], tell: Callable[[int], None] = lambda done: None
                  ) -> tuple[list[Skipped], list[str]]:
        """Add picture files, and the frames of videos; gives those that cannot be used, and the
        notes on the others.

        Only one of them is in memory whole at any time. ``tell(done)`` is called before each
        picture, where ``done`` files are read; what it raises ends the work.

        Raises:
            StoreError: the store cannot be written, or a name is not valid text.
        """
        skipped: list[Skipped] = []
        notes: list[str] = []
        with Readers(1) as readers:  # a process of its own for videos: they may be anybody's
            rows = self._rows(paths, readers, tell, skipped, notes)
            while batch := list(itertools.islice(rows, BATCH)):
                vectors = self.embedder.embed_pictures([one.picture for one in batch])  # (P, E)
                self.index.add([Entry(entry_id(one.path), one.path, vector, *one.size,
                                      one.metadata)
                                for one, vector in zip(batch, vectors, strict=True)])
        return skipped, notes

    def _rows(self, paths: Sequence[str], readers: Readers, tell: Callable[[int], None],
              skipped: list[Skipped], notes: list[str]) -> Iterator["_Row"]:
        """What is to be added of each file."""
        for done, path in enumerate(paths):
            tell(done)
            if is_video(path):
                for frame, one in readers.pictures([path], self.embedder.picture_side):
                    if one.error:
                        skipped.append(Skipped(frame, str(one.error)))
                    else:
                        yield _row_of_frame(frame, one)
                    tell(done)
                continue
            try:
                picture = open_picture(path)
            except PictureError as error:
                skipped.append(Skipped(path, str(error)))
                continue
            notes += picture.notes
            row = _Row(path, squeezed(picture, self.embedder.picture_side), picture.image.size,
                       metadata_of(path, picture))
            del picture  # its memory is free before the next one wants some
            yield row

    def add_folder(self, folder: Path, progress: Progress | None = None) -> FolderReport:
        """`index_folders` of one folder. ``progress(done, total, name)`` is called after every
        file.

        Raises:
            PictureError: there is no such folder.
            StoreError: the store cannot be written.
        """
        from vitdemo.retrieval.indexer import Progress as Now
        from vitdemo.retrieval.indexer import index_folders

        def tell(now: Now) -> None:
            if progress is not None and now.total:
                progress(now.done, now.total, now.name)

        report = index_folders(self, [folder], progress=tell)
        return FolderReport(report.folders[0], report.added + report.changed + report.moved,
                            report.skipped, report.ignored, report.seconds,
                            report.passed_over, report.vanished)

    def search_text(self, text: str, limit: int = 12,
                    where: Sequence[Condition] = ()) -> list[Hit]:
        """The pictures that fit a text best, best first.

        Raises:
            TextError: the text is empty or too long.
            StoreError: the store cannot be read, or the limit is below 1.
        """
        return self.search(self.embedder.embed_texts([text])[0], limit, where)

    def search_picture(self, picture: Picture, limit: int = 12,
                       where: Sequence[Condition] = ()) -> list[Hit]:
        """The pictures most like one, best first; itself among them where it was added."""
        return self.search(self.embedder.embed_pictures([picture])[0], limit, where)

    def search(self, vector: np.ndarray, limit: int = 12,
               where: Sequence[Condition] = (), words: Sequence[AskedWord] = ()) -> list[Hit]:
        """The pictures nearest to a unit vector (E,), such as `Query.vector` gives, best first;
        what is written about them counts, too, for words such as `Query.words`."""
        return [_hit(one) for one in self.index.search(vector, limit, where, words=words)]

    def search_with_vectors(self, vector: np.ndarray, limit: int = 12,
                            where: Sequence[Condition] = (), words: Sequence[AskedWord] = ()
                            ) -> tuple[list[Hit], dict[str, np.ndarray]]:
        """The same, and the vectors (E,) of the hits by their ids."""
        rows = self.index.search(vector, limit, where, vectors=True, words=words)
        return [_hit(one) for one in rows], {one.id: one.vector for one in rows
                                             if one.vector is not None}

    def lacks_texts(self, hits: Sequence[Hit]) -> bool:
        """Whether some were indexed by a version that kept no names and captions."""
        return self.index.reads_texts and any("beside_mark" not in hit.metadata for hit in hits)

    def remove(self, paths: Sequence[str]) -> int:
        """Take pictures out by their paths; returns how many were there."""
        return self.index.delete([entry_id(path) for path in paths])

    def count(self) -> int:
        """How many pictures there are."""
        return self.index.count()

    def close(self) -> None:
        """Let go of the store."""
        self.index.close()

    def _entries(self, sources: Sequence[tuple[str, Picture]]) -> list[Entry]:
        vectors = self.embedder.embed_pictures([picture for _, picture in sources])  # (P, E)
        return [Entry(entry_id(path), path, vector, picture.image.width, picture.image.height,
                      metadata_of(path, picture))
                for (path, picture), vector in zip(sources, vectors, strict=True)]


class _Row(NamedTuple):
    """A picture as the model sees it, its own size and what is kept of it."""

    path: str
    picture: Picture
    size: tuple[int, int]
    metadata: dict[str, str | int | float]


def _row_of_frame(path: str, frame: Reading) -> _Row:
    size = frame.width, frame.height
    known = {**(frame.camera or {}), **file_metadata(path), "content": frame.content,
             "frames": frame.frames}
    return _Row(path, frame.picture(path), size, {**known, **derived(*size, known)})


def _hit(row: Found) -> Hit:
    return Hit(row.id, row.path, row.score, row.width, row.height, row.metadata, told=row.told)
