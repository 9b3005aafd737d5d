"""Yes/no questions that evaluation makes from captions, and re-ranking."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.data.mentions import NAMES, things_absent
from train.data.reading import Question, Row
from train.evaluation.retrieval import (
    WEIGHTS,
    name_search,
    names_said,
    reranked_scores,
    retrieval_scores,
)
from train.evaluation.vqa_metrics import (
    YesNo,
    make_yes_no,
    shuffled,
    wrong_pictures,
    yes_no_figures,
)
from vitdemo.models.names import parse_name


def row(*captions: str, zh: tuple[str, ...] = (), name: str = "a.jpg") -> Row:
    return Row(Path(name), captions, zh, ())


def park() -> list[Row]:
    """Forty pictures with a few things in turn, in both languages."""
    random_ = random.Random(0)
    things = [("dog", "狗"), ("cat", "猫"), ("horse", "马"), ("boat", "船"), ("guitar", "吉他")]
    colours = [("red", "红色"), ("blue", "蓝色"), ("green", "绿色")]
    rows = []
    for i in range(40):
        (thing, thing_zh), (colour, colour_zh) = things[i % 5], random_.choice(colours)
        rows.append(row(f"A {thing} beside a {colour} ball .", f"The {thing} is old .",
                        zh=(f"一只{thing_zh}和{colour_zh}的球。",), name=f"{i}.jpg"))
    return rows


def absent(*captions: str, zh: tuple[str, ...] = ()) -> set[str]:
    return {NAMES[i] for i in things_absent(row(*captions, zh=zh))}


def test_what_a_caption_names_or_leaves_open_is_not_absent() -> None:
    assert {"cat", "horse"} <= absent("A dog runs .")
    assert "dog" not in absent("Something runs .", "Two dogs run .")
    assert "dog" not in absent("An animal runs .")  # may be one
    assert not {"man", "woman", "boy", "girl", "child"} & absent("A person stands there .")
    assert "man" in absent("A dog stands there .")
    assert "motorcycle" not in absent("He is on a dirt bike .")
    assert "umbrella" not in absent("It rains .", zh=("一把伞。",))  # the Chinese caption names it
    assert absent(zh=("一把伞。",)) == set()  # Chinese alone says too little


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_yes_has_its_no_word_for_word(language: str) -> None:
    rows = park()
    made = make_yes_no(rows, language)
    assert len(made) > 70  # nearly each picture has one of each
    yes, no = (Counter(q.question for q in made if q.there is there) for there in (True, False))
    assert yes == no  # so the question alone tells nothing
    assert max(Counter((q.row, q.there) for q in made).values()) == 1
    names = {"en": ("dog", "cat", "horse", "boat", "guitar", "ball"),
             "zh": ("狗", "猫", "马", "船", "吉他", "球")}[language]
    for question in made:
        named = next(name for name in names if name in question.question)
        texts = rows[question.row].captions + rows[question.row].captions_zh
        assert any(named in text for text in texts) is question.there
    assert made == make_yes_no(rows, language) != make_yes_no(rows, language, seed=1)


def test_yes_no_figures_count_yes_no_and_neither() -> None:
    questions = [YesNo(0, "?", True), YesNo(1, "?", False), YesNo(2, "?", True),
                 YesNo(3, "?", False)]
    figures = yes_no_figures(questions, ["Yes.", "yes", "maybe", "no"], "en")
    assert figures == {"accuracy": 50, "said_yes": 50, "neither": 25, "n": 4}
    assert yes_no_figures(questions, ["有", "没有", "有", "没有。"], "zh")["accuracy"] == 100


def test_shuffled_words_are_the_same_words() -> None:
    question = "what is the man on the left holding ?"
    mixed = shuffled(question)
    assert mixed != question and mixed.endswith("?")
    assert sorted(mixed.split()) == sorted(question.split()) and mixed == shuffled(question)
    assert shuffled("is it?") == "it is?" and shuffled("why?") == "why?"
    mixed = shuffled("图片里有几只狗？")
    assert sorted(mixed) == sorted("图片里有几只狗？") and mixed[-1] == "？"
    assert mixed != "图片里有几只狗？"


def test_a_wrong_picture_is_never_the_right_one() -> None:
    for count in (2, 3, 8):
        asked = Question("what is it ?", "a dog", (), "", "")
        rows = [row("nobody asks"), *(replace(row("a"), questions=(asked,)) for _ in range(count))]
        others = wrong_pictures(rows)
        assert list(others) == sorted(others.values()) == list(range(1, count + 1))
        assert all(own != other for own, other in others.items())
    assert wrong_pictures(rows[:2]) == {}


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def gallery(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sixty pictures, two texts of each, their vectors apart by this much."""
    maker = np.random.default_rng(0)
    pictures, owner = unit(maker.normal(size=(60, 16))), np.repeat(np.arange(60), 2)
    return pictures, unit(pictures[owner] + noise * maker.normal(size=(120, 16))), owner


