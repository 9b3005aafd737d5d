"""Captions restored from questions that were made of captions.

COCO-QA's questions were made by a program that put a question word in the place of a noun or a
number of a person's caption (Ren, Kiros, Zemel 2015, "Exploring Models and Data for Image Question
Answering", section 3.3). Where it did nothing else, the answer put back gives the caption again,
but for its articles; where it also changed the order of words, most is left alone.
"""

from train.data.reading import Question, Row
from vitdemo.statements import with_thing

SOURCE = "coco_qa"
LEAST_WORDS = 4  # of a caption


def restored_captions(row: Row) -> tuple[str, ...]:
    """What can be restored of a row's questions, each once."""
    found = [restored_caption(question) for question in row.questions]
    return tuple(dict.fromkeys(text for text in found if text is not None))


def restored_caption(question: Question) -> str | None:
    """The caption that a question was made of, in lower case, or None where that is not sure."""
    if question.source != SOURCE:
        return None
    asked = question.question.lower().strip().rstrip("?").strip()
    answer = question.answer.lower().replace("_", " ").strip()
    caption = None
    if asked.count("how many") == 1 and question.type == "number":
        caption = asked.replace("how many", answer)
    elif question.type == "object" and asked.split().count("what") == 1:
        caption = with_thing(asked, answer)
    if caption is None or len(caption.split()) < LEAST_WORDS:
        return None
    return f"{caption} ."  # as people's captions end
