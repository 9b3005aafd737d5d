"""What captions answer, for sure or nearly so, in English and Chinese.

`made_questions`: is a thing there, and what colour is it. `steered`: answers to the instructions
that ask for a part of what a picture shows: things, people, place and colours. The rules need no
grammar: they know the words that name a thing, a person, a place or a colour. What several people
said goes before what one said; where nobody spoke of a kind, nothing is asked of that kind, but for
people: where no one of several captions names any, there is nobody.
"""

import functools
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from train.data.batch_sampler import Item
from train.data.coco_words import chinese_rows, mentions, tell_of_people
from train.data.mentions import (
    ANSWERS,
    ASKED,
    COLOURS,
    THINGS,
    any_of,
    ask_for,
    english_words,
    plain,
    things_absent,
    things_coloured,
    things_named,
)
from train.data.reading import Row
from train.data.stand_ins import stand_ins
from vitdemo.instructions import taught

KINDS = ("things", "people", "place", "colours")
NOBODY = {"en": "nobody", "zh": "没有人"}
_BETWEEN = {"en": ", ", "zh": "，"}
_MOST = 5  # things or colours in one answer
_PLAIN = {"sports ball": "ball", "dining table": "table", "potted plant": "plant",
          "cell phone": "phone", "hair drier": "hair dryer"}  # what people call a category
_LEAST_CAPTIONS = 3  # that say nothing of a person before there is nobody
_PERSONS = ("man", "woman", "boy", "girl", "child")  # of `THINGS`
_COLOUR_OF = re.compile(r"what is the color of the ([a-z-]+) ?\??")  # as COCO-QA asks

_PEOPLE = {
    "en": re.compile(rf"\b(?:a|an|one|two|three|four|five|several|some|many|the) (?:group of )?"
                     rf"(?:\w+ ){{0,2}}?{any_of('persons')}\b"
                     rf"(?: (?:in|wearing) (?:an? )?(?:\w+ ){{0,2}}?{any_of('worn')}\b)?"),
    "zh": re.compile(rf"(?:[一两二三四五六几]?[个位名群对])?(?:穿着?[^，。的在]{{1,8}}的)?"
                     rf"(?:戴着?[^，。的在]{{1,6}}的)?(?:年轻的?|小|老)?{any_of('persons_zh')}")}
_PLACES = {
    "en": re.compile(rf"\b(?:in|on|at|near|along|through|across|by|beside|over|under|inside|"
                     rf"outside|down) (?:the |a |an |some )?(?:\w+ ){{0,2}}?{any_of('places')}\b"),
    "zh": re.compile(rf"在[^，。的在]{{0,3}}?{any_of('places_zh')}子?[上里中边旁下外面]{{0,2}}")}


def made_examples(rows: Sequence[Row], seed: int) -> dict[str, list[Item]]:
    """All that is made of the rows' captions, by kind."""
    generator = random.Random(seed)
    counts = thing_counts(rows)
    kinds: dict[str, list[Item]] = {}
    for i, row in enumerate(rows):
        for example in (*made_questions(i, row, counts, generator), *steered(i, row, generator)):
            kinds.setdefault(example.kind, []).append(example)
    return kinds


def thing_counts(rows: Sequence[Row]) -> Counter[int]:
    """For each place in `THINGS`, in how many rows its name stands."""
    return Counter(thing for row in rows for thing in things_named(row))


def made_questions(row: int, data: Row, counts: Counter[int],
                   generator: random.Random) -> list[Item]:
    """Whether a thing is there, and what colour it is. ``counts``, from `thing_counts`, make a
    thing be asked for in vain about as often as it is there, so that its name alone does not tell
    the answer."""
    return [*_yes_no(row, data, counts, generator), *_colour(row, data.captions, "en"),
            *_colour(row, data.captions_zh, "zh")]


def _colour(row: int, captions: Sequence[str], language: str) -> list[Item]:
    """What colour a thing is, in COCO-QA's spelling, where it has one and no caption another."""
    colours: dict[str, set[str]] = {}
    for text in captions:
        for colour, thing in things_coloured(text, language):
            if " and " not in colour:
                colours.setdefault(thing, set()).add(colour.replace("grey", "gray"))
    [question] = ASKED["colour", language]
    return [Item(row, question.format(thing), tuple(own), language, "colour")
            for thing, own in colours.items() if len(own) == 1]


