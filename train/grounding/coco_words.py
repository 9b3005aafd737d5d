"""Which words of a caption name one of COCO's 80 categories.

A table of plain synonyms, without plurals: those are made by `plural`. The longest name wins, so
that a "hot dog" is no dog and a "traffic light" is one thing. What stands before and after a name
may make it another thing: a "train station" is no train, the "baby" of a baby elephant no person,
an "orange" bus no fruit.
"""

import functools
from dataclasses import dataclass

from vitdemo.words import split_words

# Category -> its other names in the singular, its own left out; "a|b" parts several. A name may
# stand under two categories ("bike"): the first of them that has boxes in the picture is meant.
SYNONYMS: dict[str, str] = {
    "person": "man|woman|boy|girl|child|kid|baby|toddler|infant|lady|guy|gentleman|adult|teen|"
              "teenager|youth|player|skier|snowboarder|skateboarder|skater|surfer|boarder|rider|"
              "batter|hitter|pitcher|catcher|umpire|referee|athlete|swimmer|passenger|pedestrian|"
              "driver|bus driver|cyclist|bicyclist|motorcyclist|biker|worker|officer|policeman|"
              "cop|soldier|fireman|firefighter|chef|waiter|waitress|student|teacher|farmer|"
              "fisherman|cowboy|businessman|businesswoman|bride|groom|mother|father|mom|dad|"
              "parent|son|daughter|brother|sister|grandmother|grandfather|husband|wife|friend|"
              "tourist|spectator|shopper|customer|vendor|jockey|trainer|traveler|sunbather|"
              "performer|musician|photographer|skate boarder|surf boarder|snow boarder|human",
    "bicycle": "bike", "motorcycle": "motorbike|motor bike|motor cycle|moped|motor scooter|"
                                     "scooter|dirt bike|bike",
    "car": "automobile|taxi|taxi cab|cab|sedan|suv|minivan|van|jeep",
    "airplane": "plane|aeroplane|air plane|aircraft|jet|jetliner|airliner|jet plane|jumbo jet|"
                "biplane|fighter jet",
    "bus": "double decker bus|double decker|school bus|minibus",
    "train": "locomotive|subway|subway train|tram|train car|train engine",
    "truck": "pickup|pick up truck|pickup truck|fire truck|firetruck|semi truck|lorry|van",
    "boat": "ship|sailboat|sail boat|canoe|kayak|yacht|ferry|rowboat|row boat|speedboat|"
            "speed boat|motorboat|motor boat|gondola|barge|dinghy|vessel",
    "traffic light": "traffic signal|stoplight|stop light",
    "fire hydrant": "hydrant", "stop sign": "stopsign", "parking meter": "meter",
    "bench": "park bench",
    "bird": "seagull|gull|sea gull|duck|duckling|goose|swan|parrot|pigeon|owl|eagle|hawk|crow|"
            "pelican|flamingo|penguin|parakeet|canary|sparrow|heron|peacock|rooster|hen|"
            "hummingbird|ostrich|dove",
    "cat": "kitten|kitty", "dog": "puppy|pup|doggy|poodle|terrier|bulldog|labrador|retriever|pug",
    "horse": "pony|foal|stallion|mare", "sheep": "lamb|ewe", "cow": "cattle|calf|bull|ox",
    "elephant": "", "bear": "polar bear|grizzly bear|brown bear|black bear|panda bear|panda|"
                            "bear cub|cub",
    "zebra": "", "giraffe": "", "backpack": "back pack|rucksack|knapsack|book bag|bookbag",
    "umbrella": "parasol", "handbag": "purse|hand bag|shoulder bag",
    "tie": "necktie|neck tie|bow tie|bowtie", "suitcase": "luggage|suit case|baggage",
    "frisbee": "frisbie|frizbee|flying disc|flying disk", "skis": "", "snowboard": "snow board",
    "sports ball": "ball|baseball|basketball|football|volleyball|soccer ball|tennis ball|"
                   "basket ball|volley ball|soccerball|beach ball|bowling ball|golf ball",
    "kite": "", "baseball bat": "bat",
    "baseball glove": "baseball mitt|mitt|catcher's mitt|catchers mitt",
    "skateboard": "skate board", "surfboard": "surf board",
    "tennis racket": "racket|racquet|tennis racquet|tennis raquet|raquet",
    "bottle": "wine bottle|beer bottle|water bottle", "wine glass": "glass of wine|wineglass",
    "cup": "mug|coffee cup|coffee mug|tea cup|teacup|paper cup|drinking glass",
    "fork": "", "knife": "", "spoon": "", "bowl": "", "banana": "", "apple": "",
    "sandwich": "burger|hamburger|cheeseburger|cheese burger|sub sandwich|panini",
    "orange": "", "broccoli": "", "carrot": "", "hot dog": "hotdog|chili dog|corn dog",
    "pizza": "", "donut": "doughnut",
    "cake": "birthday cake|wedding cake|cupcake|cup cake|cheesecake",
    "chair": "armchair|arm chair|high chair|highchair|office chair|rocking chair|lawn chair|"
             "computer chair|desk chair|beach chair|folding chair|wheelchair|kitchen chair",
    "couch": "sofa|loveseat|love seat|settee|futon",
    "potted plant": "houseplant|house plant|pot plant|potted flower|potted tree",
    "bed": "bunk bed|crib",
    "dining table": "table|dinner table|kitchen table|dining room table|picnic table|"
                    "coffee table|tabletop|table top",
    "toilet": "commode|toilet bowl|toilet seat",
    "tv": "television|tv set|television set|tv screen|television screen|flat screen tv|"
          "flat screen|computer monitor|computer screen|monitor|flatscreen",
    "laptop": "laptop computer|lap top|lap top computer|notebook computer|macbook|computer",
    "mouse": "computer mouse", "remote": "remote control|wii remote|wiimote|wii controller|"
                                         "game controller|video game controller|controller",
    "keyboard": "computer keyboard", "cell phone": "cellphone|mobile phone|smartphone|"
                                                   "smart phone|iphone|cellular phone|phone",
    "microwave": "microwave oven", "oven": "stove|stove top oven|stovetop oven|toaster oven",
    "toaster": "toaster oven", "sink": "bathroom sink|kitchen sink",
    "refrigerator": "fridge|refrigerator freezer|freezer", "book": "textbook",
    "clock": "alarm clock|wall clock", "vase": "flower vase", "scissors": "shears",
    "teddy bear": "teddy|stuffed bear|toy bear|stuffed animal|stuffed teddy bear",
    "hair drier": "hair dryer|hairdryer|blow dryer|blow drier|hairdrier",
    "toothbrush": "tooth brush",
}

