"""Stops a run whose loss is no number any more, before the weights take harm."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from train.data.batches import StepBatch
from train.data.reading import Row
from vitdemo.disk import replacing
from vitdemo.errors import DiskError, TrainingError

REPORT = "stopped.json"


def stop(step: int, values: Mapping[str, float], batch: StepBatch, rows: Sequence[Row],
         out: Path, saved: int) -> TrainingError:
    """The error for a step with a loss that is not finite; the pictures are written to ``out``.

    ``batch`` is the whole step, of all processes; ``saved`` the step of the last state, 0: none.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    parts = [name for name in bad if name != "loss"] or bad
    files = [str(rows[row].path) for row in batch.rows]
    culprits = [str(rows[row].path) for row in broken_rows(batch)]
    report = {"step": step, "losses": {name: str(value) for name, value in values.items()},
              "pictures_with_bad_features": culprits, "pictures": files}
    where = f"all {len(files)} stand in {out / REPORT}"
    try:
        with replacing([out / REPORT]) as (part,):
            part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n",
                            encoding="utf-8")
    except DiskError:
        where = f"{len(files)} in all"
    said = " and ".join(f"{name} ({values[name]})" for name in parts)
    blame = (f"; the features of {_some(culprits)} are not finite" if culprits else "")
    kept = f"The state of step {saved}" if saved else "What was in the folder before"
    return TrainingError(
        f"step {step} has a loss that is not finite: {said}, on the pictures {_some(files)} "
        f"({where}){blame}. {kept} and the checkpoint in {out} are as they were. Look at these "
        "pictures; if they are sound, go on with --resume --accept-changes and a smaller "
        "--learning-rate.")


def broken_rows(batch: StepBatch) -> list[int]:
    """The rows whose pictures' features are not all finite."""
    return sorted({int(row) for rows, features in batch.pictures() for row, fine in zip(
        rows, torch.isfinite(features).flatten(1).all(1), strict=True) if not fine})


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
