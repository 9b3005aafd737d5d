"""Why a picture was found, and why another was not: what each word of a query does to the score.

The score is the cosine of the query's vector and the picture's. A word's part in it is what the
score loses when the word is left out of the query and everything else stays (leave-one-out). Words
work together in a text vector, so the parts do not add up to the score, and a word may well have a
part below 0. E embedding width.
"""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitdemo.errors import TextError
from vitdemo.preprocess import Picture
from vitdemo.records import Hit
from vitdemo.retrieval.base import Condition
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.query import Embedder, Query, Term, unit_sum
from vitdemo.words import split_words

LOOKED_AT = 1000  # hits among which a picture's place is looked for


@dataclass(frozen=True)
class Part:
    """A word of the query, or "your picture", and what the score would lose without it.

    ``weight`` is that of the term it belongs to. ``loss`` is nan where nothing else is left to
    search with.
    """

    text: str
    weight: float
    loss: float


@dataclass(frozen=True)
class Why:
    """The score of one picture, -1..1, and the part of each word in it, in order."""

    score: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class WhyNot:
    """A hit beside another picture, for one query.

    ``place`` is where the other one stands among all that fit the filters, from 1; 0 where it is
    not among the first ``looked``. ``held`` says whether it is in the gallery at all, ``misfits``
    which filters keep it out.
    """

    hit: Why
    other: Why
    held: bool
    place: int
    looked: int
    misfits: tuple[str, ...]


def why(embedder: Embedder, query: Query, pictures: Sequence[Picture]) -> tuple[Why, ...]:
    """The parts of a query's words in the scores of some pictures.

    Raises:
        TextError: a text of the query cannot be read.
    """
    vectors = embedder.embed_pictures(pictures)  # (P, E)
    parts = query.parts(embedder)  # (N, E): terms, then the picture
    whole = unit_sum(parts) @ vectors.T  # (P,)
    names, rows = _without_each(embedder, query, parts)
    losses = [whole - row @ vectors.T if row is not None else np.full(len(vectors), np.nan)
              for row in rows]
    return tuple(Why(float(whole[one]), tuple(
        replace(part, loss=float(loss[one])) for part, loss in zip(names, losses, strict=True)))
        for one in range(len(vectors)))


def _without_each(embedder: Embedder, query: Query, parts: np.ndarray
                  ) -> tuple[list[Part], list[np.ndarray | None]]:
    """Every word and picture of a query, and the query's vector (E,) without it; None where
    nothing is left."""
    names: list[Part] = []
    texts: list[str] = []
    owners: list[int] = []
    for owner, term in enumerate(query.terms):
        for word, rest in _words_and_rests(term):
            names.append(Part(word, term.weight, math.nan))
            texts.append(rest)
            owners.append(owner)
    texts = [text if text and not embedder.unread(text).nothing else "" for text in texts]
    kept = [text for text in texts if text]
    vectors = iter(embedder.embed_texts(kept)) if kept else iter(())
    rows: list[np.ndarray | None] = []
    for text, owner in zip(texts, owners, strict=True):
        changed = parts.copy()
        changed[owner] = next(vectors) * query.terms[owner].weight if text else 0.0
        rows.append(_sum_or_none(changed))
    if query.picture is not None:
        names.append(Part(query.picture_name, query.picture_weight, math.nan))
        rows.append(_sum_or_none(parts[:-1]))
    return names, rows


def _words_and_rests(term: Term) -> list[tuple[str, str]]:
    """Each word of a term and what is left without it; a term without words is its own."""
    words = split_words(term.text)
    if not words:
        return [(term.text, "")]
    found = []
    for word in words:
        rest = f"{term.text[:word.start]} {term.text[word.end:]}".strip()
        found.append((word.text, rest if split_words(rest) else ""))
    return found


def _sum_or_none(parts: np.ndarray) -> np.ndarray | None:
    try:
        return unit_sum(parts)
    except TextError:
        return None


def why_not(gallery: Gallery, query: Query, filters: Filters, hit: Picture, other: Picture,
            path: str = "") -> WhyNot:
    """A hit beside another picture; ``path`` is the file that the other one was read from.

    Raises:
        TextError: a text of the query cannot be read.
        StoreError: the store cannot be read.
    """
    ours, theirs = why(gallery.embedder, query, [hit, other])
    vector = query.vector(gallery.embedder)
    found = _same(gallery, vector, other, path)
    misfits = filters.against(found.path, found.width, found.height, found.metadata) \
        if found else []
    place, looked = 0, 0
    if found and not misfits:
        best = gallery.search(vector, LOOKED_AT, filters.conditions(), query.words)
        looked = len(best)
        place = next((n for n, one in enumerate(best, 1) if one.id == found.id), 0)
    return WhyNot(ours, theirs, found is not None, place, looked, tuple(misfits))


def _same(gallery: Gallery, vector: np.ndarray, picture: Picture, path: str) -> Hit | None:
    """The entry of a picture, known by its path, its file's content or its pixels."""
    tries = [Condition("path", "=", path)] if path else []
    with contextlib.suppress(OSError, ValueError):  # gone since it was opened, or only a name
        if path:
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            tries.append(Condition("content", "=", content))
    tries.append(Condition("digest", "=", picture.digest))
    for condition in tries:
        if found := gallery.search(vector, 1, [condition]):
            return found[0]
    return None
