"""What is wrong in captions, beside how near they come to people's: words said twice, people who
are not there, things that no person named.

The last is CHAIR (Rohrbach et al. 2018, "Object Hallucination in Image Captioning"), by what people
said alone, as there are no boxes.
"""

import functools
import re
from collections.abc import Sequence
from importlib import resources

from train.data.mentions import PEOPLE, english_words
from train.grounding.coco_words import mentions, names
from vitdemo.words import is_chinese, repeated_words

_NO_CATEGORY = "-"  # of words that hold the name of one and mean something else: a snowman


@functools.cache
def chinese_rows() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The rows of `coco_words_zh.tsv`: a category and its Chinese names, the commonest first."""
    file = resources.files("train.grounding").joinpath("coco_words_zh.tsv")
    text = file.read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple((category, tuple(names.split("|"))) for category, names in rows)


@functools.cache
def chinese_names() -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds the Chinese names of COCO's categories, the longest at each place, and the
    category of each, by `coco_words_zh.tsv`."""
    found = {name: category for category, own in chinese_rows() for name in own}
    return re.compile("|".join(sorted(found, key=len, reverse=True))), found


def categories(text: str) -> set[str]:
    """The categories of COCO that a caption names, in English or Chinese."""
    if is_chinese(text):
        pattern, of = chinese_names()
        return {of[name] for name in pattern.findall(text)} - {_NO_CATEGORY}
    found = {mention.categories[0] for mention in mentions(text)}
    others = english_words([text]) & set(PEOPLE) - names().keys()
    return found | {"person"} if others else found


def fault_figures(captions: Sequence[str],
                  references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Of one caption per picture against all that people said of that picture, in any language.

    "repeated": captions in which a content word stands twice, in percent. "person_unsaid": those
    that name a person where nobody did, in percent. "things_unsaid": COCO's categories that were
    named and that nobody named, per caption; "things_said": the share of the categories that
    people named that were named, in percent, None where people named none.
    """
    said = [categories(text) for text in captions]
    wanted = [set[str]().union(*map(categories, texts)) for texts in references]
    people = sum(map(len, wanted))
    wrong = [one - of for one, of in zip(said, wanted, strict=True)]
    right = sum(len(one & of) for one, of in zip(said, wanted, strict=True))
    count = len(captions)
    return {"repeated": 100 * sum(bool(repeated_words(text)) for text in captions) / count,
            "person_unsaid": 100 * sum("person" in of for of in wrong) / count,
            "things_unsaid": sum(map(len, wrong)) / count,
            "things_said": 100 * right / people if people else None}
