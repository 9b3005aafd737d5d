"""The arithmetic of the methods, and what their maps are whatever the numbers."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitdemo.attention import rollout
from vitdemo.attention.capture import Look
from vitdemo.attention.explain import of_one_layer
from vitdemo.attention.grad_cam import grad_cam, only_through
from vitdemo.attention.methods import (
    METHODS,
    Said,
    bounded,
    choose,
    label_of,
    matched,
    normalised,
    note_of,
    over_words,
    rows_at_once,
)
from vitdemo.attention.occlusion import occlusion, windows
from vitdemo.attention.relevancy import Relevancy
from vitdemo.attention.trace import Regions
from vitdemo.errors import ConfigError
from vitdemo.preprocess import grid_boxes
from vitdemo.records import Explanation
from vitdemo.words import split_words


def shares(*shape: int, seed: int = 0) -> Tensor:
    """Attention weights: rows that add up to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).mul(2).softmax(-1)


def flat(text: str, grid: tuple[int, int]) -> Explanation:
    """A text over a full grid, with maps that nobody reads."""
    words, count = split_words(text), grid[0] * grid[1]
    return Explanation(text, "caption", words, np.zeros((2, 2, len(words), count), np.float32),
                       grid_boxes(grid, (90, 60)), grid, (90, 60), "cross-attention", ("1", "2"),
                       (0.5, 0.5), tuple(0.5 for _ in words))


# Rollout

def test_rollout_is_the_product_of_whole_matrices():
    """Over all tokens at once, as in the paper: A = (W + I) / 2 for tokens that a layer changes,
    I for the others, multiplied layer by layer."""
    regions, text, layers = 5, 4, 3
    crossed = [shares(2, text, regions, seed=i) for i in range(layers)]
    mixed = [shares(2, text, text, seed=9 + i) for i in range(layers)]
    gates = (1.0, -0.3, 0.0)
    whole = np.eye(regions + text)
    share = torch.zeros(text, regions)
    for own, seen, gate in zip(mixed, crossed, gates, strict=True):
        for part, start, size in ((own, regions, 1.0), (seen, 0, abs(gate))):
            step = np.eye(regions + text)
            for t in range(text):
                for j in range(part.shape[-1]):
                    weight = sum(float(head[t, j]) for head in part) / len(part)
                    step[regions + t, start + j] += size * weight
                step[regions + t] /= 1 + size
            whole = step @ whole
        share = rollout.self_attention(share, own.mean(0))
        share = rollout.cross_attention(share, seen.mean(0), torch.eye(regions), gate)
    np.testing.assert_allclose(share, whole[regions:, :regions], atol=1e-6)
    assert (share.sum(-1) < 1).all(), "the rest came from text"


def test_rollout_of_a_vision_encoder_is_a_product_too():
    layers = [shares(3, 6, 6, seed=i) for i in range(4)]
    whole = np.eye(6)
    for weights in layers:
        whole = (weights.numpy().mean(0) / 2 + np.eye(6) / 2) @ whole
    found = rollout.vision([weights.mean(0) for weights in layers], prefix=1)
    np.testing.assert_allclose(found, whole[:, 1:], atol=1e-6)


# Relevancy

def slow_relevancy(own: list[np.ndarray], crossed: list[np.ndarray],
                   context: np.ndarray) -> np.ndarray:
    """Eqs. 6 to 10 of Chefer et al. for one target, number by number; A' (T, T) and (T, N)."""
    text, regions = own[0].shape[0], context.shape[1]
    r_ss, r_sq = np.eye(text), np.zeros((text, regions))
    for a, c in zip(own, crossed, strict=True):
        r_sq = np.array([[r_sq[i, k] + sum(a[i, j] * r_sq[j, k] for j in range(text))
                          for k in range(regions)] for i in range(text)])
        r_ss = np.array([[r_ss[i, k] + sum(a[i, j] * r_ss[j, k] for j in range(text))
                          for k in range(text)] for i in range(text)])
        bar = np.eye(text)
        for i in range(text):
            rest = r_ss[i] - np.eye(text)[i]
            if rest.sum() > 0:
                bar[i] += rest / rest.sum()
        for i in range(text):
            for k in range(regions):
                r_sq[i, k] += sum(bar[j, i] * c[j, n] * context[n, k]
                                  for j in range(text) for n in range(len(context)))
    return r_sq


