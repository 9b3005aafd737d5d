"""Backbone features of every training picture, computed once and kept in a memory map.

With a frozen backbone the features never change, so each picture is encoded once per view: as it
is, mirrored and cropped. For one that learns pixels are read anew for every step.
Shapes: P pictures, N tokens, C channels, B pictures that are asked for.
"""

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from vitdemo.attention.masking import Masker
from vitdemo.disk import reserve, sync, writing
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import grid_boxes, normalisation, normalised, open_picture, to_bytes

_THREADS = 4  # that read pictures


@dataclass(frozen=True, repr=False)
class View:
    """One way to look at a picture: ``mirrored``, and the least share of it that a crop keeps (1:
    the whole picture)."""

    mirrored: bool = False
    least_area: float = 1.0

    def __repr__(self) -> str:  # kept features are named by it: it stays as it was at first
        return f"View(mirrored={self.mirrored}, least_area={self.least_area}, clouded=False)"


VIEWS = (View(), View(mirrored=True, least_area=0.6))


def apply_view(image: Image.Image, view: View, generator: np.random.Generator) -> Image.Image:
    """The picture as this view shows it; what is drawn are a crop's place and shape."""
    if view.mirrored:
        image = ImageOps.mirror(image)
    if view.least_area == 1:
        return image
    area = generator.uniform(view.least_area, 1.0)
    aspect = np.exp(generator.uniform(np.log(4 / 5), np.log(5 / 4)))
    width = min(1.0, float(np.sqrt(area * aspect))) * image.width
    height = min(1.0, float(np.sqrt(area / aspect))) * image.height
    left = generator.uniform(0, image.width - width)
    top = generator.uniform(0, image.height - height)
    return image.crop((round(left), round(top), round(left + width), round(top + height)))


class PictureDataset(torch.utils.data.Dataset):
    """Pixels of pictures in one view; item i is the same whenever it is asked for."""

    def __init__(self, paths: Sequence[Path], view: View, model: VLM) -> None:
        self.paths, self.view, self.side = list(paths), view, model.config.picture_size
        self.mean, self.std = normalisation(model.config.backbone)
        self.boxes = grid_boxes(model.vision.grid, (1, 1), model.vision.edges)  # (N, 4), shares

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        """float32 (3, side, side)."""
        return normalised(self.raw(i), self.mean, self.std)

    def raw(self, i: int, draw: int = 0) -> Tensor:
        """The same before they are brought to the backbone's scale: uint8 (3, side, side); what is
        random of the view is drawn anew for each ``draw``."""
        path = self.paths[i]
        key = f"{path.name}:{self.view}" + (f":{draw}" if draw else "")
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little")
        image = apply_view(open_picture(path).image, self.view, np.random.default_rng(seed))
        return to_bytes([image], self.side)[0]

    def sharp_and_blurred(self, path: Path) -> Tensor:
        """A picture as it is and blurred all over: uint8 (2, 3, side, side)."""
        masker = Masker(image := open_picture(path).image, self.boxes * np.tile(image.size, 2))
        both = [masker.picture(np.full(len(self.boxes), hidden)) for hidden in (False, True)]
        return to_bytes(both, self.side)


class Store:
    """Where the steps get their pictures from."""

    def __init__(self, pictures: PictureDataset) -> None:
        self.pictures = pictures
        self.place = {path: i for i, path in enumerate(pictures.paths)}

    @property
    def tokens(self) -> int:
        """N, of the model's regions."""
        return len(self.pictures.boxes)

    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """Features (B, N, C), or pixels uint8 (B, 3, side, side), of these pictures, each in its
        view. ``draw`` is the step; features that are kept do not depend on it."""
        raise NotImplementedError

    def sharp_and_blurred(self, paths: Sequence[Path]) -> Tensor:
        """Pixels of pictures as they are and blurred all over: uint8 (B, 2, 3, side, side)."""
        return in_threads(self.pictures.sharp_and_blurred, paths)


class FeatureStore(Store):
    """Features of a list of pictures: one float16 (P, N, C) per view, on disk."""

    def __init__(self, arrays: Sequence[np.ndarray], pictures: PictureDataset) -> None:
        super().__init__(pictures)
        self.arrays = list(arrays)

    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """float16 (B, N, C)."""
        return torch.from_numpy(np.stack([
            self.arrays[view][self.place[path]] for path, view in zip(paths, views, strict=True)]))


