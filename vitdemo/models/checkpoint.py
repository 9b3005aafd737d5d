"""A checkpoint is a folder: config.json, model.safetensors, tokenizer.json, meta.json.

Large matrices are stored as int8 with one float32 scale per row, the rest as float16 or float32.
meta.json holds the SHA-256 of the three other files, so a truncated or changed one is refused.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vitdemo.config import ModelConfig
from vitdemo.disk import replacing
from vitdemo.errors import CheckpointError, ConfigError, DiskError, shortened
from vitdemo.models.vlm import VLM
from vitdemo.texts import Message
from vitdemo.tokens import TextTokenizer

FORMAT_VERSION = 1
FILES = ("config.json", "model.safetensors", "tokenizer.json")
_SCALE = "::scale"  # suffix of the name of an int8 matrix's scales
_REST = 1_000_000  # bytes, about, of the three small files
_LARGEST_JSON = 16 * 2**20  # bytes of config.json or meta.json
_SMALLEST_INT8 = 4096  # elements; below this int8 saves nothing worth its rounding


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. ``revision`` is the first 12 digits of the weights' SHA-256."""

    model: VLM
    tokenizer: TextTokenizer
    meta: dict[str, Any]
    folder: Path

    @property
    def revision(self) -> str:
        """Which weights these are."""
        return str(self.meta["sha256"]["model.safetensors"])[:12]


def pack(state: dict[str, Tensor], weights: str) -> dict[str, Tensor]:
    """A state dict as it is stored. ``weights`` is "int8", "float16" or "float32"."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        value = value.detach().cpu()
        if not value.is_floating_point() or weights == "float32":
            packed[name] = value.contiguous()
        elif weights == "int8" and value.dim() == 2 and value.numel() >= _SMALLEST_INT8:
            scale = value.float().abs().amax(1).clamp(min=1e-12) / 127  # (rows,)
            packed[name] = (value.float() / scale[:, None]).round().to(torch.int8).contiguous()
            packed[name + _SCALE] = scale
        elif "running_" in name or value.dim() < 2:
            packed[name] = value.float().contiguous()  # small, and float16 could overflow
        else:
            packed[name] = value.half().contiguous()
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` stored, as float32 tensors."""
    state = {}
    for name, value in packed.items():
        if name.endswith(_SCALE):
            continue
        if name + _SCALE in packed:
            state[name] = value.float() * packed[name + _SCALE][:, None]
        else:
            state[name] = value.float() if value.is_floating_point() else value
    return state


