"""Compares variants of the model, each trained for the same small budget.

    python -m train.experiments --start CHECKPOINT --data DIR --steps 600 --out runs/fusion
    python -m train.experiments --compare backbone --start CHECKPOINT --data DIR --out runs/eyes

fusion: ways of bringing picture and text together, over one frozen backbone, whose features are
computed once and serve all. backbone: frozen, fine-tuned, and a ViT from scratch, all on pixels.
What is done is kept: the same command goes on after an interruption. Other flags are handed to
`train.finetune` as they are.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train import finetune
from train.data.features import VIEWS, open_features
from train.data.reading import find_splits
from train.evaluate import Parts, check, evaluate_split, read_splits, rounded
from train.evaluation.predict import ModelPredictor, StoredPredictor
from train.plots import draw_bars
from train.settings import RunSettings
from train.state import latest_state
from train.variants import COMPARISONS, GRID, Variant, reshaped, save_start
from vitdemo.device import pick
from vitdemo.errors import ConfigError, DataError, VitDemoError
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint

FIGURES = "figures.json"
_RATE = ("--learning-rate", str(RunSettings().learning_rate))  # of few pictures, too: all is new
_PARTS = Parts(blank=True, wrong_picture=True, shuffled=True, made=True)


def train_variant(start: Checkpoint, variant: Variant, arguments: argparse.Namespace,
                  more: Sequence[str], out: Path) -> float:
    """Fine-tune one variant into ``out``, or go on with it; the minutes of processor time.

    There is no look at the validation split meanwhile: the last weights are what is compared.

    Raises:
        ConfigError: the fine-tuning ended with an error, which it has said.
    """
    begin = out.with_name(f"{out.name}.start")
    save_start(start, variant, begin, arguments.seed, arguments.picture_size, arguments.width)
    command = ["--from", str(begin), "--out", str(out), "--cache", str(arguments.cache),
               "--steps", str(arguments.steps), "--seed", str(arguments.seed),
               "--validate-every", "0", *_RATE, *more, *variant.flags]
    for source in arguments.data:
        command += ["--data", str(source)]
    if latest_state(out) is not None:
        command.append("--resume")
    began = time.process_time()
    if finetune.main(command) != 0:
        raise ConfigError(f"the variant {variant.name} could not be trained; the reason stands "
                          "above.")
    shutil.rmtree(begin, ignore_errors=True)
    return (time.process_time() - began) / 60


def measure(checkpoint: Path, variant: Variant, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of `evaluate_split` by data set, greedy, without re-ranking; and "gates"."""
    placement = pick(arguments.device)
    loaded = load_checkpoint(checkpoint, placement.device)
    model, splits = loaded.model, list(read_splits(arguments))
    predictor = ModelPredictor(model, loaded.tokenizer, beams=1)
    if variant.backbone == "cached":
        paths = [row.path for split in splits for row in split.rows]
        store = open_features(model, paths, VIEWS[:1], arguments.cache)
        predictor = StoredPredictor(model, loaded.tokenizer, store, beams=1)
    figures = {split.name: rounded(evaluate_split(predictor, split, _PARTS)) for split in splits}
    return {"data": figures, "gates": [round(gate, 4) for gate in model.gates().tolist()]}


def headline(figures: dict[str, Any]) -> dict[str, float]:
    """What the table shows, in percent, of what `measure` found; what there is no data for is left
    out. Of several data sets with captions, or with questions, each has its own column."""
    found: dict[str, float] = {}
    for name, of in figures["data"].items():
        for language, scores in of.get("caption", {}).items():
            found[f"{name} CIDEr {language}"] = scores["cider"]
        for language, scores in of.get("retrieval", {}).items():
            found[f"{name} find R@1 {language}"] = scores["text_to_image"]["r1"]
        for part, title in (("yes_no", "yes/no"), ("match", "match")):
            for language, scores in of.get(part, {}).items():
                found[f"{name} {title} {language}"] = scores["accuracy"]
        for source, scores in of.get("vqa", {}).get("by_source", {}).items():
            found[f"{source} answers"] = scores["accuracy"]
            for condition in ("blank", "wrong_picture", "shuffled"):
                if condition in scores:
                    found[f"{source} lost: {condition.replace('_', ' ')}"] = \
                        scores[condition]["difference"]
    return found


