"""Pictures that are not kept as features: read anew for every step, or made up for a forecast."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from train.data.features import (
    FeatureStore,
    PictureDataset,
    Store,
    View,
    evaluating,
    in_threads,
    scaled_pixels,
    stage_shape,
)
from vitdemo.models.vlm import VLM


class PixelStore(Store):
    """Pixels of pictures, cropped anew for every step: for a backbone that learns."""

    def __init__(self, model: VLM, paths: Sequence[Path], views: Sequence[View]) -> None:
        self.sets = [PictureDataset(paths, view, model) for view in views]
        super().__init__(self.sets[0])

    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """uint8 (B, 3, side, side); the same for the same ``draw``."""
        return in_threads(lambda path, view: self.sets[view].raw(self.place[path], draw),
                          paths, views)


def _features(model: VLM, given: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``encode`` makes of pictures, few at a time: see `open_features`."""
    with evaluating(model) as device:
        return torch.cat([encode(part.to(device)) for part in given.split(4)])


class LiveStore(PixelStore):
    """Features by the model as it is at that moment."""

    def __init__(self, model: VLM, paths: Sequence[Path]) -> None:
        super().__init__(model, paths, [View()])
        self.model = model

    @torch.no_grad()
    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """float32 (B, N, C)."""
        return _features(self.model, super().get(paths, views, draw),
                         lambda part: self.model.vision.features(scaled_pixels(self.model, part)))


class LateStore(Store):
    """Features by the model as it is at that moment, from those of a stage that are kept."""

    def __init__(self, model: VLM, kept: FeatureStore) -> None:
        super().__init__(kept.pictures)
        self.model, self.kept = model, kept

    @torch.no_grad()
    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """float32 (B, N, C)."""
        late = functools.partial(self.model.vision.late, stage=self.kept.stage)
        return _features(self.model, self.kept.get(paths, views).float(), late)


class NoiseStore(Store):
    """Random numbers of the right shape, for measuring before anything is read."""

    def __init__(self, model: VLM, pixels: bool, stage: int = 0) -> None:
        super().__init__(PictureDataset([], View(), model))
        self.stage, self.side = stage, model.config.picture_size
        self.shape: tuple[int, ...] = (self.tokens, model.vision.channels)
        if stage:
            self.shape = stage_shape(model, stage)
        elif pixels:
            self.shape = (3, self.side, self.side)

    def get(self, paths: Sequence[Path], views: Sequence[int], draw: int = 0) -> Tensor:
        """float32 (B, N, C), (B, 3, side, side), or of a stage (B, C, h, w)."""
        return torch.randn(len(paths), *self.shape)

    def sharp_and_blurred(self, paths: Sequence[Path]) -> Tensor:
        """float32 (B, 2, 3, side, side)."""
        return torch.randn(len(paths), 2, 3, self.side, self.side)
