"""Batch norm folded into the convolution before it, for an encoder that only runs.

With its statistics fixed, batch norm is a product and a sum for each channel, which the weights and
the bias of the convolution can do (Jacob et al. 2018, "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", section 3.2): the same numbers up to rounding,
with a layer less to run and to wait for.
"""

import copy
import itertools
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vitdemo.models.vision import VisionEncoder

_ROUNDING = 1e-3  # of the greatest feature


@torch.no_grad()
def folded(vision: VisionEncoder, side: int) -> VisionEncoder:
    """A copy of an encoder in evaluation mode without the batch norms that come right after a
    convolution; the encoder itself where there are none, or where that changes its features.

    Which layer comes after which is told by the order of a module's children, which an odd network
    may not keep: so both are tried on a pattern of side x side pixels.
    """
    if not any(_pairs(module) for module in vision.backbone.modules()):
        return vision
    copied = copy.deepcopy(vision)
    for parent in list(copied.backbone.modules()):
        for conv, norm in _pairs(parent):
            _fold(parent._modules[conv], parent._modules[norm])
            parent._modules[norm] = _activation(parent._modules[norm])
    like = next(vision.backbone.parameters())
    values = torch.linspace(0, 1000, 3 * side * side, device=like.device).sin()
    pixels = values.view(1, 3, side, side).to(like.dtype)
    want, have = vision.features(pixels), copied.features(pixels)
    return copied if (want - have).abs().max() <= _ROUNDING * want.abs().max() else vision


def _pairs(parent: nn.Module) -> list[tuple[str, str]]:
    """Names of neighbouring children that are a convolution and its batch norm."""
    children = list(parent.named_children())
    return [(first, second) for (first, conv), (second, norm) in itertools.pairwise(children)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            and conv.out_channels == norm.num_features]


def _fold(conv: Any, norm: Any) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, norm.running_mean,
                                                  norm.running_var, norm.eps, norm.weight,
                                                  norm.bias)


def _activation(norm: Any) -> nn.Module:
    """What timm's batch norm does besides."""
    act = getattr(norm, "act", None)
    return act if act is not None else nn.Identity()
