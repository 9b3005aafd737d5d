"""Do a model's maps point at what the word names? Measured on photographs with boxes.

    python -m train.evaluate_grounding --checkpoint checkpoints/vitdemo-small \\
        --images val2017 --instances instances_val2017.json --captions captions_val2017.json \\
        --json grounding.json

The files are COCO's own. Captions that people wrote are explained teacher-forced, as if the model
had written them (lower-cased, with the default instruction), by the very code that the app uses.
A word counts where it names one of the categories (`train.grounding.coco_words`: plurals and plain
synonyms too) and that category has boxes in the picture, those of crowds among them. A word that
stands in several captions of a picture, or twice in one, counts each time. A name of two words
that neither gives alone ("teddy bear") is one name, with the mean of its words' maps; so is
the map of "cross-attention" the mean over its layers and heads.

The figures, each a mean over the n names, for each method:

- "pointing": the map's peak, the middle of its strongest region, lies inside a box of the category
  (Zhang et al. 2016, Top-down neural attention by excitation backprop, the pointing game).
- "pointing_off_centre": the same over the n_off_centre names whose boxes do not hold the centre of
  the picture.
- "inside": the share of the map that lies inside the boxes (their union; a region that is partly
  inside counts by the part of its area). The map is made to add up to 1 first.
- "share_inside_over_area": the mean of "inside" divided by the mean share of the picture that the
  boxes cover (a ratio of means): 1 is what a flat map gets. "..._off_centre" is over the same names
  as above.
- "mean_ratio": the mean over names of "inside" divided by the share of the picture that this name's
  boxes cover (a mean of ratios): small things weigh more here.
- "pointing_above_centre": "pointing" less that of the centre of the picture.
- "ci": the 95% interval of each, by a bootstrap of 1,000 draws over pictures.

Baselines: "centre" is a map that is all in the one point in the middle of the picture; "random" is
what a point drawn evenly over the picture gets on average, exactly.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from train.evaluation.report_cli import finish
from train.grounding.coco import GroundedPicture, read_grounding
from train.grounding.pointing import (
    Scorer,
    Target,
    baselines,
    covered,
    hits_and_masses,
    holds,
    names_of,
)
from vitdemo.attention.masking import blurred_pictures
from vitdemo.attention.occlusion import occlusion
from vitdemo.attention.regions import smoothed
from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.backends.registry import load_backend
from vitdemo.config import EngineConfig
from vitdemo.errors import ConfigError, DataError
from vitdemo.instructions import default_instruction
from vitdemo.preprocess import open_picture
from vitdemo.records import Explanation
from vitdemo.words import split_words

_LANGUAGE = "en"  # of COCO's captions
SLOW = "occlusion"  # about a hundred masked pictures for each picture: only when asked for


def evaluate(backend: Backend, pictures: Sequence[GroundedPicture], methods: Sequence[str], *,
             heads: bool = False, smooth: bool = False, quiet: bool = False) -> dict[str, Any]:
    """{"methods": {NAME: figures}, "baselines": {"centre": figures, "random": figures}}.

    The figures are those that the file names. ``heads`` adds every layer ("METHOD: LAYER") and
    every head ("METHOD: LAYER, head 1") of methods that have several; ``smooth`` adds each map
    with every region's mean over itself and its neighbours ("NAME, 3x3").

    Raises:
        DataError: a picture cannot be used.
    """
    rows: list[tuple[int, float, bool]] = []
    hits: dict[str, list[float]] = {}
    masses: dict[str, list[float]] = {}
    for number, picture in enumerate(tqdm(pictures, desc="pictures", unit="picture",
                                          disable=quiet)):
        explain = Explainer(backend, picture)
        about = _about(picture)
        for caption in picture.captions:
            rows += [(number, *about[name.category]) for name in caption.names]
        for title, hit, mass in _scores(explain, picture, methods, heads, smooth):
            hits.setdefault(title, []).append(hit)
            masses.setdefault(title, []).append(mass)
    scorer = Scorer(names_of(rows))
    found = {title: scorer.figures(np.asarray(hits[title]), np.asarray(masses[title]))
             for title in hits}
    return {"methods": found, "baselines": baselines(scorer)}


def _about(picture: GroundedPicture) -> dict[str, tuple[float, bool]]:
    """For each category: its boxes' share of the picture, and whether they hold its centre."""
    frame = np.asarray([(0, 0, *picture.size)], dtype=np.float64)
    return {category: (float(covered(frame, boxes)[0]), bool(holds(boxes, frame[:, 2:] / 2)[0]))
            for category, boxes in picture.boxes.items()}


