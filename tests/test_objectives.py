"""What holds for every objective: its settings, its place in the dictionary, and what it needs."""

import copy
from pathlib import Path

import pytest
import torch
from learning import NoiseStore, learning

from train.data.reading import Question, Row
from train.finetune import build_parser
from train.objectives import OBJECTIVES
from train.settings import Settings
from vitdemo.errors import ConfigError, TrainingError
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

OFF = {f"loss_{name}": 0.0 for name in OBJECTIVES}


def test_each_has_a_weight_and_flags_that_say_what_they_do() -> None:
    names = [name for part in Settings().parts() for name in type(part).model_fields]
    assert len(names) == len(set(names)) <= 34
    described = build_parser().format_help()
    for name, kind in OBJECTIVES.items():
        assert f"loss_{name}" in kind.Settings.model_fields
        for key, field in kind.Settings.model_fields.items():
            flag = f"--{key.replace('_', '-')} "
            assert flag in described and field.description, flag
        with pytest.raises(ConfigError, match=f"loss_{name} is -1"):
            kind.Settings(**{f"loss_{name}": -1})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_learns_something_with_those_that_it_needs(name: str, tokenizer: TextTokenizer,
                                                        tiny_model: VLM) -> None:
    rows = [Row(Path(f"{i}.png"), ("a dog runs on grass .", "a dog plays"), (), (), "a/train")
            for i in range(12)]
    needed = {"match": "contrastive", "attention": "caption", "region": "caption"}.get(name, name)
    found = learning(tiny_model, rows, NoiseStore(tiny_model), tokenizer,
                     **{**OFF, f"loss_{name}": 1.0, f"loss_{needed}": 1.0, "fade_pictures": 2,
                        "reward_pictures": 2})
    assert set(found.objectives) == {name, needed}
    losses = found.losses(found.draw())
    assert set(losses) == {name, needed, "loss"}
    assert torch.isfinite(losses["loss"]) and losses["loss"].requires_grad


def test_an_answer_about_an_unseen_picture_is_read_off_the_fused_words(
        tokenizer: TextTokenizer, tiny_model: VLM) -> None:
    asked = (Question("what runs ?", "a dog", (), "", ""),)
    rows = [Row(Path(f"{i}.png"), (), (), asked, "a/train") for i in range(6)]
    model = copy.deepcopy(tiny_model).train()
    for gate, unseen, looks in ((0, 0, True), (0, 0.999, False), (1, 0.999, True)):
        for block in model.fusion.blocks:
            block.cross_gate.data.fill_(gate)
        found = learning(model, rows, NoiseStore(model), tokenizer,
                         **{**OFF, "loss_question": 1.0, "unseen": unseen})
        batch = found.draw()
        features = batch["question"].features.requires_grad_()
        [sent] = torch.autograd.grad(found.losses(batch)["loss"], features)
        assert bool(sent.any()) == looks


def test_what_can_learn_nothing_is_refused(tokenizer: TextTokenizer, tiny_model: VLM) -> None:
    rows, store = [Row(Path("a.png"), ("a dog .",), (), ())] * 3, NoiseStore(tiny_model)
    with pytest.raises(ConfigError, match="every loss has weight 0"):
        learning(tiny_model, rows, store, tokenizer, **OFF)
    silent = [Row(Path("a.png"), (), (), ())] * 3
    found = learning(tiny_model, silent, store, tokenizer)
    with pytest.raises(TrainingError, match="no row has anything to learn from"):
        found.losses(found.draw())
