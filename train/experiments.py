"""Trains ways of fusing and of seeing alike, and measures each.

    python -m train.experiments --start CHECKPOINT --data DIR --out runs/fusion
    python -m train.experiments --start CHECKPOINT --data DIR --out runs/eyes --compare backbone

fusion: ways of bringing picture and text together, over one frozen backbone, whose features are
computed once and train all. backbone: frozen, fine-tuned, and a ViT from scratch, all on pixels.
What is done is kept: the same command goes on after an interruption. Other flags are handed to
`train.finetune` as they are.
"""

import argparse
import dataclasses
import itertools
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from train import evaluate, finetune
from train.evaluation.report_cli import command, write_json
from train.settings import RunSettings
from train.state import latest_state
from vitdemo.config import FUSIONS, ModelConfig
from vitdemo.disk import writing
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitdemo.models.vlm import VLM

_BACKBONE = "vision.backbone."
# The ViT that is trained from nothing, for each size of the model.
VITS = {"tiny": "test_vit", "small": "vit_tiny_patch16_224", "base": "vit_small_patch16_224"}


@dataclass(frozen=True)
class Variant:
    """One model of a comparison: what its shape has of its own, whether its backbone is a new ViT,
    and the flags of `train.finetune` for it."""

    shape: dict[str, Any] = dataclasses.field(default_factory=dict)
    vit: bool = False
    flags: tuple[str, ...] = ()


def _fused() -> dict[str, Variant]:
    found = {}
    for fusion, modulation, alignment in itertools.product(FUSIONS, (True, False), (True, False)):
        name = fusion + "-no-modulation" * (not modulation) + "-no-alignment" * (not alignment)
        without = () if alignment else ("--loss-contrastive", "0", "--loss-match", "0")
        found[name] = Variant({"fusion": fusion, "modulation": modulation}, flags=without)
    return found


_FULL = ("--train", "full")
_SEEN = {
    "backbone-frozen": Variant(flags=(*_FULL, "--train-pattern", r"(?!vision\.backbone\.).+")),
    "backbone-fine-tuned": Variant(flags=(*_FULL, "--backbone-rate", "0.1")),
    "backbone-vit-from-scratch": Variant(vit=True, flags=(*_FULL, "--backbone-rate", "1"))}
VARIANTS = {**_fused(), **_SEEN}
# The four ways with everything, and the default one with each part left out; and the backbones.
COMPARISONS = {"fusion": tuple(name for name in _fused()
                               if name in FUSIONS or name.startswith(f"{FUSIONS[0]}-")),
               "backbone": tuple(_SEEN)}


def begin(start: Checkpoint, variant: Variant, picture_size: int = 0, width: int = 0) -> VLM:
    """The model that a variant is trained from, at another picture size or width (0: its own).

    Backbone (but for a new ViT) and, at the same width, the text encoder are those of ``start``;
    all else is new, and what two variants have in common begins with the same numbers in both.
    There is no region head: its losses steer the attention, and two ways of fusing have none to
    steer. A narrower model has two layers to read and two to write.

    Raises:
        ConfigError: a size cannot be used.
    """
    if width % 32:
        raise ConfigError(f"--width is {width}; it must be a multiple of 32.")
    old = start.model.config
    narrow: dict[str, Any] = {"width": width, "embedding_width": width, "heads": width // 32,
                              "text_heads": width // 32, "text_layers": 2,
                              "decoder_layers": 2} if width else {}
    config = dataclasses.replace(old, regions=False, picture_size=picture_size or old.picture_size,
                                 fusion=FUSIONS[0], modulation=True, **narrow)
    eyes = VITS[config.size] if variant.vit else config.backbone
    model = _fresh(dataclasses.replace(config, backbone=eyes, **variant.shape))
    kept = (_BACKBONE, "text.") if config.width == old.width else (_BACKBONE,)
    given = _fresh(config).state_dict() | {name: value for name, value
                                           in start.model.state_dict().items()
                                           if name.startswith(kept)}
    own = model.state_dict()
    model.load_state_dict(own | {
        name: value for name, value in given.items() if name in own
        and own[name].shape == value.shape and not (variant.vit and name.startswith(_BACKBONE))})
    return model