def _scores(explain: "Explainer", picture: GroundedPicture, methods: Sequence[str], heads: bool,
            smooth: bool) -> Iterator[tuple[str, float, float]]:
    """Name of the map, hit and mass inside, for each name in the captions of one picture."""
    words = {caption.text: split_words(caption.text) for caption in picture.captions}
    for method in methods:
        targets: dict[str, Target] = {}
        for caption in picture.captions:
            explained = explain(caption.text, method)
            titles, maps = _maps(explained, heads, smooth)
            places = {word.start: place for place, word in enumerate(explained.words)}
            for name in caption.names:
                if name.category not in targets:
                    targets[name.category] = Target.of(explained.boxes,
                                                       picture.boxes[name.category])
                rows = [places[words[caption.text][word].start] for word in name.words]
                of_name = maps[:, rows].mean(axis=1)  # (M, K)
                hits, masses = hits_and_masses(of_name, targets[name.category])
                yield from zip(titles, hits.tolist(), masses.tolist(), strict=True)


class Explainer:
    """Explains captions of one picture as if the model had written them; the picture, and for
    occlusion its masked copies, are encoded once.

    Raises:
        DataError: the picture has another size than its boxes are for.
        PictureError: it cannot be read.
    """

    def __init__(self, backend: Backend, picture: GroundedPicture) -> None:
        self._backend = backend
        self._image = open_picture(picture.file).image
        if self._image.size != picture.size:
            raise DataError(f"{picture.file.name} is {self._image.width} x {self._image.height} "
                            "pixels, but its boxes are for "
                            f"{picture.size[0]} x {picture.size[1]}.")
        self._features = backend.encode_pictures([self._image])[0]
        self._masked: list[PictureFeatures] = []

    def __call__(self, text: str, method: str) -> Explanation:
        """The maps of every word of a caption."""
        given = {"instruction": default_instruction(_LANGUAGE), "text": text,
                 "language": _LANGUAGE, "task": "caption"}
        slow = method == SLOW
        (found,) = self._backend.explain(self._features, **given, method="" if slow else method)
        if not slow:
            return found

        def score(hidden: np.ndarray) -> np.ndarray:
            if not self._masked:  # the masks are the same for every caption
                self._masked = self._backend.encode_pictures(
                    blurred_pictures(self._image, found.boxes, hidden))
            return self._backend.word_probabilities(self._masked, **given)[0]

        return occlusion(found, score)


def _maps(explained: Explanation, heads: bool, smooth: bool) -> tuple[list[str], np.ndarray]:
    """The M maps to score of each word of one explanation: their names, and (M, Q, K)."""
    layers, of_layer = explained.weights.shape[:2]
    found = [(explained.method, explained.mean_map())]
    if heads and layers * of_layer > 1:
        for layer, weights in zip(explained.layer_names, explained.weights, strict=True):
            found.append((f"{explained.method}: {layer}", weights.mean(axis=0)))
            found += [(f"{explained.method}: {layer}, head {head + 1}", one)
                      for head, one in enumerate(weights)]
    if smooth and explained.grid != (0, 0):
        found += [(f"{title}, 3x3", smoothed(maps, explained.grid)) for title, maps in found]
    return [title for title, _ in found], np.stack([maps for _, maps in found])


def table(figures: dict[str, Any]) -> str:
    """The figures as text, for a person; 95% intervals of the first column in brackets."""
    keys = ("pointing", "pointing_off_centre", "share_inside_over_area", "mean_ratio")
    named = [*figures["methods"].items(), *((f"({name})", of) for name, of in
                                            figures["baselines"].items())]
    width = max(len(name) for name, _ in named) + 2
    lines = [" " * width + f"{'pointing':>20}{'off-centre':>12}{'inside/area':>13}"
             f"{'mean ratio':>12}"]
    for name, of in named:
        cells = ["-" if of[key] is None else f"{of[key]:.3f}" for key in keys]
        low, high = of["ci"]["pointing"]
        lines.append(f"{name:<{width}}{f'{cells[0]} [{low:.2f}, {high:.2f}]':>20}"
                     f"{cells[1]:>12}{cells[2]:>13}{cells[3]:>12}")
    centre = figures["baselines"]["centre"]
    return "\n".join([*lines, f"{centre['n']} names, {centre['n_off_centre']} of them off-centre"])


def choose_methods(backend: Backend, wanted: str) -> tuple[str, ...]:
    """The methods to measure: those named, parted by commas, or all but occlusion, the slow one.

    Raises:
        ConfigError: the model has no such method.
        TaskError: the model cannot explain or describe.
    """
    for task in ("caption", "explain"):
        backend.require(task)
    known = (*backend.info.methods, SLOW)
    if not wanted:
        return backend.info.methods
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
    figures = evaluate(backend, pictures, methods, heads=arguments.heads, smooth=arguments.smooth)
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
        "methods to measure (default: all that the model has, but occlusion)"))
    add("--heads", action="store_true", help="every layer and every head by itself too")
    add("--smooth", action="store_true", help=(
        "every map too with each region's mean over itself and its neighbours"))
    add("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    add("--limit", type=int, metavar="N", help="only the first N pictures")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    return finish(parser().parse_args(argv), run, table)


if __name__ == "__main__":
    sys.exit(main())
