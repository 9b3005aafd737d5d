"""Which model families there are, and how a name given by the user leads to one of them.

A family is a class with ``load(source: str, placement: Placement) -> Backend``. Its module is
imported only when it is asked for, so that starting the demo's own model never loads transformers.
"""

import importlib
import json
import os
from pathlib import Path
from typing import cast

from vitdemo.allocator import keep_freed_memory
from vitdemo.backends.base import Backend
from vitdemo.config import EngineConfig
from vitdemo.device import pick
from vitdemo.errors import CheckpointError, shortened

# family -> "module:Class"
FAMILIES: dict[str, str] = {
    "native": "vitdemo.backends.native:NativeBackend",
    "blip": "vitdemo.backends.blip:BlipBackend",
}


def load_backend(config: EngineConfig) -> Backend:
    """Load the model that ``config.model`` names: "FAMILY:SOURCE", or a checkpoint folder.

    Raises:
        CheckpointError: no such family or folder, or the checkpoint cannot be used.
        ConfigError: the device or the number type is not there.
    """
    family, source = resolve(config.model)
    keep_freed_memory()
    module, name = FAMILIES[family].split(":")
    backend_class = getattr(importlib.import_module(module), name)
    return cast(Backend, backend_class.load(source, pick(config.device, config.dtype)))


def resolve(model: str) -> tuple[str, str]:
    """The family and the source that a model's name means.

    A path with a colon in it counts as a path where such a folder is there.

    Raises:
        CheckpointError: the name leads nowhere; the message says what to write instead.
    """
    folder = Path(model)
    shown = shortened(repr(model))
    if model and os.path.isdir(folder):
        return _family_of_folder(folder), model
    family, colon, source = model.partition(":")
    if colon and family in FAMILIES:
        if source.strip():
            return family, source.strip()
        raise CheckpointError(f"{shown} names no checkpoint; write {family}:FOLDER"
                              f"{' or blip:HUB_NAME' if family == 'blip' else ''}.")
    if os.path.isfile(folder):
        raise CheckpointError(f"{model} is a file; give the checkpoint folder that it lies in.")
    if colon and len(family) > 1 and "/" not in family:  # one letter is a drive of Windows
        raise CheckpointError(f"{shortened(repr(family))} is no model family; use "
                              f"{', '.join(FAMILIES)}, or a checkpoint folder.")
    raise CheckpointError(
        f"There is no checkpoint folder {shown}. Give a folder that holds config.json and "
        "model.safetensors, or blip:NAME_OR_FOLDER for a BLIP model of transformers.")


def _family_of_folder(folder: Path) -> str:
    """Our own checkpoints have a meta.json; those of transformers say "model_type"."""
    path = folder / "config.json"
    if os.path.isfile(folder / "meta.json") or not os.path.isfile(path):
        return "native"  # its loader says what is missing
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({shortened(error)}). Copy the checkpoint "
                              "again.") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if isinstance(kind, str) and kind in FAMILIES:
        return kind
    if kind is not None:
        raise CheckpointError(f"{folder} holds a {shortened(repr(kind))} model of transformers; "
                              "only BLIP models of transformers can be used.")
    return "native"
