"""Captions restored from questions that were made of captions.

COCO-QA's questions were made by a program that put a question word in the place of a noun or a
number of a person's caption (Ren, Kiros, Zemel 2015, "Exploring Models and Data for Image Question
Answering", section 3.3). Where it did nothing else, the answer put back gives the caption again,
but for its articles; where it also changed the order of words, most is left alone.
"""

import re

from train.data import Question, Row

SOURCE = "coco_qa"
LEAST_WORDS = 4  # of a caption
# Answers without an article of their own, though they do not end like a plural.
_WITHOUT_ARTICLE = set(
    "people sheep cattle fish water snow grass food wine luggage bread broccoli meat milk "
    "cheese rice fruit pasta soup hay traffic wood sand mud ice fire furniture clothing "
    "equipment seafood produce baggage graffiti salad pastry beer coffee juice beef pork "
    "chicken corn lettuce spinach cereal men women children geese teeth".split())
_SINGULAR = set("bus dress glass grass cross mattress gas canvas walrus octopus tennis lens mess "
                "moss class boss press princess waitress cactus asparagus hummus compass".split())
_MANY = set("scissors glasses pants people sheep cattle men women children geese teeth jeans "
            "sunglasses".split())
_DETERMINERS = set("a an the his her its their this that these those some many several two three "
                   "four five six seven eight nine ten one no any all both each".split())
_BEFORE_A_NAME = set(  # words after which a thing begins, article first
    "with of on in at by near to from into onto over under behind beside between through and or "
    "for off up down across along around as like has have had holds hold rides ride wears wear "
    "eats eat watch watches is are was were chase pulls pull".split())
_PARTICLES = "on in at up to with into over down through off out from by near behind along across"
_OBJECT = re.compile(  # what is the man riding (on) ... ?
    r"what (?P<verb>is|are) (?P<who>(?:the|a|an|some|two|three|four|many|several|people|men|women|"
    rf"children|boys|girls)\b.*?) (?P<doing>\w+ing)(?P<particle> (?:{_PARTICLES.replace(' ', '|')})"
    r"(?=$))?(?P<rest>.*)")
_INVERTED = re.compile(r"what (?:does|do|did|can|could|will|would|has|have)\b")


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
        caption = _with_thing(asked, answer)
    if caption is None or len(caption.split()) < LEAST_WORDS:
        return None
    return f"{caption} ."  # as people's captions end


def _with_thing(asked: str, answer: str) -> str | None:
    """The thing in the place of "what"."""
    if _INVERTED.match(asked):
        return None
    found = _OBJECT.fullmatch(asked)
    if found is not None:
        place = f" {_named(answer)}"
        middle = f"{found['particle']}{place}" if found["particle"] else place + found["rest"]
        return f"{found['who']} {found['verb']} {found['doing']}{middle}"
    words = asked.split()
    at = words.index("what")
    if at == 0 and len(words) > 2 and words[1] in ("is", "are", "was", "were") \
            and words[2] in _DETERMINERS | {"he", "she", "it", "they", "there"}:
        return None  # what is the color of ..., what are the two men ...
    before = words[at - 1] if at else ""
    begins = not before or before in _BEFORE_A_NAME or before.endswith("ing")
    thing = _named(answer) if begins and before not in _DETERMINERS else answer
    after = words[at + 1:]
    if after and after[0] in ("is", "are") and at == 0:
        after[0] = "are" if is_many(answer) else "is"
    return " ".join([*words[:at], thing, *after])


def is_many(name: str) -> bool:
    """Whether a name is that of several."""
    return name in _MANY or (name.endswith("s") and name not in _SINGULAR
                             and not name.endswith("ss"))


def _named(name: str) -> str:
    """The thing with its article."""
    if is_many(name) or name in _WITHOUT_ARTICLE:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