def _fresh(config: ModelConfig) -> VLM:
    """Random weights; the instruction head begins as what the text encoder says, where it can."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VLM(config)
    head = model.instruction_head.out
    if head.in_features == head.out_features:
        torch.nn.init.eye_(head.weight)
        torch.nn.init.zeros_(head.bias)
    return model


def run(arguments: argparse.Namespace, more: Sequence[str]) -> dict[str, Any]:
    """Train and measure what is not done yet; the figures of `train.evaluate` by variant, greedy
    and without re-ranking, with "gates" and the "minutes" of processor time in "_meta".

    Raises:
        VitDemoError: something given cannot be used.
    """
    start = load_checkpoint(arguments.start)
    data = [text for path in arguments.data for text in ("--data", str(path))]
    results: dict[str, Any] = {}
    for name in arguments.variants or COMPARISONS[arguments.compare]:
        out, first = arguments.out / name, arguments.out / f"{name}.start"
        model = begin(start, VARIANTS[name], arguments.picture_size, arguments.width)
        save_checkpoint(first, model, start.tokenizer, {"name": name}, "float32")
        began = time.process_time()
        # A run that is finished says so, and one with other settings stops. Of few pictures, too,
        # the rate is that of new parts; the last weights are compared, without a look before.
        if finetune.main([
                "--from", str(first), "--out", str(out), *data, "--validate-every", "0",
                "--learning-rate", str(RunSettings().learning_rate), *more, *VARIANTS[name].flags,
                *(["--resume"] if latest_state(out) else [])]) != 0:
            raise ConfigError(f"{name} could not be trained; the reason stands above.")
        shutil.rmtree(first, ignore_errors=True)
        file = out / "evaluation.json"
        if not file.is_file():
            limit = ["--limit", str(arguments.limit)] if arguments.limit else []
            found = evaluate.run(evaluate.parser().parse_args(
                ["--checkpoint", str(out), *data, "--beams", "1", "--rerank", "0", *limit,
                 *(flag for flag in more if flag == "--skip-bad")]))
            gates = load_checkpoint(out).model.gates().tolist()
            found["_meta"] |= {"gates": gates, "minutes": (time.process_time() - began) / 60}
            write_json(file, found)
        results[name] = json.loads(file.read_text(encoding="utf-8"))
    return results


def headline(figures: dict[str, Any]) -> dict[str, str]:
    """What the table shows of the figures of a variant; what there is no data for is left out."""
    found: dict[str, float] = {}
    for name, of in figures.items():
        for part, title, get in (
                ("caption", "CIDEr", lambda of: of["cider"]),
                ("retrieval", "find R@1", lambda of: of["text_to_image"]["r1"]),
                ("yes_no", "yes/no", lambda of: of["accuracy"])):
            found |= {f"{name} {title} {language}": get(scores)
                      for language, scores in of.get(part, {}).items()}
        for source, scores in of.get("vqa", {}).get("by_source", {}).items():
            found[f"{source} answers"] = scores["accuracy"]
            found |= {f"{source} lost: {way.replace('_', ' ')}": scores[way]["difference"]
                      for way in ("blank", "wrong_picture", "shuffled") if way in scores}
    meta = figures["_meta"]
    return {**{title: f"{value:.1f}" for title, value in found.items()},
            "gates": ", ".join(f"{gate:.2f}" for gate in meta["gates"]) or "–",
            "training, minutes of processor time": f"{meta['minutes']:.1f}"}


def markdown(results: dict[str, Any]) -> str:
    """A table with a line for each figure and a column for each variant."""
    columns = [headline(of) for of in results.values()]
    titles = sorted(dict.fromkeys(title for of in columns for title in of),
                    key=lambda title: title not in columns[0])
    rows = [["", *results], ["---"] * (1 + len(results)),
            *([title, *(of.get(title, "–") for of in columns)] for title in titles)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


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
    add("--out", type=Path, required=True, metavar="DIR",
        help="where the variants' checkpoints and table.md go")
    add("--compare", choices=list(COMPARISONS), default="fusion", help="what to compare (fusion)")
    add("--variants", nargs="+", choices=list(VARIANTS), metavar="NAME",
        help=f"which to compare instead, of {', '.join(VARIANTS)}")
    add("--picture-size", type=int, default=0, metavar="PIXELS",
        help="of all variants (default: that of --start)")
    add("--width", type=int, default=0, help=(
        "of all variants; another than that of --start gives a small model, whose text encoder "
        "begins anew too"))
    add("--limit", type=int, metavar="N", help="measure on the first N pictures of each data set")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where something given cannot be used."""
    arguments, more = parser().parse_known_args(argv)

    def work() -> None:
        text = markdown(run(arguments, more))
        with writing(arguments.out):
            (arguments.out / "table.md").write_text(text, encoding="utf-8")
        print(text)
    return command(work)


if __name__ == "__main__":
    raise SystemExit(main())
