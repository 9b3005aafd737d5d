"""Answers to the instructions that ask for a part of what a picture shows, made of its captions.

Things, people, place and colours, in English and Chinese. The rules need no grammar: they know the
words that name a thing, a person, a place or a colour. What several people said goes before what
one said; where nobody spoke of a kind, nothing is asked of that kind, but for people: where no one
of several captions names any, there is nobody.
"""

import functools
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from train.data.cocoqa_captions import coloured_things, restored_captions
from train.data.instructions import Example
from train.data.mentions import THINGS, any_of, english_words, plain, things_coloured
from train.data.reading import Row
from train.grounding.coco_words import chinese_rows, mentions, tell_of_people
from vitdemo.instructions import taught

KINDS = ("things", "people", "place", "colours")
NOBODY = {"en": "nobody", "zh": "没有人"}
_BETWEEN = {"en": ", ", "zh": "，"}
_MOST = 5  # things or colours in one answer
_PLAIN = {"sports ball": "ball", "dining table": "table", "potted plant": "plant",
          "cell phone": "phone", "hair drier": "hair dryer"}  # what people call a category
_LEAST_CAPTIONS = 3  # that say nothing of a person before there is nobody
_PERSONS = ("man", "woman", "boy", "girl", "child")  # of `THINGS`

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


def parts(row: Row, language: str) -> dict[str, list[str]]:
    """What is known of each of `KINDS`, what most people said first; without what nobody said."""
    english = row.captions or restored_captions(row)
    captions = row.captions_zh if language == "zh" else english
    texts = captions if language == "zh" else [plain(text) for text in captions]
    answers = {
        "things": things(row, english, language),
        "people": _commonest([text for text in _PEOPLE[language].findall(caption) if text != "人"]
                             for caption in texts) or _nobody(row, language),
        "place": _commonest(map(_PLACES[language].findall, texts)),
        "colours": _colours(row, language)}
    return {kind: answer for kind, answer in answers.items() if answer}


def steered(row: int, data: Row, generator: random.Random) -> list[Example]:
    """One example of each kind and language that the row's captions and questions allow."""
    examples = []
    for language, phrasings in taught().items():
        for kind, answers in parts(data, language).items():
            listed = kind in ("things", "colours")
            answer = _BETWEEN[language].join(answers[:_MOST]) if listed else \
                generator.choice(answers[:2])
            examples.append(Example(row, generator.choice(phrasings[kind]), answer, language, kind))
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
    facts = [*(things_coloured(text, "en") for text in row.captions), coloured_things(row)]
    return _commonest([f"{colour} {thing}" for colour, thing in found] for found in facts)


def _commonest(texts: Iterable[Iterable[str]]) -> list[str]:
    """What stands in the most of these lists first, the earlier of two."""
    counts: Counter[str] = Counter()
    for parts_of_text in texts:
        counts.update(list(dict.fromkeys(parts_of_text)))
    return [name for name, _ in counts.most_common()]
