"""How far the answers to instructions agree with what people said of that kind."""

import json
from pathlib import Path

import pytest
import torch
from conftest import make_model

from train.data.reading import Row
from train.evaluate import main
from train.evaluation.steering import agreement, steering_figures, word_f1
from vitdemo.models.checkpoint import save_checkpoint
from vitdemo.tokens import TextTokenizer

DOG = Row(Path("a.png"), ("a man in a red shirt walks a dog on the beach .",
                          "a man with a dog .", "a man and his dog on the beach ."), (), ())
EMPTY = Row(Path("b.png"), ("a dog on grass .", "a brown dog .", "the dog runs ."), (), ())


def test_words_in_common() -> None:
    assert word_f1("a red dog", "a dog") == pytest.approx(2 * 2 / 5)
    assert word_f1("a cat", "dog") == 0 and word_f1("", "dog") == 0
    assert word_f1("一只狗", "一只狗") == 1
    assert agreement("dog , bench", ["dog", "bench"], "things") == 1
    assert agreement("on the beach", ["at the sea", "on the beach", "in a field"], "place") == 1
    assert agreement("in a field", ["at the sea", "on the beach", "in a field"], "place") == 0


def test_each_instruction_is_compared_with_the_plain_description() -> None:
    plain = ["a man walks a dog", "a dog runs on grass today"]
    said = {"describe": plain, "short": ["a man", "a dog"], "things": ["dog, beach", "dog"],
            "people": ["a man in a red shirt", "nobody"], "place": ["in a house", "in a house"]}
    found = steering_figures([DOG, EMPTY], "en", said)
    assert set(found) == {"short", "things", "people", "place"}
    assert found["short"] == {"words": 2, "plain_words": 5.5}
    assert found["things"]["f1"] == 100 and found["things"]["pictures"] == 2
    assert found["things"]["plain_f1"] == pytest.approx(100 * (2 / 7 + 2 / 7) / 2)
    assert found["people"]["f1"] == 100 > found["people"]["plain_f1"]
    assert (found["people"]["nobody"], found["people"]["empty_pictures"]) == (100, 1)
    assert found["place"]["f1"] == 0 and found["place"]["pictures"] == 2


def test_the_command_follows_what_the_checkpoint_knows(
        data: Path, tokenizer: TextTokenizer, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "model", make_model(tokenizer), tokenizer,
                    {"name": "m", "instructions": ["describe", "short", "people"]}, "float32")
    given = ["--checkpoint", str(tmp_path / "model"), "--data", str(data), "--beams", "1",
             "--device", "cpu", "--rerank", "0", "--no-made", "--json", str(tmp_path / "out.json")]
    assert main([*given, "--instructions"]) == 0
    assert "instructions en short" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out.json").read_text())
    [split] = [figures[name] for name in figures if not name.startswith("_")]
    assert "short" in split["instructions"]["en"] and "place" not in split["instructions"]["en"]
    assert main(given) == 0
    assert '"instructions"' not in (tmp_path / "out.json").read_text()