# A name followed by one of these words only says more about it: a train station is no train.
FOLLOWED_BY: dict[str, str] = {
    "train": "station track tracks yard platform depot tunnel set conductor ticket",
    "subway": "station platform system tunnel track tracks sandwich",
    "bus": "stop station terminal lane depot shelter driver", "car": "park seat lot wash door",
    "truck": "stop bed driver", "boat": "dock house ramp yard", "ship": "dock", "jet": "ski engine",
    "plane": "engine", "bed": "of room spread sheet sheets frame", "bike": "rack path lane",
    "bicycle": "rack path lane", "bird": "house feeder bath cage",
    "dog": "house food bed bowl park leash toy", "cat": "food bed toy", "horse": "carriage",
    "pizza": "box boxes oven cutter pan place parlor shop", "cake": "pan stand",
    "sandwich": "shop", "banana": "bread", "carrot": "cake",
    "apple": "computer laptop pie juice tree", "bottle": "opener cap",
    "toilet": "paper brush stall tank room", "tv": "stand show cabinet station",
    "television": "stand show", "book": "shelf shelves case store bag",
    "computer": "desk table station room lab tower equipment", "phone": "booth pole",
    "clock": "tower face", "knife": "block holder", "oven": "mitt mitts door",
    "table": "tennis lamp cloth leg", "kite": "string", "bat": "boy",
    "ball": "game field park player", "pitcher": "of", "mouse": "pad", "cup": "holder",
    "toothbrush": "holder",
    "tie": "dye", "wine glass": "holder", "bench": "press", "tennis ball": "machine",
    "baby": "crib stroller carriage", "ski": "slope slopes resort pole poles lift lodge jacket",
}
# A name after one of these words is something else: a pool table, a game of football.
NOT_AFTER: dict[str, str] = {
    "table": "pool changing", "car": "cable street", "phone": "pay", "bed": "flower truck",
    "meter": "water gas", "dog": "prairie", "stop sign": "bus",
    **dict.fromkeys(("baseball", "football", "basketball", "volleyball"),
                    "play plays playing played of"),
}
_LIKENESS = frozenset("toy stuffed plush plastic ceramic wooden".split())  # of an animal
_KIN = frozenset("baby mother father adult mom child parent daughter son".split())
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
# Names that are colours or games too: only where no noun follows ("an orange bus").
_ALONE = frozenset(("orange", "baseball", "football", "basketball", "volleyball"))
_NO_NOUN = frozenset("""a an the and or but on in at of to with by near next while as is are was
were has being that which who from for into over under beside behind between flying sitting
standing laying lying up down off out through towards toward during his her their its""".split())

