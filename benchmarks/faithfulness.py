"""Which method's maps can be trusted most: deletion and insertion against chance, on many pictures.

    python -m benchmarks.faithfulness --checkpoint checkpoints/vitdemo-small --data DIR \\
        --limit 200 [--split validation] [--methods cross-attention,rollout] [--words 2] \\
        [--occlusion 20] [--json FILE]

DIR is a data folder as for training (see train/README.md). The model describes each picture in its
own words; of each description ``--words`` words are drawn, the same for all methods. Each is
checked as in the app (`Engine.evidence`): the picture's regions are blurred along the word's map,
along 6 random orders, by the distance from the centre and along other words' maps, in 9 steps, and
the areas under the word's probability are taken. The pictures of random orders and centre are made
once for all words and methods of a picture.

Two tables: words that depend on the picture, which are those that lose at least 0.1 of probability
when all of it is blurred, and all words drawn ("of" and "a" mostly follow from the sentence, so no
map can do much for them). "better" is how far the mean area lies below (deletion) or above
(insertion) that of the random orders of the same words. In brackets: 95% of 2,000 bootstrap samples
over pictures. The winner has the largest mean of both on the words that depend on the picture.

Ctrl-C ends it with the tables of the pictures that are done.
Occlusion takes about 80 more masked pictures each, so it runs on the first ``--occlusion`` pictures
only (none by default); its row counts fewer words than the others.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import machine, table, write_json
from train.data.reading import find_splits, read_split
from vitdemo.attention.methods import choose
from vitdemo.checks import SLOW
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, VitDemoError
from vitdemo.preprocess import open_picture
from vitdemo.records import Evidence
from vitdemo.words import split_words

DEPENDS = 0.1  # of probability that a word loses without the picture
SAMPLES = 2000  # of the bootstrap
COLUMNS = ("deletion", "insertion", "random_deletion", "random_insertion", "centre_deletion",
           "centre_insertion")


@dataclass(frozen=True)
class Found:
    """One word by one method: the number of its picture, and its evidence."""

    picture: int
    evidence: Evidence

    @property
    def areas(self) -> tuple[float, ...]:
        """In the order of `COLUMNS`; the random orders' means."""
        one = self.evidence
        return (one.deletion.area, one.insertion.area, float(np.mean(one.random_deletion)),
                float(np.mean(one.random_insertion)), one.centre_deletion, one.centre_insertion)

    @property
    def depends(self) -> bool:
        """Whether the word depends on the picture."""
        return self.evidence.probability - self.evidence.blank >= DEPENDS


def measure(engine: Engine, pictures: Sequence[Path], methods: Sequence[str], words: int,
            occlusion: int, seed: int) -> tuple[dict[str, list[Found]], int]:
    """Every method's evidence, on the same words of each picture's own description; and how many
    pictures were done before somebody pressed Ctrl-C."""
    found: dict[str, list[Found]] = {name: [] for name in methods}
    start = time.perf_counter()
    for number, path in enumerate(pictures):
        try:
            now = [name for name in methods if name != SLOW or number < occlusion]
            fresh = _picture(engine, path, now, words, number, seed)
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            return found, number
        for name, some in fresh.items():
            found[name] += some
        left = (time.perf_counter() - start) / (number + 1) * (len(pictures) - number - 1)
        print(f"\r{number + 1} of {len(pictures)} pictures, {left / 60:.0f} minutes left   ",
              end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found, len(pictures)


def _picture(engine: Engine, path: Path, methods: Sequence[str], words: int, number: int,
             seed: int) -> dict[str, list[Found]]:
    picture = open_picture(path)
    caption = engine.caption(picture)
    count = len(split_words(caption.raw_text))
    drawn = np.random.default_rng([seed, number]).permutation(count)[:words].tolist()
    return {name: [Found(number, one)
                   for one in engine.evidence(picture, caption, name, words=drawn)]
            for name in methods}


def summary(found: Sequence[Found], seed: int = 0) -> dict[str, Any] | None:
    """Means of the areas, and how much better than chance they are, with the ends of the 95%
    interval; None where there is no word."""
    if not found:
        return None
    names = sorted({one.picture for one in found})
    sums = np.zeros((len(names), len(COLUMNS) + 1))
    for one in found:
        sums[names.index(one.picture)] += (*one.areas, 1)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), SAMPLES)
    drawn = _statistics(weights @ sums)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    values = _statistics(sums.sum(0, keepdims=True))[0]
    keys = (*COLUMNS, *(f"{who}{kind}_better" for who in ("", "centre_")
                        for kind in ("deletion", "insertion")))
    verdicts = [one.evidence.verdict for one in found]
    return {"words": len(found), "pictures": len(names),
            **{key: {"mean": float(value), "low": float(least), "high": float(most)}
               for key, value, least, most in zip(keys, values, low, high, strict=True)},
            "verdicts": {name: verdicts.count(name) for name in sorted(set(verdicts))}}