def _yes_no(row: int, data: Row, counts: Counter[int], generator: random.Random) -> list[Item]:
    named, absent = sorted(things_named(data)), sorted(things_absent(data))
    there = generator.sample(named, min(2, len(named)))
    weights = [counts[thing] for thing in absent]
    missing = set(generator.choices(absent, weights, k=max(1, len(there)))) \
        if any(weights) else set()
    return [Item(row, question, (ANSWERS[language][thing in missing],), language, "yes_no")
            for thing in (*there, *sorted(missing))
            for language, question in ask_for(thing, generator).items()]


def parts(row: Row, language: str) -> dict[str, list[str]]:
    """What is known of each of `KINDS`, what most people said first; without what nobody said."""
    english = row.captions or stand_ins(row)
    captions = row.captions_zh if language == "zh" else english
    texts = captions if language == "zh" else [plain(text) for text in captions]
    answers = {
        "things": things(row, english, language),
        "people": _commonest([text for text in _PEOPLE[language].findall(caption) if text != "人"]
                             for caption in texts) or _nobody(row, language),
        "place": _commonest(map(_PLACES[language].findall, texts)),
        "colours": _colours(row, language)}
    return {kind: answer for kind, answer in answers.items() if answer}


def steered(row: int, data: Row, generator: random.Random) -> list[Item]:
    """One example of each kind and language that the row's captions and questions allow."""
    examples = []
    for language, phrasings in taught().items():
        for kind, answers in parts(data, language).items():
            listed = kind in ("things", "colours")
            answer = _BETWEEN[language].join(answers[:_MOST]) if listed else \
                generator.choice(answers[:2])
            examples.append(Item(row, generator.choice(phrasings[kind]), (answer,), language, kind))
    return examples


def things(row: Row, english: Sequence[str], language: str) -> list[str]:
    """Things without people, by their everyday name: COCO's categories and `THINGS`; of several
    captions, those that two name."""
    counts: Counter[str] = Counter()
    for text in english:
        names = _things_of(text)
        counts.update(list(names if language == "en" else names.values()))
    least = 2 if len(english) >= _LEAST_CAPTIONS else 1
    for text in row.captions_zh if language == "zh" else ():
        counts.update([thing.chinese[0] for thing in THINGS
                       if thing.english[0] not in _PERSONS and thing.chinese[0] in text])
    return [name for name, count in counts.most_common() if count >= least]


@functools.cache
def _chinese() -> dict[str, str]:
    """The Chinese name of each of COCO's categories."""
    return {category: names[0] for category, names in chinese_rows()}


def _things_of(text: str) -> dict[str, str]:
    """The English names of the things that a caption names, each with its Chinese one."""
    chinese, words = _chinese(), english_words([text])
    names = {_PLAIN.get(name, name): chinese[name] for mention in mentions(text)
             if (name := mention.categories[0]) != "person"}
    for thing in THINGS:
        name = thing.english[0]
        if name not in _PERSONS and words & {name, f"{name}s", f"{name}es"}:
            names.setdefault(name, thing.chinese[0])
    return names


def _nobody(row: Row, language: str) -> list[str]:
    """That nobody is there, where no one of several captions speaks of anybody."""
    nobody = len(row.captions) >= _LEAST_CAPTIONS and not tell_of_people(
        row.captions + row.captions_zh)
    return [NOBODY[language]] if nobody else []


def _colours(row: Row, language: str) -> list[str]:
    if language == "zh":
        return _commonest([f"{colour}的{thing}" for colour, thing in things_coloured(text, "zh")]
                          for text in row.captions_zh)
    facts = [*(things_coloured(text, "en") for text in row.captions), _coloured_things(row)]
    return _commonest([f"{colour} {thing}" for colour, thing in found] for found in facts)


def _coloured_things(row: Row) -> list[tuple[str, str]]:
    """(colour, thing) of COCO-QA's questions about colours, where the colour is spelt its way."""
    asked = ((_COLOUR_OF.fullmatch(question.question.lower().strip()), question.answer.lower())
             for question in row.questions if question.source == "coco_qa")
    return [(answer, about[1]) for about, answer in asked
            if about and answer in COLOURS and answer != "grey"]


def _commonest(texts: Iterable[Iterable[str]]) -> list[str]:
    """What stands in the most of these lists first, the earlier of two."""
    counts: Counter[str] = Counter()
    for parts_of_text in texts:
        counts.update(list(dict.fromkeys(parts_of_text)))
    return [name for name, _ in counts.most_common()]