def scaled_pixels(model: VLM, given: Tensor) -> Tensor:
    """Pixels uint8 (..., 3, side, side) on the scale that the model's backbone expects, float32;
    what is no uint8 is on it."""
    if given.dtype != torch.uint8:
        return given
    return normalised(given, *normalisation(model.config.backbone))


def in_threads(work: Callable[..., Tensor], *given: Sequence[Any]) -> Tensor:
    """The results of a call for each of the given, stacked; several at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return torch.stack(list(pool.map(work, *given)))


@contextlib.contextmanager
def evaluating(model: VLM) -> Iterator[torch.device]:
    """The model in evaluation mode, and its device."""
    training = model.training
    model.eval()
    yield next(model.parameters()).device
    model.train(training)


def fingerprint(model: VLM, paths: Sequence[Path], view: View) -> str:
    """Changes when the backbone, a picture file or the view changes."""
    about = (view, model.config.backbone, model.config.picture_size)
    digest = hashlib.sha256(repr(about).encode())
    for name, value in sorted(model.vision.backbone.state_dict().items()):
        values = value.detach().float().cpu() + 0.0  # -0 as 0, as a mean of checkpoints writes it
        digest.update(name.encode() + values.numpy().tobytes())
    for path in paths:
        state = path.stat()
        digest.update(f"{path.name}:{state.st_size}:{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def open_features(model: VLM, paths: Sequence[Path], views: Sequence[View], folder: Path,
                  batch: int = 4, quiet: bool = False) -> FeatureStore:
    """Open the features of these pictures under ``folder``, computing what is not there yet.

    A view that was interrupted is computed again; the finished ones are kept. Small batches are
    faster on a CPU: the activations stay in its cache.

    Raises:
        DiskError: there is no room for them; the finished ones are kept.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    arrays = []
    for view in views:
        file = folder / f"{fingerprint(model, paths, view)}.npy"
        if not file.is_file():
            part = file.with_suffix(".part")
            _compute(model, PictureDataset(paths, view, model), part, batch, quiet)
            with writing(part):
                sync(part)
                os.replace(part, file)
        arrays.append(np.lib.format.open_memmap(file, mode="r"))
    return FeatureStore(arrays, PictureDataset(paths, View(), model))


def _compute(model: VLM, pictures: PictureDataset, part: Path, batch: int, quiet: bool) -> None:
    """Write the pictures' features to ``part`` (P, N, C)."""
    shape = (len(pictures), math.prod(model.vision.grid), model.vision.channels)
    with writing(part, 2 * math.prod(shape)):
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
        reserve(part)
    loader = torch.utils.data.DataLoader(pictures, batch_size=batch)
    done = 0
    with evaluating(model) as device:
        for pixels in tqdm(loader, desc="picture features", unit="batch", disable=quiet,
                           mininterval=5):
            with torch.inference_mode():
                features = model.vision.features(
                    pixels.to(device, memory_format=torch.channels_last))  # (B, N, C)
            array[done:done + len(features)] = features.cpu().numpy()
            done += len(features)
    array.flush()


class PixelStore(Store):
    """Pixels of pictures, cropped anew for every step: for a backbone that learns."""

    def __init__(self, model: VLM, paths: Sequence[Path], views: Sequence[View]) -> None:
        self.sets = [PictureDataset(paths, view, model) for view in views]
        super().__init__(self.sets[0])

    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """uint8 (B, 3, side, side); the same for the same ``draw``."""
        return in_threads(lambda path, view: self.sets[view].raw(self.place[path], draw),
                          paths, views)


class LiveStore(PixelStore):
    """Features by the model as it is at that moment."""

    def __init__(self, model: VLM, paths: Sequence[Path]) -> None:
        super().__init__(model, paths, [View()])
        self.model = model

    @torch.no_grad()
    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """float32 (B, N, C)."""
        given = super().get(paths, views, draw)
        with evaluating(self.model) as device:  # few at a time: see `open_features`
            return torch.cat([self.model.vision.features(scaled_pixels(self.model, part.to(device)))
                              for part in given.split(4)])
