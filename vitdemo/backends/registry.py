"""Which model families there are, and how a name given by the user leads to one of them.

A family is a class with ``load(source: str, placement: Placement) -> Backend``. Its module is
imported only when it is asked for, so that starting the demo's own model never loads transformers.
A name is a checkpoint folder or OWNER/NAME on the Hugging Face hub, and its family is found from
its config.json; FAMILY:NAME_OR_FOLDER says the family. Several names are joined by +.
"""

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from vitdemo.allocator import keep_freed_memory
from vitdemo.backends.base import Backend
from vitdemo.backends.joined import JoinedBackend
from vitdemo.config import EngineConfig
from vitdemo.device import pick
from vitdemo.disk import expanded
from vitdemo.errors import CheckpointError, ConfigError, shortened

# family -> "module:Class"
FAMILIES: dict[str, str] = {
    "native": "vitdemo.backends.native:NativeBackend",
    "blip": "vitdemo.backends.blip:BlipBackend",
    "blip-2": "vitdemo.backends.blip2:Blip2Backend",
    "chinese_clip": "vitdemo.backends.clip:ChineseClipBackend",
    "clip": "vitdemo.backends.clip:ClipBackend",
    "florence2": "vitdemo.backends.florence2:Florence2Backend",
    "git": "vitdemo.backends.git:GitBackend",
    "idefics": "vitdemo.backends.idefics:IdeficsBackend",
    "instructblip": "vitdemo.backends.blip2:InstructBlipBackend",
    "kosmos-2": "vitdemo.backends.kosmos2:Kosmos2Backend",
    "mllama": "vitdemo.backends.mllama:MllamaBackend",
    "pix2struct": "vitdemo.backends.pix2struct:Pix2StructBackend",
    "siglip": "vitdemo.backends.clip:SiglipBackend",
    "siglip2": "vitdemo.backends.clip:Siglip2Backend",
    "vilt": "vitdemo.backends.vilt:ViltBackend",
    "vision-encoder-decoder":
        "vitdemo.backends.vision_encoder_decoder:VisionEncoderDecoderBackend",
    # By model_type; "chat" is what else AutoModelForImageTextToText loads.
    **dict.fromkeys(("idefics3", "smolvlm", "llava", "llava_next", "llava_onevision", "qwen2_vl",
                     "qwen2_5_vl", "qwen3_vl", "paligemma", "gemma3", "internvl", "chat"),
                    "vitdemo.backends.chat:ChatBackend"),
}


def load_backend(config: EngineConfig) -> Backend:
    """Load the model that ``config.model`` names, or the models.

    Raises:
        CheckpointError: a name leads nowhere, or a checkpoint cannot be used.
        ConfigError: the device or the number type is not there.
    """
    sources = [resolve(name) for name in names(config.model)]
    placement = pick(config.device, config.dtype)
    keep_freed_memory()
    backends = []
    for family, source in sources:
        place = placement
        if family != "native":
            from vitdemo.backends.forecast import fitted

            if placement.openvino:
                raise ConfigError("chooser.openvino_family")
            place = fitted(source, placement, config.dtype != "auto")
        elif placement.bits:
            raise ConfigError(f"dtype {config.dtype} is for models of transformers; use float32 "
                              "with vitdemo's own.")
        backend = cast(Backend, family_class(family).load(source, place))
        backend.info = replace(backend.info, precision=place.precision)
        backends.append(backend)
    return backends[0] if len(backends) == 1 else JoinedBackend(backends)


def family_class(family: str) -> Any:
    """The class of one of `FAMILIES`."""
    module, name = FAMILIES[family].split(":")
    return getattr(importlib.import_module(module), name)


def names(model: str) -> list[str]:
    """The names that are joined in ``model``; a folder with a + in its path is one."""
    if os.path.isdir(expanded(model)):
        return [model]
    return [name.strip() for name in model.split("+") if name.strip()] or [model]


def resolve(name: str) -> tuple[str, str]:
    """The family and the source that one model's name means. A path with a colon in it counts as a
    path where such a folder is there. A name on the hub is asked for its config.

    Raises:
        CheckpointError: the name leads nowhere; the message says what to write instead.
    """
    folder, shown = expanded(name), shortened(repr(name))
    if name and os.path.isdir(folder):
        return _family_of_folder(folder), str(folder)
    family, colon, source = name.partition(":")
    if colon and family in FAMILIES:
        if source.strip():
            return family, source.strip()
        raise CheckpointError("checkpoint.names_none", name=shown)
    if os.path.isfile(folder):
        raise CheckpointError("checkpoint.is_file", name=name)
    if colon and len(family) > 1 and "/" not in family:  # one letter is a drive of Windows
        raise CheckpointError("checkpoint.no_family", family=shortened(repr(family)),
                              known=", ".join(FAMILIES))
    if is_hub_name(name) and not os.path.isdir(folder.parent):
        from vitdemo.backends.source import read_config

        return family_of(read_config(name), name), name
    raise CheckpointError("checkpoint.no_folder", name=shown)


def is_address(model: str) -> bool:
    """Whether it is the address of an engine on another machine."""
    return model.startswith(("http://", "https://"))


def is_hub_name(name: str) -> bool:
    """Whether it has the form OWNER/NAME."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and "\\" not in name \
        and not name.endswith("/")


def family_of(config: dict[str, Any], source: str) -> str:
    """The family of a config.json of transformers; "chat" is what else can be written with.

    Raises:
        CheckpointError: no family knows its type.
    """
    kind = str(config.get("model_type"))
    if kind in FAMILIES:
        return kind
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN,
    )

    if kind not in KNOWN or config.get("is_encoder_decoder"):
        raise unknown_type(source, kind)
    return "chat"


def unknown_type(source: str, kind: str) -> CheckpointError:
    """That a model's type is none that can be used."""
    return CheckpointError("checkpoint.unknown_type", source=source, kind=kind, known=", ".join(
        family for family in FAMILIES if family not in ("native", "chat")))


def _family_of_folder(folder: Path) -> str:
    """Our own checkpoints have a meta.json; those of transformers say "model_type"."""
    path = folder / "config.json"
    if os.path.isfile(folder / "meta.json") or not os.path.isfile(path):
        return "native"  # its loader says what is missing
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("checkpoint.unreadable", file=path,
                              why=shortened(error)) from error
    if not isinstance(config, dict) or config.get("model_type") is None:
        return "native"
    return family_of(config, str(folder))
