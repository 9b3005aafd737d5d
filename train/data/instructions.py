"""Turns captions and questions into instruction data, in English and Chinese.

Kinds: describe, short, answer (human questions), yes_no, how_many, colour, match (made from
captions), and find (a caption that must find its picture: the contrastive loss reads it).
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from train.data.reading import Row

MATCH = {"en": ('Does this fit the picture: "{}"?', 'Is this true: "{}"?'),
         "zh": ("这句话符合图片吗：“{}”？", "这句话说得对吗：“{}”？")}
SHORT_LIMIT = {"en": 8, "zh": 7}  # words, characters

# One thing: its English words (the first names it) and its Chinese words (likewise).
THINGS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("dog", "dogs", "puppy", "puppies"), ("狗", "犬")),
    (("man", "men", "guy", "gentleman"), ("男人", "男子", "男士", "男")),
    (("woman", "women", "lady", "ladies", "female"), ("女人", "女子", "女士", "女")),
    (("boy", "boys"), ("男孩", "小男孩", "男")), (("girl", "girls"), ("女孩", "小女孩", "女")),
    (("child", "children", "kid", "kids", "boy", "girl", "toddler", "baby", "boys", "girls"),
     ("孩子", "小孩", "孩", "儿童")),
    (("ball", "football", "soccer", "basketball", "volleyball", "baseball", "tennis"), ("球",)),
    (("water", "lake", "ocean", "sea", "pool", "river", "wave", "waves", "surf"),
     ("水", "海", "湖", "河", "浪", "池")),
    (("snow", "snowy", "ski", "skier", "snowboarder", "ice"), ("雪", "冰")),
    (("beach", "sand", "sandy", "shore"), ("沙滩", "海滩", "海边", "沙")),
    (("street", "road", "sidewalk", "city"), ("街", "路", "马路")),
    (("car", "cars", "truck", "vehicle", "van"), ("汽车", "车")),
    (("bicycle", "bike", "bikes", "bicycles", "cyclist", "bicyclist", "biker"), ("自行车", "车")),
    (("motorcycle", "motorbike", "dirt bike", "motocross", "bike"), ("摩托车", "摩托", "车")),
    (("horse", "horses"), ("马",)), (("tree", "trees", "forest", "woods", "branch"), ("树", "林")),
    (("grass", "field", "lawn", "grassy"), ("草地", "草")),
    (("mountain", "mountains", "hill", "cliff", "rock", "rocks", "rocky"), ("山", "岩", "石")),
    (("boat", "boats", "kayak", "canoe", "ship"), ("船", "艇", "舟")),
    (("bird", "birds", "duck", "goose"), ("鸟", "鸭", "鹅")), (("cat", "cats", "kitten"), ("猫",)),
    (("hat", "cap", "helmet"), ("帽子", "帽", "头盔")), (("guitar",), ("吉他",)),
    (("swing", "swings"), ("秋千",)), (("slide",), ("滑梯",)),
    (("skateboard", "skateboarder", "skateboarding"), ("滑板",)),
    (("surfboard", "surfer", "surfing", "surf"), ("冲浪", "冲浪板")),
    (("bench",), ("长椅", "长凳", "椅", "凳")), (("table", "tables"), ("桌子", "桌")),
    (("camera", "photo", "picture", "photograph"), ("相机", "拍照", "照")),
    (("flower", "flowers"), ("花",)), (("bridge",), ("桥",)), (("umbrella",), ("伞",)),
    (("stick", "branch"), ("木棍", "棍", "棒", "树枝")), (("frisbee", "disc"), ("飞盘", "盘")),
    (("fountain",), ("喷泉",)), (("tent",), ("帐篷",)), (("rope",), ("绳子", "绳")),
    (("train",), ("火车",)), (("glasses", "sunglasses", "goggles"), ("眼镜", "墨镜", "镜")),
)
COLOURS = {"red": "红色", "blue": "蓝色", "green": "绿色", "yellow": "黄色", "white": "白色",
           "black": "黑色", "brown": "棕色", "orange": "橙色", "pink": "粉色", "purple": "紫色",
           "gray": "灰色", "grey": "灰色"}
COLOURED = ("shirt jacket dress hat dog car ball coat shorts pants bike helmet sweater boat bird "
            "horse truck swimsuit uniform umbrella jersey vest cap skirt").split()
_COLOURED_ZH = ("衣服", "狗", "裙子", "帽子", "球", "汽车", "上衣", "外套", "裤子", "头盔", "马",
                "T恤", "自行车", "泳衣")
_COUNTED = ("dogs people men women boys girls children kids players horses cars birds").split()
_NUMBERS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_NUMBERS_ZH = {"两": "两", "二": "两", "三": "三", "四": "四", "五": "五"}
_COUNT_ZH = re.compile(r"([两二三四五])([只个名位匹条])(狗|人|孩子|女孩|男孩|小孩|男人|女人|马)")
_COLOUR = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(COLOURED)})\b")
_COLOUR_ZH = re.compile(rf"([红蓝绿黄白黑棕橙粉紫灰])色?的?({'|'.join(_COLOURED_ZH)})")
_COUNT = re.compile(rf"\b({'|'.join(_NUMBERS)}) (?:\w+ )?({'|'.join(_COUNTED)})\b")
_DOING = re.compile(r"\b(?:a|the|an) (?:\w+ ){0,2}?(dog|man|woman|boy|girl|child|person) "
                    r"(?:is )?(\w+ing)\b")


@dataclass(frozen=True)
class Example:
    """One instruction with its right answer, about one row of the data."""

    row: int
    instruction: str
    target: str
    language: str
    kind: str


def human_questions(row: int, data: Row) -> list[Example]:
    """The row's own questions; where ten people answered, each answer given by at least three."""
    found = []
    for question in data.questions:
        targets = [question.answer]
        if len(question.answers) >= 10:
            often = {a for a in question.answers if question.answers.count(a) >= 3}
            targets += sorted(often - {question.answer})
        found += [Example(row, question.question, target.replace("_", " ").lower(), "en", "answer")
                  for target in targets]
    return found


