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


class PictureDataset(torch.utils.data.Dataset):
    """Pixels of pictures."""

    def __init__(self, paths: Sequence[Path], model: VLM) -> None:
        self.paths, self.side = list(paths), model.config.picture_size
        self.mean, self.std = normalisation(model.config.backbone)
        self.boxes = grid_boxes(model.vision.grid, (1, 1), model.vision.edges)  # (N, 4), shares

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        """float32 (3, side, side)."""
        return normalised(self.raw(self.paths[i]), self.mean, self.std)

    def raw(self, path: Path) -> Tensor:
        """The same before they are brought to the backbone's scale: uint8 (3, side, side)."""
        return to_bytes([open_picture(path).image], self.side)[0]

    def sharp_and_blurred(self, path: Path) -> Tensor:
        """A picture as it is and blurred all over: uint8 (2, 3, side, side)."""
        masker = Masker(image := open_picture(path).image, self.boxes * np.tile(image.size, 2))
        both = [masker.picture(np.full(len(self.boxes), hidden)) for hidden in (False, True)]
        return to_bytes(both, self.side)


class Store:
    """Where the steps get their pictures from: here pixels, for a backbone that learns."""

    def __init__(self, pictures: PictureDataset) -> None:
        self.pictures = pictures

    @property
    def tokens(self) -> int:
        """N, of the model's regions."""
        return len(self.pictures.boxes)

    def get(self, paths: Sequence[Path]) -> Tensor:
        """Pixels uint8 (B, 3, side, side), or features (B, N, C), of these pictures."""
        return in_threads(self.pictures.raw, paths)

    def sharp_and_blurred(self, paths: Sequence[Path]) -> Tensor:
        """Pixels of pictures as they are and blurred all over: uint8 (B, 2, 3, side, side)."""
        return in_threads(self.pictures.sharp_and_blurred, paths)


class FeatureStore(Store):
    """Features of a list of pictures: float16 (P, N, C), on disk."""

    def __init__(self, array: np.ndarray, pictures: PictureDataset) -> None:
        super().__init__(pictures)
        self.array, self.place = array, {path: i for i, path in enumerate(pictures.paths)}

    def get(self, paths: Sequence[Path]) -> Tensor:
        """float16 (B, N, C)."""
        return torch.from_numpy(self.array[[self.place[path] for path in paths]])


def scaled_pixels(model: VLM, given: Tensor) -> Tensor:
    """Pixels uint8 (..., 3, side, side) on the scale that the model's backbone expects, float32;
    what is no uint8 is on it."""
    if given.dtype != torch.uint8:
        return given
    return normalised(given, *normalisation(model.config.backbone))


def in_threads(work: Callable[[Path], Tensor], paths: Sequence[Path]) -> Tensor:
    """The results for each path, stacked; several at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return torch.stack(list(pool.map(work, paths)))


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


def open_features(model: VLM, paths: Sequence[Path], folder: Path, batch: int = 4,
                  quiet: bool = False) -> FeatureStore:
    """Open the features of these pictures under ``folder``, computing what is not there yet. Small
    batches are faster on a CPU: the activations stay in its cache.

    Raises:
        DiskError: there is no room for them.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    file, pictures = folder / f"{fingerprint(model, paths)}.npy", PictureDataset(paths, model)
    if not file.is_file():
        part = file.with_suffix(".part")
        _compute(model, pictures, part, batch, quiet)
        with writing(part):
            sync(part)
            os.replace(part, file)
    return FeatureStore(np.lib.format.open_memmap(file, mode="r"), pictures)


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


class LiveStore(Store):
    """Features by a model as it is at that moment."""

    def __init__(self, model: VLM, paths: Sequence[Path]) -> None:
        super().__init__(PictureDataset(paths, model))
        self.model = model

    @torch.no_grad()
    def get(self, paths: Sequence[Path]) -> Tensor:
        """float32 (B, N, C)."""
        given = super().get(paths)
        with evaluating(self.model) as device:  # few at a time: see `open_features`
            return torch.cat([self.model.vision.features(scaled_pixels(self.model, part.to(device)))
                              for part in given.split(4)])
