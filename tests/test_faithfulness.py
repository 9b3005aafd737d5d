"""Evidence: orders and areas against slow plain ones, verdicts on made-up curves and on a planted
model, and what is said of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vitdemo.attention import deletion
from vitdemo.attention.deletion import (
    area,
    centre_order,
    masks_of,
    order_of,
    others_of,
    random_orders,
    weigh,
)
from vitdemo.attention.faithfulness import (
    ALWAYS_SHARE,
    ORDERS,
    STEPS,
    always_on,
    evidence_sentence,
    judge,
    share_sentence,
)
from vitdemo.preprocess import grid_boxes
from vitdemo.records import VERDICTS, Curve, Evidence, Explanation, OtherMap, PictureShare, Word

GRID, SIZE = (6, 6), (120, 120)
K = 36


def explained(maps: np.ndarray, source: str = "caption") -> Explanation:
    maps = np.asarray(maps, np.float32)
    names = ("dog", "red", "tree", "man", "ball")[:len(maps)]
    starts = [sum(len(name) + 1 for name in names[:n]) for n in range(len(names))]
    words = tuple(Word(name, at, at + len(name)) for name, at in zip(names, starts, strict=True))
    return Explanation(" ".join(names), source, words, maps[None, None], grid_boxes(GRID, SIZE),
                       GRID, SIZE, "cross-attention", ("layer",))


def planted_score(places: list[int], base: float = 0.05) -> Callable[[np.ndarray], np.ndarray]:
    """A model of one word that is there as long as most of these regions are seen."""
    def score(hidden: np.ndarray) -> np.ndarray:
        seen = 1 - hidden[:, places].mean(1)
        return (base + (0.95 - base) / (1 + np.exp(-12 * (seen - 0.5))))[:, None]
    return score


def a_map(places: list[int]) -> np.ndarray:
    row = np.zeros((1, K), np.float32)
    row[0, places] = 1 / len(places)
    return row


# Orders, masks, areas


def test_order_puts_the_most_important_first_and_breaks_ties_by_seed() -> None:
    assert order_of(np.array([0.1, 0.5, 0.2])).tolist() == [1, 2, 0]
    flat = [tuple(order_of(np.zeros(20), seed)) for seed in range(5)]
    assert len(set(flat)) == 5 and all(sorted(one) == list(range(20)) for one in flat)
    assert flat[0] == tuple(order_of(np.zeros(20), 0))
    broken = order_of(np.array([np.nan, 0.3, np.inf, 0.1]))
    assert broken[:2].tolist() == [1, 3]


def test_random_orders_come_with_their_reverses() -> None:
    orders = random_orders(K, 3)
    assert orders.shape == (ORDERS, K)
    for one, other in zip(orders[::2], orders[1::2], strict=True):
        assert np.array_equal(one, other[::-1]) and sorted(one) == list(range(K))
    assert len({tuple(one) for one in orders}) == ORDERS
    assert not np.array_equal(orders, random_orders(K, 4))


def test_masks_blur_the_first_of_an_order_at_each_step() -> None:
    order = np.random.default_rng(0).permutation(K)
    (masks,) = masks_of(order[None])
    for step, mask in zip(STEPS, masks, strict=True):
        wanted = np.zeros(K, dtype=bool)
        wanted[order[:round(step * K)]] = True
        assert np.array_equal(mask, wanted)
    assert not masks[0].any() and masks[-1].all()


def test_area_is_that_of_trapezoids() -> None:
    curve = np.random.default_rng(0).random(len(STEPS))
    slow = sum((curve[i] + curve[i + 1]) / 2 * (STEPS[i + 1] - STEPS[i]) for i in range(8))
    assert area(curve) == pytest.approx(slow)
    assert area(np.ones(9)) == pytest.approx(1)
    assert area(np.stack([curve, curve])).shape == (2,)


def test_centre_comes_first() -> None:
    boxes = grid_boxes((3, 3), (90, 30))
    order = centre_order(boxes, (90, 30))
    assert order[0] == 4 and set(order[-4:]) == {0, 2, 6, 8}


def test_weigh_equals_the_slow_way_and_scores_each_mask_once() -> None:
    rng = np.random.default_rng(0)
    explanation = explained(rng.random((3, K)))
    vector = rng.random((K, 3)) / K
    asked = []

    def score(hidden: np.ndarray) -> np.ndarray:
        asked.append(hidden)
        return 0.9 - hidden @ vector * 0.8

    found = weigh(explanation, score, [2, 0], seed=5)
    assert [one.word for one in found] == [2, 0]
    (masks,) = asked
    assert len(np.unique(masks, axis=0)) == len(masks) == 2 + 42 + 14 + 3 * 14, "all three maps"
    for one in found:
        def along(order: np.ndarray, word: int = one.word) -> float:
            values = []
            for step in STEPS:
                hidden = np.zeros(K)
                hidden[order[:round(step * K)]] = 1
                values.append(0.9 - hidden @ vector[:, word] * 0.8)
            return float(area(np.array(values)))

        own = np.argsort(-explanation.mean_map()[one.word])
        assert one.deletion.area == pytest.approx(along(own))
        assert one.insertion.area == pytest.approx(along(own[::-1]))
        drawn = random_orders(K, 5)
        assert np.allclose(one.random_deletion, [along(order) for order in drawn])
        assert np.allclose(one.random_insertion, [along(order[::-1]) for order in drawn])
        centre = centre_order(explanation.boxes, SIZE, 5)
        assert one.centre_deletion == pytest.approx(along(centre))
        assert one.centre_insertion == pytest.approx(along(centre[::-1]))
        assert one.probability == pytest.approx(0.9)
        assert one.blank == one.deletion.probability[-1] == one.insertion.probability[-1]
        assert one.deletion.hidden == STEPS


def test_a_probability_that_is_no_number_counts_as_zero() -> None:
    (found,) = weigh(explained(a_map([0])), lambda hidden: np.full((len(hidden), 1), np.nan))
    assert found.deletion.area == 0 and found.verdict in VERDICTS


# Verdicts


def test_the_right_map_is_strong_and_a_wrong_one_worse() -> None:
    places = [0, 1, 6, 7]
    score = planted_score(places)
    right, wrong = a_map(places), 1 - a_map(places)
    assert weigh(explained(right), score)[0].verdict == "strong"
    assert weigh(explained(wrong / wrong.sum()), score)[0].verdict == "worse"
    half = a_map([*places[:3], 33, 34, 35])
    assert weigh(explained(half), score)[0].verdict in ("strong", "some")
    deaf = weigh(explained(right), planted_score(places, base=0.9))[0]
    assert deaf.verdict == "language"


def test_a_map_that_is_not_the_words_own_is_told() -> None:
    """The centre's map, one map for all words, and another word's map are better than chance for a
    thing in the middle that two words depend on, and none passes for a word's own."""
    here, there = [0, 1, 6, 7], [14, 15, 20, 21]

    def score(hidden: np.ndarray) -> np.ndarray:
        return np.column_stack([planted_score(here)(hidden),
                                planted_score(there)(hidden)])

    def verdicts(*maps: np.ndarray) -> list[str]:
        return [one.verdict for one in weigh(explained(np.stack(maps)), score)]

    right, left = a_map(there)[0], a_map(here)[0]
    centre = 1 / (1 + centre_order(grid_boxes((6, 6), SIZE), SIZE).argsort())
    assert verdicts(left, right) == ["strong", "shared"], "what is in the middle shows no skill"
    both = a_map([*here, *there])[0]
    assert not {"strong", "some"} & set(verdicts(both, both)), "one map for all words"
    assert not {"strong", "some"} & set(verdicts(right, left)), "swapped"
    assert not {"strong", "some"} & set(verdicts(centre, centre)), "the centre"


