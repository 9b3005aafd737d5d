"""What a picture's captions name, what they leave open, and what is surely not among it.

Trials made from captions need a wrong thing that is wrong: one that no caption of the picture
names, in either language, and that no vaguer word may mean ("a person" may be a man, "a swimmer"
is in the water).
"""

import re
from collections.abc import Sequence

from train.data.instructions import THINGS
from train.data.reading import Row

NAMES = tuple(words[0] for words, _ in THINGS)  # the English name of each of `THINGS`
PEOPLE = ("person people someone somebody adult adults couple crowd player players team rider "
           "skier skateboarder surfer climber hiker biker cyclist runner athlete friends family "
           "group individual they worker swimmer dancer musician baby babies toddler teenager "
           "teenagers child children kid kids youth").split()
# Words that leave open whether a thing is there, beside its own words in `THINGS`.
_OPEN: dict[str, Sequence[str]] = {
    "man": [*PEOPLE, "male", "males", "boy", "boys", "cowboy", "father", "dad", "he", "his"],
    "woman": [*PEOPLE, "females", "girl", "girls", "mother", "mom", "bride", "she", "her"],
    "boy": [*PEOPLE, "male", "males", "man", "men", "son", "brothers", "he", "his"],
    "girl": [*PEOPLE, "female", "females", "woman", "women", "lady", "daughter", "sisters", "she",
             "her"],
    "child": [*PEOPLE, "babies", "toddlers", "infant", "son", "daughter", "teen", "student"],
    "dog": "animal animals canine hound greyhound greyhounds poodle retriever collie terrier pup "
           "pups bulldog labrador shepherd dachshund dalmatian pet pets".split(),
    "cat": ["animal", "animals", "pet", "pets"],
    "horse": "animal animals pony ponies jockey rodeo cowboy bronco polo".split(),
    "bird": "animal animals geese ducks pigeon pigeons seagull seagulls gull gulls".split(),
    "water": "swim swims swimming swimmer splash splashes splashing creek stream pond puddle wet "
             "waterfall kayak kayaker canoe boat boats beach shore surfer surfboard surfing rapids "
             "wading dock pier fountain wakeboard wakeboarder raft waves bath".split(),
    "snow": "snowboard snowboarding skis skiing skiers sled sledding snowball snowmobile icy "
            "snowboarders skating hockey rink winter".split(),
    "beach": "ocean sea surfer surfers surfing surf surfboard wave waves coast dune water lake "
             "volleyball desert dirt".split(),
    "grass": "park yard meadow lawn hill hillside soccer football baseball garden woods pasture "
             "outside ground grassland".split(),
    "tree": "branches bush bushes trunk log leaves park limb palm wooded foliage".split(),
    "street": "roads streets sidewalks crosswalk town urban downtown intersection pavement path "
              "car cars bus traffic building buildings curb".split(),
    "car": "trucks suv taxi traffic race racing vehicles jeep racecar bus".split(),
    "mountain": "cliffs boulder boulders hills hilltop mountainside mountaintop hillside canyon "
                "peak climber climbing hiking hiker ski skier slope".split(),
    "hat": "hats caps helmets bandanna bandana beanie headband hood wig biker cowboy bicyclist "
           "cyclist motorcyclist hardhat visor".split(),
    "ball": "hockey rugby player players balls game sport football tennis goal racket bat".split(),
    "bicycle": "cycle cycles cycling bmx bikers cyclists biking vehicle".split(),
    "motorcycle": "motorcyclist motorcycles motorbikes biker bikers racer cycle atv motor".split(),
    "boat": "raft rafting canoes kayaks kayaker sailing sailboat ships boats paddle vessel".split(),
    "stick": "branches sticks log twig pole bat wood stick".split(),
    "camera": "pose poses posing posed photos pictures photographer cameras filming".split(),
    "flower": "flowered garden bouquet plant plants floral".split(),
    "glasses": "face goggles shades eyewear".split(),
    "rope": "leash ropes climber climbing swing tug cord harness lasso".split(),
    "table": "desk restaurant dinner counter eat eating".split(),
    "bench": "seat seats seated benches sitting sits".split(),
    "swing": "swinging playground rope hammock".split(),
    "slide": "sliding slides playground".split(),
    "umbrella": ["parasol", "umbrellas", "rain"], "skateboard": ["skater", "skaters", "skating"],
    "frisbee": ["frisbees", "discs", "toy"], "train": ["trains", "subway", "railroad", "tracks"],
}


def english_words(captions: Sequence[str]) -> set[str]:
    """All words of these captions, in lower case."""
    return set(re.findall(r"[a-z]+", " ".join(captions).lower()))


def things_named(row: Row) -> set[int]:
    """Places in `THINGS` of what the English captions call by its first name."""
    words = english_words(row.captions)
    return {i for i, name in enumerate(NAMES) if name in words or f"{name}s" in words}


def things_absent(row: Row) -> set[int]:
    """Places in `THINGS` of what no caption of the row names and none leaves open.

    Empty where there is no English caption: Chinese alone leaves too much open.
    """
    if not row.captions:
        return set()
    words, chinese = english_words(row.captions), "".join(row.captions_zh)
    english = " ".join(row.captions).lower()
    return {i for i, (own, own_zh) in enumerate(THINGS)
            if not words & {*own, *(f"{word}s" for word in own), *_OPEN.get(own[0], ())}
            and not any(" " in word and word in english for word in own)
            and not any(word in chinese for word in own_zh)}
