"""What people type into Search: signs, weights, quotes, hyphens, both languages."""

import contextlib
import sys

import numpy as np
import pytest
from planted import Planted, picture

from vitdemo.config import Limits
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.retrieval import query_text
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.query_text import MAX_TERMS, MINUS, PLUS, Term, parse_query


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Planted())


@pytest.mark.parametrize(("text", "terms"), [
    ("a dog on grass", [("a dog on grass", 1)]),
    ("cat -indoor +snow", [("cat", 1), ("indoor", -1), ("snow", 1)]),
    ("cat -0.5 indoor +2 snow", [("cat", 1), ("indoor", -0.5), ("snow", 2)]),
    ("cat -0.5 indoor in a tree", [("cat in a tree", 1), ("indoor", -0.5)]),
    ('a cat -"red ball" +1.5 "deep snow"', [("a cat", 1), ("red ball", -1), ("deep snow", 1.5)]),
    ("horse + black stripes - a fence", [("horse", 1), ("black stripes", 1), ("a fence", -1)]),
    ("a t-shirt and jeans", [("a t-shirt and jeans", 1)]),
    ("boy -t-shirt", [("boy", 1), ("t-shirt", -1)]),
    ("well-known place -x-ray +3 merry-go-round",
     [("well-known place", 1), ("x-ray", -1), ("merry-go-round", 3)]),
    ("+2 dogs", [("dogs", 2)]), ('+"2 dogs"', [("2 dogs", 1)]), ("2 dogs", [("2 dogs", 1)]),
    ("-indoor", [("indoor", -1)]), ("dog +3d", [("dog", 1), ("3d", 1)]),
    ("dog +2", [("dog", 1), ("2", 1)]), ("猫 -室内 +雪", [("猫", 1), ("室内", -1), ("雪", 1)]),
    ("猫-室内＋雪", [("猫", 1), ("室内", -1), ("雪", 1)]),
    ("草地上的狗 －2 人", [("草地上的狗", 1), ("人", -2)]),
    ("狗 “在 草地” -「红 球」", [("狗在 草地", 1), ("红 球", -1)]),
    ("“a -b”", [("a -b", 1)]), ('a 24" screen', [('a 24" screen', 1)]),
    ("dogs & cats -", [("dogs & cats", 1)]), ("a -- b", [("a", 1), ("b", -1)]),
    ("", []), ("  ", []), ('""', []), ("?!", []), ("— ", []), ("+-+", [])])
def test_what_is_typed_is_read_as_meant(text: str, terms: list[tuple[str, float]]) -> None:
    assert [(one.text, one.weight) for one in parse_query(text)] == terms


@pytest.mark.parametrize("minus", [*MINUS, "--", "---", "- -", "+-", "-\u200b", "➖\ufe0f"])
def test_every_dash_of_every_keyboard_takes_away(minus: str) -> None:
    for text in (f"an animal {minus}cat", f"an animal,{minus}cat", f"an animal, {minus}cat",
                 f"{minus}cat an animal", f"an animal {minus} cat", f"an animal ({minus}cat)"):
        found = {one.text: one.weight for one in parse_query(text)}
        assert found.pop("cat", found.pop("cat an animal", found.pop("cat)", 0))) == -1, text
    assert parse_query(f"动物{minus}猫") == (Term("动物"), Term("猫", -1))


@pytest.mark.parametrize("plus", [*PLUS, "++", "＋＋"])
def test_every_plus_adds(plus: str) -> None:
    assert parse_query(f"dog,{plus}2 snow") == (Term("dog"), Term("snow", 2))


