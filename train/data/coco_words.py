"""Which words of a caption name one of COCO's 80 categories, in English and Chinese.

`coco_words.tsv` has the plain synonyms, without plurals: those are made by `plural`. The longest
name wins, so that a "hot dog" is no dog and a "traffic light" is one thing. A name may stand under
two categories ("bike"): the first of them that has boxes in the picture is meant. What stands
before and after a name may make it another thing: a "train station" is no train, the "baby" of a
baby elephant no person, an "orange" bus no fruit.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from train.data.mentions import PEOPLE, english_words
from vitdemo.words import is_chinese, split_words

_LONGEST = 4  # words of a name
_NO_CATEGORY = "-"  # of Chinese words that hold the name of one and mean another thing: a snowman


@functools.cache
def _lists() -> dict[str, dict[str, tuple[str, ...]]]:
    """Lists by name, in the order of `coco_words.tsv`, whose lines are LIST, WORD and others.

    names: category to its other names in the singular. followed_by, not_after: a name to the
    words after or before it that make it another thing (a train station, a pool table). plural:
    the irregular ones. form: other forms of a name. words: "likeness" (of an animal), "kin",
    "animals", "alone" (names that are colours or games, too: only where no noun follows), "no_noun"
    and "hints" of a person."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    text = resources.files("train.data").joinpath("coco_words.tsv").read_text("utf-8")
    for line in text.splitlines():
        name, word, others = line.split("\t")
        found.setdefault(name, {})[word] = tuple(filter(None, others.split("|")))
    return found


def category_names() -> dict[str, tuple[str, ...]]:
    """COCO's categories, each with its other names."""
    return _lists()["names"]


def animals() -> tuple[str, ...]:
    """Those of them that are animals."""
    return _lists()["words"]["animals"]


@dataclass(frozen=True)
class Mention:
    """A name in a caption: the places of its words among `split_words`, and the categories that
    it may mean, the first that has boxes being meant.

    ``words`` are no more than it takes: the last alone where that would name the same thing
    ("table" of "dining table", "hydrant"), else all ("teddy bear", "wine glass").
    """

    words: tuple[int, ...]
    name: str
    categories: tuple[str, ...]


def plural(name: str) -> str:
    """The plural of an English name, of its last word where it has several."""
    if name in _lists()["plural"]:
        return _lists()["plural"][name][0]
    rest, space, last = name.rpartition(" ")
    if space:
        return f"{rest} {plural(last)}"
    if last.endswith(("s", "x", "ch", "sh")):
        return last + "es"
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return last[:-1] + "ies"
    return last + "s"


@functools.cache
def names(extra: tuple[str, ...] = ()) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every form, singular and plural, to its singular and the categories it may mean.

    ``extra`` are categories that COCO does not have: they go by their own name.
    """
    meant: dict[str, list[str]] = {}
    for category in (*category_names(), *extra):
        for name in (category.lower(), *category_names().get(category, ())):
            if category not in meant.setdefault(name, []):
                meant[name].append(category)
    forms = {name: (name, tuple(found)) for name, found in meant.items()}
    for name, found in meant.items():
        forms.setdefault(plural(name), (name, tuple(found)))
    for form, (name,) in _lists()["form"].items():
        forms.setdefault(form, (name, tuple(meant[name])))
    return forms


def mentions(caption: str, extra: tuple[str, ...] = ()) -> tuple[Mention, ...]:
    """The names of categories in a caption, from left to right; words of no name are left out.

    A possessive counts ("the man's dog" names both), a hyphen parts words ("teddy-bear").
    """
    pieces = [word.text.lower().replace("’", "'").replace("-", " ")
              for word in split_words(caption)]
    bare = [piece[:-2] if piece.endswith("'s") else piece for piece in pieces]
    forms = names(extra)
    found, place = [], 0
    while place < len(bare):
        for length in range(min(_LONGEST, len(bare) - place), 0, -1):
            whole = " ".join(bare[place:place + length])
            name, categories = forms.get(whole, ("", ()))
            if name:
                end = place + length
                before = bare[place - 1] if place else ""
                after = bare[end] if end < len(bare) else ""
                if _is_meant(name, whole, categories, before, after, forms):
                    alone = forms.get(bare[end - 1], ("", ()))[1] == categories
                    first = end - 1 if alone else place
                    found.append(Mention(tuple(range(first, end)), name, categories))
                place = end
                break
        else:
            place += 1
    return tuple(found)


def _is_meant(name: str, form: str, categories: tuple[str, ...], before: str, after: str,
              forms: dict[str, tuple[str, tuple[str, ...]]]) -> bool:
    """Whether the words around a name leave it what it is."""
    lists = _lists()
    words = lists["words"]
    if after in lists["followed_by"].get(form, ()) or before in lists["not_after"].get(name, ()):
        return False
    animal = set(categories) & set(words["animals"])
    if before in words["likeness"] and animal:
        return False
    if name in words["kin"] and set(forms.get(after, ("", ()))[1]) & set(words["animals"]):
        return False
    return not (name in words["alone"] and form == name and after
                and after not in words["no_noun"])


@functools.cache
def chinese_rows() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The rows of `coco_words_zh.tsv`: a category and its Chinese names, the commonest first."""
    file = resources.files("train.data").joinpath("coco_words_zh.tsv")
    text = file.read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple((category, tuple(names.split("|"))) for category, names in rows)


@functools.cache
def _chinese_names() -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds the Chinese names, the longest at each place, and the category of each."""
    found = {name: category for category, own in chinese_rows() for name in own}
    return re.compile("|".join(sorted(found, key=len, reverse=True))), found


def categories(text: str) -> set[str]:
    """The categories of COCO that a caption names, in English or Chinese."""
    if is_chinese(text):
        pattern, of = _chinese_names()
        return {of[name] for name in pattern.findall(text)} - {_NO_CATEGORY}
    found = {mention.categories[0] for mention in mentions(text)}
    others = english_words([text]) & set(PEOPLE) - names().keys()
    return found | {"person"} if others else found


def tell_of_people(captions: Sequence[str]) -> bool:
    """Whether captions name a person or so much as hint at one ("his", "hands"): for who must be
    sure that nobody is there."""
    words = _lists()["words"]
    return any("person" in categories(text) or (
        any(sign in text for sign in words["hints_zh"]) if is_chinese(text)
        else english_words([text]) & set(words["hints"])) for text in captions)
