"""The comparison of fusions: fair starts, a tiny run of every kind, and going on after a stop."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import make_model, make_picture

from train import experiments
from train.evaluation import metrics
from train.experiments import COMPARISONS, VARIANTS, VITS, begin, headline, main, markdown
from vitdemo.config import SIZES
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint, pack, save_checkpoint, unpack
from vitdemo.tokens import TextTokenizer

GATED = COMPARISONS["fusion"][0]


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.shutil, "which", lambda name: None)


@pytest.fixture
def start(tmp_path: Path, tokenizer: TextTokenizer) -> Path:
    save_checkpoint(tmp_path / "start", make_model(tokenizer, seed=5), tokenizer, {}, "float32")
    return tmp_path / "start"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, count in (("train", 8), ("validation", 4)):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        rows = []
        for i in range(count):
            make_picture(i + count, (40, 30)).save(folder / f"{i}.png")
            kind = ("dog", "cat")[i % 2]
            rows.append({"file_name": f"{i}.png", "captions": [f"A {kind} runs ."],
                         "qa": [{"question": "what is it ?", "answer": kind}]})
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def command(start: Path, data: Path, out: Path, *more: str) -> list[str]:
    return ["--start", str(start), "--data", str(data), "--out", str(out), "--cache",
            str(out.parent / "cache"), "--steps", "2", "--pairs", "4",
            "--caption-pictures", "2", "--questions", "2", "--texts-per-picture", "1",
            "--mixed-precision", "no", *more]


def test_there_is_every_way_and_the_default_each_part_left_out() -> None:
    assert len(VARIANTS) == 16 + 3
    gated = "gated_cross_attention"
    assert set(COMPARISONS["fusion"]) == {
        gated, "cross_attention", "concat", "linear", f"{gated}-no-modulation",
        f"{gated}-no-alignment", f"{gated}-no-modulation-no-alignment"}
    assert COMPARISONS["backbone"] == ("backbone-frozen", "backbone-fine-tuned",
                                       "backbone-vit-from-scratch")
    assert all(timm.is_model(name) and set(VITS) == set(SIZES) for name in VITS.values())


def test_variants_begin_with_the_same_numbers(start: Path) -> None:
    given = load_checkpoint(start)
    old, states = given.model.state_dict(), {}
    for name in (GATED, "linear", "gated_cross_attention-no-modulation"):
        found = begin(given, VARIANTS[name])
        assert found.config.fusion == name.removesuffix("-no-modulation")
        assert (found.modulation is None) == name.endswith("-no-modulation")
        states[name] = found.state_dict()
    for name, state in states.items():
        for key, value in state.items():
            if key.startswith(("vision.backbone.", "text.")):
                assert torch.equal(value, old[key]), key
            elif key in states[GATED]:
                assert torch.equal(value, states[GATED][key]), (name, key)
    assert not any(key.startswith("region_head") for key in states["linear"])
    # What was trained of the others is gone: a trained fusion would favour its own kind.
    key = "decoder.blocks.0.cross.query.weight"
    assert not torch.equal(states["linear"][key], old[key])
    assert states[GATED]["fusion.blocks.0.cross_gate"].item() == 0


def test_a_vit_begins_anew_and_the_rest_as_in_the_others(start: Path) -> None:
    given = load_checkpoint(start)
    states = {}
    for name in COMPARISONS["backbone"]:
        found = begin(given, VARIANTS[name], picture_size=32)
        assert found.config.picture_size == 32
        states[name] = found.state_dict()
        assert (found.config.backbone == VITS["tiny"]) == ("vit" in name)
    frozen, tuned, vit = states.values()
    assert all(torch.equal(value, tuned[key]) for key, value in frozen.items())
    old = given.model.state_dict()
    assert all(torch.equal(value, old[key]) for key, value in frozen.items()
               if key.startswith(("vision.backbone.", "text.")))
    same = [key for key, value in vit.items() if key in frozen
            and value.shape == frozen[key].shape and not key.startswith("vision.backbone.")]
    assert len(same) > 50 and all(torch.equal(vit[key], frozen[key]) for key in same)


def test_a_narrower_model_keeps_the_backbone_alone(start: Path) -> None:
    given = load_checkpoint(start)
    found = begin(given, VARIANTS[GATED], width=32)
    assert (found.config.width, found.config.heads, found.config.embedding_width) == (32, 1, 32)
    for key, value in given.model.state_dict().items():
        if key.startswith("vision.backbone."):
            assert torch.equal(value, found.state_dict()[key])
    with pytest.raises(ConfigError, match="--width is 33"):
        begin(given, VARIANTS[GATED], width=33)


@pytest.mark.slow
def test_backbones_are_compared(tmp_path: Path, start: Path, data: Path) -> None:
    out = tmp_path / "eyes"
    assert main(command(start, data, out, "--compare", "backbone", "--learning-rate", "0.01")) == 0
    head = (out / "table.md").read_text().splitlines()[0]
    assert head == "|  | " + " | ".join(COMPARISONS["backbone"]) + " |"
    for name in COMPARISONS["backbone"]:
        before = begin(load_checkpoint(start), VARIANTS[name]).state_dict()
        after = load_checkpoint(out / name).model.state_dict()
        before = unpack(pack(before, "float16"))
        moved = {key for key in before if not torch.equal(before[key], after[key])}
        assert any(key.startswith("decoder.") for key in moved)
        assert any(key.startswith("vision.backbone.") for key in moved) == (
            name != "backbone-frozen"), name
    assert not list((tmp_path / "cache").glob("*.npy"))  # pixels, cropped anew


@pytest.mark.slow
def test_a_tiny_run_trains_and_measures(tmp_path: Path, start: Path, data: Path,
                                        monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fusion"
    bare = "concat-no-modulation-no-alignment"
    names = ["gated_cross_attention", "linear", bare, "cross_attention"]
    assert main(command(start, data, out, "--variants", *names)) == 0
    table = (out / "table.md").read_text()
    assert capsys.readouterr().out.endswith(f"\n{table}\n")
    first, _, *lines = table.splitlines()
    assert first == "|  | " + " | ".join(names) + " |"
    titles = [line.split(" | ")[0] for line in lines]
    assert "| data CIDEr en" in titles and "| data answers" in titles
    assert "| data lost: blank" in titles and "| gates" in titles
    logs = {name: [json.loads(line) for line in (out / name / "log.jsonl").read_text().splitlines()]
            for name in names}
    steps = {name: [entry for entry in log if "loss" in entry] for name, log in logs.items()}
    assert {len(of) for of in steps.values()} == {2}
    assert "contrastive" in steps["linear"][0]
    assert "contrastive" not in steps[bare][0]
    kept = json.loads((out / "linear" / "evaluation.json").read_text())
    assert kept["_meta"]["gates"] == []
    assert load_checkpoint(out / "linear").model.config.fusion == "linear"

    monkeypatch.setattr(experiments.evaluate, "run", lambda arguments: 1 / 0)
    assert main(command(start, data, out, "--variants", *names)) == 0  # nothing is done again
    assert (out / "table.md").read_text() == table
    assert main([*command(start, data, out, "--variants", *names), "--steps", "3"]) == 2
    assert "--steps was 2 and is 3" in capsys.readouterr().err


def made(cider: float, gates: list[float]) -> dict[str, Any]:
    vqa = {"by_source": {"s": {"accuracy": 40.0, "blank": {"difference": 4.0}}}}
    return {"f": {"caption": {"en": {"cider": cider}}, "vqa": vqa},
            "_meta": {"gates": gates, "minutes": 0.25}}


def test_the_table_has_each_figure_under_its_variant() -> None:
    results = {"linear": made(12.34, []), "gated": made(56.78, [0.1, -0.25])}
    assert list(headline(results["gated"]))[:3] == ["f CIDEr en", "s answers", "s lost: blank"]
    del results["gated"]["f"]["vqa"]
    assert markdown(results).splitlines() == [
        "|  | linear | gated |", "| --- | --- | --- |", "| f CIDEr en | 12.3 | 56.8 |",
        "| s answers | 40.0 | – |", "| s lost: blank | 4.0 | – |", "| gates | – | 0.10, -0.25 |",
        "| training, minutes of processor time | 0.2 | 0.2 |"]


@pytest.mark.parametrize("change, message", [
    (["--steps", "0"], "steps is 0"),
    (["--start", "nowhere"], "no checkpoint folder nowhere"),
    (["--data", "nowhere"], "nowhere is not a folder"),
    (["--width", "33"], "--width is 33; it must be a multiple of 32"),
])
def test_a_bad_argument_is_refused_before_anything_is_trained(
        tmp_path: Path, start: Path, data: Path, change: list[str], message: str,
        capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fusion"
    assert main([*command(start, data, out), *change]) == 2
    assert message in capsys.readouterr().err and not list(out.glob("*/log.jsonl"))
