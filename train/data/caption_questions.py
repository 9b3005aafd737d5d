"""Questions that captions answer, for sure or nearly so, in English and Chinese.

Two ways to ask. `made_questions`: is a thing there, how many, what color, what does somebody do,
does a sentence fit. `caption_questions`: in the words of COCO-QA, whose questions were made of
captions, too, by rules on their grammar (Ren, Kiros, Zemel 2015, "Exploring Models and Data for
Image Question Answering", section 3.3). The rules here need no grammar: they take only captions
that begin with a thing and what it is doing, and ask by what, where, how many and what color, so
that what is learnt of photographs with captions serves those with questions alone.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from train.data.cocoqa_captions import answered_things, yes_no_questions
from train.data.instructions import ANSWERS, ASKED, Example, ask_for
from train.data.mentions import (
    WORDS,
    any_of,
    plain,
    things_absent,
    things_coloured,
    things_named,
)
from train.data.reading import Row
from train.data.steered import steered

_FITS = {"en": ("yes", "no"), "zh": ("对", "不对")}  # whether a sentence fits
_NUMBERS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_OF_A_KIND = 2  # questions of a kind in COCO-QA's words about a picture

_COUNT = re.compile(rf"\b({'|'.join(_NUMBERS)}) (?:\w+ )?({any_of('counted')})\b")
_COUNT_ZH = re.compile(r"([两二三四五])([只个名位匹条])(狗|人|孩子|女孩|男孩|小孩|男人|女人|马)")
_DOING = re.compile(r"\b(?:a|the|an) (?:\w+ ){0,2}?(dog|man|woman|boy|girl|child|person) "
                    r"(?:is )?(?!wearing)(\w+ing)\b")

_LINK = rf"{any_of('links')}\b"
_WORD = rf"(?!{_LINK})[a-z]+(?:-[a-z]+)*"
_NO_THINGS = {*WORDS["links"], *WORDS["no_things"]}
# A thing and what it does: "a brown dog is running through the grass".
_DOES = re.compile(rf"^(?P<before>a|an|the|one|{'|'.join(_NUMBERS)}|some|several) "
                   rf"(?:{_WORD} ){{0,3}}?(?P<thing>{_WORD}) "
                   rf"(?P<be>is |are )?(?P<doing>(?!{_LINK})[a-z]+ing) (?P<rest>.+)$")
# What it does it with, and where: "a big ball on the beach".
_WITH = re.compile(rf"^(?:a|an|the|his|her|their|its) (?:{_WORD} ){{0,2}}?(?P<what>{_WORD})"
                   rf"(?P<more> {_LINK}(?! of\b).*)?$")
_AT = re.compile(rf"^(?P<how>in|on|at|through|down|along|across) (?:a|an|the|some)? ?"
                 rf"(?:{_WORD} ){{0,2}}?(?P<where>{_WORD})$")


def made_examples(rows: Sequence[Row], seed: int) -> dict[str, list[Example]]:
    """All that is made of the rows' captions and of COCO-QA's questions, by kind."""
    generator = random.Random(seed)
    captioned = [row for row in rows if row.captions or row.captions_zh]
    counts, things = thing_counts(captioned), answered_things(rows)
    kinds: dict[str, list[Example]] = {}
    for i, row in enumerate(rows):
        examples = made_questions(i, row, captioned, counts, generator)
        examples += [Example(i, question, answer, "en", kind) for question, answer, kind
                     in caption_questions(row.captions, _OF_A_KIND, generator)]
        examples += [Example(i, question, answer, "en", "yes_no") for question, answer
                     in yes_no_questions(row, things, generator)]
        for example in [*examples, *steered(i, row, generator)]:
            kinds.setdefault(example.kind, []).append(example)
    return kinds


def thing_counts(rows: Sequence[Row]) -> Counter[int]:
    """For each place in `THINGS`, in how many rows its name stands."""
    return Counter(thing for row in rows for thing in things_named(row))


def made_questions(row: int, data: Row, others: Sequence[Row], counts: Counter[int],
                   generator: random.Random) -> list[Example]:
    """Whether a thing is there, how many, what color, what somebody does, and what fits.

    ``others`` give the wrong sentences; ``counts``, from `thing_counts`, make a thing be asked
    for in vain about as often as it is there, so that its name alone does not tell the answer.
    """
    english, chinese = " ".join(data.captions).lower(), "，".join(data.captions_zh)
    examples = _yes_no(row, data, counts, generator)
    examples += _agreed(row, "how_many", "en", ((_NUMBERS[number], thing) for number, thing
                                                in _COUNT.findall(english)))
    examples += _agreed(row, "colour", "en", _one_colour(data.captions, "en"))
    examples += _agreed(row, "action", "en", ((doing, who) for who, doing
                                              in _DOING.findall(english)))
    examples += _agreed(row, "colour", "zh", _one_colour(data.captions_zh, "zh"))
    examples += _agreed(row, "how_many", "zh", (
        (number.replace("二", "两") + measure, measure + thing)
        for number, measure, thing in _COUNT_ZH.findall(chinese)))
    for language, captions in (("en", data.captions), ("zh", data.captions_zh)):
        if captions and others:
            examples += _match(row, captions, generator.choice(others), language, generator)
    return examples


def _one_colour(captions: Sequence[str], language: str) -> list[tuple[str, str]]:
    """Things of one colour, in COCO-QA's spelling."""
    return [(colour.replace("grey", "gray"), thing) for text in captions
            for colour, thing in things_coloured(text, language) if " and " not in colour]


