"""Words said twice, people who are not there, things that nobody named."""

import pytest

from train.data.coco_words import categories, tell_of_people
from train.evaluation.metrics import fault_figures


@pytest.mark.parametrize("text, found", [
    ("A man rides a motorbike.", {"person", "motorcycle"}),
    ("Somebody looks at a baby elephant", {"person", "elephant"}),
    ("A hot dog on a plate", {"hot dog"}),
    ("A snowy mountain", set()),
    ("一个男人骑着摩托车", {"person", "motorcycle"}),
    ("人行道上有一个雪人", set()),
    ("足球场上有一个足球", {"sports ball"}),
    ("一匹斑马", {"zebra"}),
])
def test_the_categories_that_a_caption_names(text: str, found: set[str]) -> None:
    assert categories(text) == found


def test_people_are_told_of_where_they_are_named_or_hinted_at() -> None:
    assert tell_of_people(["A dog runs.", "Two skiers rest."])
    assert tell_of_people(["A dog with its owner at his feet."]) and tell_of_people(["演奏者"])
    assert not tell_of_people(["A dog runs.", "A red bus", "一只狗"])


def test_the_figures() -> None:
    said = ["A dog on a dog.", "A man on a bench.", "一只猫"]
    people = [["A dog and a cat play.", "一只狗"], ["A bench.", "An empty bench in a park."],
              ["A grey cat"]]
    assert fault_figures(said, people) == {
        "repeated": pytest.approx(100 / 3), "person_unsaid": pytest.approx(100 / 3),
        "things_unsaid": pytest.approx(1 / 3), "things_said": pytest.approx(75.0)}
    assert fault_figures(["grass"], [["green grass"]])["things_said"] is None
