"""How captions and answers of a checkpoint stand up to damaged pictures.

    python -m train.robustness --checkpoint checkpoints/vitdemo-small --data my_pictures \\
        --json robustness.json --plot robustness.png

Every picture is damaged in five ways at three strengths each, written as a file and read again by
the app's own reader; captions and questions are those of `evaluate`. What a strength means is the
same for every size of picture: lengths are shares of the shorter side. Values are those of the
picture as it was given, before the model's own resize.
"""

import argparse
import hashlib
import io
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from train.data.reading import Split
from train.evaluate import Parts, evaluate_split
from train.evaluation.predict import Predictor
from train.evaluation.report_cli import (
    about,
    add_common,
    check,
    finish,
    open_predictor,
    read_splits,
    rounded,
)
from train.evaluation.tables import line
from train.plots import Panel, draw_panels
from vitdemo.errors import DataError
from vitdemo.preprocess import open_picture

LEVELS = ("mild", "middle", "strong")
GREY = (128, 128, 128)  # what a turned picture's corners are filled with
# Way -> (unit, mild, middle, strong). JPEG's quality goes from 1 to 95; a deviation is the standard
# deviation of a Gaussian; a picture is turned to the left or to the right.
STRENGTHS: dict[str, tuple[str, float, float, float]] = {
    "jpeg": ("quality", 30, 10, 5),
    "noise": ("deviation, of 255", 15, 35, 70),
    "blur": ("deviation, % of the shorter side", 0.5, 1.5, 3.0),
    "dark": ("% of the light left", 50, 25, 10),
    "rotation": ("degrees", 10, 20, 45),
}


def damage(image: Image.Image, way: str, strength: float, seed: int) -> Image.Image:
    """A damaged copy, RGB of the same size; ``way`` is a key of `STRENGTHS`. Noise, and the side
    to which a picture is turned, come from the seed."""
    generator = np.random.default_rng(seed)
    ways: dict[str, Callable[[], Image.Image]] = {
        "jpeg": lambda: _jpeg(image, round(strength)),
        "noise": lambda: _noise(image, strength, generator),
        "blur": lambda: image.filter(
            ImageFilter.GaussianBlur(strength / 100 * min(image.size))),
        "dark": lambda: image.point([math.floor(i * strength / 100) for i in range(256)] * 3),
        "rotation": lambda: image.rotate(strength * generator.choice((-1, 1)),
                                         Image.Resampling.BICUBIC, fillcolor=GREY),
    }
    return ways[way]()


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _noise(image: Image.Image, deviation: float, generator: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noisy = pixels + generator.normal(0, deviation, pixels.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def write_damaged(path: Path, way: str, strength: float, folder: Path, number: int) -> Path:
    """Read a picture as the app does and write it damaged, without further loss, as a file.

    The seed is the picture's name, so that every strength has the same noise, only more of it.

    Raises:
        PictureError: the picture cannot be read.
    """
    seed = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "little")
    file = folder / f"{number}.png"
    damage(open_picture(path).image, way, strength, seed).save(file, compress_level=1)
    return file


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
