"""Backbone features of every training picture, computed once and kept in a memory map.

With a frozen backbone the features never change, so each picture is encoded once. For one that
learns pixels are read anew for every step.
Shapes: P pictures, N tokens, C channels, B pictures that are asked for.
"""

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vitdemo.attention.masking import Masker
from vitdemo.disk import reserve, sync, writing
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import grid_boxes, normalisation, normalised, open_picture, to_bytes

_THREADS = 4  # that read pictures
_AT_ONCE = 4  # pictures on a processor, in whose cache the activations then stay
_AT_ONCE_GPU = 64


class Store:
    """Where the steps get their pictures from: here pixels, for a backbone that learns."""

    def __init__(self, model: VLM) -> None:
        self.side = model.config.picture_size
        self.boxes = grid_boxes(model.vision.grid, (1, 1), model.vision.edges)  # (N, 4), shares

    def get(self, paths: Sequence[Path]) -> Tensor:
        """Pixels uint8 (B, 3, side, side), or features (B, N, C), of these pictures."""
        return _in_threads(lambda path: to_bytes([open_picture(path).image], self.side)[0], paths)

    def sharp_and_blurred(self, paths: Sequence[Path]) -> Tensor:
        """Pixels of pictures as they are and blurred all over: uint8 (B, 2, 3, side, side)."""
        return _in_threads(self._both, paths)

    def _both(self, path: Path) -> Tensor:
        masker = Masker(image := open_picture(path).image, self.boxes * np.tile(image.size, 2))
        return to_bytes([masker.picture(np.full(len(self.boxes), hidden))
                         for hidden in (False, True)], self.side)


class FeatureStore(Store):
    """Features of a list of pictures: float16 (P, N, C), on disk."""

    def __init__(self, model: VLM, paths: Sequence[Path], array: np.ndarray) -> None:
        super().__init__(model)
        self.array, self.place = array, {path: i for i, path in enumerate(paths)}

    def get(self, paths: Sequence[Path]) -> Tensor:
        """float16 (B, N, C)."""
        return torch.from_numpy(self.array[[self.place[path] for path in paths]])


class LiveStore(Store):
    """Features by a model as it is at that moment."""

    def __init__(self, model: VLM) -> None:
        super().__init__(model)
        self.model = model

    @torch.no_grad()
    def get(self, paths: Sequence[Path]) -> Tensor:
        """float32 (B, N, C)."""
        with evaluating(self.model):
            return features_of(self.model, super().get(paths))


def _in_threads(work: Callable[[Path], Tensor], paths: Sequence[Path]) -> Tensor:
    with ThreadPoolExecutor(_THREADS) as pool:
        return torch.stack(list(pool.map(work, paths)))


def features_of(model: VLM, given: Tensor) -> Tensor:
    """Features float32 (B, N, C) of pixels uint8 (B, 3, side, side), some at a time; what are
    features stays as it is. Both come to where the model is."""
    given = given.to(next(model.parameters()).device)
    if given.dim() == 3:
        return given.float()
    scale = normalisation(model.config.backbone)
    parts = given.split(_AT_ONCE if given.device.type == "cpu" else _AT_ONCE_GPU)
    return torch.cat([model.vision.features(normalised(part, *scale).contiguous(
        memory_format=torch.channels_last)).float() for part in parts])


@contextlib.contextmanager
def evaluating(model: VLM) -> Iterator[torch.device]:
    """The model in evaluation mode, and its device."""
    training = model.training
    model.eval()
    yield next(model.parameters()).device
    model.train(training)


def fingerprint(model: VLM, paths: Sequence[Path]) -> str:
    """Changes when the backbone, its size or a picture file changes."""
    # What is kept already has a name that begins so.
    about = ("(View(mirrored=False, least_area=1.0, clouded=False), "
             f"{model.config.backbone!r}, {model.config.picture_size})")
    digest = hashlib.sha256(about.encode())
    for name, value in sorted(model.vision.backbone.state_dict().items()):
        values = value.detach().float().cpu() + 0.0  # -0 as 0, as a mean of checkpoints writes it
        digest.update(name.encode() + values.numpy().tobytes())
    for path in paths:
        state = path.stat()
        digest.update(f"{path.name}:{state.st_size}:{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def open_features(model: VLM, paths: Sequence[Path], folder: Path,
                  quiet: bool = False) -> FeatureStore:
    """Open the features of these pictures under ``folder``, computing what is not there yet.

    Raises:
        DiskError: there is no room for them.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{fingerprint(model, paths)}.npy"
    if not file.is_file():
        part = file.with_suffix(".part")
        _compute(model, paths, part, quiet)
        with writing(part):
            sync(part)
            os.replace(part, file)
    return FeatureStore(model, paths, np.lib.format.open_memmap(file, mode="r"))


def _compute(model: VLM, paths: Sequence[Path], part: Path, quiet: bool) -> None:
    """Write the pictures' features to ``part`` (P, N, C)."""
    shape = (len(paths), math.prod(model.vision.grid), model.vision.channels)
    with writing(part, 2 * math.prod(shape)):
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
        reserve(part)
    live = LiveStore(model)
    for start in tqdm(range(0, len(paths), _AT_ONCE_GPU), desc="picture features", unit="batch",
                      disable=quiet, mininterval=5):
        some = slice(start, start + _AT_ONCE_GPU)
        array[some] = live.get(paths[some]).cpu().numpy()
    array.flush()
