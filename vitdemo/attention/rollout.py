"""Attention rollout (Abnar, Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3).

A layer's output is its input plus what it looked at, so with W the attention (mean over the heads)
the share of position j in position i is A = (W + I) / 2, and the shares of the first layer's inputs
follow by multiplying: rollout(l) = A(l) rollout(l - 1).

Here only the columns of the picture are kept: ``share`` (..., T, K) says how much of each position
came from each region; what is missing to 1 came from text. The paper has self-attention alone; for
cross-attention the same rule leads through the shares of what is looked at. A gate g in front of
the attention, x + g W x, gives A = (g W + I) / (1 + g): with g = 1 the paper's.

Legend: T positions of the text, N tokens looked at, K picture regions, H heads, L layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def self_attention(share: Tensor, weights: Tensor) -> Tensor:
    """One layer of self-attention: share (..., T, K), weights (..., H, T, T)."""
    return (share + weights.mean(-3) @ share) / 2


def cross_attention(share: Tensor, weights: Tensor, context: Tensor, gate: float = 1.0) -> Tensor:
    """One layer of cross-attention: share (..., T, K), weights (..., H, T, N), and ``context``
    (..., N, K), the shares of the tokens looked at. ``gate`` counts by its size."""
    size = abs(gate)
    return (share + size * (weights.mean(-3) @ context)) / (1 + size)


def vision(layers: Sequence[Tensor], prefix: int) -> Tensor:
    """The shares of a ViT's last tokens in its patches: L weights (H, N, N) to (N, K), where the
    first ``prefix`` of the N tokens (the class token) are no patches and K = N - prefix."""
    tokens = layers[0].shape[-1]
    share = torch.eye(tokens, device=layers[0].device)[:, prefix:]  # (N, K)
    for weights in layers:
        share = self_attention(share, weights.float())
    return share
