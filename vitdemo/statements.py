"""What an answer claims, as a sentence, so that the match head can say whether it fits a picture.

"What is the man riding?" and "horse" claim "the man is riding a horse"; "Is there a dog?" and "yes"
claim "a dog". Questions are taken apart by their first words alone, so odd ones give odd sentences,
which only the match head reads.
"""

import re

from vitdemo.words import is_chinese, normalise_answer

_YES = ("yes", "有", "是", "是的", "对")
_NO = ("no", "没有", "不是", "不", "不对")
# Names without an article of their own, though they do not end like a plural.
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
_NUMBERS = dict(zip("1 2 3 4 5 6 7 8 9 10".split(),
                    "one two three four five six seven eight nine ten".split(), strict=True))
_PARTICLES = "on in at up to with into over down through off out from by near behind along across"
_OBJECT = re.compile(  # what is the man riding (on) ... ?
    r"what (?P<verb>is|are) (?P<who>(?:the|a|an|some|two|three|four|many|several|people|men|women|"
    rf"children|boys|girls)\b.*?) (?P<doing>\w+ing)(?P<particle> (?:{_PARTICLES.replace(' ', '|')})"
    r"(?=$))?(?P<rest>.*)")
_INVERTED = re.compile(r"what (?:does|do|did|can|could|will|would|has|have)\b")
_AUXILIARY = "is|are|was|were|does|do|did|can|could|will|would|should|has|have|had"
_ASKED = re.compile(rf"(?:{_AUXILIARY}) (?:you (?:see|spot|find) |there |this |these |that |those |"
                    r"it (?=an? ))?")
_IN_PICTURE = re.compile(r" (?:in|on|of) (?:the|this) (?:picture|photo|photograph|image|scene)$|"
                         r" (?:here|shown|visible)$")
_COLOUR = re.compile(rf"what (?:is|are) the (?:\w+ )?colou?rs? (?:of|on) (?P<of>.+)|"
                     rf"what colou?rs? (?:{_AUXILIARY}) (?P<has>.+)")
_THIS = re.compile(r"(?:the|this|that|these|those) ")
_WHERE = re.compile(rf"where (?:{_AUXILIARY}) (?P<thing>.+)")
_POSITION = re.compile(r"(?:in|on|at|by|near|under|behind|above|over|inside|outside|next)\b")
_DOING = re.compile(r"what (?P<verb>is|are) (?P<who>.+?) doing\b(?P<rest>.*)")
_KIND = re.compile(r"what (?:kind|type|sort) of (?:an? )?")
_EITHER = re.compile(rf"(?:{_AUXILIARY}) .+ or ")  # is it day or night?
_SORT = re.compile(  # what object is on the table?
    rf"\b(?:what|which) (?!(?:{_AUXILIARY}|on|in|at)\b)\w+ (?=(?:is|are|was|were)\b)")
_QUOTED = re.compile("[“\"](.+)[”\"]")  # does this fit the picture: "..."?
_PICTURE_ZH = re.compile("在?(?:这[张幅个])?(?:图片|照片|图像|画面|图)(?:里面|里|中|上)?")
_OPEN_ZH = re.compile("是?什么颜色的?|(?<=在)做什么|什么|哪里|几[个只条位名匹辆张棵]?|多少|谁")


def is_no(answer: str) -> bool:
    """Whether an answer says no and nothing more."""
    return normalise_answer(answer) in _NO


def is_yes(answer: str) -> bool:
    """Whether an answer says yes and nothing more."""
    return normalise_answer(answer) in _YES


def is_many(name: str) -> bool:
    """Whether a name is that of several."""
    return name in _MANY or (name.endswith("s") and name not in _SINGULAR
                             and not name.endswith("ss"))


def statement(question: str, answer: str) -> str:
    """What the answer claims, in lower case; of no it is what yes claims."""
    asked = " ".join(question.lower().split()).rstrip(" ?？.。")
    answer = normalise_answer(answer)
    chinese = is_chinese(asked)
    if answer in _YES + _NO:
        if quoted := _QUOTED.search(asked):
            return quoted[1]
        return _claimed_zh(asked) if chinese else _claimed(asked)
    return _filled_zh(asked, answer) if chinese else _filled(asked, answer)


def _with_thing(asked: str, answer: str) -> str | None:
    """The thing in the place of the one "what" of a question, None where it is not that easy."""
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


def _named(name: str) -> str:
    """The thing with its article."""
    if is_many(name) or name in _WITHOUT_ARTICLE:
        return name
    return f"{'an' if name[:1] in tuple('aeiou') else 'a'} {name}"


def _claimed(asked: str) -> str:
    """What yes claims."""
    found = _ASKED.match(asked)
    return _IN_PICTURE.sub("", asked[found.end():] if found else asked) or asked


def _filled(asked: str, answer: str) -> str:
    """An open question with its answer in the place of what is asked for."""
    answer = _NUMBERS.get(answer, answer)
    if "how many" in asked:
        return _IN_PICTURE.sub("", asked.replace("how many", answer, 1)).removesuffix(" are there")
    if found := _COLOUR.match(asked):
        return f"{answer} {_THIS.sub('', found['of'] or found['has'])}"
    if found := _WHERE.match(asked):
        return f"{found['thing']} {answer if _POSITION.match(answer) else f'in the {answer}'}"
    if found := _DOING.match(asked):
        return f"{found['who']} {found['verb']} {answer}{found['rest']}"
    if found := _KIND.search(asked):
        return f"{asked[:found.start()]}{answer} {asked[found.end():]}"
    if _EITHER.match(asked):
        return answer
    asked = _SORT.sub("what ", asked)
    words = asked.split()
    if words.count("what") == 1:
        return _with_thing(asked, answer) or asked.replace("what", _named(answer), 1)
    if "who" in words:
        return asked.replace("who", answer, 1)
    return f"{asked} {answer}"


def _claimed_zh(asked: str) -> str:
    return _PICTURE_ZH.sub("", asked.removesuffix("吗"), count=1) or asked


def _filled_zh(asked: str, answer: str) -> str:
    filled, found = _OPEN_ZH.subn(lambda _: answer, asked, count=1)
    return filled if found else asked + answer
