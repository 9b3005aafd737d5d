"""How captions and answers of a checkpoint stand up to damaged pictures.

    python -m train.robustness --checkpoint checkpoints/vitdemo-small --data my_pictures \\
        --json robustness.json --plot robustness.png

Every picture is damaged in five ways at three strengths each (`damage`), written as a file and read
again by the app's own reader; captions and questions are those of `evaluate`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.data.reading import Split
from train.evaluate import (
    Parts,
    about,
    add_common,
    check,
    evaluate_split,
    open_predictor,
    read_splits,
    rounded,
)
from train.evaluation.corruptions import STRENGTHS, write_damaged
from train.evaluation.predict import Predictor
from train.evaluation.report_cli import finish
from train.evaluation.tables import line
from train.plots import Panel, draw_panels
from vitdemo.errors import DataError

LEVELS = ("mild", "middle", "strong")


def measure(predictor: Predictor[Any], split: Split, *, quiet: bool = False) -> dict[str, Any]:
    """"clean" and way -> level -> the figures of `evaluate_split`, without retrieval.

    Raises:
        DataError: there is no room for the damaged pictures.
    """
    parts = Parts(retrieval=False)
    figures: dict[str, Any] = {"clean": evaluate_split(predictor, split, parts, quiet=quiet)}
    for way, (_, *strengths) in STRENGTHS.items():
        for level, strength in zip(LEVELS, strengths, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    rows = tuple(replace(row, path=write_damaged(row.path, way, strength,
                                                                 Path(folder), i))
                                 for i, row in enumerate(split.rows))
                except OSError as error:
                    raise DataError(f"the damaged pictures cannot be written to {folder}: "
                                    f"{error.strerror or error}.") from error
                title = f"{split.name}, {way} {strength:g}"
                found = evaluate_split(predictor, replace(split, name=title, rows=rows), parts,
                                       quiet=quiet)
                figures.setdefault(way, {})[level] = _named(found, title, split.name)
    return figures


def _named(figures: dict[str, Any], title: str, name: str) -> dict[str, Any]:
    """Questions without a source go under the data set's own name, not under that of the way."""
    sources = figures.get("vqa", {}).get("by_source", {})
    if title in sources:
        sources[name] = sources.pop(title)
    return figures


def headline(figures: dict[str, Any]) -> dict[str, float]:
    """The few figures that are shown, of what `evaluate_split` gives; METEOR and the rest stay in
    the file."""
    found = {}
    for language, of in figures.get("caption", {}).items():
        order = 4 if language == "en" else 2  # of few Chinese words, four in a row are seldom right
        found[f"CIDEr, {language}"] = of["cider"]
        found[f"BLEU-{order}, {language}"] = of[f"bleu{order}"]
    for source, of in figures.get("vqa", {}).get("by_source", {}).items():
        found[f"answers, {source}"] = of["accuracy"]
    return found


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file; the plot is drawn too.

    Raises:
        VitDemoError: the checkpoint, the data or an option cannot be used.
    """
    check(arguments, limit=1, batch=1, threads=1)
    checkpoint, predictor = open_predictor(arguments)
    started = time.time()
    figures = {split.name: rounded(measure(predictor, split))
               for split in read_splits(arguments)}
    meta = {**about(arguments, checkpoint, started),
            "strengths": {way: dict(zip(("unit", *LEVELS), values, strict=True))
                          for way, values in STRENGTHS.items()}}
    if arguments.plot:
        limited = f", first {arguments.limit} pictures of each" if arguments.limit else ""
        draw_panels(_panels(figures), arguments.plot, f"{checkpoint.folder.name} "
                    f"({checkpoint.revision}) on damaged pictures, {arguments.split}{limited}")
    return {**figures, "_meta": meta}


def _panels(figures: dict[str, Any]) -> Iterator[Panel]:
    """One a way of damage: a line for each headline figure over all data sets."""
    for way, (unit, *strengths) in STRENGTHS.items():
        lines: dict[str, list[float]] = {}
        for name, of in figures.items():
            clean = headline(of["clean"])
            for title, value in clean.items():
                label = f"{name}: {title}" if not title.endswith(name) else title
                lines[label] = [value, *(headline(of[way][level])[title] for level in LEVELS)]
        yield Panel(way, unit, ("clean", *(f"{value:g}" for value in strengths)), lines)


def table(figures: dict[str, Any]) -> str:
    """The headline figures as text: one block a data set, one line a way and strength."""
    lines: list[str] = []
    for name, parts in figures.items():
        if name.startswith("_"):
            continue
        titles = list(headline(parts["clean"]))
        lines += ["", name, *(f"  ({i}) {title}" for i, title in enumerate(titles, 1))]
        lines.append(line("", *(f"({i})" for i in range(1, len(titles) + 1))))
        lines.append(line("  clean", *headline(parts["clean"]).values()))
        for way, (unit, *strengths) in STRENGTHS.items():
            lines += [line(f"  {way} {strength:g} ({unit})",
                           *headline(parts[way][level]).values())
                      for level, strength in zip(LEVELS, strengths, strict=True)]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m train.robustness", description=(
        "Captions and answers under JPEG, noise, blur, darkness and rotation, at three strengths "
        "each, beside those of the pictures as they are."))
    add_common(result, beams=1)
    result.add_argument("--plot", type=Path, metavar="FILE", help="draw a PNG too")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    return finish(parser().parse_args(argv), run, table)


if __name__ == "__main__":
    sys.exit(main())
