"""Saving and loading: the same model comes back, and nothing else is let in."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from vitdemo.errors import CheckpointError
from vitdemo.models import checkpoint
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


def resealed(folder: Path, name: str, data: bytes) -> None:
    """Change a file of a checkpoint together with its sum in meta.json."""
    (folder / name).write_bytes(data)
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    meta["sha256"][name] = hashlib.sha256(data).hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta), "utf-8")


def configured(folder: Path, **changes: object) -> None:
    config = {**json.loads((folder / "config.json").read_text("utf-8")), **changes}
    resealed(folder, "config.json", json.dumps(config).encode())


@pytest.mark.parametrize("change", [
    {"width": 32}, {"no_such_field": 1}, {"fusion": "magic"}, {"backbone": ["a", "b"]},
    {"backbone": {"a": 1}}, {"backbone": None}, {"backbone": "no-such-model"}, {"backbone": ""},
    {"size": ["tiny"]}, {"fusion": []}, {"regions": "yes"}, {"heads": 3}, {"heads": True},
    {"width": 4.0}, {"vocabulary": 10**30}, {"text_layers": 10**9}, {"querybank": -1},
    {"evidence": True}, {"backbone": "resnet18"}])
def test_a_config_that_does_not_fit_the_weights_is_refused(copy: Path, change: dict[str, object]
                                                           ) -> None:
    configured(copy, **change)
    with pytest.raises(CheckpointError, match="do not fit") as raised:
        load_checkpoint(copy)
    assert len(str(raised.value)) < 700 and "\n" not in str(raised.value)


@pytest.mark.parametrize("change", [
    {"width": 16_384, "heads": 8, "text_heads": 8}, {"vocabulary": 2_000_000},
    {"embedding_width": 16_384}, {"text_layers": 32}, {"backbone": "vit_base_patch16_224"},
    {"querybank": 10_000_000}, {"max_text_tokens": 65_536}])
def test_a_size_is_refused_before_there_is_memory_for_it(copy: Path, change: dict[str, object],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    configured(copy, **change)
    built: list[str] = []
    init = torch.nn.Linear.__init__

    def watched(self: torch.nn.Linear, *given: object, **options: object) -> None:
        init(self, *given, **options)  # type: ignore[arg-type]
        built.append(self.weight.device.type)

    monkeypatch.setattr(torch.nn.Linear, "__init__", watched)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(copy)
    assert set(built) == {"meta"}  # no memory


def test_the_model_that_is_loaded_is_the_one_that_was_saved(
        tiny_model: VLM, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", tiny_model, tokenizer, {}, "float32")
    loaded = load_checkpoint(tmp_path / "a").model
    assert loaded.vision.edges == tiny_model.vision.edges
    assert loaded.vision.positions.equal(tiny_model.vision.positions)
    assert [one.requires_grad for one in loaded.parameters()] == [
        one.requires_grad for one in tiny_model.parameters()]
    assert not any(one.is_meta for one in (*loaded.parameters(), *loaded.buffers()))
    (tmp_path / "a" / "model.safetensors").write_bytes(b"")  # the model does not live in the file
    state = tiny_model.state_dict()
    assert all(value.equal(state[name]) for name, value in loaded.state_dict().items())


def test_a_deep_or_huge_file_of_settings_is_refused(copy: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("[" * 200_000, '{"a":' * 200_000, '{"format_version": ' + "9" * 5000 + "}"):
        (copy / "meta.json").write_text(text)
        with pytest.raises(CheckpointError, match="JSON"):
            load_checkpoint(copy)
    monkeypatch.setattr(checkpoint, "_LARGEST_JSON", 100)
    (copy / "meta.json").write_text("{}" + " " * 200)
    with pytest.raises(CheckpointError, match="no such file is"):
        load_checkpoint(copy)
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        load_checkpoint("x" * 5000)


def test_weights_that_lie_about_themselves_are_refused(copy: Path) -> None:
    whole = load((copy / "model.safetensors").read_bytes())
    name = next(one for one in sorted(whole) if one + "::scale" in whole)
    for changed in ({name + "::scale": torch.ones(1_000_000)}, {name + "::scale": torch.ones(1)},
                    {"nothing::scale": torch.ones(4)}, {name: whole[name][:1]},
                    {"more": torch.ones(3)}, {"decoder.bias": whole["decoder.bias"].long()},
                    {"decoder.bias": whole["decoder.bias"].to(torch.complex64)}):
        resealed(copy, "model.safetensors", save({**whole, **changed}))
        with pytest.raises(CheckpointError, match=r"do not fit together: .*model\.safetensors"):
            load_checkpoint(copy)


def test_damaged_checkpoints_raise_nothing_but_checkpoint_errors(copy: Path) -> None:
    """Also where the sums agree, as with one that somebody made by hand."""
    random = np.random.default_rng(0)
    whole = {name: (copy / name).read_bytes() for name in (*FILES, "meta.json")}
    words = [b"null", b"[]", b"{}", b"-1", b"1e400", b'"a"', b"true", b"\xff", b"\0", b"[" * 3000]
    loaded = 0
    for _ in range(30):
        name = (*FILES, "meta.json")[random.integers(4)]
        data = bytearray(whole[name])
        head = min(len(data), 30_000)  # of the weights, what says what they are
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(head))
            word = words[random.integers(len(words))]
            data[place:place + int(random.integers(0, 9))] = word
        for other in FILES:
            (copy / other).write_bytes(whole[other])
        (copy / "meta.json").write_bytes(whole["meta.json"])
        if name == "meta.json":
            (copy / name).write_bytes(data)
        else:
            resealed(copy, name, bytes(data))
        try:
            load_checkpoint(copy)
            loaded += 1
        except CheckpointError:
            continue
    assert loaded < 15


def test_a_full_disk_is_said(tiny_model: VLM, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(tmp_path / "file" / "sub", tiny_model, tokenizer, {})
