"""What a person looks for: words with signs and weights, a picture, or both.

    a dog on grass                 one sentence
    cat -indoor +snow              a sign counts for the word it touches
    cat -"red ball" +2 snow        quotes hold several words together; a number is a weight
    horse + black stripes - grass  a sign between two spaces counts up to the next sign

The vectors of the parts are added up with their weights, and the sum is what is searched with.
E embedding width.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vitdemo.errors import TextError
from vitdemo.preprocess import Picture
from vitdemo.records import Unread
from vitdemo.words import is_chinese, unread_notes

MAX_WEIGHT = 10.0
MAX_TERMS = 20
_LEAST = 1e-3  # a sum of vectors that is shorter points nowhere
_SIGNS = {"+": 1, "＋": 1, "-": -1, "−": -1, "－": -1}  # also wide ones
_QUOTES = {'"': '"', "“": "”", "„": "“", "「": "」", "«": "»"}
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,4})?(?=\s+\S)")


class Embedder(Protocol):
    """What makes the vectors: the engine."""

    def embed_pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Unit vectors, float32 (P, E)."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 (M, E)."""

    def unread(self, text: str) -> Unread:
        """What of a text the model does not read."""


@dataclass(frozen=True)
class Term:
    """A few words and how much they count: below 0 what should not be there."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Query:
    """What is looked for: terms, a picture that hits should look like, or both."""

    terms: tuple[Term, ...] = ()
    picture: Picture | None = None
    picture_weight: float = 1.0
    picture_label: str = "your picture"  # what it is called where the query is told

    @classmethod
    def of(cls, text: str = "", picture: Picture | None = None, picture_weight: float = 1.0,
           picture_label: str = "your picture") -> "Query":
        """Read a text as people type it, with or without a picture.

        Raises:
            TextError: there is neither, or a weight makes no sense.
        """
        terms = parse_query(text)
        if not terms and picture is None:
            raise TextError("Say what to look for: some words, a picture, or both.")
        if not 0 < picture_weight <= MAX_WEIGHT:
            raise TextError(f"The picture's weight is {picture_weight:g}; it must be over 0 and "
                            f"at most {MAX_WEIGHT:g}.")
        return cls(terms, picture, picture_weight, picture_label)

    @property
    def sentence(self) -> str:
        """All words in their order, signs and weights left out: what maps are made for."""
        gap = "" if all(is_chinese(one.text) for one in self.terms) else " "
        return ("，" if not gap else ", ").join(one.text for one in self.terms)

    @property
    def wanted(self) -> str:
        """The words that count for a hit, those to keep away left out."""
        return replace(self, terms=tuple(one for one in self.terms if one.weight > 0)).sentence

    def understood(self) -> str:
        """How it was read, for a person: “cat” − “indoor” + 2 × “snow”."""
        parts = [(one.weight, f"“{one.text}”") for one in self.terms]
        if self.picture is not None:
            parts.append((self.picture_weight, self.picture_label))
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
        raise TextError("What you add and what you take away cancel each other out. "
                        "Leave one of them away, or give it another weight.")
    return np.asarray(total / length, dtype=np.float32)


def parse_query(text: str) -> tuple[Term, ...]:
    """The terms of a text; words with no sign belong together and come first.

    A hyphen inside a word is no sign, but one between Chinese characters is. A number after a
    sign, with words after it, is a weight.

    Raises:
        TextError: a weight of 0 or over `MAX_WEIGHT`, or too many terms.
    """
    plain: list[str] = []
    terms: list[Term] = []
    place, weight, open_term = 0, 0.0, False  # weight 0: no sign before
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        if text[place] in _SIGNS and _begins_term(text, place):
            sign, place = _SIGNS[text[place]], place + 1
            open_term = place < len(text) and text[place].isspace()
            place = _skip_spaces(text, place)
            weight = float(sign)
            if number := _NUMBER.match(text, place):
                weight *= _checked_weight(number.group())
                place = _skip_spaces(text, number.end())
            if open_term:
                terms.append(Term("", weight))
                weight = 0.0
            continue
        word, place = _next_word(text, place)
        if weight:
            terms.append(Term(word, weight))
            weight = 0.0
        elif open_term and terms:
            terms[-1] = replace(terms[-1], text=_joined([terms[-1].text, word]))
        else:
            plain.append(word)
    terms = [one for one in terms if one.text]
    if plain:
        terms.insert(0, Term(_joined(plain)))
    if len(terms) > MAX_TERMS:
        raise TextError(f"These are {len(terms)} parts with signs; the limit is {MAX_TERMS}.")
    return tuple(terms)


def _begins_term(text: str, place: int) -> bool:
    """Whether a sign stands where a term may begin and has something to count for."""
    after = text[place + 1:].lstrip()
    if not after or after[0] in _SIGNS:
        return False
    if place == 0 or text[place - 1].isspace() or text[place - 1] in _QUOTES.values():
        return True
    follows = text[place + 1]
    return is_chinese(text[place - 1]) and (is_chinese(follows) or follows in _QUOTES)


def _next_word(text: str, place: int) -> tuple[str, int]:
    """A word, or what stands between quotes, and the place behind it."""
    if text[place] in _QUOTES:
        end = text.find(_QUOTES[text[place]], place + 1)
        inside = " ".join(text[place + 1:end].split()) if end > 0 else ""
        if inside:
            return inside, end + 1
    end = place + 1
    while end < len(text) and not text[end].isspace() and not (
            text[end] in _SIGNS and _begins_term(text, end)):
        end += 1
    return text[place:end], end


def _joined(words: Sequence[str]) -> str:
    """Words as one text; Chinese characters have no space between them."""
    text = ""
    for word in words:
        tight = text and is_chinese(text[-1]) and is_chinese(word[0])
        text += word if not text or tight else f" {word}"
    return text


def _skip_spaces(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _checked_weight(number: str) -> float:
    weight = float(number)
    if not 0 < weight <= MAX_WEIGHT:
        raise TextError(f"The weight {number} is out of range: it must be over 0 and at most "
                        f"{MAX_WEIGHT:g}. Put quotes around a number that is meant as a word.")
    return weight
