"""The bank of vectors that matches are measured against."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import make_model
from small_run import arguments

from train.adapt import grow
from train.data.features import LiveStore
from train.data.reading import read_split
from train.finetune import main
from vitdemo.config import EngineConfig, ModelConfig
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.models.querybank import TEMPERATURE, Querybank
from vitdemo.preprocess import open_picture
from vitdemo.tokens import TextTokenizer

FAST = ("--steps", "3", "--validate-every", "3", "--train-pattern", r"decoder\..*")


def units(count: int, width: int, seed: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=made), dim=-1)


def filled(width: int = 8) -> Querybank:
    bank = Querybank(5, width)
    bank.texts.copy_(units(10, width, 1))
    bank.pictures.copy_(units(5, width, 2))
    return bank


def test_the_information_is_that_of_the_formula() -> None:
    bank = filled()
    pictures, texts = units(3, 8, 3), units(3, 8, 4)
    for i, found in enumerate(bank.information(pictures, texts).tolist()):
        p, t = pictures[i].double(), texts[i].double()
        of_p = [sum(math.exp(float(p @ b) / TEMPERATURE) for b in half.double()) / 5
                for half in (bank.texts[:5], bank.texts[5:])]
        of_t = sum(math.exp(float(b @ t) / TEMPERATURE) for b in bank.pictures.double()) / 5
        want = float(p @ t) / TEMPERATURE - sum(map(math.log, of_p)) / 2 - math.log(of_t)
        assert found == pytest.approx(want, abs=1e-4)
    logits = torch.tensor([1.0, -2.0, 0.5])
    want = 0.2 * logits + 0.45 * bank.information(pictures, texts) + 0.4
    assert torch.allclose(bank(logits, pictures, texts), want)
    evidence = bank.evidence(logits, pictures, texts)
    apart = (pictures * texts).sum(1) / TEMPERATURE - bank.of_texts(texts)
    assert torch.allclose(evidence, 0.4 * logits + 0.4 * apart + 0.7, atol=1e-5)


def test_a_picture_near_all_texts_loses_to_one_near_this_text() -> None:
    bank = filled()
    text = units(1, 8, 5)
    hub = F.normalize(bank.texts.mean(0, keepdim=True) + text, dim=-1)
    near = F.normalize(text - bank.texts.mean(0, keepdim=True), dim=-1)
    pictures, both = torch.cat((hub, near)), text.expand(2, -1)
    hub_found, near_found = bank.information(pictures, both)
    assert near_found > hub_found
    without = (pictures * both).sum(1) / TEMPERATURE
    assert near_found - hub_found > without[1] - without[0]


def test_training_fills_it_with_what_the_model_sees_and_reads(
        data: Path, start: Path, tmp_path: Path, tokenizer: TextTokenizer) -> None:
    out = tmp_path / "out"
    assert main(arguments(data, start, out, *FAST, "--querybank", "4")) == 0
    found = load_checkpoint(out)
    model, bank = found.model, found.model.querybank
    assert bank is not None and found.model.config.querybank == 4
    assert bank.pictures.shape == (4, 32) and bank.texts.shape == (8, 32)
    rows = [row for row in read_split(data / "train").rows if row.captions]
    paths = [row.path for row in rows]
    with torch.no_grad():
        pictures = model.picture_head(LiveStore(model).get(paths))
        for half, texts in ((bank.texts[:4], [t for row in rows for t in row.captions]),
                            (bank.texts[4:], [t for row in rows for t in row.captions_zh])):
            known = model.encode_text(*tokenizer.encode(texts))[1]
            assert (half @ known.T).max(1).values.min() > 0.999
    near = bank.pictures @ pictures.T
    assert near.max(1).values.min() > 0.99  # kept as float16, both
    assert len(set(near.argmax(1).tolist())) == min(4, len(rows))


def test_matches_are_measured_against_it_and_older_checkpoints_are_as_they_were(
        data: Path, tmp_path: Path, tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    save_checkpoint(tmp_path / "old", model, tokenizer, {"name": "old"}, "float32")
    old = load_checkpoint(tmp_path / "old")
    assert old.model.querybank is None and not any(
        name.startswith("querybank") for name in old.model.state_dict())
    grown = grow(old, querybank=3)
    assert grown.model.querybank is not None
    grown.model.querybank.texts.copy_(units(6, 32, 6))
    grown.model.querybank.pictures.copy_(units(3, 32, 7))
    save_checkpoint(tmp_path / "new", grown.model, tokenizer, {"name": "new"}, "float32")
    picture = open_picture(data / "validation" / "0.png")
    engines = [Engine.load(EngineConfig(model=str(tmp_path / name), device="cpu"))
               for name in ("old", "new")]
    assert [engine.info.match_weight for engine in engines] == [0.03, 0.5]
    scores = [[match.score for match in engine.match(picture, ["two dogs", "a red ball"])]
              for engine in engines]
    assert scores[0] != scores[1] and all(0 <= score <= 1 for score in scores[1])
    bank, before = grown.model.querybank, [math.log(x / (1 - x)) for x in scores[0]]
    with torch.no_grad():
        features = LiveStore(grown.model).get([data / "validation" / "0.png"])
        p = grown.model.picture_head(features).expand(2, -1)
        z = grown.model.encode_text(*tokenizer.encode(["two dogs", "a red ball"]))[1]
        want = bank(torch.tensor(before), p, z).sigmoid().tolist()
    assert scores[1] == pytest.approx(want, abs=1e-4)
    assert grow(grown, querybank=5).model.config.querybank == 5


def test_what_is_no_number_of_vectors_is_refused(data: Path, start: Path, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="querybank is -1; it must be a whole number from 0"):
        ModelConfig(querybank=-1)
    assert main(arguments(data, start, tmp_path / "out", *FAST, "--querybank", "-2")) == 2
    assert "querybank is -2; it must be greater than or equal to 0" in capsys.readouterr().err
