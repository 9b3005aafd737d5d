"""A search as people type it, on whatever keyboard, to terms with their weights.

Phones and word processors turn "-" into a dash, "--" into a longer one and quotes into curly ones;
other keyboards have signs of their own. All dashes are one sign, and so are all pluses; a run of
signs is one, too, a minus where there is a minus in it.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from vitdemo.config import LIMITS
from vitdemo.errors import TextError
from vitdemo.words import is_chinese

MAX_WEIGHT = 10.0
MAX_TERMS = 20
MINUS = "-‐‑‒–—―−－﹣﹘⁻➖˗⸺⸻ーｰ"
PLUS = "+＋﹢⁺➕"
_SIGNS = MINUS + PLUS
_MARKS = '"“”„‟＂〝〞〟❝❞«»'  # any of them ends what any of them began
_PAIRS = {"「": "」", "『": "』", "｢": "｣", "《": "》", "〈": "〉", "‹": "›", "›": "‹"}
_BRACKETS = {"(": ")", "（": "）", "[": "]", "【": "】"}  # behind a sign they are quotes
_SINGLE = "'‘‚‛"  # inside a word they are apostrophes, and so they are where nothing ends them
_STOPS = ",;，；、。！？"  # end a word that has a sign; between digits they do not
_RUN = re.compile(rf"(?:[{re.escape(_SIGNS)}]\s*)+")
_GLUED = re.compile(rf"[{re.escape(_SIGNS)}]+")
# What no keyboard shows: zero-width marks, directions, and how an emoji is to be drawn.
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufe0e\ufe0f\ufeff]")
_DOUBLED = re.compile("''|‘‘|’’|``")
_QUOTE = re.escape(_MARKS + "".join(_PAIRS))
_AMOUNT = r"(\d{1,3}(?:[.,．，٫]\d+)?|[.,．]\d+)"
_NUMBER = re.compile(rf"{_AMOUNT}(?:\s*[×*]\s*|\s+|(?=[{_QUOTE}]\S))(?=[^\s{re.escape(_SIGNS)}])")
_TIMES = re.compile(rf"{_AMOUNT}\s*[×*]\s*(?=[{_QUOTE}])")  # a weight with no sign before it


@dataclass(frozen=True)
class Term:
    """A few words and how much they count: below 0 what should not be there."""

    text: str
    weight: float = 1.0


def parse_query(text: str) -> tuple[Term, ...]:
    """The terms of a text; words with no sign belong together and come first.

    A dash inside a word is no sign, but one between Chinese characters is. A number after a sign,
    with words after it, is a weight. A quote that nothing ends reaches to the next sign.

    Raises:
        TextError: the text is too long, a weight is 0 or over `MAX_WEIGHT`, or there are too many
            terms.
    """
    if len(text) > LIMITS.max_text_characters:
        raise TextError("query.long", length=len(text), most=LIMITS.max_text_characters)
    terms = _Reader(_DOUBLED.sub('"', _UNSEEN.sub("", text))).terms()
    if len(terms) > MAX_TERMS:
        raise TextError("query.parts", count=len(terms), most=MAX_TERMS)
    return tuple(terms)


class _Reader:
    """Goes through a text once, from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.plain: list[str] = []
        self.signed: list[tuple[float, list[str]]] = []
        self.counting = False  # a sign between two spaces counts for all words up to the next one
        self.endless: set[str] = set()  # ends of quotes of which there are no more

    def terms(self) -> list[Term]:
        while self._skip(_STOPS if self.signed and not self.counting else ""):
            if self._begins_term(self.place) and (run := _RUN.match(self.text, self.place)):
                self.place = run.end()
                self._take_signed(-1.0 if set(run.group()) & set(MINUS) else 1.0,
                                  run.group()[-1].isspace())
            elif times := _TIMES.match(self.text, self.place):
                self.place = times.end()
                self.signed.append((_weight(times.group(1)), [self._word() or ""]))
            elif word := self._word():
                (self.signed[-1][1] if self.counting else self.plain).append(word)
        found = [Term(_joined(self.plain).strip(" ,;，；、")), *(
            Term(_joined(words).strip(" ,;，；、"), weight) for weight, words in self.signed)]
        return [one for one in found if any(map(_says_something, one.text))]

    def _take_signed(self, weight: float, counting: bool) -> None:
        if number := _NUMBER.match(self.text, self.place):
            weight *= _weight(number.group(1))
            self.place = number.end()
        self.counting = counting
        self.signed.append((weight, []))
        if not counting and self._skip(_STOPS):
            word = self._word(signed=True)
            self.counting = word is None  # a quote that nothing ends
            self.signed[-1][1].append(word or "")

    def _skip(self, more: str) -> bool:
        """Go to what is neither a space nor one of ``more``; says whether there is anything."""
        while self.place < len(self.text) and (self.text[self.place].isspace()
                                               or self.text[self.place] in more):
            self.place += 1
        return self.place < len(self.text)

    def _begins_term(self, place: int) -> bool:
        """Whether a sign stands there and no word is going on."""
        if self.text[place] not in _SIGNS:
            return False
        before = self.text[place - 1:place]
        if not before or not (before.isalnum() or before in "_'’"
                              or unicodedata.category(before)[0] == "M"):
            return True
        run = _RUN.match(self.text, place)
        after = self.text[run.end():run.end() + 1] if run else ""
        return is_chinese(before) and (after.isalpha() or bool(re.match(f"[{_QUOTE}]", after))
                                       or bool(run and _NUMBER.match(self.text, run.end())))

    def _word(self, signed: bool = False) -> str | None:
        """A word, or what stands between quotes; None where a quote begins that nothing ends, of
        which only the mark is taken."""
        first = self.text[self.place]
        pairs = {**_PAIRS, **_BRACKETS} if signed else _PAIRS
        if first in _MARKS or first in pairs or first in _SINGLE:
            ends = _MARKS if first in _MARKS else pairs.get(first, "'’‘")
            end = self._end_of_quote(ends, first in _SINGLE)
            if end:
                inside = " ".join(self.text[self.place + 1:end].split())
                self.place = end + 1
                return inside
            if first not in _SINGLE:
                self.place += 1
                return None
        start = self.place
        self.place += 1
        while self.place < len(self.text) and not self._ends_word(signed):
            # Signs that belong to a word ("C++") are passed in one go: no term begins in them.
            run = _GLUED.match(self.text, self.place)
            self.place = run.end() if run else self.place + 1
        return self.text[start:self.place]

    def _ends_word(self, signed: bool) -> bool:
        here = self.text[self.place]
        if here.isspace() or self._begins_term(self.place):
            return True
        return signed and here in _STOPS and not (
            self.text[self.place - 1].isdigit() and self.text[self.place + 1:self.place + 2]
            .isdigit())

    def _end_of_quote(self, ends: str, single: bool) -> int:
        """Where the quote that begins here ends; 0 where it does not."""
        if ends in self.endless:
            return 0
        outside = r"(?!\w)" if single else ""
        end = re.compile(f"[{re.escape(ends)}]{outside}").search(self.text, self.place + 1)
        if end is None:
            self.endless.add(ends)  # not looked for again: one pass in all
            return 0
        return end.start()


def _says_something(character: str) -> bool:
    """Whether it is more than a mark or a space: a letter, a digit, an emoji."""
    kind = unicodedata.category(character)
    return kind[0] in "LN" or kind == "So"


def _joined(words: Sequence[str]) -> str:
    """Words as one text; Chinese characters have no space between them."""
    text = ""
    for word in filter(None, words):
        tight = text and is_chinese(text[-1]) and is_chinese(word[0])
        text += word if not text or tight else f" {word}"
    return text


def _weight(number: str) -> float:
    weight = float(re.sub("[,．，٫]", ".", number))
    if not 0 < weight <= MAX_WEIGHT:
        raise TextError("query.weight", weight=number, most=MAX_WEIGHT)
    return weight