def test_the_other_words_are_those_with_a_map_and_a_probability_of_their_own() -> None:
    maps = np.concatenate([a_map([0]), a_map([1, 2]), np.zeros((1, K)), a_map([3, 4, 5])])
    given = explained(maps)
    assert others_of(given, 0) == [1, 3] and others_of(given, 3) == [0, 1]
    assert others_of(replace(given, source="text"), 0) == []
    again = replace(given, words=(given.words[0], *given.words[:1], *given.words[2:]))
    assert others_of(again, 0) == [3], "the same word is no other"


def test_maps_drawn_at_random_are_mostly_chance() -> None:
    """The false alarms that `judge` tells of."""
    rng, counts = np.random.default_rng(1), Counter()
    for seed in range(300):
        top, left = rng.integers(0, 5, 2)
        places = [int(6 * (top + i) + left + j) for i in (0, 1) for j in (0, 1)]
        found = weigh(explained(rng.random((1, K))), planted_score(places), seed=seed)
        counts[found[0].verdict] += 1
    assert counts["chance"] > 0.7 * 300
    assert counts["strong"] + counts["some"] < 0.15 * 300
    assert counts["worse"] < 0.15 * 300


def test_a_flat_map_is_no_evidence() -> None:
    counts = Counter(weigh(explained(np.zeros((1, K))), planted_score([0, 1, 6, 7]), seed=seed
                           )[0].verdict for seed in range(60))
    assert counts["strong"] + counts["some"] <= 14
    assert counts["worse"] <= 14