def save_checkpoint(folder: Path, model: VLM, tokenizer: TextTokenizer, meta: dict[str, Any],
                    weights: str = "int8") -> None:
    """Write the four files, all or none: after an error an older checkpoint is as it was.

    ``meta`` must be plain JSON.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    try:
        data = safetensors.torch.save(pack(model.state_dict(), weights))
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / name for name in (*FILES, "meta.json")]
        with replacing(files, len(data) + _REST) as parts:
            _write(parts[0], json.dumps(dataclasses.asdict(model.config), indent=2))
            parts[1].write_bytes(data)
            tokenizer.save(parts[2])
            sums = {name: hashlib.sha256(_read(part)).hexdigest()
                    for name, part in zip(FILES, parts, strict=False)}
            whole = {"format_version": FORMAT_VERSION, **meta, "weights": weights, "sha256": sums,
                     "latin": tokenizer.latin}
            _write(parts[3], json.dumps(whole, indent=2, ensure_ascii=False))
    except DiskError as error:
        raise CheckpointError(f"the checkpoint was not saved: {error}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint could not be written to {folder}: {error}. "
                              "Is there room on the disk, and may you write there?") from error


def load_checkpoint(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint; the model is in evaluation mode, float32, on ``device``.

    Raises:
        CheckpointError: the folder or a file is missing, of another format version, truncated,
            changed, or does not fit together.
    """
    folder = Path(folder)
    shown = shortened(folder, 300)
    if not os.path.isdir(folder):
        raise CheckpointError("checkpoint.none", folder=shown)
    missing = [name for name in (*FILES, "meta.json") if not os.path.isfile(folder / name)]
    if missing:
        raise CheckpointError("checkpoint.lacks_files", folder=shown, files=", ".join(missing))
    meta = _read_json(folder / "meta.json")
    if meta.get("format_version") != FORMAT_VERSION:
        raise CheckpointError("checkpoint.version", folder=shown, wanted=FORMAT_VERSION,
                              found=shortened(meta.get("format_version")))
    sums = meta.get("sha256")
    weights = b""
    for name in FILES:
        data = _read(folder / name)
        if name == "model.safetensors":
            weights = data  # what was checked is what is loaded, whatever becomes of the file
        if not isinstance(sums, dict) or sums.get(name) != hashlib.sha256(data).hexdigest():
            raise CheckpointError("checkpoint.changed", file=folder / name)
    try:
        config = ModelConfig(**_read_json(folder / "config.json"))
        model = _loaded(config, safetensors.torch.load(weights))
    except (TypeError, ConfigError, RuntimeError, SafetensorError, OSError) as error:
        raise CheckpointError("checkpoint.apart", folder=shown, why=error) from error
    tokenizer = TextTokenizer.load(folder / "tokenizer.json", config.max_text_tokens)
    if tokenizer.size != config.vocabulary:
        raise CheckpointError("checkpoint.tokens", folder=shown, tokens=tokenizer.size,
                              known=config.vocabulary)
    latin = meta.get("latin")
    tokenizer.admit(str(token) for token in (latin if isinstance(latin, list) else []))
    if model.names is not None:
        model.names.learn_forms(tokenizer)
    return Checkpoint(model.eval().to(device), tokenizer, meta, folder)


def _loaded(config: ModelConfig, packed: dict[str, Tensor]) -> VLM:
    """A model with stored weights. What the configuration asks for is compared with what is there
    while the model is a skeleton without memory for any number.

    Raises:
        ConfigError: they differ, or the configuration is of no model.
    """
    try:
        with torch.device("meta"):
            model = VLM(config)
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError) as error:
        raise ConfigError("checkpoint.no_model") from error
    _check_shapes(model.state_dict(), packed)
    state = unpack(packed)
    model.load_state_dict(state, assign=True)
    if any(buffer.is_meta for buffer in model.buffers()):  # a backbone with constants of its own
        model = VLM(config)
        model.load_state_dict(state)
    return model


def _check_shapes(wanted: dict[str, Tensor], packed: dict[str, Tensor]) -> None:
    scales = {name for name in packed if name.endswith(_SCALE)}
    for name in sorted(wanted.keys() | packed.keys() - scales):
        want, have = wanted.get(name), packed.get(name)
        if (want is None or have is None or want.shape != have.shape
                or have.is_complex() or want.is_floating_point() != (
                    have.is_floating_point() or name + _SCALE in scales)):
            raise ConfigError("checkpoint.tensor", wanted=_kind(want), name=name,
                              found=_kind(have))
    for name in sorted(scales):
        matrix = packed.get(name.removesuffix(_SCALE))
        if matrix is None or matrix.dim() != 2 or packed[name].shape != matrix.shape[:1]:
            raise ConfigError("checkpoint.scale", found=_kind(packed[name]), name=name,
                              matrix=_kind(matrix))


def _kind(value: Tensor | None) -> str | Message:
    """The shape and type of a tensor, for a person."""
    if value is None:
        return Message("checkpoint.nothing")
    shape = " x ".join(map(str, value.shape)) or "1"
    return f"{shape} ({str(value.dtype).removeprefix('torch.')})"


def _write(file: Path, text: str) -> None:
    file.write_text(text + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise CheckpointError("checkpoint.too_large", file=file, most=_LARGEST_JSON // 2**20)
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("checkpoint.no_json", file=file, why=error) from error
    if not isinstance(value, dict):
        raise CheckpointError("checkpoint.no_object", file=file)
    return value


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError("checkpoint.closed_file", file=file, why=error) from error