def test_relevancy_follows_the_equations():
    text, regions, layers = 4, 5, 3
    own = [shares(2, text, text, seed=i).double() for i in range(layers)]
    crossed = [shares(2, text, regions + 2, seed=9 + i).double() for i in range(layers)]
    own[1][0, 2] = 0  # a position that looks at nothing
    context = torch.rand(1, regions + 2, regions, dtype=torch.float64)
    found = Relevancy(torch.eye(text).double().expand(2, -1, -1),
                      torch.zeros(2, text, regions).double())
    for mine, theirs in zip(own, crossed, strict=True):
        found = found.after_self(mine).after_cross(theirs, context)
    for row in range(2):
        want = slow_relevancy([one[row].numpy() for one in own],
                              [one[row].numpy() for one in crossed], context[0].numpy())
        np.testing.assert_allclose(found.picture[row], want, rtol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_only_looks_that_help_count_and_each_row_has_its_own_gradient(fused):
    """Eq. 5, from the gradient of the weights themselves and from that of a fused kernel."""
    weights, value = shares(3, 2, 4, 5).requires_grad_(), torch.randn(3, 2, 5, 6)
    factors = torch.tensor([1.0, -2.0, 0.0])
    output = weights @ value
    target = output.sum((1, 2, 3)) * factors
    slopes, outer = torch.autograd.grad(target.sum(), [weights, output])
    look = Look(given=weights)
    if fused:  # queries whose products with the keys are the logarithms of the weights
        query, key = weights.detach().log(), torch.eye(5).expand(3, 2, 5, 5)
        look = Look(query=query, key=key, value=value, output=output)
    found = look.relevant(outer if fused else slopes)
    for row in range(3):
        want = (weights.detach()[row] * slopes[row]).clamp(min=0).mean(0)
        torch.testing.assert_close(found[row], want, atol=1e-6, rtol=1e-4)
    assert torch.equal(look.relevant(None), torch.zeros(3, 4, 5))


def test_a_gradient_that_is_no_number_counts_as_nothing():
    gradient = torch.full((1, 2, 3, 4), float("nan"))
    gradient[0, 0, 0, 0] = float("inf")
    assert torch.equal(Look(given=shares(1, 2, 3, 4)).relevant(gradient), torch.zeros(1, 3, 4))


# Grad-CAM

def test_grad_cam_is_the_weighted_sum_of_the_channels():
    features, means = torch.randn(6, 4), torch.randn(3, 4)
    found = grad_cam(features, means)
    for r in range(3):
        for n in range(6):
            want = max(0.0, sum(float(means[r, c]) * float(features[n, c]) for c in range(4)))
            assert float(found[r, n]) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("returns_tuple", [False, True])
def test_gradients_pass_only_where_they_are_let_through(returns_tuple):
    class Layer(nn.Linear):
        def forward(self, x: Tensor):
            y = super().forward(x)
            return (y, "more") if returns_tuple else y

    layer, x = Layer(3, 3), torch.randn(2, 4, 3, requires_grad=True)
    positions = torch.tensor([[True, False, False, True], [False] * 4])
    plain = layer(x)
    with only_through([layer], positions):
        cut = layer(x)
    if returns_tuple:
        assert cut[1] == "more"
        plain, cut = plain[0], cut[0]
    assert torch.equal(plain, cut)
    (gradient,) = torch.autograd.grad(cut.sum(), x)
    assert torch.equal(gradient.abs().sum(-1) > 0, positions)
    assert not layer._forward_hooks


# Occlusion

@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 4), (9, 9), (10, 10), (14, 14), (24, 24)])
def test_windows_slide_over_every_region(grid):
    found = windows(grid, grid_boxes(grid, (90, 60)))
    assert found.any(0).all(), "a region that is never hidden has no map"
    assert found.any(1).all()
    assert len(found) <= 196
    if grid == (9, 9):
        middle = np.zeros((9, 9), bool)
        middle[3:6, 2:5] = True
        assert any(np.array_equal(one.reshape(9, 9), middle) for one in found)
        assert len(found) == 81 and found.sum(1).max() == 9 and found[0].sum() == 4
    if grid in ((2, 2), (3, 4)):
        assert (found.sum(1) == 1).all(), "a window must leave something to see"