@pytest.mark.parametrize("numbers, verdict", [
    # deletion, insertion, random deletion, random insertion, probability, blank
    ((0.2, 0.8, [0.5] * 10, [0.5] * 10, 0.9, 0.1), "strong"),
    ((0.5, 0.5, [0.5] * 10, [0.5] * 10, 0.9, 0.1), "chance"),
    ((0.8, 0.2, [0.5] * 10, [0.5] * 10, 0.9, 0.1), "worse"),
    ((0.2, 0.8, [0.5] * 10, [0.5] * 10, 0.9, 0.75), "language"),
    ((0.2, 0.8, [0.5] * 10, [0.5] * 10, 0.3, 0.6), "language"),  # likelier without the picture
    ((0.2, 0.8, [0.5] * 10, [0.5] * 10, 0.0, 0.0), "language"),
    ((0.45, 0.55, [0.5] * 10, [0.5] * 10, 0.9, 0.1), "some"),  # sure, but small
    ((0.49, 0.51, [0.5] * 10, [0.5] * 10, 0.9, 0.1), "chance"),  # sure, but next to nothing
    ((0.2, 0.4, [0.5] * 10, [0.5] * 10, 0.9, 0.1), "chance"),  # good one way, bad the other
    ((0.2, 0.8, [0.1] * 3 + [0.5] * 7, [0.5] * 10, 0.9, 0.1), "chance"),  # 7 of 10
    ((0.2, 0.8, [0.1] + [0.5] * 9, [0.9] + [0.5] * 9, 0.9, 0.1), "strong"),  # 9 of 10
    ((0.2, 0.8, [0.1] * 2 + [0.5] * 8, [0.5] * 10, 0.9, 0.1), "some"),  # 8 and 10 of 10
    ((0.55, 0.45, [0.5] * 10, [0.5] * 10, 0.9, 0.1), "worse"),
    # ahead of all, but random orders lie as far apart themselves
    ((0.38, 0.62, [0.39, 0.61] * 5, [0.61, 0.39] * 5, 0.9, 0.1), "chance"),
    # beside the centre and other words: better than all, as good as one, worse than chance
    ((0.2, 0.8, [0.5] * 10, [0.5] * 10, 0.9, 0.1, [(0.4, 0.6), (0.3, 0.7)]), "strong"),
    ((0.2, 0.8, [0.5] * 10, [0.5] * 10, 0.9, 0.1, [(0.4, 0.6), (0.21, 0.79)]), "shared"),
    ((0.8, 0.2, [0.5] * 10, [0.5] * 10, 0.9, 0.1, [(0.9, 0.1)]), "worse"),
])
def test_judge(numbers: tuple, verdict: str) -> None:
    assert judge(*numbers) == verdict


def evidence(verdict: str, source: str = "caption") -> Evidence:
    curve = Curve(STEPS, (0.5,) * 9, 0.5)
    return Evidence(0, source, "x", curve, curve, (0.5,) * 10, (0.5,) * 10, 0.5, 0.5, 0.5, 0.5,
                    verdict)


