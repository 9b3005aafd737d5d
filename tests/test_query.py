"""What people type into Search: signs, weights, quotes, hyphens, both languages."""

import numpy as np
import pytest
from planted import Planted, picture

from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.retrieval.query import MAX_TERMS, Query, Term, parse_query


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
    ("dogs & cats -", [("dogs & cats -", 1)]), ("a -- b", [("a -- b", 1)]),
    ("", []), ("  ", []), ('""', [('""', 1)])])
def test_what_is_typed_is_read_as_meant(text: str, terms: list[tuple[str, float]]) -> None:
    assert [(one.text, one.weight) for one in parse_query(text)] == terms


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