def test_windows_over_regions_that_form_no_grid():
    boxes = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [50, 0, 60, 10], [0, 50, 10, 60]],
                     np.float32)
    found = windows((0, 0), boxes)
    assert np.array_equal(found[0], [True, True, False, False])
    assert np.array_equal(found[2], [False, False, True, False])


def test_occlusion_equals_sliding_by_hand():
    grid, asked = (6, 7), []
    base = flat("a red dog", grid)
    weights = np.random.default_rng(0).random((3, 42)) / 42

    def score(hidden: np.ndarray) -> np.ndarray:
        asked.append(hidden)
        return (~hidden) @ weights.T + 0.2

    found = occlusion(base, score)
    assert len(asked) == 1, "all pictures in one call"
    assert not asked[0][0].any()
    for q in range(3):
        want = np.zeros(42)
        for region in range(42):
            row, column = divmod(region, 7)
            losses = []
            for r in range(6):
                for c in range(7):  # windows that hide this region
                    if abs(r - row) <= 1 and abs(c - column) <= 1:
                        inside = [y * 7 + x for y in range(6) for x in range(7)
                                  if abs(y - r) <= 1 and abs(x - c) <= 1]
                        losses.append(weights[q][inside].sum())
            want[region] = np.mean(losses)
        np.testing.assert_allclose(found.weights[0, 0, q], want / want.sum(), rtol=1e-5)
    assert (found.method, found.layer_names, found.gates) == \
        ("occlusion", (label_of("occlusion"),), ())
    assert found.words == base.words and found.word_probabilities == base.word_probabilities
    assert found.note == note_of("occlusion", base.source)


def test_occlusion_points_at_the_one_place_that_counts():
    base = flat("red dog", (9, 9))
    for place in (0, 8, 40, 77):
        found = occlusion(base, lambda hidden, place=place: np.stack(
            [np.where(hidden[:, place], 0.1, 0.9), np.full(len(hidden), 0.3)], 1))
        assert found.weights[0, 0, 0].argmax() == place
        assert found.weights[0, 0, 0].sum() == pytest.approx(1, abs=1e-5)
        assert not found.weights[0, 0, 1].any(), "hiding nothing matters to this word"


def test_occlusion_of_what_cannot_be_scored_is_zero():
    base = flat("red dog", (3, 3))
    nan = occlusion(base, lambda hidden: np.full((len(hidden), 2), np.nan))
    better = occlusion(base, lambda hidden: 0.1 + 0.5 * hidden.any(1)[:, None].repeat(2, 1))
    assert not nan.weights.any() and not better.weights.any()
    empty = occlusion(flat("", (3, 3)), lambda hidden: np.zeros((len(hidden), 0)))
    assert empty.weights.shape == (1, 1, 0, 9)
    asked = occlusion(dataclasses.replace(base, source="question"),
                      lambda hidden: np.zeros((len(hidden), 2)))
    assert "how likely the answer is" in asked.note


# What all have in common

