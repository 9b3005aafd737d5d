"""What stands in for people's captions: COCO-QA's questions, and a table of Chinese ones.

COCO-QA's questions were made by a program that put a question word in the place of a noun or a
number of a person's caption (Ren, Kiros, Zemel 2015, "Exploring Models and Data for Image Question
Answering", section 3.3). Where it did nothing else, the answer put back gives the caption again,
but for its articles; where it also changed the order of words, most is left alone.

Few photographs of COCO have a Chinese caption by a person (COCO-CN: Li et al. 2019). The table
has an English caption of the others, as people wrote it (COCO, CC BY 4.0) or as a question of
COCO-QA gave it back, and its Chinese by a large language model. People's Chinese captions go before
these, and nothing is measured by them.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from train.data.mentions import COLOURS
from train.data.reading import Question, Row
from vitdemo.statements import with_thing

SOURCE = "coco_qa"
LEAST_WORDS = 4  # of a caption
_COLOURS = [colour for colour in COLOURS if colour != "grey"]  # COCO-QA's spelling
_COLOUR_OF = re.compile(r"what is the color of the ([a-z-]+) ?\??")


def restored_captions(row: Row) -> tuple[str, ...]:
    """What can be restored of a row's questions, each once."""
    captions = map(restored_caption, row.questions)
    return tuple(dict.fromkeys(text for text in captions if text is not None))


def restored_caption(question: Question) -> str | None:
    """The caption that a question was made of, in lower case, or None where that is not sure."""
    if question.source != SOURCE:
        return None
    asked = question.question.lower().strip().rstrip("?").strip()
    caption = None
    if asked.count("how many") == 1 and question.type == "number":
        caption = asked.replace("how many", _answer(question))
    elif question.type == "object" and asked.split().count("what") == 1:
        caption = with_thing(asked, _answer(question))
    if caption is None or len(caption.split()) < LEAST_WORDS:
        return None
    return f"{caption} ."  # as people's captions end


def coloured_things(row: Row) -> list[tuple[str, str]]:
    """(colour, thing) of COCO-QA's questions about colours."""
    asked = ((_COLOUR_OF.fullmatch(question.question.lower().strip()), _answer(question))
             for question in row.questions if question.source == SOURCE)
    return [(answer, about[1]) for about, answer in asked if about and answer in _COLOURS]


def _answer(question: Question) -> str:
    return question.answer.lower().replace("_", " ").strip()


_TABLE = "chinese_captions.tsv"


def in_chinese(captions: Sequence[str]) -> tuple[str, ...]:
    """The Chinese of those of the English captions that the table has."""
    table = _table()
    return tuple(table[key] for key in map(_key, captions) if key in table)


def _key(caption: str) -> str:
    return " ".join(caption.lower().strip().rstrip(".").split())


@lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    text = resources.files("train.data").joinpath(_TABLE).read_text(encoding="utf-8")
    return dict(line.split("\t") for line in text.splitlines())
