"""Saving and loading: the same model comes back, and nothing else is let in."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from vitdemo.errors import CheckpointError
from vitdemo.models.checkpoint import FILES, load_checkpoint, pack, save_checkpoint, unpack
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def test_int8_rounds_by_at_most_half_a_step(tiny_model: VLM) -> None:
    state = tiny_model.state_dict()
    back = unpack(pack(state, "int8"))
    assert back.keys() == state.keys()
    name = "text.blocks.0.feed_forward.inner.weight"
    step = state[name].abs().amax(1, keepdim=True) / 127
    assert bool(((back[name] - state[name]).abs() <= step * 0.501).all())
    assert back["vision.norm.weight"].equal(state["vision.norm.weight"])


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_saving_twice_changes_nothing_more(weights: str, tiny_model: VLM,
                                           tokenizer: TextTokenizer, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", tiny_model, tokenizer, {"name": "a"}, weights)
    once = load_checkpoint(tmp_path / "a")
    save_checkpoint(tmp_path / "b", once.model, once.tokenizer, {"name": "b"}, weights)
    again = load_checkpoint(tmp_path / "b")
    for (name, one), other in zip(once.model.state_dict().items(),
                                  again.model.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-7), name
    assert once.meta["format_version"] == 1
    assert len(once.revision) == 12


@pytest.mark.parametrize("name", [*FILES, "meta.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(copy)


@pytest.mark.parametrize("name", FILES)
def test_truncated_and_tampered_files_are_refused(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    for bad in (whole[:-20], whole[:100] + b"x" + whole[101:], b""):
        (copy / name).write_bytes(bad)
        with pytest.raises(CheckpointError, match="truncated or was changed"):
            load_checkpoint(copy)


def test_another_version_is_refused(copy: Path) -> None:
    meta = json.loads((copy / "meta.json").read_text())
    (copy / "meta.json").write_text(json.dumps({**meta, "format_version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        load_checkpoint(copy)


def test_no_folder_and_broken_meta_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        load_checkpoint(tmp_path / "nowhere")
    for text in ("{", "[]"):
        (copy / "meta.json").write_text(text)
        with pytest.raises(CheckpointError, match="JSON"):
            load_checkpoint(copy)


def test_a_config_that_does_not_fit_the_weights_is_refused(copy: Path) -> None:
    import hashlib

    for change in ({"width": 32}, {"no_such_field": 1}, {"fusion": "magic"}):
        config = {**json.loads((copy / "config.json").read_text()), **change}
        (copy / "config.json").write_text(json.dumps(config))
        meta = json.loads((copy / "meta.json").read_text())
        digest = hashlib.sha256((copy / "config.json").read_bytes()).hexdigest()
        meta["sha256"]["config.json"] = digest
        (copy / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(CheckpointError, match="do not fit"):
            load_checkpoint(copy)


def test_a_full_disk_is_said(tiny_model: VLM, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(tmp_path / "file" / "sub", tiny_model, tokenizer, {})