def thing_counts(rows: Sequence[Row]) -> list[int]:
    """For each of `THINGS`, in how many rows its name stands."""
    counts = [0] * len(THINGS)
    for row in rows:
        words = set(re.findall(r"[a-z]+", " ".join(row.captions).lower()))
        for i, (english_words, _) in enumerate(THINGS):
            counts[i] += english_words[0] in words or english_words[0] + "s" in words
    return counts


def made_questions(row: int, data: Row, others: Sequence[Row], counts: Sequence[int],
                   generator: random.Random) -> list[Example]:
    """Questions that the row's captions answer for sure, or nearly so.

    ``others`` give the wrong sentences; ``counts``, from `thing_counts`, make a thing be asked
    for in vain about as often as it is there, so that its name alone does not tell the answer.
    """
    made: list[Example] = []
    english = " ".join(data.captions).lower()
    words = set(re.findall(r"[a-z]+", english))
    if data.captions:
        made += _yes_no(row, data, words, counts, generator)
        made += _agreed(row, _COUNT.findall(english), "How many {} are there?", _NUMBERS,
                        "how_many")
        made += _agreed(row, _COLOUR.findall(english), "What color is the {}?", None, "colour")
        doing = [(verb, who) for who, verb in _DOING.findall(english) if verb != "wearing"]
        made += _agreed(row, doing, "What is the {} doing?", None, "action")
    for language, captions in (("en", data.captions), ("zh", data.captions_zh)):
        if captions and others:
            made += _match(row, captions, others, language, generator)
    return made + _chinese_facts(row, data)


def _agreed(row: int, pairs: list[tuple[str, str]], question: str, names: dict[str, str] | None,
            kind: str) -> list[Example]:
    """One question per thing on which all the captions that speak of it agree."""
    said: dict[str, set[str]] = {}
    for value, thing in pairs:
        said.setdefault(thing, set()).add(names[value] if names else value)
    return [Example(row, question.format(thing), next(iter(values)), "en", kind)
            for thing, values in said.items() if len(values) == 1]


