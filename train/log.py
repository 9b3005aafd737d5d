"""What a run writes about itself: log.jsonl, and TensorBoard's events where that is installed."""

import json
import sys
from pathlib import Path
from typing import Any

from vitdemo.disk import cannot_write, replacing, writing

LOG, EVENTS = "log.jsonl", "tensorboard"
Entry = dict[str, Any]


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
