"""What the evaluation commands share: options, checkpoint and data at the start, a printed table
and the figures as JSON at the end."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from train.data.reading import Split, find_splits, read_split
from train.evaluation.predict import ModelPredictor
from vitdemo.config import Decoding
from vitdemo.device import pick
from vitdemo.errors import ConfigError, DataError, VitDemoError
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint

Figures = dict[str, Any]


def finish(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], Figures],
           table: Callable[[Figures], str]) -> int:
    """Print what ``run`` finds and write it to ``arguments.json``, if that is given.

    Exit code 0, or 2 with one line on standard error where the input cannot be used.
    """
    try:
        if arguments.json is not None and arguments.json.is_dir():
            raise DataError(f"--json {arguments.json} is a folder; give a file name.")
        figures = run(arguments)
        print(table(figures))
        if arguments.json is not None:
            _write_json(arguments.json, figures)
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write_json(file: Path, figures: Figures) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}. "
                        "The figures stand above.") from error


def open_predictor(arguments: argparse.Namespace) -> tuple[Checkpoint, ModelPredictor]:
    """The checkpoint of the command line, and what predicts with it.

    Raises:
        VitDemoError: the checkpoint or an option cannot be used.
    """
    Decoding(beams=arguments.beams)  # a bad number is refused before anything is read
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    placement = pick(arguments.device)
    checkpoint = load_checkpoint(arguments.checkpoint, placement.device)
    predictor = ModelPredictor(checkpoint.model, checkpoint.tokenizer, beams=arguments.beams,
                               batch=arguments.batch)
    return checkpoint, predictor


def about(arguments: argparse.Namespace, checkpoint: Checkpoint, started: float) -> dict[str, Any]:
    """What was measured, on what, and the seconds since ``started``."""
    device = next(checkpoint.model.parameters()).device
    return {"checkpoint": checkpoint.folder.name, "revision": checkpoint.revision,
            "split": arguments.split, "limit": arguments.limit, "beams": arguments.beams,
            "device": str(device), "seconds": round(time.time() - started, 1)}


def check(arguments: argparse.Namespace, **least: int) -> None:
    """Refuse options below their least value, by name; one that was not given is fine."""
    for name, low in least.items():
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise ConfigError(f"--{name} is {value}; it must be {low} or more.")


def read_splits(arguments: argparse.Namespace) -> Iterator[Split]:
    """The splits of all ``arguments.data``, each with a name of its own, cut to the limit."""
    for name, folder in _unique(arguments.data, arguments.split):
        split = read_split(folder, skip_bad=arguments.skip_bad)
        if split.skipped:
            print(f"{name}: {len(split.skipped)} bad row(s) left out, the first: "
                  f"{split.skipped[0]}", file=sys.stderr)
        yield replace(split, name=name, rows=split.rows[:arguments.limit])


def _unique(paths: Sequence[Path], split: str) -> Iterator[tuple[str, Path]]:
    """All data folders once, each with a name of its own."""
    seen: dict[str, str] = {}
    for name, folder in [found for path in paths for found in find_splits(path, split)]:
        real = os.path.realpath(folder)
        if real in seen.values():
            continue
        title, number = name, 2
        while title in seen:
            title, number = f"{name} ({number})", number + 1
        seen[title] = real
        yield title, folder


def rounded(value: Any, digits: int = 2) -> Any:
    """The same figures with so many digits after the point."""
    if isinstance(value, dict):
        return {key: rounded(of, digits) for key, of in value.items()}
    return round(value, digits) if isinstance(value, float) else value


def add_common(parser: argparse.ArgumentParser, beams: int) -> None:
    """The options that evaluation commands share."""
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    add("--data", type=Path, required=True, action="append", metavar="DIR", help=(
        "a folder with a metadata.jsonl, a data set with splits inside, or a folder of data "
        "sets; may be given several times"))
    add("--split", default="validation", help="which split of a data set (default: validation)")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    add("--limit", type=int, metavar="N", help="only the first N pictures of each data set")
    add("--beams", type=int, default=beams,
        help=f"beams of the search for words, 1 is greedy ({beams})")
    add("--batch", type=int, default=32, help="pictures at a time (32)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: what PyTorch chooses)")
    add("--skip-bad", action="store_true", help="leave bad rows out instead of stopping")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
