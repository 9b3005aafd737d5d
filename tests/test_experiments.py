"""The comparison of fusions: fair starts, a tiny run of every kind, and going on after a stop."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model, make_picture
from PIL import Image

from train import experiments, metrics
from train.experiments import headline, main, markdown
from train.variants import CHOSEN, GRID, save_start
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.tokens import TextTokenizer


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
            str(out.parent / "cache"), "--steps", "2", "--device", "cpu", "--pairs", "4",
            "--caption-pictures", "2", "--questions", "2", "--texts-per-picture", "1",
            "--views", "1", "--mixed-precision", "no", *more]


def test_the_grid_has_every_way_and_the_default_each_part_left_out() -> None:
    assert len(GRID) == 16 and len({v.name for v in GRID.values()}) == 16
    gated = "gated_cross_attention"
    assert set(CHOSEN) == {gated, "cross_attention", "concat", "linear", f"{gated}-no-modulation",
                           f"{gated}-no-alignment", f"{gated}-no-modulation-no-alignment"}


def test_variants_begin_with_the_same_numbers(tmp_path: Path, start: Path) -> None:
    given = load_checkpoint(start).model.state_dict()
    states = {}
    for name in (CHOSEN[0], "linear", "gated_cross_attention-no-modulation"):
        save_start(load_checkpoint(start), GRID[name], tmp_path / name)
        found = load_checkpoint(tmp_path / name).model
        assert found.config.fusion == GRID[name].fusion
        assert (found.modulation is not None) == GRID[name].modulation
        states[name] = found.state_dict()
    for name, state in states.items():
        for key, value in state.items():
            if key.startswith(("vision.backbone.", "text.")):
                assert torch.equal(value, given[key]), key
            elif key in states[CHOSEN[0]]:
                assert torch.equal(value, states[CHOSEN[0]][key]), (name, key)
    assert not any(key.startswith("region_head") for key in states["linear"])
    # What was trained of the others is gone: a trained fusion would favour its own kind.
    key = "decoder.blocks.0.cross.query.weight"
    assert not torch.equal(states["linear"][key], given[key])
    assert states[CHOSEN[0]]["fusion.blocks.0.cross_gate"].item() == 0


@pytest.mark.slow
def test_a_tiny_run_trains_measures_and_draws(tmp_path: Path, start: Path, data: Path,
                                              monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fusion"
    bare = "concat-no-modulation-no-alignment"
    names = ["gated_cross_attention", "linear", bare, "cross_attention"]
    assert main(command(start, data, out, "--variants", *names)) == 0
    table = (out / "table.md").read_text()
    assert capsys.readouterr().out.endswith(f"\n{table}\n")
    first, _, *lines = table.splitlines()
    assert first == "| | " + " | ".join(names) + " |"
    titles = [line.split(" | ")[0] for line in lines]
    assert "| data CIDEr en" in titles and "| data answers" in titles
    assert "| data lost: blank" in titles and "| gates" in titles
    with Image.open(out / "plot.png") as drawn:
        assert drawn.format == "PNG"
    logs = {name: [json.loads(line) for line in (out / name / "log.jsonl").read_text().splitlines()]
            for name in names}
    steps = {name: [entry for entry in log if "loss" in entry] for name, log in logs.items()}
    assert {len(of) for of in steps.values()} == {2}
    assert "contrastive" in steps["linear"][0]
    assert "contrastive" not in steps[bare][0]
    kept = json.loads((out / "linear" / "figures.json").read_text())
    assert kept["gates"] == [] and kept["budget"]["steps"] == 2
    assert load_checkpoint(out / "linear").model.config.fusion == "linear"

    trained: list[Any] = []
    monkeypatch.setattr(experiments, "train_variant", lambda *given: trained.append(given[1].name))
    assert main(command(start, data, out, "--variants", *names)) == 0  # nothing is done again
    assert trained == [] and (out / "table.md").read_text() == table
    assert main([*command(start, data, out, "--variants", *names), "--steps", "3"]) == 2
    assert "another budget (steps 2 instead of 3)" in capsys.readouterr().err


def made(cider: float, gates: list[float]) -> dict[str, Any]:
    vqa = {"by_source": {"s": {"accuracy": 40.0, "blank": {"difference": 4.0}}}}
    return {"gates": gates, "data": {"f": {"caption": {"en": {"cider": cider}}, "vqa": vqa}}}


def test_the_table_has_each_figure_under_its_variant() -> None:
    results = {"linear": made(12.34, []), "gated": made(56.78, [0.1, -0.25])}
    assert headline(results["gated"]) == {"f CIDEr en": 56.78, "s answers": 40, "s lost: blank": 4}
    del results["linear"]["data"]["f"]["vqa"]
    assert markdown(results).splitlines() == [
        "| | linear | gated |", "|---|---|---|", "| f CIDEr en | 12.3 | 56.8 |",
        "| s answers | – | 40.0 |", "| s lost: blank | – | 4.0 |", "| gates | – | 0.10, -0.25 |"]


@pytest.mark.parametrize("change, message", [
    (["--steps", "0"], "--steps is 0"),
    (["--start", "nowhere"], "no checkpoint folder nowhere"),
    (["--data", "nowhere"], "nowhere is not a folder"),
    (["--split", "test"], "no test split"),
])
def test_a_bad_argument_is_refused_before_anything_is_trained(
        tmp_path: Path, start: Path, data: Path, change: list[str], message: str,
        capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fusion"
    assert main([*command(start, data, out), *change]) == 2
    assert message in capsys.readouterr().err and not out.exists()