@pytest.mark.parametrize(("text", "terms"), [
    ("-.5 cat", [("cat", -0.5)]), ("-0,5 cat", [("cat", -0.5)]), ("–０．５ 猫", [("猫", -0.5)]),
    ("dog −0.25\u00a0cat", [("dog", 1), ("cat", -0.25)]),
    ("dog -2× cat", [("dog", 1), ("cat", -2)]),
    ('dog -0.5"red ball"', [("dog", 1), ("red ball", -0.5)]),
    ("+2 -cat", [("2", 1), ("cat", -1)]), ("dog -2, cat", [("dog cat", 1), ("2", -1)]),
    ("-1,000 dogs", [("dogs", -1)]), ("dog +2024 games", [("dog games", 1), ("2024", 1)]),
    ("动物，-猫", [("动物", 1), ("猫", -1)]), ("动物、—猫", [("动物", 1), ("猫", -1)]),
    ("动物 -猫，狗", [("动物狗", 1), ("猫", -1)]), ("cat,-dog", [("cat", 1), ("dog", -1)]),
    ("动物-cat", [("动物", 1), ("cat", -1)]), ("猫- 室内", [("猫", 1), ("室内", -1)]),
    ("cat, -dog, -horse, snow", [("cat, snow", 1), ("dog", -1), ("horse", -1)]),
    ("cat -dog,-horse", [("cat", 1), ("dog", -1), ("horse", -1)]),
    ("a dog, a cat.", [("a dog, a cat.", 1)]), ("is it a dog?", [("is it a dog?", 1)]),
    ('an animal -"red cat', [("an animal", 1), ("red cat", -1)]),
    ("an animal -“red cat +snow", [("an animal", 1), ("red cat", -1), ("snow", 1)]),
    ('an animal “with a hat', [("an animal with a hat", 1)]), ('“', []), ('-"', []),
    ("dog -“red ball\"", [("dog", 1), ("red ball", -1)]),
    ("dog -„red ball“ snow", [("dog snow", 1), ("red ball", -1)]),
    ("dog -»red ball« snow", [("dog snow", 1), ("red ball", -1)]),
    ("dog -‘red ball’ snow", [("dog snow", 1), ("red ball", -1)]),
    ("dog -'red ball' snow", [("dog snow", 1), ("red ball", -1)]),
    ("dog -''red ball'' snow", [("dog snow", 1), ("red ball", -1)]),
    ("狗 -『红 球』雪", [("狗雪", 1), ("红 球", -1)]),
    ("狗 -＂红 球＂", [("狗", 1), ("红 球", -1)]),
    ("dog -(red ball) snow", [("dog snow", 1), ("red ball", -1)]),
    ("the '90s car, don't stop", [("the '90s car, don't stop", 1)]),
    ("the dog's bowl -'s", [("the dog's bowl", 1), ("'s", -1)]),
    ("New York–London", [("New York–London", 1)]), ("1990–2000", [("1990–2000", 1)]),
    ("C++ book -A+", [("C++ book", 1), ("A+", -1)]), ("x-ray —t‑shirt", [("x-ray", 1),
                                                                       ("t‑shirt", -1)]),
    ("café -été", [("café", 1), ("été", -1)]), ("🐶 -🐱", [("🐶", 1), ("🐱", -1)]),
    ("🐶-🐱", [("🐶", 1), ("🐱", -1)])])
def test_what_people_type_is_read_as_they_mean_it(text: str,
                                                  terms: list[tuple[str, float]]) -> None:
    assert [(one.text, one.weight) for one in parse_query(text)] == terms


def test_what_is_shown_reads_as_the_same_again() -> None:
    random = np.random.default_rng(0)
    words = ("cat", "red ball", "猫", "t-shirt", "2 dogs", "don't", "C++", "雪 地")
    for _ in range(200):
        terms = [Term(str(random.choice(words)), float(random.choice([1, -1, .5, -2, .25])))
                 for _ in range(random.integers(1, 5))]
        shown = Query(tuple(terms)).understood()
        first = [one for one in terms if one.weight == 1][:1]
        again = parse_query(shown)
        assert sorted(map(repr, again)) == sorted(map(repr, terms)) or len(first) == 0, shown


