"""Questions made of captions by what, where, how many and what color, and of COCO-QA's own."""

import random
from pathlib import Path

import pytest

from train.data.caption_questions import caption_questions
from train.data.cocoqa_captions import answered_things, yes_no_questions
from train.data.reading import Question, Row


def made(*captions: str, most: int = 9) -> set[tuple[str, str]]:
    found = caption_questions(captions, most, random.Random(0))
    return {(question, answer) for question, answer, _ in found}


@pytest.mark.parametrize(("caption", "wanted"), [
    ("A brown dog is running through the grass .",
     {("what is running through the grass ?", "dog"), ("where is the dog running ?", "grass"),
      ("what is the dog running through ?", "grass"), ("what is the color of the dog ?", "brown")}),
    ("Two girls are playing on the beach .",
     {("how many girls are playing on the beach ?", "two"),
      ("where are the girls playing ?", "beach"), ("what are the girls playing on ?", "beach")}),
    ("A man is holding a small kite in the wind .",
     {("what is the man holding in the wind ?", "kite")}),
    ("A man in a red shirt is climbing a rock .", {("what is the color of the shirt ?", "red")}),
    ("A dog with a red and white ball .", set()),
    ("Some of them are running over one another .", set()),
    ("dogs", set()), ("", set()),
])
def test_questions_that_a_caption_answers(caption: str, wanted: set[tuple[str, str]]) -> None:
    assert made(caption) == wanted


def test_what_captions_disagree_on_is_not_asked() -> None:
    found = made("A red ball lies there .", "A blue ball lies there .", "A green car .")
    assert found == {("what is the color of the car ?", "green")}


def test_so_many_of_a_kind_at_most() -> None:
    captions = [f"A {colour} {thing} ." for colour, thing in
                (("red", "hat"), ("blue", "car"), ("green", "ball"))]
    assert len(made(*captions, most=2)) == 2


def of_coco(*questions: tuple[str, str, str], source: str = "coco_qa") -> Row:
    return Row(Path("x.jpg"), (), (), tuple(Question(question, answer, (), kind, source)
                                            for question, answer, kind in questions))


def test_yes_and_no_are_as_many_and_true() -> None:
    zebra = of_coco(("what is eating grass ?", "zebra", "object"),
                    ("what is the color of the bus ?", "red", "color"))
    bus = of_coco(("what stands by the fire_truck ?", "bus", "object"))
    cat = of_coco(("what sleeps there ?", "cat", "object"))
    things = answered_things([zebra, zebra, bus, bus, cat, cat])
    assert things == {"zebra": 2, "bus": 2, "cat": 2}
    found = yes_no_questions(zebra, things, random.Random(0))
    assert [answer for _, answer in found].count("yes") == len(found) / 2 == 2
    said = {answer: [question for question, at in found if at == answer]
            for answer in ("yes", "no")}
    assert any("a zebra" in question for question in said["yes"])
    assert "Is the bus red?" in said["yes"]
    assert any("a cat" in question for question in said["no"])
    assert not any("a bus" in question or "red" in question for question in said["no"])
    assert yes_no_questions(zebra, {"zebra": 2, "bus": 2}, random.Random(0))[0][0][:6] == "Is the"


def test_only_coco_qa_makes_them_and_not_of_single_or_many_things() -> None:
    people = of_coco(("what is that ?", "cat", "object"), source="vqa_v2")
    assert answered_things([people, people]) == {}
    assert yes_no_questions(people, {"cat": 2}, random.Random(0)) == []
    assert answered_things([of_coco(("what are there ?", "zebras", "object"))] * 2) == {}
    assert answered_things([of_coco(("what is there ?", "zebra", "object"))]) == {}


def test_a_thing_of_two_words_is_written_as_people_write_it() -> None:
    row = of_coco(("what rolls down the road ?", "fire_truck", "object"))
    things = answered_things([row, row])
    assert things == {"fire truck": 2}
    [(question, answer), *_] = yes_no_questions(row, {**things, "cat": 2}, random.Random(0))
    assert "a fire truck" in question and answer == "yes"


def test_the_draw_follows_from_the_generator() -> None:
    captions = ("A brown dog is running through the grass .", "A red car .", "A blue ball .")
    first, again = (caption_questions(captions, 1, random.Random(3)) for _ in range(2))
    assert first == again and len(first) == 3