def _statistics(sums: np.ndarray) -> np.ndarray:
    """Sums of areas and a count (n, 7) to means, and shares better than random: (n, 10)."""
    means = sums[:, :-1] / sums[:, -1:]  # (n, 6)
    deletion, insertion, random_deletion, random_insertion, *centre = means.T
    better = [1 - deletion / random_deletion, insertion / random_insertion - 1,
              1 - centre[0] / random_deletion, centre[1] / random_insertion - 1]
    return np.column_stack([means, *better])


def report(rows: dict[str, dict[str, Any] | None]) -> str:
    """The table of one group of words, the random orders and the centre below the methods."""
    header = ("method", "words", "deletion", "better", "insertion", "better", "strong or some",
              "worse")
    lines, widest = [], None
    for name, one in rows.items():
        if one is None:
            continue
        widest = one if widest is None or one["words"] > widest["words"] else widest
        right = sum(one["verdicts"].get(verdict, 0) for verdict in ("strong", "some"))
        lines.append((name, str(one["words"]), *_cells(one, "deletion"), *_cells(one, "insertion"),
                      f"{100 * right / one['words']:.0f}%",
                      f"{100 * one['verdicts'].get('worse', 0) / one['words']:.0f}%"))
    if widest is None:
        return "no words"
    lines.append(("centre", str(widest["words"]), *_cells(widest, "deletion", "centre_"),
                  *_cells(widest, "insertion", "centre_"), "", ""))
    lines.append(("random", str(widest["words"]),
                  f"{widest['random_deletion']['mean']:.3f}", "",
                  f"{widest['random_insertion']['mean']:.3f}", "", "", ""))
    return table(header, lines)


def _cells(one: dict[str, Any], kind: str, who: str = "") -> tuple[str, str]:
    area, better = one[f"{who}{kind}"], one[f"{who}{kind}_better"]
    return (f"{area['mean']:.3f} ({area['low']:.3f}-{area['high']:.3f})",
            f"{100 * better['mean']:+.0f}% ({100 * better['low']:+.0f} to "
            f"{100 * better['high']:+.0f})")


def winner(rows: dict[str, dict[str, Any] | None]) -> str:
    """The method with the largest mean of both shares better than random; "" where there is none.

    Occlusion is left out: it is what the others are to come near to, and too slow to be a default.
    """
    scores = {name: one["deletion_better"]["mean"] + one["insertion_better"]["mean"]
              for name, one in rows.items() if one is not None and name != SLOW}
    return max(scores, key=lambda name: scores[name], default="")


def chosen_pictures(data: str, split: str, limit: int, seed: int) -> list[Path]:
    """``limit`` pictures of a data folder, drawn from the seed."""
    paths = [row.path for _, folder in find_splits(Path(data), split)
             for row in read_split(folder, skip_bad=True, check_pictures=False).rows]
    order = np.random.default_rng(seed).permutation(len(paths))[:limit]
    return [paths[place] for place in order]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse_args(argv)
    try:
        if min(options.limit, options.words) < 1:
            raise ConfigError("--limit and --words must be at least 1.")
        pictures = chosen_pictures(options.data, options.split, options.limit, options.seed)
        engine = Engine.load(EngineConfig(model=options.checkpoint, device=options.device))
        named = [name.strip() for name in options.methods.split(",") if name.strip()]
        methods = [choose(name, engine.methods) for name in named or engine.methods]
        if SLOW not in named and not options.occlusion:
            methods = [name for name in methods if name != SLOW]
        occlusion = options.occlusion or (options.limit if SLOW in named else 0)
        found, done = measure(engine, pictures, methods, options.words, occlusion, options.seed)
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    every = {name: summary(rows, options.seed) for name, rows in found.items()}
    depends = {name: summary([one for one in rows if one.depends], options.seed)
               for name, rows in found.items()}
    best = winner(depends)
    print(f"{engine.info.name} ({engine.info.revision}), {done} pictures\n\n"
          f"Words that depend on the picture:\n\n{report(depends)}\n\nAll words:\n\n"
          f"{report(every)}\n\nThe winner: {best or 'none'}")
    if options.json:
        write_json(options.json, {
            "model": engine.info.name, "revision": engine.info.revision, "split": options.split,
            "pictures": done, "seed": options.seed, "depends": depends, "all": every,
            "winner": best, "machine": machine()})
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.faithfulness",
                                   description=(__doc__ or "").split("\n\n")[0])
    made.add_argument("--checkpoint", default=EngineConfig().model,
                      help="a checkpoint folder, or OWNER/NAME on the hub")
    made.add_argument("--data", required=True, help="a data folder with metadata.jsonl files")
    made.add_argument("--split", default="validation", help="which split (default: validation)")
    made.add_argument("--limit", type=int, default=200, help="how many pictures (default: 200)")
    made.add_argument("--words", type=int, default=2,
                      help="how many words of each description (default: 2)")
    made.add_argument("--methods", default="", help="names, with commas (default: all)")
    made.add_argument("--occlusion", type=int, default=0, metavar="N",
                      help="on how many pictures occlusion runs (default: none)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="auto")
    made.add_argument("--json", metavar="FILE", help="save all numbers")
    return made


if __name__ == "__main__":
    sys.exit(main())
