"""A store that is searched and never changed, and of it only what lies in certain folders: pictures
that their owner shows to others."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from vitdemo.errors import StoreError
from vitdemo.retrieval.base import Condition, Entry, Found, Index
from vitdemo.retrieval.text_words import AskedWord
from vitdemo.video import file_of

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class OwnersPictures:
    """Pictures that the owner of an app for others shows to all who use it: those of a store that
    lie in certain folders."""

    store: str
    folders: tuple[Path, ...]


class ReadOnlyIndex(Index):
    """See `Index`. Pictures whose path does not lead, links followed, into one of ``folders`` are
    not found. Nobody is told by a search or an error where a store or a picture lies: the log
    is."""

    read_only = True

    def __init__(self, index: Index, folders: Sequence[str]) -> None:
        self.stamp, self.uri, self.reads_texts = index.stamp, index.uri, index.reads_texts
        self._index = index
        self._folders = [os.path.join(os.path.realpath(one), "") for one in folders]

    def add(self, entries: Sequence[Entry]) -> NoReturn:
        raise StoreError("store.only_searched")

    def delete(self, ids: Sequence[str]) -> NoReturn:
        raise StoreError("store.only_searched")

    def _search(self, vector: np.ndarray | None, limit: int, where: Sequence[Condition],
                vectors: bool, words: Sequence[AskedWord]) -> list[Found]:
        if any(one.operator == "starts_with" for one in where):  # a folder could be guessed by it
            raise StoreError("store.no_folders")
        asked = limit
        while True:
            found = _told_in_log(
                lambda: self._index.search(vector, asked, where, vectors, words))  # noqa: B023
            kept = [one for one in found if self._shown(one.path)]
            if len(kept) >= limit or len(found) < asked:
                return kept[:limit]
            asked *= 2

    def _shown(self, path: str) -> bool:
        return os.path.realpath(file_of(path)).startswith(tuple(self._folders))

    def count(self) -> int:
        return _told_in_log(self._index.count)

    def close(self) -> None:
        self._index.close()


def _told_in_log(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except StoreError as error:
        log.warning("the store that is shown cannot be used: %s", error)
        raise StoreError("store.not_shown") from error
