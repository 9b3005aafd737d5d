"""Whether a run multiplies in bf16: only where the machine has such products."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from train.settings import Settings

_CPU_PRODUCTS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # by torch's names


def settled(settings: Settings) -> Settings:
    """The settings with a word in place of "auto"."""
    if settings.run.mixed_precision != "auto":
        return settings
    chosen = "bf16" if multiplies_bf16() else "no"
    return dataclasses.replace(
        settings, run=dataclasses.replace(settings.run, mixed_precision=chosen))


def multiplies_bf16() -> bool:
    """Whether the device that a run would take has products of bf16 numbers.

    A processor without them does each number by hand: 60 times slower than in float32, measured on
    one with AVX2.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    return any(_capabilities().get(name, False) for name in _CPU_PRODUCTS)


def _capabilities() -> Mapping[str, Any]:
    """What the processor can do. Older releases of torch tell only some of it."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    asked = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    return {name: getattr(torch.cpu, ask)() for name, ask in asked.items()
            if hasattr(torch.cpu, ask)}


def depthwise_in_float32(model: nn.Module) -> None:
    """Let depthwise convolutions compute in float32 under autocast, in place.

    They multiply little and have no fast bf16 way back on a processor: the last two stages of
    EfficientNet-Lite2 with their gradients took 33 ms a picture so, 96 with all in bf16, and 56
    with all in float32 (one core with AMX).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = functools.partial(_in_float32, module.forward)  # type: ignore


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())
