"""The sanity checks of maps: ranks, shuffled words, random weights."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_blip import CLASSES, save_tiny_blip
from torch import nn

from vitdemo.attention import sanity
from vitdemo.backends.base import Backend
from vitdemo.backends.registry import load_backend
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.preprocess import grid_boxes, open_picture
from vitdemo.records import Caption, Explanation
from vitdemo.words import split_words

GRID = (5, 5)


def explained(text: str, maps: np.ndarray) -> Explanation:
    """An explanation of one layer and head with the maps (Q, K) given."""
    return Explanation(text, "caption", split_words(text), maps[None, None].astype(np.float32),
                       grid_boxes(GRID, (50, 50)), GRID, (50, 50), "cross-attention", ("one",))


def noise(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).random((count, 25))
    return rows / rows.sum(axis=1, keepdims=True)


def slow_spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of mean ranks, counted one by one."""
    def ranks(row: np.ndarray) -> np.ndarray:
        return np.array([np.mean([place for place, other in enumerate(np.sort(row))
                                  if other == value]) for value in row])
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def test_rank_correlation_is_spearmans() -> None:
    generator = np.random.default_rng(1)
    a = np.round(generator.random((6, 40)), 1)  # many ties
    b = np.round(a + 0.5 * generator.random((6, 40)), 1)
    found = sanity.rank_correlation(a, b)
    assert found == pytest.approx([slow_spearman(x, y) for x, y in zip(a, b, strict=True)])
    assert sanity.rank_correlation(a, a) == pytest.approx(np.ones(6))
    assert sanity.rank_correlation(a, -a) == pytest.approx(-np.ones(6))


def test_a_flat_map_is_like_nothing() -> None:
    flat = np.full((1, 25), 1 / 3)
    assert sanity.rank_correlation(flat, noise(1)).tolist() == [0.0]
    assert sanity.rank_correlation(flat, flat).tolist() == [0.0]
    assert sanity.rank_correlation(np.zeros((0, 25)), np.zeros((0, 25))).shape == (0,)


def test_shuffling_moves_every_word_and_keeps_them_all() -> None:
    words = split_words("a dog on the beach with a red ball")
    text, order = sanity.shuffle_words(words, seed=3)
    assert sorted(order) == list(range(len(words)))
    assert text.split() == [words[place].text for place in order]
    assert all(words[p].text != words[q].text for p, q in enumerate(order))
    assert sanity.shuffle_words(words, seed=3) == (text, order)
    assert sanity.shuffle_words(words, seed=4) != (text, order)
    assert sanity.shuffle_words(split_words("dog"))[1] == (0,)
    assert sanity.shuffle_words(())[0] == ""


def test_shuffled_maps_that_go_with_the_word_or_with_the_place() -> None:
    text, maps = "one two three four", noise(4)
    before = explained(text, maps)
    after, order = sanity.shuffle_words(before.words)
    moved = explained(after, maps[list(order)])
    found = sanity.compare_shuffled(before, moved, order)
    assert found.verdict == "word" and found.own == pytest.approx([1.0] * 4)
    assert max(found.place) < 0.9
    stayed = sanity.compare_shuffled(before, explained(after, maps), order)
    assert stayed.verdict == "place" and stayed.place == pytest.approx([1.0] * 4)
    same = np.repeat(maps[:1], 4, axis=0)
    alike = sanity.compare_shuffled(explained(text, same), explained(after, same), order)
    assert alike.verdict == "alike"
    both = explained(after, maps[list(order)] + maps)
    assert sanity.compare_shuffled(before, both, order).verdict in ("mixed", "alike")


def test_shuffled_words_that_cannot_be_compared() -> None:
    before = explained("dog dog", noise(2))
    order = sanity.shuffle_words(before.words)[1]
    assert sanity.compare_shuffled(before, before, order).verdict == "unclear"
    other = explained("two one", noise(2))
    assert sanity.compare_shuffled(explained("a b", noise(2)), other, (1, 0)).verdict == "unclear"


def test_verdicts_on_random_weights() -> None:
    maps = noise(3)
    trained = explained("one two three", maps)
    same = sanity.compare_randomised(trained, trained)
    assert same.verdict == "unchanged"
    other = sanity.compare_randomised(trained, explained("one two three", noise(3, 5)))
    assert other.verdict == "changed"
    mixed = np.concatenate((maps[:2], noise(3, 5)[2:]))  # two words of three keep their maps
    half = sanity.compare_randomised(trained, explained("one two three", mixed))
    assert half.verdict == "partly"


def test_randomise_keeps_sizes_and_norms() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.BatchNorm1d(64))
    with torch.no_grad():
        model[0].weight.mul_(7)
        model[1].weight.fill_(3)
    before = copy.deepcopy(model)
    sanity.randomise(model, seed=1)
    again = copy.deepcopy(before)
    sanity.randomise(again, seed=1)
    assert torch.equal(model[0].weight, again[0].weight)
    assert not torch.equal(model[0].weight, before[0].weight)
    size = float(before[0].weight.detach().std())
    assert float(model[0].weight.detach().std()) == pytest.approx(size, rel=0.1)
    assert torch.equal(model[1].weight, before[1].weight)


@pytest.fixture(params=["native", "blip"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    if request.param == "native":
        return request.getfixturevalue("native_backend")
    root = tmp_path_factory.mktemp("blip")
    folders = [save_tiny_blip(root / kind, kind) for kind in CLASSES]
    return load_backend(EngineConfig(model="blip:" + "+".join(map(str, folders)), device="cpu"))


def weights(backend: Any) -> dict[str, torch.Tensor]:
    models = [one.model for one in getattr(backend, "backends", [backend])]
    return {f"{i}.{name}": value for i, model in enumerate(models)
            for name, value in model.state_dict().items()}


def test_the_random_copy_leaves_the_model_alone(backend: Backend, picture: Image.Image) -> None:
    engine, photo = Engine(backend), open_picture(picture)
    before = {name: value.clone() for name, value in weights(backend).items()}
    caption = Caption("A dog.", "a dog on the beach", "en", "", -1.0, 0.1)
    said = engine.explain(photo, caption)[0]
    copied = engine.randomised(seed=2)
    random = copied.explain(photo, caption)[0]
    after = weights(backend)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert np.array_equal(engine.explain(photo, caption)[0].weights, said.weights)
    assert np.isfinite(random.weights).all()
    assert not np.allclose(random.weights, said.weights)
    assert [word.text for word in random.words] == [word.text for word in said.words]
    assert copied.info.name != engine.info.name and copied.info.revision != engine.info.revision
    (twin,), (checked,) = engine.explain_randomised(photo, caption, [1], seed=2)
    assert np.array_equal(twin.weights, random.weights)
    assert (checked.word, checked.source) == (1, "caption")
    assert engine.explain_randomised(photo, caption)[1] == ()


def test_a_family_without_random_copies_says_so() -> None:
    from fake_engine import planted_engine
    with pytest.raises(TaskError, match="random weights"):
        planted_engine().randomised()
