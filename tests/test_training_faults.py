"""What goes wrong in training stops it with a sentence, and harms nothing that was saved."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_model, make_picture
from small_run import arguments, losses_of

import train.run
from train.data.reading import read_split
from train.finetune import main
from train.objectives.base import Parts
from train.state import changes, digest, latest_state, read_progress
from vitdemo.errors import CheckpointError, DiskError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.tokens import TextTokenizer

Losses = dict[str, torch.Tensor]


def full(*args: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def poison(monkeypatch: pytest.MonkeyPatch, name: str, at: int, value: float) -> None:
    """Adds ``value`` to the loss ``name`` from call ``at`` on."""
    real: Callable[..., Losses] = train.run.step_losses
    calls = iter(range(10_000))

    def step_losses(model: Any, batch: Parts, *more: Any) -> Losses:
        found = real(model, batch, *more)
        if next(calls) >= at:
            found = {key: x + value if key in (name, "loss") else x for key, x in found.items()}
        return found
    monkeypatch.setattr(train.run, "step_losses", step_losses)


def test_a_loss_that_is_no_number_stops_the_run(data: Path, start: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    out, given = tmp_path / "out", ("--validate-every", "2", "--steps", "4")
    monkeypatch.setattr(train.run, "SAVE_MINUTES", 0)
    with monkeypatch.context() as patch:
        poison(patch, "contrastive", 2, float("nan"))
        assert main(arguments(data, start, out, *given)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: step 3 has a loss that is not finite: contrastive (nan)")
    assert re.search(r"\b\d\.png", said)
    assert "The state of step 2" in said and "match" not in said
    state = latest_state(out)
    assert state is not None and read_progress(state)["step"] == 2
    assert load_checkpoint(out).meta["step"] == 2
    # Nothing of the bad step is in the state: the run goes on as if it had not been.
    assert main(arguments(data, start, out, *given, "--resume")) == 0
    assert main(arguments(data, start, tmp_path / "whole", *given)) == 0
    assert losses_of(out) == losses_of(tmp_path / "whole")


def test_an_infinite_loss_counts_too(data: Path, start: Path, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    poison(monkeypatch, "match", 0, float("inf"))
    assert main(arguments(data, start, tmp_path / "out", "--validate-every", "0")) == 2
    assert "step 1 has a loss that is not finite: match (inf)" in capsys.readouterr().err


def test_a_picture_with_broken_features_is_named(data: Path, start: Path, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, start, tmp_path / "first", "--steps", "1")) == 0
    for file in (tmp_path / "cache").glob("*.npy"):
        found = np.lib.format.open_memmap(file, mode="r+")
        if len(found) == 10:
            found[7] = float("nan")
    assert main(arguments(data, start, tmp_path / "out", "--steps", "20")) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the features of " in said and "train/7.png are not finite" in said
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_full_disk_keeps_the_state_before(data: Path, start: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    out, real, calls = tmp_path / "out", torch.save, iter(range(100))
    given = arguments(data, start, out, "--steps", "4")
    monkeypatch.setattr(train.run, "SAVE_MINUTES", 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda value, stream: full() if next(calls) == 2 else
                      real(value, stream))
        assert main(given) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "out/state.pt could not be written: the disk is full" in said
    assert "It needs about" in said and "MB are free" in said and "Make room" in said
    assert read_progress(out / "state.pt")["step"] == 2 and not list(out.glob("*.part"))
    assert main([*given, "--resume"]) == 0
    assert [step for step, _ in losses_of(out)] == [1, 2, 3, 4]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_the_log_is_said(data: Path, start: Path, tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log.jsonl").symlink_to("/dev/full")
    assert main(arguments(data, start, tmp_path / "out")) == 2
    assert "log.jsonl could not be written: the disk is full" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve room")
def test_a_full_disk_under_the_features_is_said(data: Path, start: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert main(arguments(data, start, tmp_path / "out")) == 2
    assert ".part could not be written: the disk is full" in capsys.readouterr().err
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "meta.json"])
def test_a_full_disk_leaves_the_older_checkpoint_whole(name: str, start: Path,
                                                       tokenizer: TextTokenizer,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_checkpoint(start).revision
    for kind in ("write_bytes", "write_text"):
        real = getattr(Path, kind)
        monkeypatch.setattr(Path, kind, lambda self, *args, real=real, **options: (
            full() if self.name == name + ".part" else real(self, *args, **options)))
    with pytest.raises(CheckpointError, match=r"the disk is full. It needs about \d"):
        save_checkpoint(start, make_model(tokenizer, seed=1), tokenizer, {"name": "other"})
    assert load_checkpoint(start).revision == before
    assert len(list(start.iterdir())) == 4


def test_a_data_set_that_changed_is_not_gone_on_with(data: Path, start: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    given = arguments(data, start, out, "--steps", "2")
    assert main(given) == 0
    file = data / "train" / "metadata.jsonl"
    lines = file.read_text().splitlines()
    lines[3] = lines[3].replace("grass", "sand")
    make_picture(3, (40, 30)).save(data / "train" / "new.png")
    lines.append(json.dumps({"file_name": "new.png", "captions": ["a new one"]}))
    file.write_text("\n".join(lines) + "\n")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main([*given, "--resume", "--learning-rate", "0.01"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "--learning-rate was 0.0001 and is 0.01" in said
    assert "in train 2 pictures (3.png, new.png)" in said
    assert "--accept-changes" in said
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    more = ("--resume", "--accept-changes", "--steps", "3")
    assert main([*given, *more]) == 0
    assert "note: --steps was 2 and is 3" in capsys.readouterr().err
    assert [step for step, _ in losses_of(out)] == [1, 2, 3]


def test_a_harmless_setting_is_said_and_nothing_more(data: Path, start: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(data, start, tmp_path / "out", "--steps", "1")
    assert main(given) == 0
    assert main([*given, "--resume", "--validate-every", "3"]) == 0
    assert "note: --validate-every was 6 and is 3" in capsys.readouterr().err


def test_what_changed_is_named(data: Path) -> None:
    def now() -> dict[str, list[str]]:
        return digest(read_split(data / "train").rows, read_split(data / "validation").rows)
    before = now()
    assert changes(before, now()) == ""
    moved = data.rename(data.parent / "elsewhere")
    rows = read_split(moved / "train").rows, read_split(moved / "validation").rows
    assert changes(before, digest(*rows)) == ""  # where it lies does not count
    assert changes(before, digest(rows[0][::-1], rows[1])) == \
        "in train the order of the pictures"
    make_picture(5, (50, 50)).save(moved / "validation" / "2.png")
    assert changes(before, digest(rows[0][4:], rows[1])) == (
        "in train 4 pictures (0.png, 1.png, 2.png, ...); in validation 1 pictures (2.png)")


def test_a_folder_that_may_not_be_written_is_no_full_disk(tmp_path: Path) -> None:
    from vitdemo.disk import replacing
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="no folder.*See that the folder is there"):
        with replacing([tmp_path / "file" / "x.json"]) as (part,):
            part.write_text("{}")
