"""Can a word that the model made up be told from its map? Held against what people said.

    python -m benchmarks.invented --data DIR --grounding COCO [--limit 60] [--json FILE]

The model describes pictures; each word of its description that names one of COCO's 80 categories
(`train.data.coco_words`, synonyms and plurals too) is *invented* where none of people's five
captions names a category that it may mean and, in COCO, none has a box. DIR is a data folder as for
training with captions, COCO a folder with images/, instances.json and captions.json. People do not
name all that is there, so on DIR some inventions are none.

For each sign: the area under the ROC curve (0.5 is chance), with 95% of 2,000 bootstrap samples
over pictures, on all words; then precision and recall of the rule "a diffuse map, and no place that
looks like it": both signs at most at the values that give the best F1 on DIR, also on COCO.

- *diffuse*: the default map's divergence from an even one, in nats.
- *looks*: the region head's log-odds that the word is in the picture at all (our own model).
- *depends*: how many times as high the picture makes the word's odds, as a logarithm.
- *unsure*: the word's probability, which the app marks already.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.timing import table, write_json
from train.data.coco_words import mentions
from train.data.reading import find_splits, read_split
from train.evaluation.coco import read_grounding
from vitdemo.attention.dependence import concentration
from vitdemo.backends.native import NativeBackend
from vitdemo.backends.registry import load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import VitDemoError
from vitdemo.preprocess import open_picture

SIGNS = ("diffuse", "looks", "depends", "unsure")
SAMPLES = 2000  # of the bootstrap


class Told(NamedTuple):
    """One word: its picture, whether it is invented, and its `SIGNS`, all low for an invention."""

    picture: int
    invented: bool
    signs: tuple[float, ...]


def described(data: str, limit: int, seed: int) -> list[tuple[Path, tuple[str, ...], set[str]]]:
    """Pictures with people's captions: file, captions, categories with boxes (none are known)."""
    rows = [row for _, folder in find_splits(Path(data), "validation")
            for row in read_split(folder, skip_bad=True, check_pictures=False).rows
            if len(row.texts("en")) >= 5]
    order = np.random.default_rng(seed).permutation(len(rows))[:limit]
    return [(rows[place].path, tuple(rows[place].texts("en")), set()) for place in order]


def boxed(folder: Path, limit: int) -> list[tuple[Path, tuple[str, ...], set[str]]]:
    """The same of COCO's files."""
    found = read_grounding(folder / "images", folder / "instances.json", folder / "captions.json")
    return [(one.file, tuple(caption.text for caption in one.captions), set(one.boxes))
            for one in found[:limit]]


def words_of(engine: Engine, backend: Any, number: int, file: Path, captions: Sequence[str],
             boxes: set[str]) -> Iterator[Told]:
    """Those of one description that name things."""
    picture = open_picture(file)
    caption = engine.caption(picture, decoding=Decoding())
    explanation, = engine.explain(picture, caption)
    people = boxes | {category for text in captions for mention in mentions(text.lower())
                      for category in mention.categories}
    maps, features = explanation.mean_map(), backend.encode_pictures([picture.image])[0].data
    for mention in mentions(caption.raw_text):
        word = mention.words[-1]
        p, q = (min(1 - 1e-6, max(1e-6, values[word])) for values in (
            explanation.word_probabilities, explanation.blank_probabilities))
        looks = float("nan")
        if isinstance(backend, NativeBackend) and backend.model.region_head is not None:
            ids = backend.tokenizer.pieces(explanation.words[word].text)[0]
            with torch.inference_mode():
                looks = float(backend.model.region_head.presence(
                    features, torch.tensor(ids))[0].mean())
        yield Told(number, people.isdisjoint(mention.categories), (
            concentration(maps[word]) if maps[word].sum() > 0 else 0.0, looks,
            np.log(p / (1 - p)) - np.log(q / (1 - q)), p))


def area(told: Sequence[Told], sign: int) -> float:
    """The chance that an invented word has less of a sign than another; nan without both."""
    values = np.array([one.signs[sign] for one in told])
    invented = np.array([one.invented for one in told])
    low, high = values[invented], values[~invented]
    if not len(low) or not len(high):
        return float("nan")
    less = high[:, None] - low[None]
    return float((np.sign(less) / 2 + 0.5).mean())


def interval(told: Sequence[Told], sign: int, seed: int) -> tuple[float, float]:
    """The middle 95% of `area` over pictures drawn anew."""
    of = [[one for one in told if one.picture == number]
          for number in sorted({one.picture for one in told})]
    rng = np.random.default_rng(seed)
    drawn = [area([one for place in rng.integers(0, len(of), len(of)) for one in of[place]], sign)
             for _ in range(SAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def marked(told: Sequence[Told], most: tuple[float, float]) -> np.ndarray:
    """Which words the rule calls invented: bool (n,)."""
    return np.array([one.signs[0] <= most[0] and one.signs[1] <= most[1] for one in told])


def score(told: Sequence[Told], most: tuple[float, float]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the rule."""
    says, truth = marked(told, most), np.array([one.invented for one in told])
    hits = int((says & truth).sum())
    precision, recall = hits / max(1, says.sum()), hits / max(1, truth.sum())
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invented")
    parser.add_argument("--checkpoint", default=EngineConfig().model)
    parser.add_argument("--data", required=True)
    parser.add_argument("--grounding", required=True, type=Path)
    parser.add_argument("--limit", type=int, default=60, help="pictures of each (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(argv)
    try:
        backend = load_backend(EngineConfig(model=options.checkpoint))
        engine = Engine(backend)
        sets = [described(options.data, options.limit, options.seed),
                boxed(options.grounding, options.limit)]
        told: list[list[Told]] = [[], []]
        for number, (place, one) in enumerate((place, one) for place, some in enumerate(sets)
                                              for one in some):
            told[place] += words_of(engine, backend, number, *one)
            print(f"\r{number + 1}", end="", file=sys.stderr, flush=True)
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    every = [one for some in told for one in some]
    shares = [np.mean([one.invented for one in some]) for some in told]
    areas = {name: (area(every, sign), *interval(every, sign, options.seed))
             for sign, name in enumerate(SIGNS)}
    quantiles = [np.unique([one.signs[sign] for one in told[0]]) for sign in (0, 1)]
    most = max(((a, b) for a in quantiles[0] for b in quantiles[1]),
               key=lambda both: score(told[0], both)[2])
    print(f"\n{len(every)} words, invented {shares[0]:.0%} of {len(told[0])} and {shares[1]:.0%} "
          f"of {len(told[1])}\n\n" + table(("sign", "area", "95%"), [
              (name, f"{mean:.2f}", f"{low:.2f}-{high:.2f}")
              for name, (mean, low, high) in areas.items()]))
    print("\n" + table(("rule on", "precision", "recall", "F1"), [
        (name, *(f"{value:.2f}" for value in score(some, most)))
        for name, some in zip(("DIR, chosen there", "COCO"), told, strict=True)]))
    if options.json:
        write_json(options.json, {"areas": areas, "most": most, "invented": shares,
                                  "scores": [score(some, most) for some in told]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
