"""What a run keeps to go on exactly: weights, their average, the optimizer, the step."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitdemo.errors import CheckpointError
from vitdemo.models.vlm import VLM

_PREFIX = "state-"


class Average:
    """Exponential moving average of the trained weights (Polyak, Juditsky 1992)."""

    def __init__(self, model: VLM, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.values = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    @torch.no_grad()
    def update(self, model: VLM) -> None:
        """Move towards the model; early on faster, so that the start is soon forgotten."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        now = [p.detach() for p in model.parameters() if p.requires_grad]
        torch._foreach_lerp_(self.values, now, 1 - decay)

    @contextlib.contextmanager
    def in_place(self, model: VLM) -> Iterator[None]:
        """The model holds the average inside the block, its own weights after it."""
        trained = [p for p in model.parameters() if p.requires_grad]
        own = [p.detach().clone() for p in trained]
        training = model.training
        with torch.no_grad():
            for parameter, value in zip(trained, self.values, strict=True):
                parameter.copy_(value)
        try:
            model.eval()
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(trained, own, strict=True):
                    parameter.copy_(value)
            model.train(training)


def save_state(out: Path, model: VLM, optimizer: Any, average: Average,
               numbers: dict[str, Any]) -> None:
    """Write a new state under ``out``, whole or not at all, then drop the older ones.

    Raises:
        CheckpointError: it cannot be written, for want of room say; the older one is kept.
    """
    folder = out / f"{_PREFIX}{numbers['step']:08d}"
    part = out / (folder.name + ".part")
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        torch.save({"model": trained, "optimizer": optimizer.state_dict(),
                    "average": average.values, "updates": average.updates, **numbers},
                   part / "state.pt")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
        for old in sorted(out.glob(f"{_PREFIX}*")):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(f"the state of the run could not be written to {out}: {error}. "
                              "Is there room on the disk?") from error


def latest_state(out: Path) -> Path | None:
    """The newest whole state of a run, or None."""
    found = [path for path in sorted(out.glob(f"{_PREFIX}*")) if path.suffix != ".part"]
    return found[-1] if found else None


def load_state(folder: Path, model: VLM, optimizer: Any, average: Average) -> dict[str, Any]:
    """Put a saved state back; returns the numbers that were saved with it.

    Raises:
        CheckpointError: it is of another model or other settings.
    """
    kept = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    trained: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if set(trained) != set(kept["model"]):
        raise CheckpointError(f"{folder} is the state of another model; start a new --out.")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(kept["model"][name])
        for ours, value in zip(average.values, kept["average"], strict=True):
            ours.copy_(value)
    average.updates = kept["updates"]
    optimizer.load_state_dict(kept["optimizer"])
    return kept
