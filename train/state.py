"""What a run leaves on disk: its log, and what it keeps to go on exactly: weights, their average,
the optimizer, the step, and what its settings and rows were."""

import copy
import hashlib
import json
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from train.data.reading import Row
from vitdemo.disk import cannot_write, replacing, writing
from vitdemo.errors import CheckpointError, TrainingError
from vitdemo.models.vlm import VLM

STATE, LOG, EVENTS = "state.pt", "log.jsonl", "tensorboard"
Entry = dict[str, Any]  # of the log
# They change no weight of a step.
HARMLESS = ("validate_every",)
AVERAGE_DECAY = 0.998  # of the weights' moving average, at most
Digest = dict[str, list[str]]  # "name, size, texts" of each picture, in order, by split
_NEW = object()  # a setting that an older version did not have


class Average:
    """A model with the exponential moving average of the weights that are trained (Polyak, Juditsky
    1992): early on it moves faster, so that the mean is over about the last tenth of the steps."""

    def __init__(self, model: VLM) -> None:
        self.model, self.updates = copy.deepcopy(model).eval(), 0

    @torch.no_grad()
    def update(self, model: VLM) -> None:
        """Move towards the model."""
        self.updates += 1
        decay = min(AVERAGE_DECAY, self.updates / (self.updates + 10))
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        means, now = zip(*[(a, b.detach()) for a, b in pairs if b.requires_grad], strict=True)
        torch._foreach_lerp_(means, now, 1 - decay)


def save_state(out: Path, model: VLM, optimizer: Any, average: Average,
               progress: dict[str, Any]) -> None:
    """Write the state of a run in place of the older one, whole or not at all.

    ``progress`` is plain: the step, the best figure so far, and what `check` compares.

    Raises:
        DiskError: it cannot be written, for want of room say; the older one is kept.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
             "average": average.model.state_dict(), "updates": average.updates,
             "progress": progress}
    needed = sum(4 * p.numel() * (4 if p.requires_grad else 2) for p in model.parameters())
    with replacing([out / STATE], needed) as (part,):
        try:
            with part.open("wb") as stream:
                torch.save(state, stream)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(str(error)) from error


def latest_state(out: Path) -> Path | None:
    """The whole state of a run, or None."""
    return out / STATE if (out / STATE).is_file() else None


def read_progress(file: Path) -> dict[str, Any]:
    """What was saved with a state as ``progress``."""
    found: dict[str, Any] = _read(file, mmap=True)["progress"]
    return found


def _read(file: Path, mmap: bool = False) -> dict[str, Any]:
    """A state; with ``mmap`` its tensors stay on the disk.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
        return found
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{file} holds no state that this program can go on from ({error}); "
                              "start a new --out.") from error


def check(file: Path, settings: dict[str, Any], data: Digest, accept: bool) -> list[str]:
    """Compare a run's settings and rows with those that a saved state was made with.

    Returns what differs, one sentence each: all of it with ``accept``, else only what does not
    change the result.

    Raises:
        TrainingError: something differs that would.
    """
    saved = read_progress(file)
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


def digest(train: Sequence[Row], validation: Sequence[Row]) -> Digest:
    """What the rows are: of each its picture's name, the file's size and a hash of the texts. Where
    the pictures lie and when they were written does not count."""
    return {"train": [*map(_of_row, train)], "validation": [*map(_of_row, validation)]}


def _of_row(row: Row) -> str:
    texts = repr((row.captions, row.captions_zh, row.questions))
    return "\t".join((row.path.name, str(row.path.stat().st_size),
                      hashlib.sha256(texts.encode()).hexdigest()[:16]))


def changes(before: Digest, now: Digest) -> str:
    """What differs between two digests, in words: "in train 2 pictures (3.jpg, 7.jpg)"; ""
    where nothing does."""
    differences = []
    for split in ("train", "validation"):
        old, new = before.get(split, []), now.get(split, [])
        names = sorted({row.split("\t")[0] for row in {*old} ^ {*new}})
        if names:
            differences.append(f"in {split} {len(names)} pictures ({', '.join(names[:3])}"
                               f"{', ...' * (len(names) > 3)})")
        elif old != new:
            differences.append(f"in {split} the order of the pictures")
    return "; ".join(differences)


def load_state(file: Path, model: VLM, optimizer: Any, average: Average) -> dict[str, Any]:
    """Put a saved state back; returns what was saved with it as ``progress``.

    Raises:
        CheckpointError: it is of another model or other settings.
    """
    kept = _read(file)
    try:
        model.load_state_dict(kept["model"])
        average.model.load_state_dict(kept["average"])
        optimizer.load_state_dict(kept["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{file} is the state of another model; "
                              "start a new --out.") from error
    average.updates = kept["updates"]
    progress: dict[str, Any] = kept["progress"]
    return progress


class RunLog:
    """The log of one run."""

    def __init__(self, out: Path) -> None:
        self.out, self.file = out, out / LOG
        self.events: Any = None

    def open(self, step: int) -> None:
        """Begin after ``step``: what was logged later, by a run that was killed, is dropped."""
        if self.file.is_file():
            kept = [entry for entry in read_log(self.file) if entry["step"] <= step]
            with replacing([self.file]) as (part,):
                part.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print("TensorBoard is not installed; log.jsonl has the same numbers", file=sys.stderr)
            return
        with writing(self.out / EVENTS):
            self.events = SummaryWriter(str(self.out / EVENTS), purge_step=step + 1)

    def write(self, entry: Entry) -> None:
        """One line of the log.

        Raises:
            DiskError: it cannot be written; the lines before it stay.
        """
        line = json.dumps(entry) + "\n"
        try:
            with self.file.open("a") as stream:
                stream.write(line)
        except OSError as error:
            raise cannot_write(self.file, error, len(line)) from error
        if self.events is not None:
            with writing(self.out / EVENTS):
                for name, value in _scalars(entry):
                    self.events.add_scalar(name, value, entry["step"])

    def close(self) -> None:
        """The last numbers reach the disk."""
        if self.events is not None:
            self.events.close()


def read_log(file: Path) -> list[Entry]:
    """The entries of a log; a last line that was cut off is left out."""
    entries = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _scalars(entry: Entry) -> list[tuple[str, float]]:
    if "validation" in entry:
        return [(f"validation/{name}", value) for name, value in entry["validation"].items()]
    return [(name if name in ("learning_rate", "gradient_norm") else f"loss/{name}", value)
            for name, value in entry.items() if name != "step"]
