"""Picks the device and the number type, and says why."""

from dataclasses import dataclass

import torch

from vitdemo.errors import ConfigError


@dataclass(frozen=True)
class Placement:
    """Where a model runs. ``reason`` is a sentence for the user."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def pick(device: str = "auto", dtype: str = "auto") -> Placement:
    """Choose device ("auto", "cpu", "cuda", "cuda:1", "mps") and dtype ("auto", "float32",
    "bfloat16", "float16").

    "auto" takes CUDA where it works, then Apple's MPS, then the CPU, and float32 everywhere: the
    demo model is small, and maps and probabilities stay the same on every machine.

    Raises:
        ConfigError: the device is not there, or the name is unknown.
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in ("auto", *names):
        raise ConfigError(f"dtype {dtype!r} is unknown; use auto, {', '.join(names)}.")
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
        raise ConfigError(f"device {device!r} is unknown; use auto, cpu, cuda or mps.") from error
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device {device!r} is not supported; use auto, cpu, cuda or mps.")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but there is no working CUDA GPU; use cpu.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device} was asked for, but only "
                          f"{torch.cuda.device_count()} GPU(s) are there.")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps was asked for, but this machine has no Apple GPU; use cpu.")
    return Placement(chosen, number, f"{device} was asked for")
