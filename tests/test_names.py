"""The names head: its data file, what it says and where, and what it does to a caption."""

import dataclasses

import pytest
import torch
from conftest import make_model

from train.data.reading import Row
from train.evaluation.retrieval import names_said
from train.names import refit, with_names
from vitdemo.models import names
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitdemo.models.names import (
    CLASSES,
    MOST_NAMES,
    Name,
    read_names,
)


def name(word: str, classes: tuple[int, ...], chinese: str = "球", *, floor: float = 0.0,
         threshold: float = 0.1) -> Name:
    return Name({"en": word, "zh": chinese}, classes, {"en": (word, word + "s"), "zh": (chinese,)},
                floor, threshold)


BALL, HOUSE, TREE = name("ball", (3,)), name("house", (5, 6), "房"), name("tree", (3, 9), "图")


def test_the_data_file_is_sound() -> None:
    found = read_names()
    assert len(found) >= 350
    assert len({(one.words["en"], one.classes) for one in found}) == len(found)
    for one in found:
        assert one.classes and all(0 <= place < CLASSES for place in one.classes)
        assert one.words["en"] in one.forms["en"] and one.words["zh"] in one.forms["zh"]
        assert all(form and form == form.lower().strip() for form in one.forms["en"])
        assert 0 <= one.floor < 1 and 0 < one.threshold <= 1
    by_word = {one.words["en"]: one for one in found}
    assert by_word["dog"].words["zh"] == "狗" and len(by_word["dog"].classes) > 115
    assert 285 in by_word["cat"].classes and 967 in by_word["coffee"].classes
    assert "puppy" in by_word["dog"].forms["en"] and "小狗" in by_word["dog"].forms["zh"]
    assert not any(980 in one.classes for one in found)  # volcano: wrong where it is confident
    assert sum(one.threshold < names.NEVER for one in found) >= 50


def test_of_sure_names_the_narrowest_and_likeliest_are_kept() -> None:
    assert names.pick([(TREE, 0.9), (BALL, 0.5), (HOUSE, 0.3)]) == (BALL, HOUSE)  # ball in tree
    many = [(name(f"n{i}", (20 + i,)), 0.1 + i / 10) for i in range(4)]
    assert [one.words["en"] for one in names.pick(many)] == ["n3", "n2"][:MOST_NAMES]
    overlap = [(name("a", (1, 2)), 0.4), (name("b", (2, 7)), 0.6)]
    assert [one.words["en"] for one in names.pick(overlap)] == ["b"]


@pytest.fixture
def model(tokenizer, monkeypatch: pytest.MonkeyPatch):
    """A tiny model that is sure of a ball and a house wherever."""
    monkeypatch.setattr(names, "read_names", lambda: (BALL, HOUSE, name("cup", (8,))))
    made = make_model(tokenizer, seed=5, names=True)
    with torch.no_grad():
        made.names.classes.weight.mul_(0.01)
        made.names.classes.bias.zero_()
        made.names.classes.bias[[3, 5]] = torch.tensor([10.0, 9.5])
    return made


def test_what_the_head_is_sure_of_and_where(model) -> None:
    features = torch.randn(2, 4, model.vision.channels)
    assert model.names.sure(features) == [(BALL, HOUSE)] * 2
    floored = dataclasses.replace(BALL, floor=0.5)
    chances = model.names.probabilities(features, (BALL, floored))
    torch.testing.assert_close(chances[:, 1], (chances[:, 0] - 0.5).clamp(min=0))
    with torch.no_grad():
        model.names.classes.weight[3] = 0.0
        model.names.classes.weight[3, 0] = 5.0
        features[:, :, 0] = 0.0
        features[:, 2, 0] = 3.0
    maps = model.names.maps(features, (BALL, HOUSE))
    assert maps.shape == (2, 2, 4)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2))
    assert maps[:, 0].argmax(-1).tolist() == [2, 2]


def test_a_checkpoint_with_the_head_and_one_without(model, tokenizer, tmp_path) -> None:
    plain = make_model(tokenizer, seed=5)
    save_checkpoint(tmp_path / "plain", plain, tokenizer, {"name": "x"})
    loaded = load_checkpoint(tmp_path / "plain")
    assert loaded.model.names is None
    weight, bias = model.names.classes.weight.detach(), model.names.classes.bias.detach()
    grown = with_names(loaded, weight, bias)
    save_checkpoint(tmp_path / "named", grown.model, tokenizer, {"name": "x"})
    again = load_checkpoint(tmp_path / "named")
    assert isinstance(again, Checkpoint)
    torch.testing.assert_close(again.model.names.classes.weight, weight, atol=1e-4, rtol=0.02)
    for key, value in loaded.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[key], value)


def test_the_classifier_is_refitted_to_features_that_were_turned() -> None:
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    weight, bias = torch.randn(CLASSES, 6, generator=generator), torch.randn(CLASSES)
    olds = [torch.randn(50, 6, generator=generator) for _ in range(4)]
    pairs = [(old @ turn + 0.3, old) for old in olds]
    made, made_bias = refit(pairs, weight, bias, near=1e-6)
    for new, old in pairs:
        torch.testing.assert_close(new @ made.T + made_bias, old @ weight.T + bias,
                                   atol=1e-3, rtol=1e-3)


def test_what_people_said(tmp_path) -> None:
    row = Row(tmp_path / "a.jpg", ("Two balls, in a tree-house.",), ("一只狗在玩球",), ())
    asked = (BALL, HOUSE, name("all", (1,), "猫"), name("cup", (1,), "狗"))
    assert names_said(row.captions, asked, "en") == [True, True, False, False]
    assert names_said(row.captions_zh, asked, "zh") == [True, False, False, True]
