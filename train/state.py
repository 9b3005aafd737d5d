"""What a run keeps to go on exactly: weights, their average, the optimizer, the step."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.data.run_data import Digest, changes
from vitdemo.disk import cannot_write, sync
from vitdemo.errors import CheckpointError, TrainingError
from vitdemo.models.vlm import VLM

WEIGHTS, PROGRESS = "state.pt", "progress.json"
# They change no weight of a step.
HARMLESS = ("validate_every", "patience", "workers")
AVERAGE_DECAY = 0.998  # of the weights' moving average, at most
_PREFIX = "state-"
_NEW = object()  # a setting that an older version did not have


class Average:
    """Exponential moving average of the trained weights (Polyak, Juditsky 1992)."""

    def __init__(self, model: VLM) -> None:
        self.updates = 0
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.values = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    @torch.no_grad()
    def update(self, model: VLM) -> None:
        """Move towards the model; early on faster, so that the mean is over about the last tenth
        of the steps so far."""
        self.updates += 1
        decay = min(AVERAGE_DECAY, self.updates / (self.updates + 10))
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
               progress: dict[str, Any]) -> None:
    """Write a new state under ``out``, whole or not at all, then drop the older ones.

    ``progress`` is plain JSON: the step, the best figure so far, and what `check` compares.

    Raises:
        CheckpointError: it cannot be written, for want of room say; the older one is kept.
    """
    folder = out / f"{_PREFIX}{progress['step']:08d}"
    part = out / (folder.name + ".part")
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    needed = 4 * 4 * sum(p.numel() for p in trained.values())  # weights, average, two of Adam's
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with (part / WEIGHTS).open("wb") as stream:
            torch.save({"model": trained, "optimizer": optimizer.state_dict(),
                        "average": average.values, "updates": average.updates}, stream)
        (part / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
        for name in (WEIGHTS, PROGRESS):
            sync(part / name)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
        sync(out)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError("the state of the run was not saved: "
                              f"{cannot_write(folder / WEIGHTS, error, needed)} "
                              "Then go on with --resume.") from error
    for old in sorted(out.glob(f"{_PREFIX}*")):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)


def latest_state(out: Path) -> Path | None:
    """The newest whole state of a run, or None."""
    found = [path for path in sorted(out.glob(f"{_PREFIX}*")) if path.suffix != ".part"]
    return found[-1] if found else None


def read_progress(folder: Path) -> dict[str, Any]:
    """What was saved with a state as ``progress``.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} holds no state that this program can go on from "
                              f"({PROGRESS}: {error}); start a new --out.") from error


def check(folder: Path, settings: dict[str, Any], data: Digest, accept: bool) -> list[str]:
    """Compare a run's settings and rows with those that a saved state was made with.

    Returns what differs, one sentence each: all of it with ``accept``, else only what does not
    change the result.

    Raises:
        TrainingError: something differs that would.
    """
    saved = read_progress(folder)
    before = saved["settings"]
    differing = [name for name in settings if settings[name] != before.get(name, _NEW)]
    said = [f"--{name.replace('_', '-')} was {before.get(name, 'not known')} and is "
            f"{settings[name]}" for name in differing]
    grave = [sentence for name, sentence in zip(differing, said, strict=True)
             if name not in HARMLESS]
    changed = changes(saved["data"], data)
    if changed:
        said.append(f"the data are not those that the run began with ({changed})")
        grave.append(said[-1])
    if grave and not accept:
        raise TrainingError(f"{'; '.join(grave)}. Put it back as it was, start anew with another "
                            "--out, or go on all the same with --accept-changes; the numbers are "
                            "then not those of a run that was never stopped.")
    return said


def load_state(folder: Path, model: VLM, optimizer: Any, average: Average) -> dict[str, Any]:
    """Put a saved state back; returns what was saved with it as ``progress``.

    Raises:
        CheckpointError: it is of another model or other settings.
    """
    progress = read_progress(folder)
    kept = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    trained: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if {n: p.shape for n, p in trained.items()} != {n: p.shape for n, p in kept["model"].items()}:
        raise CheckpointError(f"{folder} is the state of another model; start a new --out.")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(kept["model"][name])
        for ours, value in zip(average.values, kept["average"], strict=True):
            ours.copy_(value)
    average.updates = kept["updates"]
    optimizer.load_state_dict(kept["optimizer"])
    return progress