def _agreed(row: int, kind: str, language: str,
            facts: Iterable[tuple[str, str]]) -> list[Example]:
    """One question per thing on which all facts (value, thing) about it agree."""
    values: dict[str, set[str]] = {}
    for value, thing in facts:
        values.setdefault(thing, set()).add(value)
    [question] = ASKED[kind, language]
    return [Example(row, question.format(thing), next(iter(own)), language, kind)
            for thing, own in values.items() if len(own) == 1]


def _yes_no(row: int, data: Row, counts: Counter[int], generator: random.Random) -> list[Example]:
    named, absent = sorted(things_named(data)), sorted(things_absent(data))
    there = generator.sample(named, min(2, len(named)))
    weights = [counts[thing] for thing in absent]
    missing = set(generator.choices(absent, weights, k=max(1, len(there)))) \
        if any(weights) else set()
    return [Example(row, question, ANSWERS[language][thing in missing], language, "yes_no")
            for thing in (*there, *sorted(missing))
            for language, question in ask_for(thing, generator).items()]


def _match(row: int, captions: Sequence[str], other: Row, language: str,
           generator: random.Random) -> list[Example]:
    """The row's caption (yes) and another row's (no)."""
    wrong = other.texts(language)
    examples = []
    for sentences, answer in zip((captions, wrong), _FITS[language], strict=True):
        if sentences and (sentences is captions or not set(sentences) & set(captions)):
            sentence = generator.choice(sentences).strip(" .。")
            question = generator.choice(ASKED["match", language]).format(sentence)
            examples.append(Example(row, question, answer, language, "match"))
    return examples


def caption_questions(captions: Sequence[str], most: int,
                      generator: random.Random) -> list[tuple[str, str, str]]:
    """Questions in COCO-QA's words, each with its one-word answer and its kind (what, where,
    how_many or colour): at most ``most`` of a kind, without those that two captions answer
    differently."""
    answers: dict[str, set[tuple[str, str]]] = {}
    for caption in captions:
        clause = plain(caption.split(" , ")[0])
        colours = [(f"what is the color of the {thing} ?", colour, "colour")
                   for colour, thing in _one_colour([clause], "en")]
        for question, answer, kind in [*_doings(clause), *colours]:
            answers.setdefault(question, set()).add((answer, kind))
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for question, own in answers.items():
        if len(own) == 1:
            [(answer, kind)] = own
            kinds.setdefault(kind, []).append((question, answer, kind))
    return [each for same in kinds.values()
            for each in generator.sample(same, min(most, len(same)))]


def _doings(text: str) -> list[tuple[str, str, str]]:
    does = _DOES.match(text)
    if does is None or does["thing"] in _NO_THINGS:
        return []
    before, thing, doing, rest = (does[name] for name in ("before", "thing", "doing", "rest"))
    be = "is" if before in ("a", "an", "one") else (does["be"] or "").strip()
    be = be or ("are" if thing.endswith(("s", "men", "people", "children")) else "is")
    questions = []
    if thing not in WORDS["persons"]:
        questions.append((f"what {be} {doing} {rest} ?", thing, "what"))
    if before in _NUMBERS:
        questions.append((f"how many {thing} are {doing} {rest} ?", before, "how_many"))
    using, at = _WITH.match(rest), _AT.match(rest)
    if using is not None and using["what"] not in _NO_THINGS:
        questions.append((f"what {be} the {thing} {doing}{using['more'] or ''} ?", using["what"],
                          "what"))
    if at is not None and at["where"] in WORDS["places"]:
        questions.append((f"where {be} the {thing} {doing} ?", at["where"], "where"))
        questions.append((f"what {be} the {thing} {doing} {at['how']} ?", at["where"], "what"))
    return questions
