"""Instructions that ask for a part of the picture, with answers made of captions."""

import random
from pathlib import Path

import pytest

from train.data.questions import KINDS, parts, steered
from train.data.reading import Question, Row
from vitdemo.instructions import taught

DOG = Row(Path("a.jpg"), (
    "A man in a red shirt throws a ball on the beach .",
    "A man plays with a black dog and a ball .", "a dog runs on the beach by the water"),
    ("一个穿红衣服的男人在沙滩上。", "黑色的狗和一个男人在玩球。"), ())
EMPTY = Row(Path("b.jpg"), ("an old train stands at a station", "a red train", "the train waits"),
            ("一列火车停在车站里",), ())


def test_each_kind_is_what_people_said_the_commonest_first() -> None:
    found = parts(DOG, "en")
    assert found["things"][:1] == ["ball"]
    assert found["people"][0].startswith("a man")
    assert found["place"][0] == "on the beach"
    assert set(found["colours"]) == {"red shirt", "black dog"}


def test_chinese_answers_are_chinese() -> None:
    found = parts(DOG, "zh")
    assert "狗" in found["things"] and "球" in found["things"]
    assert "男人" in found["people"][0] and found["place"] == ["在沙滩上"]
    assert "黑色的狗" in found["colours"]
    assert all(letter < "a" for kinds in found.values() for text in kinds for letter in text
               if letter.isascii())


def test_where_nobody_is_named_there_is_nobody() -> None:
    assert parts(EMPTY, "en")["people"] == ["nobody"]
    assert parts(EMPTY, "zh")["people"] == ["没有人"]
    few = Row(Path("c.jpg"), ("a red train",), (), ())
    assert "people" not in parts(few, "en")  # one caption may have left them out
    hand = Row(Path("d.jpg"), ("a hand holds a phone", "a phone", "a phone on a table"), (), ())
    assert "people" not in parts(hand, "en")


def test_what_one_of_many_said_alone_is_no_thing() -> None:
    assert set(parts(DOG, "en")["things"]) == {"ball", "dog", "beach"}  # the water stands once


def test_questions_that_were_made_of_captions_serve_too() -> None:
    row = Row(Path("e.jpg"), (), (), (
        Question("what is the color of the bench ?", "green", (), "color", "coco_qa"),
        Question("what is the color of the cat ?", "grey", (), "color", "coco_qa"),
        Question("what is the color of the dog ?", "black", (), "color", "vqa_v2")))
    assert parts(row, "en")["colours"] == ["green bench"]


def test_every_kind_is_asked_in_its_language() -> None:
    examples = [one for seed in range(30) for one in steered(7, DOG, random.Random(seed))]
    assert {(one.kind, one.language) for one in examples} == {
        (kind, language) for kind in KINDS for language in taught()}
    assert all(one.row == 7 and one.instruction in taught()[one.language][one.kind]
               for one in examples)
    assert {one.texts[0] for one in examples if (one.kind, one.language) == ("things", "en")} == {
        "ball, beach, dog"}


@pytest.mark.parametrize("text, place", [
    ("two boys in the snow", "in the snow"), ("a bus on a busy city street", "on a busy city"),
    ("a cat with a hat", None)])
def test_a_place_begins_with_how_one_is_there(text: str, place: str | None) -> None:
    found = parts(Row(Path("f.jpg"), (text,), (), ()), "en").get("place")
    assert (found or [None])[0] == place
