"""Compares variants of the model, each trained for the same small budget.

    python -m train.experiments --start CHECKPOINT --data DIR --steps 600 --out runs/fusion
    python -m train.experiments --compare backbone --start CHECKPOINT --data DIR --out runs/eyes

fusion: ways of bringing picture and text together, over one frozen backbone, whose features are
computed once and train all. backbone: frozen, fine-tuned, and a ViT from scratch, all on pixels.
What is done is kept: the same command goes on after an interruption. Other flags are handed to
`train.finetune` as they are.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from train import finetune
from train.data.reading import find_splits
from train.evaluate import Parts, check, evaluate_split, read_splits, rounded
from train.evaluation.predict import ModelPredictor
from train.evaluation.report_cli import command, write_json
from train.settings import RunSettings
from train.state import latest_state
from vitdemo.config import FUSIONS, ModelConfig
from vitdemo.device import pick
from vitdemo.disk import writing
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitdemo.models.vlm import VLM

FIGURES = "figures.json"
_RATE = ("--learning-rate", str(RunSettings().learning_rate))  # of few pictures, too: all is new
_PARTS = Parts(blank=True, wrong_picture=True, shuffled=True, made=True)
_BACKBONE = "vision.backbone."
_KEPT = (_BACKBONE, "text.")  # parts that come pretrained; the others begin anew
# The ViT that is trained from nothing, for each size of the model.
VITS = {"tiny": "test_vit", "small": "vit_tiny_patch16_224", "base": "vit_small_patch16_224"}
# What the backbone does, and the flags of `train.finetune` for it. All but the first read pixels
# and crop them anew in each step.
BACKBONES: dict[str, tuple[str, ...]] = {
    "cached": (),
    "frozen": ("--train", "full", "--train-pattern", r"(?!vision\.backbone\.).+"),
    "fine-tuned": ("--train", "full", "--backbone-rate", "0.1"),
    "vit-from-scratch": ("--train", "full", "--backbone-rate", "1"),
}


@dataclass(frozen=True)
class Variant:
    """One model of a comparison, and how it is trained."""

    fusion: str = FUSIONS[0]  # one of `FUSIONS`
    modulation: bool = True  # the instruction scales and shifts the picture's tokens
    alignment: bool = True  # the contrastive loss, and the match loss that needs it, are on
    backbone: str = "cached"  # one of `BACKBONES`

    @property
    def name(self) -> str:
        """As in "concat-no-modulation" or "backbone-frozen"."""
        if self.backbone != "cached":
            return f"backbone-{self.backbone}"
        return self.fusion + "-no-modulation" * (not self.modulation) + \
            "-no-alignment" * (not self.alignment)

    @property
    def flags(self) -> tuple[str, ...]:
        """For `train.finetune`."""
        without = () if self.alignment else ("--loss-contrastive", "0", "--loss-match", "0")
        return (*BACKBONES[self.backbone], *without)


_FUSED = tuple(Variant(fusion, modulation, alignment) for fusion in FUSIONS
               for modulation in (True, False) for alignment in (True, False))
_SEEN = tuple(Variant(backbone=backbone) for backbone in BACKBONES if backbone != "cached")
GRID = {variant.name: variant for variant in (*_FUSED, *_SEEN)}
# The four ways with everything, and the default one with each part left out; and the backbones.
COMPARISONS = {
    "fusion": tuple(variant.name for variant in _FUSED if variant.fusion == FUSIONS[0]
                    or (variant.modulation and variant.alignment)),
    "backbone": tuple(variant.name for variant in _SEEN),
}


def reshaped(config: ModelConfig, picture_size: int = 0, width: int = 0) -> ModelConfig:
    """The shape that all variants have: without a region head, whose losses steer the attention,
    and concat and linear have none to steer. Of another ``width`` (0: its own) it is narrower
    everywhere, with two layers to read and two to write, and learns more in little time.

    Raises:
        ConfigError: a size cannot be used.
    """
    if picture_size and picture_size < 32:
        raise ConfigError(f"--picture-size is {picture_size}; it must be at least 32 pixels.")
    if width < 0 or width % 32:
        raise ConfigError(f"--width is {width}; it must be a multiple of 32.")
    if width:
        config = dataclasses.replace(
            config, width=width, embedding_width=width, heads=width // 32, text_heads=width // 32,
            text_layers=2, decoder_layers=2)
    return dataclasses.replace(config, regions=False,
                               picture_size=picture_size or config.picture_size)


def save_start(start: Checkpoint, variant: Variant, folder: Path, seed: int = 0,
               picture_size: int = 0, width: int = 0) -> None:
    """Write the checkpoint that a variant is trained from; see `reshaped` for the sizes.

    Backbone (but for a ViT from scratch) and, at the same width, the text encoder are those of
    ``start``; everything else is drawn from the seed, and what two variants have in common begins
    with the same numbers in both.

    Raises:
        CheckpointError: the folder cannot be written.
        ConfigError: a size cannot be used.
    """
    config = reshaped(start.model.config, picture_size, width)
    whole = _fresh(dataclasses.replace(config, fusion=FUSIONS[0], modulation=True), seed)
    new_eyes = variant.backbone == "vit-from-scratch"
    model = _fresh(dataclasses.replace(
        config, fusion=variant.fusion, modulation=variant.modulation,
        backbone=VITS[config.size] if new_eyes else config.backbone), seed)
    own = model.state_dict()
    kept = {name: value for name, value in start.model.state_dict().items()
            if name.startswith(_KEPT if config.width == start.model.config.width
                               else _BACKBONE)}
    for given in (whole.state_dict(), kept):
        own |= {name: value for name, value in given.items()
                if name in own and own[name].shape == value.shape
                and not (new_eyes and name.startswith(_BACKBONE))}
    model.load_state_dict(own)
    meta = {"name": variant.name, "step": 0, "sources": start.meta.get("sources", [])}
    save_checkpoint(folder, model, start.tokenizer, meta, weights="float32")


def _fresh(config: ModelConfig, seed: int) -> VLM:
    """Random weights; the instruction head begins as what the text encoder says, where it can."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VLM(config)
    head = model.instruction_head.out
    if head.in_features == head.out_features:
        torch.nn.init.eye_(head.weight)
        torch.nn.init.zeros_(head.bias)
    return model


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


