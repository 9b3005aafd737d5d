"""The region head finds places without being told them, and attention learns to look there."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model, make_picture
from torch import Tensor

from train.data import Question, Row
from train.features import FeatureStore
from train.grow import grow, open_gates
from train.losses import LossConfig, kept_places, look_loss, region_loss, step_losses, take
from train.mixture import Mixture, MixtureConfig, WordBatch, word_bags
from train.regions import warm_up
from vitdemo.attention.capture import AttentionRecord
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.models.regions import RegionHead
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

WORDS, GRID, CHANNELS = 12, (5, 6), 16


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor, list[dict[int, int]]]:
    """Features with three things each, at a place of their own; which words that makes present,
    and the place of each."""
    made = torch.Generator().manual_seed(seed)
    look = torch.randn(WORDS, CHANNELS, generator=torch.Generator().manual_seed(0)) * 2
    features = torch.randn(count, GRID[0] * GRID[1], CHANNELS, generator=made) * 0.5
    present, places = torch.zeros(count, WORDS), []
    for i in range(count):
        words = torch.randperm(WORDS, generator=made)[:3].tolist()
        where = torch.randperm(GRID[0] * GRID[1], generator=made)[:3].tolist()
        places.append(dict(zip(words, where, strict=True)))
        for word, place in places[-1].items():
            features[i, place] += look[word]
            present[i, word] = 1
    return features, present, places


def head() -> RegionHead:
    torch.manual_seed(0)
    return RegionHead(WORDS, CHANNELS, 24, 20, GRID)


def test_places_are_learnt_from_words_alone() -> None:
    trained = head()
    model = type("Model", (), {"region_head": trained})()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=3e-3)
    content = torch.ones(WORDS, dtype=torch.bool)
    for step in range(200):
        features, present, _ = scenes(32, step)
        batch = WordBatch(torch.arange(WORDS), present, torch.ones_like(present), content)
        loss = region_loss(model, features, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features, _, places = scenes(40, 9999)
    maps = trained.maps(features, torch.arange(WORDS))
    near, asked = 0, 0
    for i, found in enumerate(places):
        for word, place in found.items():
            peak = int(maps[i, word].argmax())
            away = max(abs(peak // GRID[1] - place // GRID[1]), abs(peak % GRID[1] - place % GRID[1]))
            near, asked = near + (away <= 1), asked + 1
    assert near / asked > 0.9, f"{near} of {asked}"  # chance is under 0.3


def test_a_map_adds_up_to_one_and_a_flat_picture_gives_a_flat_map() -> None:
    maps = head().maps(torch.ones(2, 30, CHANNELS), torch.tensor([3, 4, 5]))
    assert maps.shape == (2, 3, 30)
    assert torch.allclose(maps, torch.full_like(maps, 1 / 30), atol=1e-5)
    uneven = head().maps(torch.randn(2, 30, CHANNELS), torch.tensor([3]))
    assert torch.allclose(uneven.sum(-1), torch.ones(2, 1), atol=1e-5)
    assert float(uneven.detach().std()) > 1e-4


def test_neighbours_are_blended_as_a_loop_does_it() -> None:
    x = torch.randn(1, 30, 4)
    blended = head()._blend(x).view(5, 6, 4)
    grid = x.view(5, 6, 4)
    for row in range(5):
        for column in range(6):
            total, weight = torch.zeros(4), 0.0
            for y in range(max(0, row - 1), min(5, row + 2)):
                for z in range(max(0, column - 1), min(6, column + 2)):
                    share = (2 - abs(y - row)) * (2 - abs(z - column))
                    total, weight = total + share * grid[y, z], weight + share
            assert torch.allclose(blended[row, column], total / weight, atol=1e-5)


def record_of(weights: Tensor) -> AttentionRecord:
    return AttentionRecord([[weights]])


def test_looking_where_the_head_points_costs_nothing(tiny_model: VLM) -> None:
    features = torch.randn(2, tiny_model.vision.grid[0] * tiny_model.vision.grid[1],
                           tiny_model.vision.channels)
    count = features.shape[1]
    places = torch.arange(count).expand(2, -1)
    ids = torch.tensor([[7, 8, 9], [9, 7, 7]])
    which = torch.tensor([[True, False, True], [False, True, False]])
    assert tiny_model.region_head is not None
    with torch.no_grad():
        maps = tiny_model.region_head.maps(features, torch.arange(12))
    right = torch.stack([maps[row, ids[row]] for row in range(2)])[:, None]  # (R, 1, T, N)
    text = torch.full((2, 1, 3, 2), 0.3)  # memory tokens that are words, and how much they got
    at = look_loss(tiny_model, features, places, record_of(torch.cat((0.4 * right, text), -1)),
                   ids, which)
    assert float(at) == pytest.approx(0, abs=1e-5)
    away = look_loss(tiny_model, features, places, record_of(right.roll(3, -1) + 1e-3), ids, which)
    assert float(away) > 1e-4
    none = look_loss(tiny_model, features, places, record_of(right), ids, which & False)
    assert float(none) == 0


def test_the_attention_learns_and_the_head_does_not(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    mixture = tiny_mixture(model, tokenizer)
    batch = mixture.draw(0)
    values = step_losses(model, batch, LossConfig(kept_tokens=1.0))
    assert values["look"] > 0 and values["region"] > 0
    model.zero_grad()
    values["look"].backward()
    assert model.region_head is not None
    assert all(p.grad is None or not p.grad.any() for p in model.region_head.parameters())
    for block in (*model.decoder.blocks, *model.fusion.blocks):
        assert block.cross.query.weight.grad.abs().sum() > 0


def tiny_mixture(model: VLM, tokenizer: TextTokenizer) -> Mixture:
    rows = [Row(Path(f"{i}.png"), ("a red ball on the grass", "the dog plays"), ("红色的球",),
                (Question("what runs on the grass", "dog", (), "", "coco_qa"),))
            for i in range(10)]
    count = model.vision.grid[0] * model.vision.grid[1]
    store = FeatureStore([np.random.default_rng(0).normal(
        size=(10, count, model.vision.channels)).astype(np.float16)], [row.path for row in rows])
    return Mixture(rows, store, tokenizer, MixtureConfig(4, 2, 0.1, 4, 0.5, 20, 6, 12), 0, [False])


def test_a_words_batch_names_what_each_picture_holds(tokenizer: TextTokenizer) -> None:
    no, yes = ((Question("is there a cat", answer, (), "", "vqa"),) for answer in ("no", "dog"))
    rows = [Row(Path("a"), ("a dog runs",), (), no)] * 8 + [Row(Path("b"), (), (), yes)] * 8
    bags, seen = word_bags(rows, tokenizer)
    ids = {word: tokenizer.pieces(word)[0][0] for word in ("dog", "runs", "cat", "a", "is")}
    assert bags[0] == {ids["dog"], ids["runs"]}  # "cat" was asked for and is not there
    assert bags[-1] == {ids["dog"], ids["cat"]}
    assert set(seen) == {ids["dog"], ids["runs"], ids["cat"]}


def test_the_head_is_warmed_up_alone(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mixture = tiny_mixture(model, tokenizer)
    assert model.region_head is not None
    first = warm_up(model, mixture, 2, quiet=True)
    last = warm_up(model, mixture, 40, quiet=True)
    assert last < first
    changed = {name for name, value in model.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("region_head.") for name in changed)


def test_a_checkpoint_grows_and_keeps_its_weights(tokenizer: TextTokenizer,
                                                  tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_model(tokenizer, regions=False), tokenizer, {}, "float32")
    old = load_checkpoint(tmp_path)
    assert old.model.region_head is None
    new = grow(old, 96, True)
    assert new.model.config.picture_size == 96 and new.model.region_head is not None
    assert new.model.vision.grid[0] > old.model.vision.grid[0]
    kept = new.model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in old.model.state_dict().items())
    assert grow(old) is old
    with pytest.raises(ConfigError, match="--picture-size is 8"):
        grow(old, 8)


def test_a_file_from_before_region_heads_still_loads(tokenizer: TextTokenizer,
                                                     tmp_path: Path) -> None:
    config = make_model(tokenizer, regions=False).config
    values = {k: v for k, v in dataclasses.asdict(config).items() if k != "regions"}
    assert type(config)(**values) == config


def test_gates_open_and_keep_their_sign(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    gates = [p for name, p in model.named_parameters() if name.endswith("_gate")]
    with torch.no_grad():
        gates[0].fill_(-0.01)
        gates[1].fill_(2.0)
    open_gates(model, 0.5)
    assert float(gates[0].detach().tanh()) == pytest.approx(-0.5, abs=1e-4)
    assert float(gates[1].detach()) == 2.0
    with pytest.raises(ConfigError, match="open_gates is 1.5"):
        open_gates(model, 1.5)


def test_kept_places_are_different_places_of_each_picture() -> None:
    random.seed(0)
    tokens = torch.arange(40.0).view(2, 10, 2)
    places = kept_places(tokens, 0.6)
    assert places.shape == (2, 6) and all(len(set(row.tolist())) == 6 for row in places)
    kept = take(tokens, places)
    assert torch.equal(kept[1, 0], tokens[1, places[1, 0]])
    assert kept_places(tokens, 1.0).shape == (2, 10)
