"""A picture's caption beside a hard wrong one, for the match head: which of the two is right?

Two ways to be wrong: a caption of another picture, among those whose captions are most alike, that
says something no caption of this picture says ("similar"); and the right caption with one word
changed for another of its kind that no caption of the picture names ("object", "colour",
"number", "verb").
"""

import functools
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.data.mentions import COLOURS, NAMES, THINGS, things_absent
from train.data.reading import Row
from train.evaluation.metrics import caption_words
from train.evaluation.predict import Predictor
from train.word_lists import word_lists

MOST_ROWS = 1000  # pictures of a split that get trials, evenly spread
_NEAREST = 20  # pictures that are looked through for a similar caption
_COLOURS_ZH, _NUMBERS_ZH = "红蓝绿黄白黑棕粉紫灰", "两三四五六"
# Characters that are a colour or a number here, and not part of another word.
_SIGNS_ZH = {"colour": re.compile(f"[{_COLOURS_ZH}](?=色|衣|裙|帽|裤|上衣|外套|头盔|狗|球|马)"),
             "number": re.compile(f"[{_NUMBERS_ZH}](?=[只个名位匹条])")}


@functools.cache
def _lists() -> dict[str, dict[str, tuple[str, ...]]]:
    """objects: names of `THINGS` that stand in one place of a sentence, a group a line. object,
    number, verb: each word with those that would say it too. verb_zh: each with the character that
    every word for it holds. plural: the irregular ones."""
    return word_lists("train.evaluation", "hard_negatives.tsv")


@dataclass(frozen=True)
class Pair:
    """The row at ``row``, a right and a wrong sentence, and how the latter is wrong."""

    row: int
    right: str
    wrong: str
    kind: str


@dataclass(frozen=True)
class _Change:
    """Part of a caption that may be changed, and what could stand there instead."""

    kind: str
    caption: str
    start: int
    end: int
    instead: tuple[str, ...]


