"""Words of what is written in, at and beside pictures, cut so that each can be looked up.

Letters are small and without accents, and the endings of English plurals go; Chinese is cut into
characters and pairs of neighbours, so that it does not matter where a word ends: a longer word is
there where all of its pairs are.
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vitdemo.retrieval.query_text import Term
from vitdemo.video import file_of
from vitdemo.words import content_words, is_chinese

_RUNS = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+|[^\W\d_\u3400-\u9fff\uf900-\ufaff]+"
                   r"|\d+")
_OF = re.compile(r"(?<=\w)['’]s\b")
SOURCES = ("name", "folder", "inside", "beside")
EXCERPT = 160  # characters of a text that are shown


@dataclass(frozen=True)
class AskedWord:
    """A word of a search, what it is looked up by, and how much it counts: below 0 what should not
    be there."""

    text: str
    pieces: tuple[str, ...]
    weight: float = 1.0

    def stands_in(self, path: str, metadata: Mapping[str, str | int | float]) -> bool:
        """Whether anything that is said of a picture has it."""
        return bool(said_of([self], path, metadata))


@dataclass(frozen=True)
class Said:
    """Where words of a search stand: one of `SOURCES`, and its text, or a part of it."""

    source: str
    text: str
    words: tuple[str, ...]


def pieces(text: str) -> Iterator[str]:
    """What a text is looked up by, in order."""
    plain = unicodedata.normalize("NFKD", _OF.sub("", text.casefold()))
    plain = "".join(one for one in plain if unicodedata.category(one) != "Mn")
    for run in _RUNS.findall(unicodedata.normalize("NFC", plain)):
        if is_chinese(run):
            yield from run
            yield from map("".join, pairwise(run))
        else:
            yield _stem(run)


def _stem(word: str) -> str:
    """What singular and plural have in common: "hors" of horse and horses, "ladi" of lady and
    ladies."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    return f"{word[:-1]}i" if word.isascii() and word.endswith("y") else word


def asked_words(terms: Sequence[Term]) -> tuple[AskedWord, ...]:
    """The words of a search that say something, each once."""
    found: dict[tuple[str, ...], AskedWord] = {}
    for term in terms:
        for word in content_words(term.text):
            cut = list(pieces(word))
            pairs = "".join(one for one in cut if len(one) == 2 and is_chinese(one))
            if cut := [one for one in cut if len(one) > 1 or one not in pairs]:
                found.setdefault(tuple(cut), AskedWord(word, tuple(cut), term.weight))
    return tuple(found.values())


def _parts(path: str, metadata: Mapping[str, str | int | float]) -> list[tuple[str, str]]:
    """Each of `SOURCES` with a text of it, lines one by one."""
    *folders, name = re.split(r"[/\\]", file_of(path))
    parts = [("name", os.path.splitext(name)[0]), *(("folder", one) for one in folders[::-1])]
    for source in ("inside", "beside"):
        parts += [(source, line) for line in str(metadata.get(source, "")).splitlines()]
    return parts


def words_of(path: str, metadata: Mapping[str, str | int | float]) -> str:
    """All that a picture is looked up by, in one text with spaces."""
    return " ".join(dict.fromkeys(piece for _, text in _parts(path, metadata)
                                  for piece in pieces(text)))


def said_of(words: Sequence[AskedWord], path: str,
            metadata: Mapping[str, str | int | float]) -> list[Said]:
    """Where words of a search stand in what is said of a picture, those to keep away included."""
    found = []
    for source, text in _parts(path, metadata):
        cut = set(pieces(text))
        if there := tuple(word.text for word in words if cut.issuperset(word.pieces)):
            short = text if len(text) <= EXCERPT else text[:EXCERPT - 1] + "…"
            found.append(Said(source, short, there))
    return found


def says_all(words: Sequence[AskedWord], path: str,
             metadata: Mapping[str, str | int | float]) -> bool:
    """Whether all of the words, and at least one, stand in what is said of a picture."""
    return bool(words) and all(word.stands_in(path, metadata) for word in words)
