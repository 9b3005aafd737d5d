"""Where a checkpoint is: in a folder, or on the Hugging Face hub, and of it here; its config.json
and the files with its weights."""

import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from transformers import PreTrainedConfig

from vitdemo.disk import expanded
from vitdemo.errors import CheckpointError, shortened

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
HUB_SECONDS = 10  # to wait for the hub's answer before saying that it cannot be reached


def locate(source: str) -> tuple[str, bool]:
    """Where transformers is to look for a checkpoint, and whether it is to leave the network alone:
    it is for a folder and for a model that was downloaded before.

    Raises:
        CheckpointError: it is neither here nor on the hub, or the hub does not answer.
    """
    folder = expanded(source)
    if os.path.isdir(folder):
        if not os.path.isfile(folder / "config.json"):
            raise CheckpointError("checkpoint.no_config", source=source)
        return str(folder), True
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or "\\" in source:
        raise CheckpointError("checkpoint.neither_folder", source=shortened(repr(source)))
    try:
        here = [isinstance(try_to_load_from_cache(source, name), str)
                for name in ("config.json", *WEIGHTS)]
        if here[0] and any(here[1:]):
            return source, True
        HfApi().model_info(source, timeout=HUB_SECONDS)
    except HfHubHTTPError as error:
        raise CheckpointError("checkpoint.not_given", source=source,
                              why=first_line(error)) from error
    except HFValidationError as error:
        raise CheckpointError("checkpoint.no_name", source=shortened(repr(source))) from error
    except (HTTPError, OSError) as error:
        raise CheckpointError("checkpoint.no_hub", source=source) from error
    return source, False


def read_config(source: str) -> dict[str, Any]:
    """The config.json of a checkpoint, as it is.

    Raises:
        CheckpointError: it cannot be had.
    """
    return config_at(source, *locate(source))


def config_at(source: str, where: str, offline: bool) -> dict[str, Any]:
    """`read_config`, for who has asked `locate`."""
    try:
        return dict(PreTrainedConfig.get_config_dict(where, local_files_only=offline)[0])
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("checkpoint.config", source=source,
                              why=first_line(error)) from error


def weight_files(source: str) -> list[str]:
    """The files with the weights of a checkpoint that is here, as safetensors; none where it is
    not, or has others."""
    folder = expanded(source)

    def path_of(name: str) -> str | None:
        if os.path.isdir(folder):
            return str(folder / name) if os.path.isfile(folder / name) else None
        there = try_to_load_from_cache(source, name) if source.count("/") == 1 else None
        return there if isinstance(there, str) else None

    names = [WEIGHTS[0]]
    index = path_of(WEIGHTS[1])
    if index is not None and path_of(WEIGHTS[0]) is None:
        try:
            names = sorted(set(json.loads(Path(index).read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError("checkpoint.index", file=index,
                                  why=shortened(error)) from error
    paths = [path_of(name) for name in names]
    return [] if None in paths else [str(path) for path in paths]


def first_line(error: Exception) -> str:
    """The beginning of what an error says, as the end of a sentence."""
    text = " ".join(str(error).split())
    return (text[:200] + "..." if len(text) > 200 else text).rstrip(".") + "."
