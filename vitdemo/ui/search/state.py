"""What one person searched for and what came of it: the state behind the tab Search."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vitdemo.config import LIMITS
from vitdemo.errors import StoreError
from vitdemo.records import Hit
from vitdemo.retrieval.duplicates import HashOf, fold
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import BEST
from vitdemo.ui.search.galleries import Album
from vitdemo.ui.turns import Turns

SIZES = (12, 24, 48, 100, 200)  # hits on a page


@dataclass(frozen=True)
class Wish:
    """How hits are wanted: so many on a page, after a second look, the newest of the best first."""

    size: int = SIZES[0]
    second: bool = True
    newest: bool = False


@dataclass
class HitList:
    """What one search found, and how it is shown.

    ``asked`` are the conditions of the fields. ``hits`` are in the order of the vectors, as far as
    they were asked for; ``looked`` are the best of them in the order of the match head, empty until
    that is known. The order on screen stays until a person asks for another: ``accepted`` says that
    it follows the second look. ``groups`` are the hits in that order, each with those that are
    almost the same, as far as these are not in ``unfolded``. ``chosen`` is the id of the hit whose
    maps are on screen, ``missed`` tells what was not read of the words.
    """

    hash_of: HashOf = lambda path: None
    gallery: Gallery | None = None
    query: Query = field(default_factory=Query)
    asked: Filters = field(default_factory=Filters)
    vector: np.ndarray | None = None
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    looked: list[Hit] = field(default_factory=list)
    groups: list[list[Hit]] = field(default_factory=list)
    unfolded: frozenset[str] = frozenset()
    whole: bool = False
    accepted: bool = False
    wish: Wish = Wish()
    page: int = 1
    chosen: str = ""
    missed: list[str] = field(default_factory=list)

    def begin(self, gallery: Gallery, query: Query, filters: Filters, wish: Wish) -> None:
        """Search anew; a date among the words counts as a filter.

        Raises:
            TextError, StoreError: it cannot be searched for, or not there.
        """
        vector = query.vector(gallery.embedder)
        self.gallery, self.query, self.asked, self.vector = gallery, query, filters, vector
        self.hits, self.looked, self.whole, self.chosen = [], [], False, ""
        self.missed = query.missed(gallery.embedder)
        self.wish, self.accepted, self.unfolded = wish, False, frozenset()
        self.turn(1)

    @property
    def filters(self) -> Filters:
        """What was asked for in the fields, and by a date among the words."""
        return self.asked.within(self.query.date)

    def turn(self, page: int) -> None:
        """Show another page, or the last one there is."""
        size = self.wish.size
        self.reach(page * size + 1)
        while len(self.groups) <= page * size and not self.whole:
            self.reach(len(self.hits) + size)
        last = max(1, -(-min(len(self.groups), LIMITS.max_hits) // size))
        self.page = min(max(1, page), last)

    def change(self, wish: Wish) -> None:
        """Show them otherwise; the first of this page stays on screen where only the page's size
        changes."""
        first = 0 if wish.newest != self.wish.newest else (self.page - 1) * self.wish.size
        asked = self.accepted or wish != replace(self.wish, size=wish.size)
        self.accepted = asked and bool(self.looked) and wish.second
        self.wish = wish
        self._fold()
        self.turn(first // wish.size + 1)

    def accept(self) -> None:
        """Show the order of the second look, from the first page."""
        self.accepted = True
        self._fold()
        self.turn(1)

    def unfold(self, id_: str) -> None:
        """Show those that are almost the same as a hit beside it."""
        self.unfolded |= {id_}
        self._fold()

    def reach(self, count: int) -> None:
        """Have so many hits at hand, as far as there are.

        Raises:
            StoreError: the store is closed, or cannot be read.
        """
        count = min(count, LIMITS.max_hits + 1)
        if self.whole or len(self.hits) >= count:
            return
        if self.gallery is None or self.vector is None:
            raise StoreError("search.nothing_searched")
        wanted = max(count, BEST + 1)
        self.hits, self.vectors = self.gallery.search_with_vectors(
            self.vector, wanted, self.filters.conditions(), self.query.words)
        self.whole = len(self.hits) < wanted or wanted > LIMITS.max_hits
        if {hit.id for hit in self.hits[:len(self.looked)]} != {hit.id for hit in self.looked}:
            self.looked = []  # the store has changed meanwhile
        self._fold()

    def _fold(self) -> None:
        self.groups = fold(self.ranked(), self.vectors, self.hash_of, self.unfolded)

    def ranked(self) -> list[Hit]:
        """All hits at hand in the order that is shown."""
        known = {hit.id: hit for hit in self.looked}
        ranked = [known.get(hit.id, hit) for hit in self.hits]
        if self.accepted:
            ranked[:len(self.looked)] = self.looked
        if self.wish.newest:
            fitting = self.accepted and any(hit.fits for hit in self.looked)
            best = [hit for hit in ranked[:BEST] if hit.fits or not fitting]
            best.sort(key=lambda hit: str(hit.metadata.get("day", "")), reverse=True)
            ids = {hit.id for hit in best}
            ranked = best + [hit for hit in ranked if hit.id not in ids]
        return ranked

    def looked_at(self, hits: list[Hit]) -> None:
        """Take in what the second look found; the order on screen stays."""
        self.looked = hits
        self._fold()

    def shown(self) -> list[list[Hit]]:
        """The groups of this page."""
        return self.groups[(self.page - 1) * self.wish.size:self.page * self.wish.size]

    def moved(self) -> int:
        """On how many places of this page the second look would show another hit."""
        if self.accepted or not self.looked or not self.wish.second:
            return 0
        other = replace(self, accepted=True)
        other._fold()
        return sum(one[0].id != new[0].id for one, new in zip(self.shown(), other.shown(),
                                                              strict=False))

    def fitting(self) -> int | None:
        """How many of those looked at fit; None where that was not judged."""
        judged = [hit.fits for hit in self.looked if hit.fits is not None]
        return sum(judged) if judged and self.wish.second else None

    def lacks_texts(self) -> bool:
        """Whether pictures of this page were indexed before names and captions counted."""
        return bool(self.gallery and self.query.words and self.gallery.lacks_texts(
            [hit for group in self.shown() for hit in group]))

    def more(self) -> bool:
        """Whether there is a page after this one."""
        return min(len(self.groups), LIMITS.max_hits) > self.page * self.wish.size

    def wants_second_look(self) -> bool:
        """Whether the match head is to be asked, and has not been."""
        return bool(self.wish.second and not self.looked and self.query.terms and self.hits)

    def hit(self, id_: Any) -> Hit:
        """The hit that a page means.

        Raises:
            StoreError: it is not among those of the last search.
        """
        for hit in self.ranked():
            if hit.id == id_:
                return hit
        raise StoreError("search.off_screen")

    def first(self, count: int) -> list[Hit]:
        """The best so many, in the order that is shown."""
        self.reach(count)
        return self.ranked()[:count]

    def again(self, query: Query) -> "HitList":
        """A search of the same pictures, by the same conditions, for something else.

        Raises:
            StoreError: there is none to go on from; or see `begin`.
        """
        if self.gallery is None:
            raise StoreError("search.nothing_searched")
        other = replace(self)
        other.begin(self.gallery, query, self.asked, self.wish)
        return other


class Search(Turns):
    """What is kept for one page: its last search, and its uploads, whatever was searched."""

    def __init__(self) -> None:
        super().__init__()
        self.list = HitList()
        self.album: Album | None = None

    def show(self, hits: HitList) -> None:
        """It is this one now, unless something newer was asked for.

        Raises:
            NotWanted: something was.
        """
        with self.writing():
            self.list = hits

    def drop_album(self) -> None:
        """Let go of the uploads."""
        album, self.album = self.album, None
        if album is not None:
            album.close()
