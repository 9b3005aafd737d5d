"""A backbone whose last stages learn from kept outputs of those before."""

from pathlib import Path

import pytest
import torch
from conftest import make_model
from learning import learning
from small_run import arguments, interrupted, losses_of

from train.data.features import VIEWS, fingerprint, open_features
from train.data.pixels import LateStore, LiveStore, NoiseStore, PixelStore
from train.data.reading import read_split
from train.finetune import main
from train.objectives.registry import step_losses
from train.weight_average import mean_of
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.models.vision import VisionEncoder
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

STAGED = ("--train", "full", "--backbone-stage", "2", "--validate-every", "0",
          "--weights", "float32", "--learning-rate", "0.005", "--backbone-rate", "1")


def test_early_and_late_are_the_whole(tiny_model: VLM) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    vision = tiny_model.vision
    with torch.no_grad():
        want = vision.features(pixels)
        for stage in range(1, vision.stages):
            assert torch.equal(vision.late(vision.early(pixels, stage), stage), want)
        assert VisionEncoder("vit_tiny_patch16_224", 64, 32).stages == 0


def test_kept_stages_give_the_features_of_pixels(data: Path, tiny_model: VLM,
                                                 tmp_path: Path) -> None:
    paths = [row.path for row in read_split(data / "train").rows]
    kept = open_features(tiny_model, paths, VIEWS[:2], tmp_path, quiet=True, stage=2)
    assert NoiseStore(tiny_model, True, 2).get(paths[:3], [0] * 3).shape == \
        kept.get(paths[:3], [0] * 3).shape
    assert kept.tokens == tiny_model.vision.grid[0] * tiny_model.vision.grid[1]
    want = LiveStore(tiny_model, paths).get(paths, [0] * len(paths))
    found = LateStore(tiny_model, kept).get(paths, [0] * len(paths))
    assert torch.allclose(found, want, atol=2e-2 * float(want.abs().max()))  # kept as float16
    assert (found - want).abs().mean() < 1e-3 * want.abs().max()


def test_a_mean_of_checkpoints_finds_what_is_kept(data: Path, tokenizer: TextTokenizer,
                                                  tmp_path: Path) -> None:
    model = make_model(tokenizer)
    with torch.no_grad():
        model.vision.backbone.conv_stem.weight.view(-1)[0] = -0.0
    save_checkpoint(tmp_path / "a", model, tokenizer, {"name": "a"}, "float32")
    mean_of({tmp_path / "a": 1.0}, tmp_path / "mean", "float32")
    mean = load_checkpoint(tmp_path / "mean").model
    assert not torch.signbit(mean.vision.backbone.conv_stem.weight.view(-1)[0])
    paths = [row.path for row in read_split(data / "train").rows]
    for stage in (0, 2):
        kept = {fingerprint(one, paths, VIEWS[0], stage) for one in (model, mean)}
        assert len(kept) == 1
    with torch.no_grad():
        mean.vision.backbone.conv_stem.weight.view(-1)[0] = 1e-6
    assert fingerprint(mean, paths, VIEWS[0], 2) not in kept


def test_a_step_is_that_of_pixels(data: Path, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    model = make_model(tokenizer)
    paths = [row.path for row in read_split(data / "train").rows]
    kept = open_features(model, paths, VIEWS[:1], tmp_path, quiet=True, stage=2)
    results = []
    for store in (PixelStore(model, paths, VIEWS[:1]), kept):
        found = learning(model, read_split(data / "train").rows, store, tokenizer)
        model.zero_grad()
        loss = found.losses(found.draw())["loss"]
        loss.backward()
        results.append((loss.item(), model.vision.backbone.conv_head.weight.grad.clone()))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-3)
    want, found = results[0][1], results[1][1]
    assert (found - want).norm() < 0.05 * want.norm()  # kept as float16


def test_only_the_last_stages_learn_and_the_rest_is_kept_once(
        data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(arguments(data, start, out, *STAGED)) == 0
    before, after = (load_checkpoint(folder).model.vision.backbone.state_dict()
                     for folder in (start, out))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "conv_head.weight" in changed and any(name.startswith("blocks.2.") for name in changed)
    assert not any(name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1"))
                   for name in changed)
    kept = sorted((tmp_path / "cache").iterdir())
    capsys.readouterr()
    assert main(arguments(data, out, tmp_path / "next", *STAGED)) == 0  # from other last stages
    assert sorted((tmp_path / "cache").iterdir()) == kept
    assert "picture features" not in capsys.readouterr().err


def test_a_killed_run_goes_on_with_the_same_numbers(data: Path, start: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    monkeypatch.setattr("train.run.SAVE_MINUTES", 0)
    assert main(arguments(data, start, whole, *STAGED)) == 0
    with monkeypatch.context() as patch:
        patch.setattr("train.run.step_losses", interrupted(step_losses, 7))
        assert main(arguments(data, start, parted, *STAGED)) == 130
    assert main([*arguments(data, start, parted, *STAGED), "--resume"]) == 0
    assert dict(losses_of(parted)) == dict(losses_of(whole))


@pytest.mark.parametrize(("given", "said"), [
    (("--backbone-stage", "2"), "only --train full"),
    (("--train", "full", "--backbone-stage", "50"), "must be below"),
    (("--train", "full", "--backbone-stage", "-1"), "must be 0 or above")])
def test_a_stage_that_is_not_there_is_refused(given: tuple[str, ...], said: str, data: Path,
                                              start: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, start, tmp_path / "out", *given)) == 2
    assert said in capsys.readouterr().err