def make_pairs(rows: Sequence[Row], language: str, seed: int = 0) -> list[Pair]:
    """Up to two pairs a picture with captions in the language, one of each way; fixed by the rows
    and the seed. Pictures without English captions have none: what is absent is told by those."""
    maker = random.Random(f"{seed}:{language}")
    usable = [i for i, row in enumerate(rows) if row.captions and row.texts(language)]
    usable = usable[::-(-len(usable) // MOST_ROWS) or 1]
    chosen = [rows[i] for i in usable]
    common = Counter(word for row in chosen for text in row.texts(language)
                     for word in _words(text))
    pairs = []
    for i, near in zip(usable, _nearest([row.texts(language) for row in chosen]), strict=True):
        pair = _similar(i, rows[i], [chosen[j] for j in near], language, maker)
        pairs += [pair] if pair else []
        changes = list(_changes(rows[i], language))
        if changes:
            kind = maker.choice(sorted({change.kind for change in changes}))
            change = maker.choice([change for change in changes if change.kind == kind])
            odds = [1 + common[word] for word in change.instead]  # common words, as is believable
            pairs.append(_changed(i, change, maker.choices(change.instead, odds)[0], language))
    return pairs


@functools.lru_cache(50_000)
def _words(text: str) -> frozenset[str]:
    return frozenset(caption_words(text))  # cutting Chinese is slow, and each text comes up often


def _nearest(texts: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """For each picture the others whose captions are most alike, the most alike first: the cosine
    of their words' counts, weighted by how rare a word is."""
    bags = [Counter(word for text in of_row for word in _words(text))
            for of_row in texts]
    place = {word: i for i, word in enumerate(sorted(set().union(*bags)))}
    counts = np.zeros((len(bags), len(place)), np.float32)
    for i, bag in enumerate(bags):
        counts[i, [place[word] for word in bag]] = list(bag.values())
    weighted = counts * np.log(len(bags) / np.maximum(1, (counts > 0).sum(0)))
    weighted /= np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-9)
    for i, row in enumerate(weighted):
        alike = weighted @ row
        alike[i] = -1
        order = np.argsort(-alike, kind="stable")[:_NEAREST]
        yield [int(j) for j in order if alike[j] > 0]


def _similar(place: int, row: Row, near: Sequence[Row], language: str,
             maker: random.Random) -> Pair | None:
    """Of the alike pictures' captions the one most like the right caption, by shared words, among
    those that state what no caption of this picture states."""
    right = maker.choice(row.texts(language))
    words = _words(right)
    wrong = _surely_wrong(row, language)
    best, most = "", -1.0
    for text in (text for other in near for text in other.texts(language)):
        others = _words(text)
        alike = len(words & others) / len(words | others)
        if alike > most and wrong.search(text.lower()):
            best, most = text, alike
    return Pair(place, right, best, "similar") if best else None


def _surely_wrong(row: Row, language: str) -> re.Pattern[str]:
    """Finds a thing, a colour or a number that no caption of the row names or leaves open."""
    absent = sorted(things_absent(row))
    if language == "zh":
        text = "".join(row.captions_zh)
        found = [THINGS[i][1][0] for i in absent]
        for kind, signs in (("colour", _COLOURS_ZH), ("number", _NUMBERS_ZH)):
            free = "".join(sign for sign in signs if sign not in text)
            found += [_SIGNS_ZH[kind].pattern.replace(signs, free)] if free else []
        return re.compile("|".join(found) or "(?!)")
    words = set(re.findall(r"[a-z0-9]+", " ".join(row.captions).lower()))
    names = [form for i in absent for form in (NAMES[i], _plural(NAMES[i]))]
    names += [colour for colour in COLOURS if colour not in words]
    names += [number for number, alike in _lists()["number"].items()
              if not words & {number, *alike}]
    return re.compile(rf"\b(?:{'|'.join(names) or '(?!)'})\b")


def _groups() -> list[tuple[str, ...]]:
    return [(first, *others) for first, others in _lists()["objects"].items()]


def _plural(name: str) -> str:
    return _lists()["plural"].get(name, (f"{name}s",))[0]


def _changes(row: Row, language: str) -> Iterator[_Change]:
    """Every word of the captions that may be changed, where it stands in its caption only once."""
    options = _options(row) if language == "en" else _options_zh(row)
    for caption in row.texts(language):
        words = _words(caption)
        for kind, word, instead in options:
            if not instead:
                continue
            if language == "en":
                found = list(re.finditer(rf"\b{word}\b", caption, re.IGNORECASE))
            elif kind in _SIGNS_ZH:
                found = [m for m in _SIGNS_ZH[kind].finditer(caption) if m.group() == word]
            else:
                found = list(re.finditer(word, caption)) if word in words else []
            if len(found) == 1:
                yield _Change(kind, caption, *found[0].span(), instead)


def _options(row: Row) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(kind, word, what may stand instead) in English: nothing that the captions name or leave
    open."""
    words = set(re.findall(r"[a-z0-9]+", " ".join(row.captions).lower()))
    absent = {NAMES[i] for i in things_absent(row)}
    for group in _groups():
        others = [name for name in group if name in absent]
        for name in group:
            yield "object", name, tuple(others)
            yield "object", _plural(name), tuple(_plural(other) for other in others)
    for kind in ("object", "number", "verb"):
        free = tuple(word for word, alike in _lists()[kind].items()
                     if not words & {word, f"{word}s", *alike})
        yield from ((kind, word, free) for word in _lists()[kind])
    colours = tuple(colour for colour in COLOURS if colour not in words and colour != "grey")
    yield from (("colour", colour, colours) for colour in COLOURS)


def _options_zh(row: Row) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The same in Chinese."""
    text = "".join(row.captions_zh)
    absent = {NAMES[i] for i in things_absent(row)}
    in_chinese = {name: words[1][0] for name, words in zip(NAMES, THINGS, strict=True)}
    for group in _groups():
        others = tuple(in_chinese[name] for name in group if name in absent)
        yield from (("object", in_chinese[name], others) for name in group)
    for kind, signs in (("colour", _COLOURS_ZH), ("number", _NUMBERS_ZH)):
        free = tuple(sign for sign in signs if sign not in text)
        yield from ((kind, sign, free) for sign in signs)
    verbs = tuple(verb for verb, (sign,) in _lists()["verb_zh"].items() if sign not in text)
    yield from (("verb", verb, verbs) for verb in _lists()["verb_zh"])


def _changed(place: int, change: _Change, word: str, language: str) -> Pair:
    if change.caption[change.start].isupper():
        word = word.capitalize()
    wrong = change.caption[:change.start] + word + change.caption[change.end:]
    if language == "en":  # "a ball" becomes "an umbrella", or the article would tell
        before, after = wrong[:change.start], wrong[change.start:]
        article = "an " if after[0] in "aeiou" else "a "
        wrong = re.sub(r"\ban? $", article, before) + after
    return Pair(place, change.caption, wrong, change.kind)


def match_figures(predictor: Predictor[Any], pictures: Sequence[Any], pairs: Sequence[Pair],
                  blank: bool) -> dict[str, Any]:
    """How often the match head scores the right sentence higher, in percent; a tie counts half.

    "accuracy" and "n" over all, the same by kind of mistake in "by_kind" ("changed" is all that
    have one word changed), and with ``blank`` each over a blank picture: what the sentences alone
    give away. ``pictures`` from `Predictor.keep`.
    """
    texts = [text for pair in pairs for text in (pair.right, pair.wrong)]
    number = np.arange(len(texts))
    asked = np.stack((np.repeat([pair.row for pair in pairs], 2), number), 1)
    scores = {"accuracy": _right(predictor.match_logits(pictures, texts, asked))}
    if blank:
        nothing = np.stack((np.zeros_like(number), number), 1)
        scores["blank"] = _right(
            predictor.match_logits(predictor.keep(predictor.blank()), texts, nothing))

    def figures(chosen: Sequence[int]) -> dict[str, Any]:
        return {**{name: 100 * float(found[chosen].mean()) for name, found in scores.items()},
                "n": len(chosen)}

    groups: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault(pair.kind, []).append(i)
        if pair.kind != "similar":
            groups.setdefault("changed", []).append(i)
    return {**figures(range(len(pairs))),
            "by_kind": {kind: figures(groups[kind]) for kind in sorted(groups)}}


def _right(logits: np.ndarray) -> np.ndarray:
    """1 where the first of two has more, one half where they are equal: (2R,) to (R,)."""
    ahead = (logits[::2] - logits[1::2]).round(6)
    return (np.sign(ahead) + 1) / 2