def test_any_text_is_read_and_no_sign_is_lost_or_made_up() -> None:
    random = np.random.default_rng(1)
    pieces = [*MINUS[:6], *PLUS[:2], *'"“”「」\'’(),，。 ', "  ", "cat", "猫", "0.5", ".5 ", "2 ",
              "\0", "\u200b", "🐱", "é", "\t\n", "x"]
    refused = 0
    for _ in range(1500):
        text = "".join(random.choice(pieces, random.integers(0, 14)))
        try:
            terms = parse_query(text)
        except TextError:  # a weight that is out of range
            refused += 1
            continue
        letters = [one for one in text if one.isalpha() and one not in "éー"]
        kept = "".join(one.text for one in terms)
        assert all(kept.count(one) == letters.count(one) for one in set(letters)), (text, terms)
        assert all(one.weight < 0 for one in terms[1:]) or set(text) & set(PLUS + "*×"), text
        if not set(text) & set(MINUS):
            assert all(one.weight > 0 for one in terms), text
        Query(terms).understood()
    assert refused < 150


@pytest.mark.parametrize("piece", ["-", "- ", '"', "「", "'", "-a", "猫-", "+2 ", "-(",
                                   ",-", " "])
def test_reading_takes_time_in_proportion_to_the_length(
        piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = piece * 3_000
    with pytest.raises(TextError, match="limit is 2,000"):
        parse_query(text)  # before anything is read
    monkeypatch.setattr(query_text, "LIMITS", Limits(max_text_characters=10**7))
    steps = []
    for part in (text[:len(text) // 4], text):
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            with contextlib.suppress(TextError):
                parse_query(part)
        finally:
            sys.setprofile(None)
        steps.append(counted)
    assert steps[1] < 5 * steps[0] + 100


@pytest.mark.parametrize("text", ["a +0 dog", "a -11 dogs", "dog -0.0 cat"])
def test_a_weight_out_of_range_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(TextError, match="at most 10.*quotes"):
        parse_query(text)


def test_too_many_terms_are_refused() -> None:
    with pytest.raises(TextError, match=f"limit is {MAX_TERMS}"):
        parse_query("+a " * (MAX_TERMS + 1))


def test_how_it_was_understood_is_shown() -> None:
    assert Query.of("cat -indoor +2 snow").understood() == "“cat” − “indoor” + 2 × “snow”"
    assert Query.of("-0.5 indoor").understood() == "− 0.5 × “indoor”"
    both = Query.of("snow", picture("red"), 0.5)
    assert both.understood() == "“snow” + 0.5 × your picture"
    assert Query.of("a cat -indoor +deep snow").sentence == "a cat snow, indoor, deep"
    assert Query.of("a cat -indoor +snow").wanted == "a cat, snow"
    assert Query.of("猫 -室内").sentence == "猫，室内"


def test_the_vector_is_the_weighted_sum(engine: Engine) -> None:
    # The planted model's vectors are colours, so sums are worked out by hand.
    red, green, blue = np.eye(3)
    for text, wanted in (("red", red), ("red +green", red + green),
                         ("red +2 green", red + 2 * green),
                         ("red +green -0.5 blue", red + green - 0.5 * blue), ("-blue", -blue),
                         ("红 +绿", red + green)):
        found = Query.of(text).vector(engine)
        assert found == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-4), text
        assert found.dtype == np.float32
    both = Query.of("red", picture("blue"), 3.0).vector(engine)
    assert both == pytest.approx((red + 3 * blue) / np.sqrt(10), abs=1e-4)


def test_what_cancels_out_or_is_empty_is_refused(engine: Engine) -> None:
    with pytest.raises(TextError, match="cancel"):
        Query.of("red -red").vector(engine)
    with pytest.raises(TextError, match="words, a picture, or both"):
        Query.of("  ")
    with pytest.raises(TextError, match="picture's weight is 0"):
        Query.of("red", picture("red"), 0)
    with pytest.raises(TextError, match="control character"):
        Query((Term("a\0b"),)).vector(engine)