def measure(checkpoint: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of `evaluate_split` by data set, greedy, without re-ranking; and "gates"."""
    placement = pick(arguments.device)
    loaded = load_checkpoint(checkpoint, placement.device)
    model, splits = loaded.model, list(read_splits(arguments))
    predictor = ModelPredictor(model, loaded.tokenizer, beams=1)
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
        for language, scores in of.get("yes_no", {}).items():
            found[f"{name} yes/no {language}"] = scores["accuracy"]
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
        if (out / FIGURES).is_file():
            kept = json.loads((out / FIGURES).read_text(encoding="utf-8"))
            other = [f"{key} {kept['budget'].get(key)} instead of {value}"
                     for key, value in budget.items() if kept["budget"].get(key) != value]
            if other:
                raise ConfigError(f"{out} was made with another budget ({', '.join(other)}); "
                                  "choose another --out, or delete it.")
        else:
            print(f"{name} ({number} of {len(names)})", file=sys.stderr)
            minutes = train_variant(start, GRID[name], arguments, more, out)
            kept = {"budget": budget, "minutes": round(minutes, 1), **measure(out, arguments)}
            write_json(out / FIGURES, kept)
        results[name] = kept
    return results


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
        "where the variants' checkpoints and table.md go"))
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

    def work() -> None:
        text = markdown(run(arguments, more))
        with writing(arguments.out):
            (arguments.out / "table.md").write_text(text, encoding="utf-8")
        print(text)
    return command(work)


if __name__ == "__main__":
    raise SystemExit(main())
