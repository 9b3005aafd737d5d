"""Do a model's maps point at what the word names? Measured on photographs with boxes.

    python -m train.evaluate_grounding --checkpoint checkpoints/vitdemo-small \\
        --images val2017 --instances instances_val2017.json --captions captions_val2017.json \\
        --json grounding.json

The files are COCO's own. Captions that people wrote are explained teacher-forced, as if the model
had written them (lower-cased, with the default instruction), by the very code that the app uses.
A word counts where it names one of the categories (`train.data.coco_words`: plurals and plain
synonyms too) and that category has boxes in the picture, those of crowds among them. A word that
stands in several captions of a picture, or twice in one, counts each time. A name of two words
that neither gives alone ("teddy bear") is one name, with the mean of its words' maps; so is
the map of "cross-attention" the mean over its layers and heads.

The figures stand in train/README.md: the pointing game (Zhang et al. 2016, "Top-down neural
attention by excitation backprop"), the share of a map inside the boxes, and what the middle of the
picture and a random point score. Boxes are xyxy in pixels. Shapes: n names of things in captions,
K regions of a picture, P pictures, S draws of the bootstrap.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from train.evaluation.coco import GroundedPicture, read_grounding
from train.evaluation.metrics import draw, interval
from train.evaluation.report_cli import finish, table
from vitdemo.backends.base import Backend
from vitdemo.backends.registry import load_backend
from vitdemo.config import EngineConfig
from vitdemo.errors import ConfigError, DataError
from vitdemo.instructions import default_instruction
from vitdemo.preprocess import open_picture
from vitdemo.records import Request
from vitdemo.words import split_words

_LANGUAGE = "en"  # of COCO's captions
DRAWS = 1000  # of the bootstrap


def evaluate(backend: Backend, pictures: Sequence[GroundedPicture], methods: Sequence[str], *,
             quiet: bool = False) -> dict[str, Any]:
    """{"methods": {NAME: figures}, "baselines": {"centre": figures, "random": figures}}.

    The figures are those that the file names.

    Raises:
        DataError: a picture cannot be used.
    """
    rows: list[tuple[int, float, bool]] = []
    hits: dict[str, list[float]] = {}
    masses: dict[str, list[float]] = {}
    for number, picture in enumerate(tqdm(pictures, desc="pictures", unit="picture",
                                          disable=quiet)):
        about = _about(picture)
        for caption in picture.captions:
            rows += [(number, *about[name.category]) for name in caption.names]
        for title, hit, mass in _scores(backend, picture, methods):
            hits.setdefault(title, []).append(hit)
            masses.setdefault(title, []).append(mass)
    scorer = Scorer(rows)
    found = {title: scorer.figures(np.asarray(hits[title]), np.asarray(masses[title]))
             for title in hits}
    return {"methods": found, "baselines": baselines(scorer)}


def _about(picture: GroundedPicture) -> dict[str, tuple[float, bool]]:
    """For each category: its boxes' share of the picture, and whether they hold its centre."""
    frame = np.asarray([(0, 0, *picture.size)], dtype=np.float64)
    return {category: (float(covered(frame, boxes)[0]), bool(holds(boxes, frame[:, 2:] / 2)[0]))
            for category, boxes in picture.boxes.items()}


def _scores(backend: Backend, picture: GroundedPicture,
            methods: Sequence[str]) -> Iterator[tuple[str, float, float]]:
    """Method, hit and mass inside, for each name in the captions of one picture, which are
    explained as if the model had written them."""
    image = open_picture(picture.file).image
    if image.size != picture.size:
        raise DataError(f"{picture.file.name} is {image.width} x {image.height} pixels, but its "
                        f"boxes are for {picture.size[0]} x {picture.size[1]}.")
    features = backend.encode_pictures([image])[0]
    words = {caption.text: split_words(caption.text) for caption in picture.captions}
    for method in methods:
        for caption in picture.captions:
            (explained,) = backend.explain(features, Request(
                default_instruction(_LANGUAGE), caption.text, _LANGUAGE, "caption"), method)
            maps, regions = explained.mean_map(), explained.boxes.astype(np.float64)  # (Q, K)
            middles = (regions[:, :2] + regions[:, 2:]) / 2
            places = {word.start: place for place, word in enumerate(explained.words)}
            for name in caption.names:
                boxes = picture.boxes[name.category]
                rows = [places[words[caption.text][word].start] for word in name.words]
                hits, masses = hits_and_masses(maps[rows].mean(axis=0, keepdims=True),
                                               covered(regions, boxes), holds(boxes, middles))
                yield method, float(hits[0]), float(masses[0])


