"""What a model will take, before it is loaded: its parameters, in which precision they fit into the
memory there is, and what is to be downloaded first."""

import json
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from vitdemo.device import Placement, bits_of, has_bitsandbytes
from vitdemo.errors import CheckpointError, shortened
from vitdemo.texts import Message

# Weights and what is held beside them at work, over the weights alone (docs/benchmarks.md).
AT_WORK = 1.3
# Parameters from which a GPU keeps them in half precision unasked. Smaller ones have room, and the
# vectors that galleries are made of stay the same on every machine.
HALF_FROM = 500_000_000
_BITS = {torch.float32: 32, torch.bfloat16: 16, torch.float16: 16}
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Need:
    """How a model of so many ``parameters`` is loaded: its placement, the bytes that it ``needs``
    at work and those that are ``free`` there. ``refusal`` says what would help where it cannot be
    loaded, and is None where it can."""

    parameters: int
    placement: Placement
    needs: int
    free: int
    refusal: Message | None = None


def need_of(source: str, placement: Placement, exact: bool = False) -> Need:
    """What a checkpoint needs, in a folder or by its name on the hub. ``placement`` is what was
    picked; unless it was asked for (``exact``) the precision may be less.

    Raises:
        CheckpointError: it cannot be had, or is of no type that transformers knows.
    """
    parameters = count_parameters(source)
    tries = []
    for option in _options(parameters, placement, exact):
        needs = int(parameters * (option.bits or _BITS[option.dtype]) / 8 * AT_WORK)
        tries.append(Need(parameters, option, needs, free_memory(option)))
        if needs <= tries[-1].free:
            return tries[-1]
    least = min(tries, key=lambda need: need.needs)
    bits = bool(bits_of(placement.device)) and not has_bitsandbytes()
    return replace(least, refusal=Message(
        "chooser.too_large_bits" if bits else "chooser.too_large", model=source.split("/")[-1],
        needs=size_text(least.needs), free=size_text(least.free)))


def fitted(source: str, placement: Placement, exact: bool) -> Placement:
    """Where and in which precision a checkpoint is to be loaded; as it was picked where its size
    cannot be told, for whoever loads it to say what is wrong with it.

    Raises:
        CheckpointError: it is larger than the memory there is.
    """
    try:
        need = need_of(source, placement, exact)
    except CheckpointError:
        return placement
    if need.refusal is not None:
        raise CheckpointError(need.refusal)
    return need.placement


def _options(parameters: int, placement: Placement, exact: bool) -> Iterator[Placement]:
    """Ways to load it, the one to be preferred first."""
    on_gpu = placement.device.type != "cpu"
    half = torch.float16 if placement.device.type == "mps" else torch.bfloat16
    if exact or not (on_gpu and parameters >= HALF_FROM):
        yield placement
    if not exact:
        yield replace(placement, dtype=half)
    if not exact and has_bitsandbytes():
        yield from (replace(placement, dtype=half, bits=int(name[3:]))
                    for name in bits_of(placement.device))
    if placement.device.type == "cuda" and not placement.bits:
        yield replace(placement, dtype=placement.dtype if exact else half, spread=True)


def free_memory(placement: Placement) -> int:
    """Bytes that are free where a model is to lie; what a container is allowed counts."""
    if placement.device.type == "cuda" and not placement.spread:
        return int(torch.cuda.mem_get_info(placement.device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        most = int((_CGROUP / "memory.max").read_text())  # "max" where there is no limit
        used = int((_CGROUP / "memory.current").read_text())
        free = min(free, max(0, most - used))
    except (OSError, ValueError):
        pass
    if placement.spread:
        free += int(torch.cuda.mem_get_info(placement.device)[0])
    return free


def count_parameters(source: str) -> int:
    """How many numbers a checkpoint has: by the heads of its weights where they are here, else by
    its config, from which the model is built without any memory for its weights.

    Raises:
        CheckpointError: it cannot be had, or its type is not known.
    """
    from vitdemo.backends.source import locate, weight_files

    files = weight_files(source)
    if files:
        return sum(_numbers(Path(file)) for file in files)
    import transformers
    from accelerate import init_empty_weights

    where, offline = locate(source)
    try:
        config = transformers.AutoConfig.from_pretrained(where, local_files_only=offline)
        model_class = getattr(transformers, (config.architectures or ["no class"])[0])
        with init_empty_weights():
            model = model_class(config)
        model.tie_weights()  # what is shared is one
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError("checkpoint.size", source=source, why=shortened(error)) from error
    return sum(parameter.numel() for parameter in model.parameters())


def _numbers(file: Path) -> int:
    """Of a safetensors file, by its head: 8 bytes with its length, then JSON."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(os.path.getsize(file), 2**27):
                raise ValueError("its head is too long")
            head = json.loads(stream.read(length))
        return sum(math.prod(map(int, tensor["shape"])) for name, tensor in head.items()
                   if name != "__metadata__")
    except (OSError, ValueError, struct.error, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError("checkpoint.damaged", file=file, why=shortened(error)) from error


def size_text(size: float) -> str:
    """Bytes as a person reads them: 54 MB, 1.2 GB."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def count_text(count: int) -> str:
    """42400000 -> 42M, 2210000000 -> 2.2B, as models' names have it."""
    if count < 999_500:
        return str(count)
    return f"{count / 1e6:.0f}M" if count < 999.5e6 else f"{count / 1e9:.1f}B"