def test_each_verdict_has_a_sentence_in_plain_words() -> None:
    for source in ("caption", "answer", "question", "text"):
        said = [evidence_sentence(evidence(verdict, source)) for verdict in VERDICTS]
        assert len(set(said)) == len(VERDICTS)
        assert all(one.endswith(".") and len(one) < 120 for one in said)
    assert evidence_sentence(evidence("strong")) == \
        "Blurring these places changes the word much more than blurring random ones or the middle."
    dog = OtherMap(2, "dog", 0.5, 0.5)
    own = replace(evidence("strong"), others=(dog,), probability=0.9)
    assert evidence_sentence(own).startswith("This word’s own place: ")
    shared = replace(own, verdict="shared")
    assert evidence_sentence(shared).endswith("than the middle or the place of “dog”.")
    off_centre = replace(shared, centre_deletion=0.9)
    assert evidence_sentence(off_centre).endswith("no more than the place of “dog”.")
    assert evidence_sentence(replace(shared, centre_deletion=0.9, source="answer")) == \
        "Blurring these places changes the answer more than random ones, but no more than the " \
        "place of “dog”."
    assert "no better than chance" in evidence_sentence(evidence("chance"))
    assert "Do not trust" in evidence_sentence(evidence("worse"))
    assert evidence_sentence(evidence("language")) == \
        "The model would say this word without the picture."
    assert "fits" in evidence_sentence(evidence("language", "text"))
    assert "answer’s words" in evidence_sentence(evidence("language", "question"))


def test_share_sentence() -> None:
    share = PictureShare("caption", 0.25, (0.8, 0.125), (0.9, 0.999), (0.001, 0.95),
                         (False, True))
    assert share_sentence(share, 0) == (
        "The picture made this word likely: 90% with the picture, under 1% with a grey one. "
        "80% of its attention fell on the picture. The gate between text and picture is 25% open.")
    assert share_sentence(share, 1).startswith(
        "The model would have said this word anyway: over 99% with the picture, 95%")
    bare = replace(share, gate=float("nan"), attention=(float("nan"),) * 2)
    assert "nan" not in share_sentence(bare, 0) and "gate" not in share_sentence(bare, 0)
    assert "The sentence fits 90%" in share_sentence(replace(share, source="text"), 0)
    assert "this answer" in share_sentence(replace(share, source="question"), 1)
    weighed = replace(share, source="answer", anyway=(False, False), unseen="two dogs")
    assert share_sentence(weighed, 0).startswith("The picture made this word likely: 90%")
    assert share_sentence(weighed, 1).startswith(
        "As likely with a grey picture (over 99% with the picture, 95% with a grey one), but to "
        "that one the model would have answered “two dogs”")


# Always on


def test_always_on_finds_what_is_hot_for_every_word() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((5, K))
    for n in range(5):
        maps[n, 3 * n] = 9  # each word's own place
    assert always_on(explained(maps / maps.sum(1, keepdims=True))) == ()
    maps[:, 35] = 8
    maps /= maps.sum(1, keepdims=True)
    assert always_on(explained(maps)) == (35,)
    maps[2] = 0  # a word that looked at nothing says nothing
    assert always_on(explained(maps)) == (35,)
    maps[3, 35] = 0  # one word does not look there at all
    assert always_on(explained(maps)) == ()


def test_always_on_needs_three_words_and_names_few_regions() -> None:
    hot = np.full((2, K), 0.01)
    hot[:, :6] = 0.1
    assert always_on(explained(hot)) == ()
    many = np.full((4, K), 0.01)
    many[:, :6] = np.linspace(0.1, 0.15, 6)
    assert always_on(explained(many)) == (5,), f"at most {ALWAYS_SHARE} of {K}, at least one"
    assert always_on(explained(np.zeros((4, K)))) == ()
    assert always_on(explained(np.full((4, K), np.nan))) == ()
    assert always_on(explained(np.full((4, K), 0.02))) == ()


def test_random_orders_share_their_pictures_between_both_directions() -> None:
    """Insertion along an order needs no pictures of its own."""
    masks = masks_of(random_orders(K)).reshape(-1, K)
    assert len(np.unique(masks, axis=0)) == 2 + 7 * deletion.ORDERS
