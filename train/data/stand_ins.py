"""What stands in for people's captions: COCO-QA's questions, and two tables.

COCO-QA's questions were made by a program that put a question word in the place of a noun or a
number of a person's caption (Ren, Kiros, Zemel 2015, "Exploring Models and Data for Image Question
Answering", section 3.3). Where it did nothing else, the answer put back gives the caption again,
but for its articles; where it also changed the order of words, most is left alone.

Few photographs of COCO have a Chinese caption by a person (COCO-CN: Li et al. 2019). The table
has an English caption of the others, as people wrote it (COCO, CC BY 4.0) or as a question of
COCO-QA gave it back, and its Chinese by a large language model. People's Chinese captions go before
these, and nothing is measured by them.

Most photographs of Visual7W and of COCO's have no caption at all that people wrote and may be
used. The other table has an English and a Chinese one of each, and of photographs of Unsplash (in
a folder unsplash/train, where they are there), by a large model that looked at it.
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


def stand_ins(row: Row) -> tuple[str, ...]:
    """English captions for a row without any: the table's, and what can be restored of its
    questions, each once."""
    written = _written().get("/".join(row.path.parts[-3:]))
    captions = [written and written[0], *map(restored_caption, row.questions)]
    return tuple(dict.fromkeys(text for text in captions if text))


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


def in_chinese(captions: Sequence[str]) -> tuple[str, ...]:
    """The Chinese of those of the English captions that a table has."""
    table = _chinese()
    return tuple(table[key] for key in map(_key, captions) if key in table)


def _key(caption: str) -> str:
    return " ".join(caption.lower().strip().rstrip(".").split())


@lru_cache(maxsize=1)
def _written() -> dict[str, list[str]]:
    """The English and the Chinese caption of each picture, by the data set's folder, the split and
    the file's name."""
    return {name: captions for name, *captions in _lines("written_captions.tsv")}


@lru_cache(maxsize=1)
def _chinese() -> dict[str, str]:
    written = {_key(english): chinese for english, chinese in _written().values()}
    return written | dict(_lines("chinese_captions.tsv"))


def _lines(table: str) -> list[list[str]]:
    text = resources.files("train.data").joinpath(table).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()]
