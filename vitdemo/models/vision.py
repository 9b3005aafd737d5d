"""The vision encoder: any timm backbone, a CNN or a ViT, as tokens with their grid.

Shapes: B pictures, N = gh * gw tokens, gh x gw grid, C backbone channels, D width.
"""

import timm
import torch
from torch import Tensor, nn

from vitdemo.errors import ConfigError
from vitdemo.models.layers import sinusoid


class VisionEncoder(nn.Module):
    """Backbone features (frozen or not) and their projection to tokens with positions.

    The two halves are apart, so that the features of a frozen backbone can be computed once.
    """

    def __init__(self, backbone: str, picture_size: int, width: int) -> None:
        super().__init__()
        if not timm.is_model(backbone):
            raise ConfigError(f"backbone is {backbone!r}; it must be the name of a timm model.")
        extra = {"img_size": picture_size} if "vit" in backbone else {}
        self.backbone = timm.create_model(backbone, pretrained=False, num_classes=0, **extra)
        self.prefix_tokens = int(getattr(self.backbone, "num_prefix_tokens", 0))
        self.grid, self.channels = self._probe(picture_size)
        self.norm = nn.LayerNorm(self.channels)
        self.project = nn.Linear(self.channels, width)
        self.register_buffer("positions", self._positions(width), persistent=False)

    @torch.no_grad()
    def _probe(self, side: int) -> tuple[tuple[int, int], int]:
        training = self.backbone.training
        out = self.backbone.eval().forward_features(torch.zeros(1, 3, side, side))
        self.backbone.train(training)
        if out.dim() == 4:  # (1, C, gh, gw)
            return (out.shape[2], out.shape[3]), out.shape[1]
        rows, columns = self.backbone.patch_embed.grid_size
        return (rows, columns), out.shape[2]  # (1, prefix + N, C)

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