def run(arguments: argparse.Namespace, more: Sequence[str]) -> dict[str, Any]:
    """Train and measure what is not done yet; the figures by variant.

    Raises:
        VitDemoError: something given cannot be used.
    """
    check(arguments, steps=1, limit=1)
    for source in arguments.data:
        find_splits(source, arguments.split)  # before hours of training, not after
    start = load_checkpoint(arguments.start)
    reshaped(start.model.config, arguments.picture_size, arguments.width)
    budget = {"start": start.revision, "steps": arguments.steps, "seed": arguments.seed,
              "data": [str(path) for path in arguments.data], "limit": arguments.limit,
              "split": arguments.split, "picture_size": arguments.picture_size,
              "width": arguments.width, "finetune": list(more)}
    names = arguments.variants or COMPARISONS[arguments.compare]
    results: dict[str, Any] = {}
    for number, name in enumerate(names, 1):
        out = arguments.out / name
        kept = _read(out / FIGURES)
        if kept is not None and kept["budget"] != budget:
            raise ConfigError(f"{out} was made with another budget ({_differences(kept, budget)}); "
                              "choose another --out, or delete it.")
        if kept is None:
            print(f"{name} ({number} of {len(names)})", file=sys.stderr)
            minutes = train_variant(start, GRID[name], arguments, more, out)
            kept = {"budget": budget, "minutes": round(minutes, 1),
                    **measure(out, GRID[name], arguments)}
            _write(out / FIGURES, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
        results[name] = kept
    return results


def _differences(kept: dict[str, Any], budget: dict[str, Any]) -> str:
    return ", ".join(f"{key} {kept['budget'].get(key)} instead of {value}"
                     for key, value in budget.items() if kept["budget"].get(key) != value)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}. Delete it to measure again.") from error


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}.") from error


def markdown(results: dict[str, Any]) -> str:
    """A table with a line for each figure and a column for each variant, and lines for the gates
    and for what the training took."""
    columns = {name: headline(of) for name, of in results.items()}
    titles = list(dict.fromkeys(title for of in columns.values() for title in of))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for title in titles:
        cells = (f"{of[title]:.1f}" if title in of else "–" for of in columns.values())
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    gates = (", ".join(f"{gate:.2f}" for gate in of["gates"]) or "–" for of in results.values())
    lines.append("| gates | " + " | ".join(gates) + " |")
    minutes = (f"{of['minutes']:.1f}" for of in results.values())
    lines.append("| training, minutes of processor time | " + " | ".join(minutes) + " |")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m train.experiments", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    add = result.add_argument
    add("--start", type=Path, required=True, metavar="DIR",
        help="a checkpoint whose backbone and text encoder all variants begin with")
    add("--data", type=Path, required=True, action="append", metavar="DIR",
        help="as for train.finetune; may be given several times")
    add("--out", type=Path, required=True, metavar="DIR", help=(
        "where the variants' checkpoints, table.md and plot.png go"))
    add("--steps", type=int, default=600, help="optimizer steps of each variant (600)")
    add("--cache", type=Path, default=Path("cache/features"), help="as for train.finetune")
    add("--compare", choices=list(COMPARISONS), default="fusion", help="what to compare (fusion)")
    add("--variants", nargs="+", choices=list(GRID), metavar="NAME",
        help=f"which to compare instead, of {', '.join(GRID)}")
    add("--picture-size", type=int, default=0, metavar="PIXELS",
        help="of all variants (default: that of --start)")
    add("--width", type=int, default=0, help=(
        "of all variants; another than that of --start gives a small model, whose text encoder "
        "begins anew too"))
    add("--split", default="validation", help="what is measured on (validation)")
    add("--limit", type=int, metavar="N", help="measure on the first N pictures of each data set")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="of the evaluation: auto, cpu, cuda or mps (auto)")
    add("--skip-bad", action="store_true", help="leave bad rows out instead of stopping")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where something given cannot be used."""
    arguments, more = parser().parse_known_args(argv)
    more += ["--skip-bad"] * arguments.skip_bad
    try:
        results = run(arguments, more)
        text = markdown(results)
        _write(arguments.out / "table.md", text)
        columns = {name: headline(of) for name, of in results.items()}
        titles = list(dict.fromkeys(title for of in columns.values() for title in of))
        draw_bars({title: {name: of[title] for name, of in columns.items() if title in of}
                   for title in titles}, arguments.out / "plot.png",
                  f"{arguments.steps} steps each")
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
