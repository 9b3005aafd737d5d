"""What one person searched for and what came of it: the state behind the tab Search."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitdemo.config import LIMITS
from vitdemo.errors import StoreError
from vitdemo.records import Hit
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import BEST
from vitdemo.ui.albums import Album
from vitdemo.ui.turns import Turns

SIZES = (12, 24, 48, 100, 200)  # hits on a page


@dataclass
class Finding:
    """One search.

    ``hits`` are in the order of the vectors, as far as they were asked for; ``head`` are the best
    of them in the order of the match head, empty until that is known. ``second`` chooses which
    order is shown. ``chosen`` is the id of the hit whose maps are on screen. ``missed`` tells what
    was not read of the words.
    """

    gallery: Gallery | None = None
    query: Query = field(default_factory=Query)
    filters: Filters = field(default_factory=Filters)
    vector: np.ndarray | None = None
    hits: list[Hit] = field(default_factory=list)
    head: list[Hit] = field(default_factory=list)
    whole: bool = False
    second: bool = True
    page: int = 1
    size: int = SIZES[0]
    chosen: str = ""
    missed: list[str] = field(default_factory=list)

    def begin(self, gallery: Gallery, query: Query, filters: Filters, size: int, second: bool,
              page: int = 1) -> None:
        """Search anew.

        Raises:
            TextError, StoreError: it cannot be searched for, or not there.
        """
        vector = query.vector(gallery.embedder)
        self.gallery, self.query, self.filters, self.vector = gallery, query, filters, vector
        self.hits, self.head, self.whole, self.chosen = [], [], False, ""
        self.missed = query.missed(gallery.embedder)
        self.size, self.second, self.page = size_of(size), second, 1
        self.turn(page)

    def turn(self, page: int) -> None:
        """Show another page, or the last one there is."""
        self.reach(page * self.size + 1)
        last = max(1, -(-min(len(self.hits), LIMITS.max_hits) // self.size))
        self.page = min(max(1, page), last)

    def resize(self, size: int) -> None:
        """Show more or fewer on a page; the first of this page stays on screen."""
        first = (self.page - 1) * self.size
        self.size = size_of(size)
        self.turn(first // self.size + 1)

    def reach(self, count: int) -> None:
        """Have so many hits at hand, as far as there are.

        Raises:
            StoreError: the store is closed, or cannot be read.
        """
        count = min(count, LIMITS.max_hits + 1)
        if self.whole or len(self.hits) >= count:
            return
        if self.gallery is None or self.vector is None:
            raise StoreError("Search for something first.")
        wanted = max(count, BEST + 1)
        self.hits = self.gallery.search(self.vector, wanted, self.filters.conditions())
        self.whole = len(self.hits) < wanted
        if {hit.id for hit in self.hits[:len(self.head)]} != {hit.id for hit in self.head}:
            self.head = []  # the store has changed meanwhile

    def ranked(self) -> list[Hit]:
        """All hits at hand in the order that is shown."""
        if self.second and self.head:
            return self.head + self.hits[len(self.head):]
        return self.hits

    def shown(self) -> list[Hit]:
        """The hits of this page."""
        return self.ranked()[(self.page - 1) * self.size:self.page * self.size]

    def place(self, hit: Hit) -> int:
        """Where a hit stands in the order that is shown, from 1."""
        return [one.id for one in self.ranked()].index(hit.id) + 1

    def more(self) -> bool:
        """Whether there is a page after this one."""
        return min(len(self.hits), LIMITS.max_hits) > self.page * self.size

    def wants_second_look(self) -> bool:
        """Whether the match head is to be asked, and has not been."""
        return bool(self.second and not self.head and self.query.terms and len(self.hits) > 1)

    def hit(self, id_: Any) -> Hit:
        """The hit that a page means.

        Raises:
            StoreError: it is not among those of the last search.
        """
        for hit in self.ranked():
            if hit.id == id_:
                return hit
        raise StoreError("This picture is no longer on the screen. Search again.")

    def first(self, count: int) -> list[Hit]:
        """The best so many, in the order that is shown."""
        self.reach(count)
        return self.ranked()[:count]

    def like(self, query: Query) -> None:
        """Search the same pictures, by the same filters, for something else."""
        if self.gallery is None:
            raise StoreError("Search for something first.")
        self.begin(self.gallery, query, self.filters, self.size, self.second)


class Search(Turns):
    """What is kept for one page: its last search, and its uploads, whatever was searched."""

    def __init__(self) -> None:
        super().__init__()
        self.finding = Finding()
        self.album: Album | None = None

    def show(self, finding: Finding) -> None:
        """It is this one now, unless something newer was asked for.

        Raises:
            NotWanted: something was.
        """
        with self.writing():
            self.finding = finding

    def drop_album(self) -> None:
        """Let go of the uploads."""
        album, self.album = self.album, None
        if album is not None:
            album.close()


def size_of(value: object) -> int:
    """How many hits a page has: what was asked for, from 12 to 200."""
    try:
        return min(SIZES[-1], max(SIZES[0], int(float(str(value)))))
    except (ValueError, OverflowError):
        return SIZES[0]
