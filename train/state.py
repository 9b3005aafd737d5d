"""What a run leaves on disk: its log, and what it keeps to go on exactly: weights, their average,
the optimizer, the step, and what its settings and rows were."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.data.reading import Row
from vitdemo.disk import cannot_write, replacing, sync, writing
from vitdemo.errors import CheckpointError, TrainingError
from vitdemo.models.vlm import VLM

WEIGHTS, PROGRESS = "state.pt", "progress.json"
LOG, EVENTS = "log.jsonl", "tensorboard"
Entry = dict[str, Any]  # of the log
# They change no weight of a step.
HARMLESS = ("validate_every", "patience", "workers")
AVERAGE_DECAY = 0.998  # of the weights' moving average, at most
_PREFIX = "state-"
Digest = dict[str, list[str]]  # "size:texts" of each picture, in order, by split
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


def digest(train: Sequence[Row], validation: Sequence[Row], sources: Sequence[Path]) -> Digest:
    """What the rows are: for each a picture's place under its source, the file's size and a hash of
    the texts. Where the sources lie and when the files were written does not count, nor does the
    fingerprint in the folder of a data set that `hub` wrote."""
    return {"train": [_of_row(row, sources) for row in train],
            "validation": [_of_row(row, sources) for row in validation]}


def _of_row(row: Row, sources: Sequence[Path]) -> str:
    name = next((f"{i}/{row.path.relative_to(source).as_posix()}"
                 for i, source in enumerate(sources) if row.path.is_relative_to(source)), "")
    if not name:
        folder, split, file = row.path.parts[-3:]
        name = f"hub/{folder.rpartition('-')[0]}/{split}/{file}"
    texts = repr((row.captions, row.captions_zh, row.questions))
    return "\t".join((name, str(row.path.stat().st_size),
                      hashlib.sha256(texts.encode()).hexdigest()[:16]))


def changes(before: Digest, now: Digest) -> str:
    """What differs between two digests, in words: "in train 2 pictures (a/3.jpg, a/7.jpg)"; ""
    where nothing does."""
    differences = []
    for split in ("train", "validation"):
        old, new = before.get(split, []), now.get(split, [])
        names = sorted({row.split("\t")[0].split("/", 1)[1] for row in {*old} ^ {*new}})
        if names:
            differences.append(f"in {split} {len(names)} pictures ({', '.join(names[:3])}"
                               f"{', ...' * (len(names) > 3)})")
        elif old != new:
            differences.append(f"in {split} the order of the pictures")
    return "; ".join(differences)


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
            DiskError: it cannot be written; the lines before it are whole.
        """
        before = self.file.stat().st_size if self.file.is_file() else 0
        line = json.dumps(entry) + "\n"
        try:
            with self.file.open("a") as stream:
                stream.write(line)
        except OSError as error:
            if self.file.is_file() and self.file.stat().st_size > before:
                with self.file.open("r+b") as stream:
                    stream.truncate(before)
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
