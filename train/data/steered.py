"""Instructions that ask for a part of what a picture shows, with answers made of its captions.

Things, people, place and colours, in English and Chinese. The rules need no grammar: they know the
words that name a thing, a person, a place or a colour. What several people said goes before what
one said; where nobody spoke of a kind, nothing is asked of that kind, but for people: where no one
of several captions names any, there is nobody.
"""

import functools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from train.data.cocoqa_captions import SOURCE, restored_captions
from train.data.instructions import COLOURED, COLOURS, THINGS, Example
from train.data.mentions import english_words
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

_PERSON = ("man|men|woman|women|boy|boys|girl|girls|child|children|kid|kids|person|people|baby|"
           "toddler|lady|ladies|guy|guys|player|players|skier|skiers|surfer|surfers|skateboarder|"
           "snowboarder|rider|cyclist|climber|couple|crowd|family|team")
_PERSONS = ("man", "woman", "boy", "girl", "child")
_NUMBER = "a|an|one|two|three|four|five|several|some|many|the"
_WORN = ("shirt|jacket|coat|dress|hat|cap|suit|uniform|jersey|shorts|jeans|helmet|sweater|"
         "swimsuit|costume|wetsuit|vest|clothes|tie|glasses|sunglasses|bikini|skirt|outfit")
_PEOPLE_EN = re.compile(
    rf"\b(?:(?:{_NUMBER}) (?:group of )?(?:\w+ ){{0,2}}?(?:{_PERSON})\b"
    rf"(?: (?:in|wearing) (?:a |an )?(?:\w+ ){{0,2}}?(?:{_WORN})\b)?)")
_PERSON_ZH = ("男人|女人|男子|女子|男孩|女孩|小孩子|小孩|孩子|婴儿|老人|人们|运动员|球员|选手|"
              "滑雪者|冲浪者|情侣|人")
_PEOPLE_ZH = re.compile(rf"(?:[一两二三四五六几]?[个位名群对])?(?:穿着?[^，。的在]{{1,8}}的)?"
                        rf"(?:戴着?[^，。的在]{{1,6}}的)?(?:年轻的?|小|老)?(?:{_PERSON_ZH})")
_PLACE = ("beach|street|grass|field|snow|water|park|pool|road|lake|ocean|sea|river|forest|woods|"
          "room|kitchen|city|mountain|mountains|playground|yard|stage|sidewalk|track|tracks|sand|"
          "court|restaurant|house|garden|ramp|bathroom|bedroom|gym|classroom|office|creek|stream|"
          "pond|hill|waterfall|fountain|bridge|dock|path|trail|alley|garage|stadium|desert|wall|"
          "store|market|station|airport|runway|slope|parking lot|zoo|farm|table|bed|couch|bench|"
          "living room|dining room|intersection|sky|air|plate|counter|desk|window|building")
_PLACE_EN = re.compile(rf"\b(?:in|on|at|near|along|through|across|by|beside|over|under|inside|"
                       rf"outside|down) (?:the |a |an |some )?(?:\w+ ){{0,2}}?(?:{_PLACE})\b")
_PLACE_ZH = re.compile(
    r"在([^，。的在]{0,3}?(?:海|水|河|湖|池|浪|沙滩|海滩|沙|草地|草坪|草|街|路|道|雪|公园|山|坡|岩石|石|房间|"
    r"屋|厨房|室|餐厅|商店|市场|球场|操场|场|院子|树林|林|森林|树|城市|车|船|床|桌|沙发|椅|长凳|舞台|台|"
    r"空|天空|岸|边|桥|楼|田野|田|盘|机场|车站)[子]?[上里中边旁下外面]{0,2})")
_COLOUR_EN = re.compile(rf"\b({'|'.join(COLOURS)})((?: and (?:{'|'.join(COLOURS)}))?) "
                        rf"({'|'.join(COLOURED)}|grass|water|flowers|flower|building|cat|bus|train|"
                        r"wall|cow|bear|plate|sign|couch|chair|suit)\b")
_COLOUR_ZH = re.compile(r"([红蓝绿黄白黑棕橙粉紫灰])色?的?(衣服|上衣|外套|裙子|裤子|帽子|T恤|球衣|"
                        r"狗|球|马(?!甲)|头盔|汽车|车|泳衣|自行车|花|墙|猫|鸟|背心|夹克)")
