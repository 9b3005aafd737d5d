"""Examples of instructions with their answers, and how questions about things are put."""

import random
import re
from dataclasses import dataclass

from train.data.mentions import THINGS, WORDS, read_table
from train.data.reading import Row

ASKED = {(key, language): tuple(phrasings.split("|"))
         for key, language, phrasings in read_table("questions.tsv")}
ANSWERS = {"en": ("yes", "no"), "zh": ("有", "没有")}  # whether a thing is there
SHORT_LIMIT = {"en": 8, "zh": 7}  # words, characters
_AGREED = 3  # people of ten who make an answer one to learn


@dataclass(frozen=True)
class Example:
    """One instruction with its right answer, about one row of the data. ``kind`` is answer
    (people's questions), what a made question asks for, or a key of `vitdemo/instructions.tsv`."""

    row: int
    instruction: str
    target: str
    language: str
    kind: str


def human_questions(row: int, data: Row) -> list[Example]:
    """The row's own questions; where ten people answered, each answer given by at least three."""
    examples = []
    for question in data.questions:
        often = {answer for answer in question.answers if len(question.answers) >= 10
                 and question.answers.count(answer) >= _AGREED}
        examples += [Example(row, question.question, answer.replace("_", " ").lower(), "en",
                             "answer")
                     for answer in (question.answer, *sorted(often - {question.answer}))]
    return examples


def is_there(name: str, generator: random.Random) -> str:
    """Whether a thing is in the picture, as a question in English."""
    article = "" if name in WORDS["without_article"] else "an " if name[0] in "aeiou" else "a "
    return generator.choice(ASKED["yes_no", "en"]).format(article + name)


def ask_for(thing: int, generator: random.Random) -> dict[str, str]:
    """Whether what is at this place in `THINGS` is in the picture, in both languages."""
    return {"en": is_there(THINGS[thing].english[0], generator),
            "zh": generator.choice(ASKED["yes_no", "zh"]).format(THINGS[thing].chinese[0])}


def is_short(caption: str, language: str) -> bool:
    """Whether a caption is a description in few words."""
    length = len(caption.split()) if language == "en" else len(caption)
    return length <= SHORT_LIMIT[language]


def mirrored(text: str) -> str:
    """The text for a mirrored picture: left and right change places."""
    swap = {"left": "right", "right": "left", "左": "右", "右": "左"}
    return re.sub(r"\b(?:left|right)\b(?! now)|[左右]", lambda match: swap[match.group()], text)