def test_maps_add_up_to_one_or_are_zero():
    maps = np.array([[1.0, 3, 0, 0], [0, 0, 0, 0], [np.nan] * 4, [np.inf, 1, np.nan, 1],
                     [-1, -2, 0, 0], [-1, 2, 0, 2], [1e-320, 0, 0, 1e-320], [1e308, 1e308, 0, 0]])
    found = normalised(maps)
    want = [[.25, .75, 0, 0], [0] * 4, [0] * 4, [0, .5, 0, .5], [0] * 4, [0, .5, 0, .5],
            [.5, 0, 0, .5], [.5, .5, 0, 0]]
    np.testing.assert_allclose(found, want, atol=1e-6)
    assert found.dtype == np.float32
    assert normalised(np.zeros((0, 4))).shape == (0, 4)


def test_shares_stay_what_they_are():
    found = bounded(np.array([[.2, .1], [np.nan, .5], [.8, .8], [0, -1]]))
    np.testing.assert_allclose(found, [[.2, .1], [0, .5], [.5, .5], [0, 0]], atol=1e-6)


def test_words_take_the_mean_of_their_tokens_and_a_word_of_none_has_zeros():
    maps = np.arange(8.0).reshape(4, 2)
    found = over_words(maps, [[0], [1, 2], [], [3, 9]])
    np.testing.assert_allclose(found, [[0, 1], [3, 4], [0, 0], [6, 7]])


def test_a_method_is_chosen_by_name():
    assert choose("", ("a", "b")) == "a"
    assert choose("b", ("a", "b")) == "b"
    with pytest.raises(ConfigError, match="method is 'c'; this model can explain by a, b."):
        choose("c", ("a", "b"))
    with pytest.raises(ConfigError, match="by none"):
        choose("", ())


def test_every_method_has_a_label_and_a_note():
    assert len({label_of(name) for name in METHODS}) == len(METHODS)
    for name in set(METHODS) - {"cross-attention"}:
        note = note_of(name, "text")
        assert note.endswith(".") and "  " not in note


def test_a_record_says_how_it_was_made():
    words = split_words("red dog")
    maps = np.array([[.2, .2], [0, np.nan]])
    boxes = grid_boxes((1, 2), (8, 8))
    regions = Regions("picture", (0, 1), boxes, (1, 2), (8, 8))
    trace = SimpleNamespace(text="red dog", source="text", words=words, regions=regions, path="")
    share = of_one_layer(trace, "rollout", maps, Said())
    assert share.weights.sum() == pytest.approx(.4, abs=1e-6), "a share of the picture stays one"
    assert share.note == note_of("rollout", "text")
    trace.path = "And more."
    made = of_one_layer(trace, "relevancy", maps, Said())
    np.testing.assert_allclose(made.weights[0, 0], [[.5, .5], [0, 0]])
    assert "how well it fits the picture" in made.note and made.note.endswith("And more.")


def test_long_texts_go_in_several_passes():
    assert rows_at_once(10) > 1000
    assert rows_at_once(10**12) == 1
    assert rows_at_once(0) >= 1


def test_matched_attention_is_what_a_loop_gives() -> None:
    random = np.random.default_rng(0)
    attention, match = random.random((2, 20)), random.random((2, 20))
    found = matched(attention, match, (4, 5))
    for q in range(2):
        grid = attention[q].reshape(4, 5)
        for row in range(4):
            for column in range(5):
                near = grid[max(0, row - 1):row + 2, max(0, column - 1):column + 2]
                wanted = near.mean() * match[q, 5 * row + column] ** 0.5
                assert found[q, 5 * row + column] == pytest.approx(wanted)


def test_matched_attention_of_few_regions_or_no_grid_is_not_blended() -> None:
    attention = np.array([[0.0, 1.0, 2.0]])
    assert matched(attention, np.array([[1.0, 4.0, 0.0]]), (0, 0)).tolist() == [[0.0, 2.0, 0.0]]
    assert not matched(np.zeros((1, 3)), np.ones((1, 3)), (1, 3)).any()