_COLOUR_ASKED = re.compile(r"what is the color of the ([a-z]+) ?\??")


@functools.cache
def _chinese() -> dict[str, str]:
    """The Chinese name of each of COCO's categories."""
    return {category: names[0] for category, names in chinese_rows()}


def parts(row: Row, language: str) -> dict[str, list[str]]:
    """What is known of each of `KINDS`, what most people said first; without what nobody said."""
    captions = row.captions if language == "en" else row.captions_zh
    english = row.captions or restored_captions(row)
    find: dict[str, Callable[[], list[str]]] = {
        "things": lambda: things(row, english, language),
        "people": lambda: _people(captions, english, row, language),
        "place": lambda: _commonest(_PLACE_EN.findall(_plain(text)) if language == "en" else
                                    [f"在{place}" for place in _PLACE_ZH.findall(text)]
                                    for text in captions or (english if language == "en" else ())),
        "colours": lambda: _colours(row, captions, language)}
    return {kind: found for kind in KINDS if (found := find[kind]())}


def steered(row: int, data: Row, generator: random.Random) -> list[Example]:
    """One example of each kind and language that the row's captions and questions allow."""
    made = []
    for language, asked in taught().items():
        for kind, found in parts(data, language).items():
            listed = kind in ("things", "colours")
            answer = _BETWEEN[language].join(found[:_MOST]) if listed else \
                generator.choice(found[:2])
            made.append(Example(row, generator.choice(asked[kind]), answer, language, kind))
    return made


def things(row: Row, english: Sequence[str], language: str) -> list[str]:
    """Things without people, by their everyday name: COCO's categories and `THINGS`; of several
    captions, those that two name."""
    counts: Counter[str] = Counter()
    for text in english:
        counts.update([name if language == "en" else chinese
                       for name, chinese in _things_of(text).items()])
    least = 2 if len(english) >= _LEAST_CAPTIONS else 1
    if language == "zh":
        for text in row.captions_zh:
            counts.update({own_zh[0] for own, own_zh in THINGS
                           if own[0] not in _PERSONS and own_zh[0] in text})
    return [name for name, count in counts.most_common() if count >= least]


def _things_of(text: str) -> dict[str, str]:
    """The English names of the things that a caption names, each with its Chinese one."""
    chinese, words = _chinese(), english_words([text])
    found = {_PLAIN.get(name, name): chinese[name] for mention in mentions(text)
             if (name := mention.categories[0]) != "person"}
    for own, own_zh in THINGS:
        if own[0] not in _PERSONS and words & {own[0], f"{own[0]}s", f"{own[0]}es"}:
            found.setdefault(own[0], own_zh[0])
    return found


def _people(captions: Sequence[str], english: Sequence[str], row: Row,
            language: str) -> list[str]:
    found = _commonest(_PEOPLE_EN.findall(_plain(text)) if language == "en" else
                       [text for text in _PEOPLE_ZH.findall(text) if text != "人"]
                       for text in captions or (english if language == "en" else ()))
    if found:
        return found
    if len(row.captions) >= _LEAST_CAPTIONS and not tell_of_people(
            row.captions + row.captions_zh):
        return [NOBODY[language]]
    return []


def _colours(row: Row, captions: Sequence[str], language: str) -> list[str]:
    if language == "zh":
        return _commonest([f"{colour}色的{thing}" for colour, thing in _COLOUR_ZH.findall(text)]
                          for text in captions)
    asked = []
    for question in row.questions:
        about = _COLOUR_ASKED.fullmatch(question.question.lower().strip())
        if question.source == SOURCE and about and question.answer.lower() in COLOURS:
            asked.append(f"{question.answer.lower()} {about[1]}")
    said = [[f"{colour}{more} {thing}" for colour, more, thing in _COLOUR_EN.findall(_plain(text))]
            for text in captions]
    return _commonest([*said, asked])


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower()))


def _commonest(found: Iterable[Sequence[str]]) -> list[str]:
    """What stands in the most of these lists first, the earlier of two."""
    counts: Counter[str] = Counter()
    for of_text in found:
        counts.update(list(dict.fromkeys(of_text)))
    return [name for name, _ in counts.most_common()]