def test_a_match_head_that_knows_puts_every_found_one_first() -> None:
    pictures, texts, owner = gallery(0.6)
    asked: list[tuple[int, int]] = []

    def knows(pairs: np.ndarray) -> np.ndarray:
        asked.extend(map(tuple, pairs.tolist()))
        # So sure that the least weight is enough: a half's best one is the least that is for it.
        return np.where(owner[pairs[:, 1]] == pairs[:, 0], 1000.0, -1000.0)

    before = retrieval_scores(pictures, texts, owner)
    after = reranked_scores(pictures, texts, owner, knows, 10)
    for way in ("text_to_image", "image_to_text"):
        # The best ten are put in order, so whoever was among them is first now, and nobody else.
        assert before[way]["r1"] < before[way]["r10"] < 100
        assert after[way]["r1"] == pytest.approx(before[way]["r10"])
        assert all(weight > 0 for weight in after["weights"][way])
    assert len(asked) == len(set(asked)) < 120 * 10 + 60 * 10


def test_a_match_head_that_knows_nothing_is_given_no_weight() -> None:
    pictures, texts, owner = gallery(0.3)
    maker = np.random.default_rng(1)
    before = retrieval_scores(pictures, texts, owner)
    after = reranked_scores(pictures, texts, owner, lambda p: maker.normal(size=len(p)) * 50, 10)
    for way in ("text_to_image", "image_to_text"):
        assert after["weights"][way] == [0, 0]
        assert after[way].pop("ci") == before[way].pop("ci")
        assert after[way] == pytest.approx(before[way])


def test_the_weight_is_chosen_on_the_other_half() -> None:
    """A head that is right about even pictures and wrong about odd ones: the even half asks for no
    weight and the odd half for some, and each gets what the other asked for."""
    pictures, texts, owner = gallery(0.6)

    def half_right(pairs: np.ndarray) -> np.ndarray:
        right = owner[pairs[:, 1]] == pairs[:, 0]
        return np.where(pairs[:, 0] % 2 == 0, np.where(right, 9.0, 0.0), np.where(right, -9.0, 0.0))

    after = reranked_scores(pictures, texts, owner, half_right, 10)
    even, odd = after["weights"]["image_to_text"]
    assert even == 0 and odd > 0
    assert set(after["weights"]["text_to_image"]) <= set(WEIGHTS)


def test_equal_vectors_and_logits_score_chance() -> None:
    pictures = texts = np.ones((100, 4), np.float32) / 2
    after = reranked_scores(pictures, texts, np.arange(100), lambda p: np.zeros(len(p)), 10)
    assert after["text_to_image"]["r1"] == pytest.approx(1)
    assert after["text_to_image"]["r10"] == pytest.approx(10)


def test_one_picture_alone_is_ranked() -> None:
    one = np.ones((1, 1), np.float32)
    after = reranked_scores(one, one, np.zeros(1, int), lambda p: np.zeros(len(p)), 50)
    assert after["text_to_image"]["r1"] == 100 and after["weights"]["text_to_image"] == [0, 0]


def test_names_are_found_in_captions_as_whole_words() -> None:
    names = [parse_name(line) for line in (
        "cat\t猫\t1\tcat|cats\t猫\t0\t1", "polar bear\t北极熊\t2\tpolar bear\t北极熊\t0\t1")]
    assert names_said(["Two cats, asleep .", "A dog"], names, "en") == [True, False]
    assert names_said(["A catalogue of polar things", "bear"], names, "en") == [False, False]
    assert names_said(["A polar-bear ."], names, "en") == [False, True]
    assert names_said(["一只小猫"], names, "zh") == [True, False]


def test_search_by_names_by_hand_and_reranked() -> None:
    """First right ranks 1, 2, 2 and 3, of 4 pictures; the match head knows better."""
    pictures = np.eye(4, dtype=np.float32)
    queries = unit(np.array([[4, 3, 2, 1]] * 4, np.float32))
    said = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]], bool)
    asked: list[tuple[int, int]] = []

    def match(pairs: np.ndarray) -> np.ndarray:
        asked.extend(map(tuple, pairs.tolist()))
        return np.array([100.0 * said[name, picture] for picture, name in pairs])

    figures = name_search(queries, pictures, said, match, 0)
    assert figures["mrr"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 2 + 1 / 3) / 4) and not asked
    assert figures["names"] == 4 and figures["ci"]["mrr"][0] < figures["mrr"]
    assert "reranked" not in figures
    again = name_search(queries, pictures, said, match, 2)["reranked"]
    assert set(asked) == {(picture, name) for picture in (0, 1) for name in range(4)}
    assert again["mrr"] == pytest.approx(100 * (1 + 1 + 1 + 1 / 3) / 4)  # the last is out of reach
    assert again["candidates"] == 2 and min(again["weights"]) > 0
