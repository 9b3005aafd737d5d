"""Characters that a vocabulary lacks, written with those that it has.

A text is folded before it is read: full-width and fancy letters to plain ones, traditional Chinese
characters to simplified ones, curly quotes to straight ones. What the vocabulary has stays as it
is, and each folded character knows where it came from, so that whatever is found out about a text
belongs to the characters that were typed.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from vitdemo.records import Unread, Word
from vitdemo.words import is_chinese, split_words, unread_words

# What Unicode's compatibility forms do not bring together.
_MARKS = str.maketrans({"‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "“": '"', "”": '"',
                        "„": '"', "‟": '"', "″": '"', "«": '"', "»": '"', "‹": "'", "›": "'",
                        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-",
                        "⁄": "/"})
# "LATIN SMALL LETTER O WITH STROKE", "LATIN SMALL LIGATURE OE": letters that Unicode does not
# take apart.
_LATIN = re.compile(r"LATIN (?:SMALL|CAPITAL) (?:LETTER|LIGATURE) (?:DOTLESS )?([A-Z]{1,2})"
                    r"(?: WITH .*)?")
_CONVERSIONS = ("tw2s", "hk2s")  # of OpenCC: both know the characters that all have in common


class Characters:
    """The characters that the tokens of a vocabulary are written with, and how to write others."""

    def __init__(self, tokens: Iterable[str]) -> None:
        """``tokens`` of a WordPiece vocabulary; one that goes on a word begins with ##. A
        character is known where it is a token."""
        self._known = {token.removeprefix("##") for token in tokens
                       if len(token.removeprefix("##")) == 1}
        self._seen: dict[str, bool] = {}

    def knows(self, character: str) -> bool:
        """Whether the tokenizer reads it; what it passes over (spaces, accents, marks that cannot
        be seen) counts as known."""
        found = self._seen.get(character)
        if found is None:
            bare = unicodedata.normalize("NFD", character.lower())
            found = all(one in self._known or one.isspace()
                        or unicodedata.category(one) in ("Mn", "Cc", "Cf") for one in bare)
            self._seen[character] = found
        return found

    def fold(self, text: str) -> tuple[str, list[int]]:
        """The text as it is read, and for each character of that its place in ``text``.

        Letters and symbols that nothing can be made of get a space on either side, so that the
        known word beside them is still read. Punctuation that nothing can be made of stays, and so
        does that of Chinese: who learned Chinese questions by their own mark expects that one.
        """
        if all(map(self.knows, text)):
            return text, list(range(len(text)))
        plain: list[str] = []
        places: list[int] = []
        chinese = is_chinese(text)
        simple = simplified(text) if chinese else text
        lost = False  # whether the character before is one that nothing can be made of
        for place, character in enumerate(text):
            mark = unicodedata.category(character)[0] in "PM"
            written = "" if mark and chinese and not self.knows(character) else self._written(
                character, simple[place])
            was, lost = lost, not written
            written = written or character
            if lost != was and not (lost and mark):
                written = f" {written}"
            plain += written
            places += [place] * len(written)
        return "".join(plain), places

    def _written(self, character: str, simple: str) -> str:
        """A character by known ones, "" where there is no way; ``simple`` is the simplified form
        that it has in its text."""
        if self.knows(character):
            return character
        compatible = unicodedata.normalize("NFKC", character).translate(_MARKS)
        latin = _LATIN.fullmatch(unicodedata.name(character, ""))
        for way in (simple, compatible, simplified(compatible) if is_chinese(compatible) else "",
                    character.casefold(), latin.group(1).lower() if latin else ""):
            if way and all(map(self.knows, way)):
                sign = len(way) > 1 and unicodedata.category(character) in ("So", "No")
                return f" {way} " if sign else way  # "5㎏" is 5 kg
        return ""


def unread_of(text: str, lost: Iterable[tuple[int, int]], cut: int | None = None) -> Unread:
    """What was not read of a text: ``lost`` are the spans of its unknown tokens in rising order,
    ``cut`` the place at which it was cut. Punctuation that is not known is not told."""
    unknown = tuple(Word(text[start:end], start, end) for start, end in _joined(text, lost)
                    if any(unicodedata.category(one)[0] in "LNS" for one in text[start:end]))
    found = Unread(unknown, cut)
    if not unknown:
        return replace(found, nothing=not any(map(str.isalnum, text)))
    words = split_words(text)
    flags = unread_words(words, found)
    return replace(found, nothing=all(flags) if flags else not words)


def _joined(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans that stand side by side as one; what cannot be seen (the joiner of an emoji) keeps
    none apart."""
    start = end = -1
    for first, last in spans:
        if end >= 0 and all(unicodedata.category(one) in ("Mn", "Cf") for one in text[end:first]):
            end = last
            continue
        if end >= 0:
            yield start, end
        start, end = first, last
    if end >= 0:
        yield start, end


def simplified(text: str) -> str:
    """Traditional Chinese characters as simplified ones, place by place; the rest as it is."""
    for converter in _converters():
        found = converter.convert(text)
        text = found if len(found) == len(text) else "".join(
            one if len(one) == 1 else old
            for old, one in ((old, converter.convert(old)) for old in text))
    return text


@functools.cache
def _converters() -> tuple[Any, ...]:
    import opencc  # only where Chinese is met that the vocabulary lacks

    return tuple(opencc.OpenCC(name) for name in _CONVERSIONS)