_IRREGULAR = {"man": "men", "woman": "women", "child": "children", "person": "people",
              "policeman": "policemen", "fireman": "firemen", "fisherman": "fishermen",
              "businessman": "businessmen", "businesswoman": "businesswomen",
              "gentleman": "gentlemen", "knife": "knives", "wife": "wives", "calf": "calves",
              "goose": "geese", "mouse": "mice", "ox": "oxen", "sheep": "sheep",
              "cattle": "cattle", "luggage": "luggage", "baggage": "baggage", "skis": "skis",
              "scissors": "scissors", "shears": "shears", "aircraft": "aircraft",
              "broccoli": "broccoli", "glass of wine": "glasses of wine"}
_MORE_FORMS = {"persons": "person", "ski": "skis", "busses": "bus", "scissor": "scissors"}
_LONGEST = 4  # words of a name


@dataclass(frozen=True)
class Mention:
    """A name in a caption: the places of its words among `split_words`, and the categories that
    it may mean, the first that has boxes being meant.

    ``words`` are no more than it takes: the last alone where that would name the same thing
    ("table" of "dining table", "hydrant"), else all ("teddy bear", "wine glass").
    """

    words: tuple[int, ...]
    name: str
    categories: tuple[str, ...]


def plural(name: str) -> str:
    """The plural of an English name, of its last word where it has several."""
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    rest, space, last = name.rpartition(" ")
    if space:
        return f"{rest} {plural(last)}"
    if last.endswith(("s", "x", "ch", "sh")):
        return last + "es"
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return last[:-1] + "ies"
    return last + "s"


@functools.cache
def names(extra: tuple[str, ...] = ()) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every form, singular and plural, to its singular and the categories it may mean.

    ``extra`` are categories that COCO does not have: they go by their own name.
    """
    meant: dict[str, list[str]] = {}
    for category in (*SYNONYMS, *extra):
        for name in (category.lower(), *SYNONYMS.get(category, "").split("|")):
            if name and category not in meant.setdefault(name, []):
                meant[name].append(category)
    forms = {name: (name, tuple(found)) for name, found in meant.items()}
    for name, found in meant.items():
        forms.setdefault(plural(name), (name, tuple(found)))
    for form, name in _MORE_FORMS.items():
        forms.setdefault(form, (name, tuple(meant[name])))
    return forms


def mentions(caption: str, extra: tuple[str, ...] = ()) -> tuple[Mention, ...]:
    """The names of categories in a caption, from left to right; words of no name are left out.

    A possessive counts ("the man's dog" names both), a hyphen parts words ("teddy-bear").
    """
    pieces = [word.text.lower().replace("’", "'").replace("-", " ")
              for word in split_words(caption)]
    bare = [piece[:-2] if piece.endswith("'s") else piece for piece in pieces]
    forms = names(extra)
    found, place = [], 0
    while place < len(bare):
        for length in range(min(_LONGEST, len(bare) - place), 0, -1):
            whole = " ".join(bare[place:place + length])
            name, categories = forms.get(whole, ("", ()))
            if name:
                end = place + length
                before = bare[place - 1] if place else ""
                after = bare[end] if end < len(bare) else ""
                if _is_meant(name, whole, categories, before, after, forms):
                    alone = forms.get(bare[end - 1], ("", ()))[1] == categories
                    first = end - 1 if alone else place
                    found.append(Mention(tuple(range(first, end)), name, categories))
                place = end
                break
        else:
            place += 1
    return tuple(found)


def _is_meant(name: str, form: str, categories: tuple[str, ...], before: str, after: str,
              forms: dict[str, tuple[str, tuple[str, ...]]]) -> bool:
    """Whether the words around a name leave it what it is."""
    if after in FOLLOWED_BY.get(form, "").split():
        return False
    if before in NOT_AFTER.get(name, "").split():
        return False
    if name in _KIN and set(forms.get(after, ("", ()))[1]) & set(_ANIMALS):
        return False
    if before in _LIKENESS and set(categories) & set(_ANIMALS):
        return False
    return not (name in _ALONE and form == name and after and after not in _NO_NOUN)
