"""What stands in for people's captions: COCO-QA's questions, and a table of Chinese ones.

COCO-QA's questions were made by a program that put a question word in the place of a noun or a
number of a person's caption (Ren, Kiros, Zemel 2015, "Exploring Models and Data for Image Question
Answering", section 3.3). Where it did nothing else, the answer put back gives the caption again,
but for its articles; where it also changed the order of words, most is left alone. Questions to be
answered with yes or no, which COCO-QA has not, are made of its answers.

Few photographs of COCO have a Chinese caption by a person (COCO-CN: Li et al. 2019). The table
has an English caption of the others, as people wrote it (COCO, CC BY 4.0) or as a question of
COCO-QA gave it back, and its Chinese by a large language model. People's Chinese captions go before
these, and nothing is measured by them.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from train.data.instructions import is_there
from train.data.mentions import COLOURS
from train.data.reading import Question, Row
from vitdemo.statements import is_many, with_thing

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


def answered_things(rows: Sequence[Row]) -> dict[str, int]:
    """What COCO-QA's questions about these rows are answered with where they ask for a thing, and
    how often; things of which there are several, and those of only one row, are left out."""
    counts = Counter(thing for row in rows for thing in sorted(set(_things(row))))
    return {thing: count for thing, count in counts.items() if count > 1}


def yes_no_questions(row: Row, things: dict[str, int],
                     generator: random.Random) -> list[tuple[str, str]]:
    """Questions with yes or no, as many of each, about a row that COCO-QA asks about: things that
    are there, and of ``things`` some that none of its questions speaks of, asked for as often as
    they are there; and colours, the right one and another."""
    asked = " ".join(f"{q.question} {q.answer}".lower() for q in row.questions)
    there = sorted({thing for thing in _things(row) if thing in things})
    absent = [thing for thing in things if thing not in asked] if there else []
    pairs = []
    for thing in there if absent else ():
        [other] = generator.choices(absent, [things[name] for name in absent])
        pairs += [(is_there(thing, generator), "yes"), (is_there(other, generator), "no")]
    for colour, thing in coloured_things(row):
        wrong = generator.choice([other for other in _COLOURS if other != colour])
        be = "Are" if is_many(thing) else "Is"
        pairs += [(f"{be} the {thing} {colour}?", "yes"), (f"{be} the {thing} {wrong}?", "no")]
    return pairs


def _answer(question: Question) -> str:
    return question.answer.lower().replace("_", " ").strip()


def _things(row: Row) -> list[str]:
    answers = (_answer(question) for question in row.questions
               if question.source == SOURCE and question.type == "object")
    return [answer for answer in answers if not is_many(answer)]


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