def covered(regions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The share of each region that lies in at least one box: (K,), 0..1, exact.

    The boxes' edges cut the plane into cells; a cell is inside the union or outside of it, and
    what a region has of a cell is a width times a height.
    """
    x, y = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    inside = np.zeros((len(y) - 1, len(x) - 1), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        inside[np.searchsorted(y, y0):np.searchsorted(y, y1),
               np.searchsorted(x, x0):np.searchsorted(x, x1)] = True
    regions = np.asarray(regions, dtype=np.float64)
    wide = _overlap(regions[:, 0], regions[:, 2], x)  # (K, cells across)
    high = _overlap(regions[:, 1], regions[:, 3], y)  # (K, cells down)
    area = (regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])
    found = np.einsum("ky,yx,kx->k", high, inside.astype(np.float64), wide)
    return np.asarray(np.divide(found, area, out=np.zeros_like(found), where=area > 0))


def _overlap(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How much of each span start..end (K,) lies in each interval between edges (m + 1,)."""
    low = np.maximum(start[:, None], edges[None, :-1])
    high = np.minimum(end[:, None], edges[None, 1:])
    return np.asarray((high - low).clip(0))


def holds(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether each point (m, 2) lies in a box or on its edge: (m,)."""
    x, y = points[:, :1], points[:, 1:]
    return np.asarray(((x >= boxes[:, 0]) & (x <= boxes[:, 2])
                       & (y >= boxes[:, 1]) & (y <= boxes[:, 3])).any(axis=1))


def hits_and_masses(weights: np.ndarray, cover: np.ndarray,
                    middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of M maps (M, K): whether the peak lies in a box, and the share inside the boxes; (M,) each.
    ``cover`` (K,) is the share of each region that is inside, ``middle`` (K,) whether its
    middle is.

    The peak is the middle of the strongest region; where several are equally strong, their mean
    counts, so that a flat map scores as chance does. The share is of the map's own sum, and a
    region that is partly inside counts by the part of its area. A map of zeros misses and has
    nothing inside.
    """
    weights = weights.astype(np.float64)
    total = weights.sum(axis=1)
    strongest = weights == weights.max(axis=1, keepdims=True)
    hits = (strongest & middle).sum(axis=1) / strongest.sum(axis=1)
    masses = np.divide(weights @ cover, total, out=np.zeros_like(total), where=total > 0)
    return np.where(total > 0, hits, 0.0), masses


class Scorer:
    """Means over names and 95% intervals by bootstrap over pictures, not over names: the names of
    one picture are not independent. All methods see the same draws."""

    def __init__(self, names: Sequence[tuple[int, float, bool]], seed: int = 0) -> None:
        """``names``: of each of n names the number of its picture 0..P-1, the boxes' share of the
        picture 0..1, and whether they hold the picture's centre."""
        picture, area, central = zip(*names, strict=True)
        self.picture, self.central = np.asarray(picture), np.asarray(central)
        self.area = np.asarray(area, dtype=np.float64)
        self._draws = draw(max(picture) + 1, DRAWS, seed)  # (S, P)

    def figures(self, hits: np.ndarray, masses: np.ndarray) -> dict[str, object]:
        """The figures of one method from its hits and masses inside, (n,) each, 0..1.

        None where there is nothing to take a mean of.
        """
        off, one, area = ~self.central, np.ones(len(hits)), self.area
        wanted = {"pointing": (hits, one), "pointing_off_centre": (hits * off, one * off),
                  "share_inside_over_area": (masses, area),
                  "share_inside_over_area_off_centre": (masses * off, area * off),
                  "mean_ratio": (masses / area, one), "inside": (masses, one),
                  "pointing_above_centre": (hits - self.central, one)}
        result: dict[str, object] = {}
        intervals: dict[str, object] = {}
        for key, (above, below) in wanted.items():
            result[key] = _rounded(above.sum(), below.sum())
            intervals[key] = self._interval(above, below)
        return {**result, "n": len(hits), "n_off_centre": int(off.sum()), "ci": intervals}

    def _interval(self, above: np.ndarray, below: np.ndarray) -> list[float] | None:
        tops, bottoms = (self._draws @ np.bincount(self.picture, of, self._draws.shape[1])
                         for of in (above, below))  # (S,)
        return interval(tops[bottoms > 0] / bottoms[bottoms > 0], 4)


def _rounded(above: float, below: float) -> float | None:
    return round(float(above / below), 4) if below > 0 else None


def baselines(scorer: Scorer) -> dict[str, dict[str, object]]:
    """"centre": the whole map is the picture's centre. "random": what a point drawn evenly over
    the picture scores on average, exactly: the boxes' share of the picture."""
    central = scorer.central.astype(np.float64)
    return {"centre": scorer.figures(central, central),
            "random": scorer.figures(scorer.area, scorer.area)}


def choose_methods(backend: Backend, wanted: str) -> tuple[str, ...]:
    """The methods to measure: those named, parted by commas, or all.

    Raises:
        ConfigError: the model has no such method.
        TaskError: the model cannot explain or describe.
    """
    for task in ("caption", "explain"):
        backend.require(task)
    known = backend.info.methods
    if not wanted:
        return known
    names = tuple(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise ConfigError(f"--methods: {backend.info.name} has no method {name!r}; it has "
                              f"{', '.join(known)}.")
    if not names:
        raise ConfigError(f"--methods names none; choose from {', '.join(known)}.")
    return names


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate as the command line says: the content of the JSON file.

    Raises:
        VitDemoError: the checkpoint, the data or an option cannot be used.
    """
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit is {arguments.limit}; it must be 1 or more.")
    pictures = read_grounding(arguments.images, arguments.instances, arguments.captions)
    backend = load_backend(EngineConfig(model=str(arguments.checkpoint), device=arguments.device))
    methods = choose_methods(backend, arguments.methods)
    pictures, started = pictures[:arguments.limit], time.time()
    figures = evaluate(backend, pictures, methods)
    return {**figures, "_meta": {
        "checkpoint": backend.info.name, "revision": backend.info.revision,
        "pictures": len(pictures), "captions": sum(len(one.captions) for one in pictures),
        "seconds": round(time.time() - started, 1)}}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m train.evaluate_grounding", description=(
        "Whether the maps of words point at what the words name, on photographs with boxes in "
        "COCO's format."))
    add = result.add_argument
    add("--checkpoint", required=True, metavar="DIR", help=(
        "checkpoint folder, or another model as the app's --model takes it"))
    add("--images", type=Path, required=True, metavar="DIR", help="the photographs")
    add("--instances", type=Path, required=True, metavar="FILE", help="COCO's instances_*.json")
    add("--captions", type=Path, required=True, metavar="FILE", help="COCO's captions_*.json")
    add("--methods", default="", metavar="A,B", help=(
        "methods to measure (default: all that the model has)"))
    add("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    add("--limit", type=int, metavar="N", help="only the first N pictures")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    return finish(parser().parse_args(argv), run, lambda figures: table(
        {"maps": {"": {**figures["methods"], **figures["baselines"]}}}, digits=3))


if __name__ == "__main__":
    sys.exit(main())