def _yes_no(row: int, data: Row, words: set[str], counts: Sequence[int],
            generator: random.Random) -> list[Example]:
    chinese = "".join(data.captions_zh)
    there, absent, weights = [], [], []
    for (english_words, chinese_words), count in zip(THINGS, counts, strict=True):
        if english_words[0] in words or english_words[0] + "s" in words:
            there.append((english_words[0], chinese_words[0]))
        elif not words & set(english_words) and not any(w in chinese for w in chinese_words):
            absent.append((english_words[0], chinese_words[0]))
            weights.append(count)
    picked = generator.sample(there, min(2, len(there)))
    wanted = max(1, len(picked))
    wrong = set(generator.choices(absent, weights, k=wanted)) if any(weights) else set()
    made = []
    for group, english, in_chinese in ((picked, "yes", "有"), (sorted(wrong), "no", "没有")):
        for name, name_zh in group:
            asked = ask_for(name, name_zh, generator)
            made.append(Example(row, asked["en"], english, "en", "yes_no"))
            made.append(Example(row, asked["zh"], in_chinese, "zh", "yes_no"))
    return made


def ask_for(name: str, name_zh: str, generator: random.Random) -> dict[str, str]:
    """Whether a thing is in the picture, as a question in both languages."""
    return {"en": is_there(name, generator),
            "zh": generator.choice((f"图片里有{name_zh}吗？", f"有{name_zh}吗？"))}


def is_there(name: str, generator: random.Random) -> str:
    """Whether a thing is in the picture, as a question in English."""
    article = "an" if name[0] in "aeiou" else "a"
    article = "" if name in ("water", "snow", "grass") else article + " "
    return generator.choice((f"Is there {article}{name} in the picture?",
                             f"Is there {article}{name}?", f"Can you see {article}{name}?"))


def _match(row: int, captions: Sequence[str], others: Sequence[Row], language: str,
           generator: random.Random) -> list[Example]:
    """The row's caption (yes) and another row's (no)."""
    other = generator.choice(others)
    wrong = other.captions if language == "en" else other.captions_zh
    yes, no = ("yes", "no") if language == "en" else ("对", "不对")
    made = []
    for sentences, answer in ((captions, yes), (wrong, no)):
        if sentences and (answer == yes or not set(sentences) & set(captions)):
            sentence = generator.choice(list(sentences)).strip(" .。")
            made.append(Example(row, generator.choice(MATCH[language]).format(sentence), answer,
                                language, "match"))
    return made


def _chinese_facts(row: int, data: Row) -> list[Example]:
    text = "，".join(data.captions_zh)
    colours: dict[str, set[str]] = {}
    for colour, thing in _COLOUR_ZH.findall(text):
        colours.setdefault(thing, set()).add(colour + "色")
    counts: dict[str, set[str]] = {}
    measures: dict[str, str] = {}
    for number, measure, thing in _COUNT_ZH.findall(text):
        counts.setdefault(thing, set()).add(_NUMBERS_ZH[number])
        measures[thing] = measure
    made = [Example(row, f"{thing}是什么颜色的？", next(iter(found)), "zh", "colour")
            for thing, found in colours.items() if len(found) == 1]
    return made + [Example(row, f"有几{measures[thing]}{thing}？",
                           next(iter(found)) + measures[thing], "zh", "how_many")
                   for thing, found in counts.items() if len(found) == 1]


def is_short(caption: str, language: str) -> bool:
    """Whether a caption is a description in few words."""
    length = len(caption.split()) if language == "en" else len(caption)
    return length <= SHORT_LIMIT[language]


def mirrored(text: str) -> str:
    """The text for a mirrored picture: left and right change places."""
    swap = {"left": "right", "right": "left", "左": "右", "右": "左"}
    return re.sub(r"\b(?:left|right)\b(?! now)|[左右]", lambda match: swap[match.group()], text)
