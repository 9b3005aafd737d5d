"""What a person looks for: words with signs and weights, a picture, or both.

    a dog on grass                 one sentence
    cat -indoor +snow              a sign counts for the word it touches
    cat -"red ball" +2 snow        quotes hold several words together; a number is a weight
    horse + black stripes - grass  a sign between two spaces counts up to the next sign

`query_text` says which signs and quotes are known.

The vectors of the parts are added up with their weights, and the sum is what is searched with.
E embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vitdemo.errors import TextError
from vitdemo.preprocess import Picture
from vitdemo.records import Unread
from vitdemo.retrieval.query_dates import split_date
from vitdemo.retrieval.query_text import MAX_WEIGHT, Term, parse_query
from vitdemo.retrieval.text_words import AskedWord, asked_words
from vitdemo.texts import phrase
from vitdemo.words import is_chinese, unread_notes

_LEAST = 1e-3  # a sum of vectors that is shorter points nowhere


class Embedder(Protocol):
    """What makes the vectors: the engine."""

    def embed_pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Unit vectors, float32 (P, E)."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 (M, E)."""

    def unread(self, text: str) -> Unread:
        """What of a text the model does not read."""


@dataclass(frozen=True)
class Query:
    """What is looked for: terms, a picture that hits should look like, or both."""

    terms: tuple[Term, ...] = ()
    picture: Picture | None = None
    picture_weight: float = 1.0
    picture_label: str = ""  # what it is called where the query is told; else "your picture"
    text: str = ""  # the words as they were typed, without the date
    date: str = ""  # "2019", "2021-07" or "2021-07-15": when hits were taken; see `query_dates`

    @classmethod
    def of(cls, text: str = "", picture: Picture | None = None, picture_weight: float = 1.0,
           picture_label: str = "") -> "Query":
        """Read a text as people type it, with or without a picture. A date in it says when, and is
        none of the words.

        Raises:
            TextError: there is neither, or a weight makes no sense.
        """
        words, date = split_date(text)
        terms = parse_query(words)
        if date and not terms and picture is None:
            raise TextError("query.only_a_date", date=date)
        if not terms and picture is None:
            raise TextError("query.empty")
        if not 0 < picture_weight <= MAX_WEIGHT:
            raise TextError("query.picture_weight", weight=picture_weight, most=MAX_WEIGHT)
        return cls(terms, picture, picture_weight, picture_label, words, date)

    @property
    def sentence(self) -> str:
        """All words in their order, signs and weights left out: what maps are made for."""
        gap = "" if all(is_chinese(one.text) for one in self.terms) else " "
        return ("，" if not gap else ", ").join(one.text for one in self.terms)

    @property
    def wanted(self) -> str:
        """The words that count for a hit, those to keep away left out."""
        return replace(self, terms=tuple(one for one in self.terms if one.weight > 0)).sentence

    @property
    def words(self) -> tuple[AskedWord, ...]:
        """Its words, to be looked up in what is written about pictures."""
        return asked_words(self.terms)

    @property
    def picture_name(self) -> str:
        """What the picture is called."""
        return self.picture_label or phrase("query.your_picture")

    def understood(self) -> str:
        """How it was read, for a person: “cat” − “indoor” + 2 × “snow”."""
        parts = [(one.weight, f"“{one.text}”") for one in self.terms]
        if self.picture is not None:
            parts.append((self.picture_weight, self.picture_name))
        shown = ""
        for weight, name in parts:
            size = f"{abs(weight):g} × {name}" if abs(weight) != 1 else name
            sign = "−" if weight < 0 else "+"
            shown += f" {sign} {size}" if shown else (f"− {size}" if weight < 0 else size)
        return shown

    def missed(self, embedder: Embedder) -> list[str]:
        """Sentences on what the model does not read of the words."""
        texts = [one.text for one in self.terms]
        return unread_notes(texts, [embedder.unread(text) for text in texts])

    def parts(self, embedder: Embedder) -> np.ndarray:
        """The vectors of terms and picture times their weights, in order: float32 (N, E)."""
        rows = []
        if self.terms:
            texts = embedder.embed_texts([one.text for one in self.terms])
            rows.append(texts * np.array([[one.weight] for one in self.terms], np.float32))
        if self.picture is not None:
            rows.append(embedder.embed_pictures([self.picture]) * np.float32(self.picture_weight))
        return np.concatenate(rows)  # (N, E)

    def vector(self, embedder: Embedder) -> np.ndarray:
        """What to search with: float32 (E,), of length 1.

        Raises:
            TextError: the parts cancel each other out, or a text cannot be read.
        """
        return unit_sum(self.parts(embedder))


def unit_sum(parts: np.ndarray) -> np.ndarray:
    """The sum of vectors (N, E) as a unit vector (E,).

    Raises:
        TextError: nothing is left of it.
    """
    total = parts.sum(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    if length < _LEAST:
        raise TextError("query.cancelled")
    return np.asarray(total / length, dtype=np.float32)
