"""What a picture's captions name, what they leave open, what is surely not among it, which words
belong to the picture, and how a thing is asked for.

What is made of captions needs a wrong thing that is wrong: one that no caption of the picture
names, in either language, and that no vaguer word may mean ("a person" may be a man, "a swimmer"
is in the water). The words are in `things.tsv` and `words.tsv` beside this file.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import NamedTuple

from train.data.reading import Row
from vitdemo.tokens import TextTokenizer


def read_table(name: str) -> Iterator[list[str]]:
    """The rows of one of the tables beside this file, without its head."""
    text = resources.files("train.data").joinpath(name).read_text(encoding="utf-8")
    return (line.split("\t") for line in text.splitlines()[1:])


class Thing(NamedTuple):
    """A thing's English and Chinese words, the first of which name it, and those that leave open
    whether it is there."""

    english: tuple[str, ...]
    chinese: tuple[str, ...]
    open: tuple[str, ...]


WORDS = {name: tuple(words.split("|")) for name, words in read_table("words.tsv")}
PEOPLE = WORDS["people"]
COLOURS = dict(zip(WORDS["colours"], WORDS["colours_zh"], strict=True))
THINGS = tuple(Thing(*(tuple(words.replace("@people", "|".join(PEOPLE)).split("|"))
                       for words in row)) for row in read_table("things.tsv"))
NAMES = tuple(thing.english[0] for thing in THINGS)
ASKED = {(key, language): tuple(phrasings.split("|"))
         for key, language, phrasings in read_table("questions.tsv")}
ANSWERS = {"en": ("yes", "no"), "zh": ("有", "没有")}  # whether a thing is there


def any_of(name: str) -> str:
    """A pattern for the words of a list in `words.tsv`."""
    return f"(?:{'|'.join(map(re.escape, WORDS[name]))})"


_COLOUR = any_of("colours")
_COLOURED = re.compile(rf"\b({_COLOUR}(?: and {_COLOUR})?) ({any_of('coloured')})\b")
_COLOURED_ZH = re.compile(rf"([{''.join(colour[0] for colour in COLOURS.values())}])色?的?"
                          rf"({any_of('coloured_zh')})")


def english_words(captions: Sequence[str]) -> set[str]:
    """All words of these captions, in lower case."""
    return set(re.findall(r"[a-z]+", " ".join(captions).lower()))


def plain(text: str) -> str:
    """The words of an English text alone, in lower case."""
    return " ".join(re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower()))


def things_coloured(text: str, language: str) -> list[tuple[str, str]]:
    """(colour, thing) as a caption says them: ("red and white", "shirt"), ("红色", "衣服")."""
    if language == "zh":
        return [(f"{colour}色", thing) for colour, thing in _COLOURED_ZH.findall(text)]
    return _COLOURED.findall(plain(text))


def things_named(row: Row) -> set[int]:
    """Places in `THINGS` of what the English captions call by its first name."""
    words = english_words(row.captions)
    return {i for i, name in enumerate(NAMES) if name in words or f"{name}s" in words}


def things_absent(row: Row) -> set[int]:
    """Places in `THINGS` of what no caption of the row names and none leaves open.

    Empty where there is no English caption: Chinese alone leaves too much open.
    """
    if not row.captions:
        return set()
    words, chinese = english_words(row.captions), "".join(row.captions_zh)
    english = " ".join(row.captions).lower()
    return {i for i, thing in enumerate(THINGS)
            if not words & {*thing.english, *(f"{word}s" for word in thing.english), *thing.open}
            and not any(" " in word and word in english for word in thing.english)
            and not any(word in chinese for word in thing.chinese)}


def is_there(name: str, generator: random.Random) -> str:
    """Whether a thing is in the picture, as a question in English."""
    article = "" if name in WORDS["without_article"] else "an " if name[0] in "aeiou" else "a "
    return generator.choice(ASKED["yes_no", "en"]).format(article + name)


def ask_for(thing: int, generator: random.Random) -> dict[str, str]:
    """Whether what is at this place in `THINGS` is in the picture, in both languages."""
    return {"en": is_there(THINGS[thing].english[0], generator),
            "zh": generator.choice(ASKED["yes_no", "zh"]).format(THINGS[thing].chinese[0])}


_LEAST = 8  # rows that must name a word before its place can be learnt
_NOTHING = {"yes", "no", "none", "0", "nothing"}


def word_bags(rows: Sequence[Row], tokenizer: TextTokenizer) -> tuple[list[set[int]], list[int]]:
    """For each row the tokens that its texts name and a picture can show; and all of those.

    A token counts when at least `_LEAST` rows have it and it is no function word. Of questions,
    those answered with yes, no or nothing are left out: what they ask for may not be there.
    """
    texts = [_about(row) for row in rows]
    pieces = iter(tokenizer.batch_pieces([text for own in texts for text in own]))
    bags = [set().union(*(next(pieces) for _ in own)) for own in texts]
    counts = Counter(token for bag in bags for token in bag)
    function_words = {token for ids in tokenizer.batch_pieces(WORDS["function_words"])
                      for token in ids}
    kept = {token for token, count in counts.items()
            if count >= _LEAST and token not in function_words}
    return [bag & kept for bag in bags], sorted(kept)


def _about(row: Row) -> list[str]:
    asked = [f"{question.question} {question.answer}" for question in row.questions
             if question.answer.casefold() not in _NOTHING]
    return [text.lower() for text in (*row.captions, *row.captions_zh, *asked)]
