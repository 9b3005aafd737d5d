"""Questions made of English captions, and others of COCO-QA's questions.

COCO-QA's questions were made of captions, too, by rules on their grammar (Ren, Kiros, Zemel 2015,
"Exploring Models and Data for Image Question Answering", section 3.3). The rules here need no
grammar: they take only captions that begin with a thing and what it is doing, and ask by what,
where, how many and what color in COCO-QA's words, so that what is learnt of photographs with
captions serves those with questions alone. And COCO-QA's photographs, of which there are questions
alone, get some to be answered with yes or no, which COCO-QA has not.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence

from train.data.cocoqa_captions import SOURCE
from train.data.instructions import COLOURED, COLOURS, is_there
from train.data.reading import Row
from vitdemo.statements import is_many

_BEFORE = "a|an|the|one|two|three|four|five|six|some|several"
_NUMBERS = ("two", "three", "four", "five", "six")
_PEOPLE = {"man", "men", "woman", "women", "boy", "boys", "girl", "girls", "child", "children",
           "person", "people", "kid", "kids", "guy", "guys", "lady", "ladies", "male", "female",
           "toddler", "baby", "adult", "adults", "individual", "couple", "group", "player",
           "players", "friends", "team", "crowd", "youth", "teenager"}
_LINKS = ("in on at with of and or by near from to into through over under down up along across "
          "behind beside around against between towards toward off out onto inside outside while "
          "as that who which wearing being having").split()
_NO_THINGS = {*_LINKS, "one", "ones", "other", "others", "another", "it", "them", "him", "her",
              "something", "someone", "each", "front", "side", "middle", "top", "background",
              "air", "way", "back", "edge", "camera", "picture", "photo", "distance", "sun",
              "lot", "pair", "bunch", "piece", "group", "kind", "type", "set", "very", "first", "a",
              "both", "two", "three", "four", "some", "many", "all"}
_PLACES = set("beach street grass field snow water park pool road lake ocean river forest woods "
              "room kitchen city mountain playground yard stage sidewalk track sand court building "
              "bench chair couch bed table boat car store restaurant house porch garden ramp "
              "bathroom bedroom gym classroom office train bus tent creek stream pond hill "
              "waterfall fountain bridge dock path trail alley garage stadium arena".split())
_COLOURED = [*COLOURED, *(
    "balloon boots bag backpack chair kayak raft sweatshirt t-shirt jeans shoes towel rope wall "
    "flag slide tube van bus tent leash collar blanket toy frisbee snowboard surfboard skateboard "
    "scarf suit wetsuit costume cat dogs shirts hats outfit top bikini gloves building bench couch "
    "flower flowers grass water canoe motorcycle train cow sheep").split()]
_ANSWERS = [colour for colour in COLOURS if colour != "grey"]  # COCO-QA's spelling

_LINK = rf"(?:{'|'.join(_LINKS)})\b"
_WORD = rf"(?!{_LINK})[a-z]+(?:-[a-z]+)*"
# A thing and what it does: "a brown dog is running through the grass".
_DOES = re.compile(rf"^(?P<before>{_BEFORE}) (?:{_WORD} ){{0,3}}?(?P<thing>{_WORD}) "
                   rf"(?P<be>is |are )?(?P<doing>(?!{_LINK})[a-z]+ing) (?P<rest>.+)$")
# What it does it with, and where: "a big ball on the beach".
_WITH = re.compile(rf"^(?:a|an|the|his|her|their|its) (?:{_WORD} ){{0,2}}?(?P<what>{_WORD})"
                   rf"(?P<more> {_LINK}(?! of\b).*)?$")
_AT = re.compile(rf"^(?P<how>in|on|at|through|down|along|across) (?:a|an|the|some)? ?"
                 rf"(?:{_WORD} ){{0,2}}?(?P<where>{_WORD})$")
_COLOUR_OF = re.compile(r"what is the color of the ([a-z-]+) ?\?")
_COLOUR = re.compile(rf"(?<!and )\b({'|'.join(COLOURS)}) ({'|'.join(_COLOURED)})\b")


def caption_questions(captions: Sequence[str], most: int,
                      generator: random.Random) -> list[tuple[str, str, str]]:
    """Questions about a picture, each with its one-word answer and its kind (what, where, how_many
    or colour): at most ``most`` of a kind, without those that two captions answer differently."""
    answers: dict[str, set[tuple[str, str]]] = {}
    for caption in captions:
        text = " ".join(re.findall(r"[a-z]+(?:-[a-z]+)*", caption.lower().split(" , ")[0]))
        for question, answer, kind in [*_doings(text), *_colours(text)]:
            answers.setdefault(question, set()).add((answer, kind))
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for question, found in answers.items():
        if len(found) == 1:
            [(answer, kind)] = found
            kinds.setdefault(kind, []).append((question, answer, kind))
    return [each for found in kinds.values()
            for each in generator.sample(found, min(most, len(found)))]


def _colours(text: str) -> list[tuple[str, str, str]]:
    found = [(thing, "gray" if colour == "grey" else colour)
             for colour, thing in _COLOUR.findall(text)]
    return [(f"what is the color of the {thing} ?", colour, "colour") for thing, colour in found]


def _doings(text: str) -> list[tuple[str, str, str]]:
    does = _DOES.match(text)
    if does is None or does["thing"] in _NO_THINGS:
        return []
    before, thing, doing, rest = (does[name] for name in ("before", "thing", "doing", "rest"))
    be = "is" if before in ("a", "an", "one") else (does["be"] or "").strip()
    be = be or ("are" if thing.endswith(("s", "men", "people", "children")) else "is")
    made = []
    if thing not in _PEOPLE:
        made.append((f"what {be} {doing} {rest} ?", thing, "what"))
    if before in _NUMBERS:
        made.append((f"how many {thing} are {doing} {rest} ?", before, "how_many"))
    using = _WITH.match(rest)
    if using is not None and using["what"] not in _NO_THINGS:
        more = using["more"] or ""
        made.append((f"what {be} the {thing} {doing}{more} ?", using["what"], "what"))
    at = _AT.match(rest)
    if at is not None and at["where"] in _PLACES:
        made.append((f"where {be} the {thing} {doing} ?", at["where"], "where"))
        made.append((f"what {be} the {thing} {doing} {at['how']} ?", at["where"], "what"))
    return made


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
    absent = [thing for thing in things if thing not in asked and f"{thing}s" not in asked]
    made = []
    for thing in there if absent else ():
        [other] = generator.choices(absent, [things[name] for name in absent])
        made += [(is_there(thing, generator), "yes"), (is_there(other, generator), "no")]
    for question in row.questions:
        found = _COLOUR_OF.fullmatch(question.question.lower())
        if question.source == SOURCE and found and question.answer.lower() in _ANSWERS:
            be = "are" if is_many(found[1]) else "is"
            right = question.answer.lower()
            wrong = generator.choice([colour for colour in _ANSWERS if colour != right])
            made += [(f"{be.capitalize()} the {found[1]} {right}?", "yes"),
                     (f"{be.capitalize()} the {found[1]} {wrong}?", "no")]
    return made


def _things(row: Row) -> list[str]:
    answers = [question.answer.lower().replace("_", " ") for question in row.questions
               if question.source == SOURCE and question.type == "object"]
    return [answer for answer in answers if not is_many(answer)]
