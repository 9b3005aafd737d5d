"""Picks the device and the number type, and says why."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from vitdemo.errors import ConfigError

Method = TypeVar("Method", bound=Callable[..., Any])
_BITS = {"int8": 8, "int4": 4}


def without_gpu(method: Method) -> Method:
    """Mark a method of the engine that itself asks nothing of the model."""
    vars(method)["without_gpu"] = True
    return method


@dataclass(frozen=True)
class Placement:
    """Where a model runs. ``reason`` is a sentence for the user. ``bits`` is 8 or 4 where a model
    of transformers keeps its weights in so many (by bitsandbytes), else 0; ``spread`` says that
    those that have no room on the GPU stay in the computer's memory (by accelerate); ``openvino``
    that pictures are encoded by OpenVINO, on the CPU."""

    device: torch.device
    dtype: torch.dtype
    reason: str
    bits: int = 0
    spread: bool = False
    openvino: bool = False

    @property
    def precision(self) -> str:
        """By its name: float32, bfloat16, float16, int8 or int4."""
        return f"int{self.bits}" if self.bits else str(self.dtype).removeprefix("torch.")

    def revision(self, weights: str) -> str:
        """The fingerprint of ``weights`` as they are kept here: fewer bits give other vectors and
        maps, so what is kept of one precision is not taken for another's."""
        return weights if self.precision == "float32" else f"{weights}-{self.precision}"


def has_bitsandbytes() -> bool:
    """Whether weights can be kept in 8 or 4 bits."""
    return importlib.util.find_spec("bitsandbytes") is not None


def bits_of(device: torch.device) -> tuple[str, ...]:
    """Of "int8" and "int4", with weights in so many bits, what a device can do with bitsandbytes;
    its 4 bits take widths on a processor that not all models have."""
    return {"cuda": ("int8", "int4"), "cpu": ("int8",)}.get(device.type, ())


def pick(device: str = "auto", dtype: str = "auto") -> Placement:
    """Choose device ("auto", "cpu", "openvino", "cuda", "cuda:1", "mps") and dtype ("auto",
    "float32", "bfloat16", "float16"; see `bits_of` for "int8" and "int4").

    "auto" takes CUDA where it works, then Apple's MPS, then the CPU, and float32 everywhere: the
    demo model is small, and maps and probabilities stay the same on every machine.

    Raises:
        ConfigError: the device is not there, or the name is unknown.
    """
    if dtype in _BITS:
        placement = pick(device, "bfloat16")
        if not has_bitsandbytes():
            raise ConfigError("chooser.bits_package", dtype=dtype)
        if dtype not in bits_of(placement.device):
            raise ConfigError("chooser.bits_device", dtype=dtype, device=placement.device.type)
        return replace(placement, bits=_BITS[dtype])
    if device == "openvino":
        if importlib.util.find_spec("openvino") is None:
            raise ConfigError("chooser.openvino_package")
        if dtype not in ("auto", "float32"):
            raise ConfigError("chooser.openvino_dtype", dtype=dtype)
        return Placement(torch.device("cpu"), torch.float32, "OpenVINO was asked for",
                         openvino=True)
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in ("auto", *names):
        raise ConfigError(f"dtype {dtype!r} is unknown; use auto, {', '.join((*names, *_BITS))}.")
    number = names.get(dtype, torch.float32)
    if device == "auto":
        if torch.cuda.is_available():
            return Placement(torch.device("cuda"), number, "a CUDA GPU was found")
        if torch.backends.mps.is_available():
            return Placement(torch.device("mps"), number, "an Apple GPU was found")
        return Placement(torch.device("cpu"), number, "no GPU was found")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is unknown; use auto, cpu, openvino, cuda or mps."
                          ) from error
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device {device!r} is not supported; use auto, cpu, openvino, "
                          "cuda or mps.")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but there is no working CUDA GPU; use cpu.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device} was asked for, but only "
                          f"{torch.cuda.device_count()} GPU(s) are there.")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps was asked for, but this machine has no Apple GPU; use cpu.")
    return Placement(chosen, number, f"{device} was asked for")
