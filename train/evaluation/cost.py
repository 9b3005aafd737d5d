"""What a checkpoint costs: its size on disk, and the time from a picture's file to its caption."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from train.data.reading import Row
from train.evaluation.predict import ModelPredictor
from vitdemo.models.checkpoint import FILES, Checkpoint

PICTURES = 40  # timed at most
_WARM_UP = 3  # captions before the clock counts


def cost(checkpoint: Checkpoint, rows: Sequence[Row]) -> dict[str, Any]:
    """"megabytes" (millions of bytes of the folder's files), "parameters", and "caption": the
    median "seconds" from a picture's file to the last word, greedy, one picture at a time, with the
    slowest of ten in "seconds_p90", over how many "pictures", and with how many "threads".

    ``rows`` are those to draw from, evenly spread; "caption" is None where there are none.
    """
    files = [checkpoint.folder / name for name in (*FILES, "meta.json")]
    return {"megabytes": sum(file.stat().st_size for file in files) / 1e6,
            "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
            "caption": _caption_time(checkpoint, [row.path for row in rows])}


def _caption_time(checkpoint: Checkpoint, paths: Sequence[Path]) -> dict[str, Any] | None:
    if not paths:
        return None
    chosen = paths[::-(-len(paths) // PICTURES)]
    predictor = ModelPredictor(checkpoint.model, checkpoint.tokenizer, beams=1, batch=1)

    def seconds(path: Path) -> float:
        began = time.perf_counter()
        _, features = next(predictor.batches([path]))
        predictor.captions(features, [0], "en")
        return time.perf_counter() - began

    for i in range(_WARM_UP):
        seconds(chosen[i % len(chosen)])
    taken = sorted(seconds(path) for path in chosen)
    return {"seconds": statistics.median(taken),
            "seconds_p90": taken[min(len(taken) - 1, round(0.9 * len(taken)))],
            "pictures": len(taken), "threads": torch.get_num_threads()}
