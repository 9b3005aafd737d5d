"""Ways to train: what learns, for how long, and what a run says before, meanwhile and after."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from small_run import arguments, losses_of

import train.learn_first
import train.run
from train.adapt import parameter_groups, prepare
from train.data.features import LiveStore, Store
from train.data.reading import read_split
from train.evaluation.before_after import validate, worse
from train.finetune import main
from train.settings import RunSettings
from vitdemo.config import Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.models.checkpoint import load_checkpoint, pack, save_checkpoint, unpack
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import normalisation, normalised, open_picture

FAST = ("--steps", "3", "--learning-rate", "0.01", "--validate-every", "3")
LOOKING = r"decoder\.blocks\.\d+\.cross\.(query|key)\.(weight|bias)"


def moved(start: Path, out: Path) -> dict[str, bool]:
    """Which weights are others after a run, beside the rounding of the stored ones."""
    old, new = (load_checkpoint(folder).model.state_dict() for folder in (start, out))
    old = unpack(pack(old, "float16"))
    assert set(old) == set(new)
    return {name: not torch.equal(old[name], new[name]) for name in old}


@pytest.mark.parametrize("kind", ["frozen", "lora", "full"])
def test_the_new_folder_opens_in_the_app(kind: str, data: Path, start: Path,
                                         tmp_path: Path) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    out = tmp_path / "out"
    assert main(arguments(data, start, out, *FAST, "--train", kind)) == 0
    engine = Engine.load(EngineConfig(model=str(out), device="cpu"))
    picture = open_picture(data / "validation" / "0.png")
    caption = engine.caption(picture, decoding=Decoding(min_tokens=3))
    assert caption.text
    # What so little training says may be punctuation alone, of which nothing is explained.
    said = dataclasses.replace(caption, raw_text="two dogs run")
    [explanation, *_] = engine.explain(picture, said)
    assert explanation.mean_map().shape[0] == len(explanation.words) > 0
    assert engine.info.revision == load_checkpoint(out).revision


def test_lora_ships_plain_weights(data: Path, start: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    out = tmp_path / "out"
    assert main(arguments(data, start, out, *FAST, "--train", "lora",
                          "--learning-rate", "0.05")) == 0
    changed = moved(start, out)
    assert changed["decoder.blocks.0.cross.query.weight"]
    for name, other in changed.items():
        assert not other or (name.endswith(".weight") and "backbone" not in name
                             and "embedding" not in name and "norm" not in name), name


@pytest.mark.parametrize("more", [
    ("--train", "lora"), ("--train", "full"),
    # What is learnt before the first step, and stays as it is then, is not lost either.
    ("--train-pattern", r"decoder\..*", "--word-evidence", "--querybank", "4")])
def test_an_interrupted_run_goes_on_with_the_same_numbers(
        more: tuple[str, ...], data: Path, start: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if "lora" in more:
        pytest.importorskip("peft")
    monkeypatch.setattr(train.learn_first, "STEPS", 5)
    given = (*more, "--steps", "4", "--validate-every", "0")
    monkeypatch.setattr(train.run, "SAVE_MINUTES", 0)
    assert main(arguments(data, start, tmp_path / "whole", *given)) == 0
    real, calls = train.run.step_losses, iter(range(100))

    def interrupted(*parts: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return real(*parts)

    with monkeypatch.context() as patch:
        patch.setattr(train.run, "step_losses", interrupted)
        assert main(arguments(data, start, tmp_path / "out", *given)) == 130
    assert "go on with --resume" in capsys.readouterr().err
    assert len(losses_of(tmp_path / "out")) == 2
    assert main(arguments(data, start, tmp_path / "out", *given, "--resume")) == 0
    assert losses_of(tmp_path / "out") == losses_of(tmp_path / "whole")
    one, other = (load_checkpoint(tmp_path / name) for name in ("whole", "out"))
    assert one.revision == other.revision


def test_lora_without_its_package_says_what_to_install(
        data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(arguments(data, start, tmp_path / "out", "--train", "lora")) == 2
    assert "pip install -r requirements-train.txt" in capsys.readouterr().err


def test_full_training_reaches_the_backbone(data: Path, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(arguments(data, start, out, *FAST, "--train", "full", "--backbone-rate", "1",
                          "--fade-pictures", "2", "--loss-fade", "1")) == 0
    assert all("fade" in line for line in (out / "log.jsonl").read_text().splitlines()[1:4])
    changed = moved(start, out)
    assert any(other for name, other in changed.items() if name.startswith("vision.backbone."))
    assert not list((tmp_path / "cache").glob("*.npy"))  # features that change are not kept
    figures = json.loads((out / "figures.json").read_text())
    assert set(figures["own validation"]) == {"before", "after"}


def test_only_what_is_named_is_trained(data: Path, start: Path, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    given = [*arguments(data, start, out, *FAST), "--train-pattern", LOOKING]
    assert main([*given, "--steps", "2"]) == 0
    changed = moved(start, out)
    named = {name for name in changed if re.fullmatch(LOOKING, name)}
    assert "decoder.blocks.0.cross.query.weight" in named
    # A key's bias shifts all places alike: attention, and so the weight, do not change by it.
    assert {name for name, other in changed.items() if other} >= {
        name for name in named if not name.endswith("key.bias")}
    assert {name for name, other in changed.items() if other} <= named
    assert main([*given, "--resume", "--train-pattern", "match_head.*"]) == 2
    assert "--train-pattern was decoder" in capsys.readouterr().err
    assert main([*given, "--resume", "--accept-changes"]) == 0  # one step more
    assert len(losses_of(out)) == 3
    assert {name for name, other in moved(start, out).items() if other} <= named


@pytest.mark.parametrize(("given", "said"), [
    (("--train-pattern", "decoder.(blocks"), "is 'decoder.(blocks', which is no valid regular"),
    (("--train-pattern", "decoder"), "train_pattern is 'decoder', which matches nothing that"),
    (("--train-pattern", r"vision\.backbone\..*"), "matches nothing that --train frozen trains"),
    (("--train-pattern", LOOKING, "--train", "lora"), "which do not go together"),
])
def test_a_pattern_that_trains_nothing_is_refused(
        given: tuple[str, ...], said: str, data: Path, start: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, start, tmp_path / "out", *given)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_learns_and_how_fast(tiny_model: VLM) -> None:
    names = {id(p): name for name, p in tiny_model.named_parameters()}
    backbone = {name for name in names.values() if name.startswith("vision.backbone.")}
    try:
        for kind, rates in (("frozen", set()), ("full", {0.5 * 0.1})):
            config = RunSettings(train=kind, learning_rate=0.5, backbone_rate=0.1)
            prepare(tiny_model, config)
            found = {names[id(p)]: group["lr"] for group in parameter_groups(tiny_model, config)
                     for p in group["params"]}
            assert {found[name] for name in found if name in backbone} == rates
            assert set(names.values()) - set(found) == (backbone if kind == "frozen" else set())
    finally:
        tiny_model.requires_grad_(True)


def test_features_of_the_moment_are_those_of_the_pixels(data: Path, tiny_model: VLM) -> None:
    paths = [row.path for row in read_split(data / "train").rows]
    config = tiny_model.config
    pixels = normalised(Store(tiny_model).get(paths), *normalisation(config.backbone))
    with torch.no_grad():
        assert torch.allclose(LiveStore(tiny_model).get(paths),
                              tiny_model.vision.features(pixels), atol=1e-5)


def test_a_run_says_what_it_is_to_do(data: Path, start: Path, tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, start, tmp_path / "out", "--steps", "1")) == 0
    said = capsys.readouterr().out
    assert re.search(r"1 steps on 10 pictures, [\d,]+ trained weights, on cpu, processes: 1", said)


def test_without_looks_the_average_of_the_last_weights_is_kept(
        data: Path, start: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(arguments(data, start, out, *FAST, "--validate-every", "0", "--weights",
                          "float32")) == 0
    assert "nothing to validate on" in capsys.readouterr().err
    assert "validation" not in (out / "log.jsonl").read_text()
    kept = torch.load(out / "state.pt", weights_only=True)
    shipped = load_checkpoint(out).model.state_dict()
    for name, value in shipped.items():
        assert torch.equal(value, kept["average"][name]), name
    assert any(not torch.equal(shipped[name], last) for name, last in kept["model"].items())


def test_the_best_weights_are_kept(data: Path, start: Path, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    totals = iter([1.0, 5.0, 4.0])  # one a step
    monkeypatch.setattr(train.run, "validate", lambda *given: {"total": next(totals)})
    out = tmp_path / "out"
    assert main(arguments(data, start, out, "--validate-every", "1", "--steps", "3")) == 0
    assert load_checkpoint(out).meta["step"] == 2


@pytest.mark.parametrize(("weights", "kept"), [("float16", True), ("int8", False)])
def test_changes_too_small_for_int8_are_kept(weights: str, kept: bool, data: Path, start: Path,
                                             tmp_path: Path) -> None:
    begun = load_checkpoint(start)
    small, out = tmp_path / "small", tmp_path / "out"
    save_checkpoint(small, begun.model, begun.tokenizer, {"name": "small"}, "int8")
    assert main(arguments(data, small, out, "--steps", "1", "--learning-rate", "0.0003",
                          "--validate-every", "0",
                          *(("--weights", weights) if not kept else ()))) == 0
    name = "text.blocks.0.feed_forward.inner.weight"
    before, after = (safetensors.torch.load_file(folder / "model.safetensors")[name]
                     for folder in (small, out))
    assert before.dtype == torch.int8
    assert torch.equal(before, after) is not kept
    if kept:
        begun_with = load_checkpoint(small).model.state_dict()[name]
        assert float((after.float() - begun_with).abs().median()) > 1.5e-5  # of a step of 3e-5


def test_figures_before_and_after_are_those_of_start_and_shipped(
        data: Path, start: Path, tmp_path: Path) -> None:
    # Stored as float32, so that rounding does not stand between validated and shipped.
    out = tmp_path / "out"
    assert main(arguments(data, start, out, *FAST, "--dropout", "0.5", "--weights",
                          "float32")) == 0
    figures = json.loads((out / "figures.json").read_text())["own validation"]
    shipped, first = load_checkpoint(out), load_checkpoint(start)
    assert figures["after"] == shipped.meta["validation"] != figures["before"]
    rows = read_split(data / "validation").rows
    assert figures["before"] == validate(first.model, first.tokenizer, rows,
                                         LiveStore(first.model))


def test_a_run_tells_what_it_did(data: Path, start: Path, tmp_path: Path,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    out, other = tmp_path / "out", tmp_path / "other"
    (data / "validation").rename(other)
    given = arguments(data / "train", start, out, *FAST, "--also-evaluate", str(other))
    assert main(given) == 0
    figures = json.loads((out / "figures.json").read_text())
    assert set(figures) == {"own validation", "other"}
    for both in figures.values():
        assert set(both["before"]) == set(both["after"]) >= {"bleu4_en", "total"}
    table = capsys.readouterr().out
    before, after = (figures["other"][when]["total"] for when in ("before", "after"))
    totals = {row[0]: row[-1] for line in table.splitlines() if (row := line.split())}
    assert [totals[when] for when in ("before", "after", "change")] == [
        f"{value:.1f}" for value in (before, after, after - before)]

    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["learning_rate"] for entry in entries if "loss" in entry][0] == 0.01
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    kept = {event.step: event.value for event in events.Scalars("loss/loss")}
    assert kept == pytest.approx(dict(losses_of(out)), rel=1e-5)
    assert "validation/total" in events.Tags()["scalars"]


def test_a_loss_of_quality_is_said() -> None:
    figures = {"mine": {"before": {"total": 5.0}, "after": {"total": 6.0}},
               "other": {"before": {"total": 5.0}, "after": {"total": 2.5}}}
    (sentence,) = worse(figures)
    assert sentence.startswith("On other the model is worse") and "by 2.5 points" in sentence
