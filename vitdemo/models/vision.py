"""The vision encoder: any timm backbone, a CNN or a ViT, as tokens with their grid.

Shapes: B pictures, N = gh * gw tokens, gh x gw grid, C backbone channels, D width.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from vitdemo.errors import ConfigError
from vitdemo.models.layers import sinusoid


@dataclass(frozen=True)
class Stride:
    """One layer that makes the grid coarser: what it was given and how it steps, in cells."""

    size: int  # rows that it was given
    step: int
    kernel: int
    before: int  # rows of padding before the first


@contextmanager
def _recorded_strides(backbone: nn.Module) -> Iterator[list[Stride]]:
    """The strided layers that run inside the block. A shortcut beside the main path steps as the
    main path does, so of the layers that were given one size the first is enough."""
    found: list[Stride] = []

    def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        step, kernel = _first(module.stride), _first(module.kernel_size)
        size = args[0].shape[2]
        if step == 1 or any(stride.size == size for stride in found):
            return
        before = _first(module.padding) if not isinstance(module.padding, str) else 0
        if type(module).__name__.endswith("Same"):  # TensorFlow's padding: the less half in front
            before = max(0, (output.shape[2] - 1) * step + kernel - size) // 2
        found.append(Stride(size, step, kernel, before))

    layers = [module for module in backbone.modules()
              if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _first(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value


def region_edges(count: int, side: int, strides: Sequence[Stride]) -> list[float]:
    """Where a row of ``count`` regions begins and ends on a picture of ``side`` pixels: count + 1
    shares of the side, 0..1.

    A cell looks around one point, which the strides and paddings of the layers fix (Araujo, Norris,
    Sim 2019, "Computing receptive fields", eq. 6); with some paddings these points are not in the
    middle of equal parts. A region ends half way between two of them.
    """
    places = [float(i) for i in range(count)]
    for stride in reversed(strides):
        middle = (stride.kernel - 1) / 2 - stride.before
        places = [place * stride.step + middle for place in places]
    places = [min(max((place + 0.5) / side, 0.0), 1.0) for place in places]
    between = [(left + right) / 2 for left, right in itertools.pairwise(places)]
    return [0.0, *between, 1.0]


class VisionEncoder(nn.Module):
    """Backbone features (frozen or not) and their projection to tokens with positions.

    The two halves are apart, so that the features of a frozen backbone can be computed once.
    """

    def __init__(self, backbone: str, picture_size: int, width: int) -> None:
        super().__init__()
        if not timm.is_model(backbone):
            raise ConfigError(f"backbone is {backbone!r}; it must be the name of a timm model.")
        extra: dict[str, Any] = {"img_size": picture_size} if "vit" in backbone else {}
        self.backbone: Any = timm.create_model(backbone, pretrained=False, num_classes=0, **extra)
        self.prefix_tokens = int(getattr(self.backbone, "num_prefix_tokens", 0))
        self.grid, self.channels, self.edges = self._probe(picture_size)
        self.norm = nn.LayerNorm(self.channels)
        self.project = nn.Linear(self.channels, width)
        with torch.device("cpu"):  # no file holds them, so they are needed in a skeleton, too
            self.register_buffer("positions", self._positions(width), persistent=False)

    @torch.no_grad()
    def _probe(self, side: int) -> tuple[tuple[int, int], int, tuple[list[float], list[float]]]:
        """Grid, channels, and where the regions end: (rows, columns), shares of the side 0..1."""
        training = self.backbone.training
        with _recorded_strides(self.backbone) as strides:
            out = self.backbone.eval().forward_features(torch.zeros(1, 3, side, side))
        self.backbone.train(training)
        if out.dim() == 4:  # (1, C, gh, gw)
            grid, channels = (out.shape[2], out.shape[3]), out.shape[1]
        else:  # (1, prefix + N, C)
            grid, channels = tuple(self.backbone.patch_embed.grid_size), out.shape[2]
        edges = region_edges(grid[0], side, strides)
        return grid, channels, (edges, edges if grid[0] == grid[1] else
                                region_edges(grid[1], side, strides))

    def _positions(self, width: int) -> Tensor:
        rows, columns = self.grid
        half = width // 2
        vertical = sinusoid(rows, half)[:, None].expand(rows, columns, half)
        horizontal = sinusoid(columns, width - half)[None].expand(rows, columns, width - half)
        return torch.cat((vertical, horizontal), -1).reshape(1, rows * columns, width).clone()

    def features(self, pixels: Tensor) -> Tensor:
        """float (B, 3, S, S), normalised, to the backbone's last features (B, N, C)."""
        out = self.backbone.forward_features(pixels)
        if out.dim() == 4:
            return out.flatten(2).transpose(1, 2)  # (B, N, C)
        return out[:, self.prefix_tokens:]  # (B, N, C)

    def tokens(self, features: Tensor) -> Tensor:
        """Features (B, N, C) to tokens with 2-D sinusoidal positions (B, N, D)."""
        return self.project(self.norm(features)) + self.positions
