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

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from vitdemo.attention.capture import record
from vitdemo.attention.methods import Said
from vitdemo.attention.trace import Rows, Trace


def self_attention(share: Tensor, weights: Tensor) -> Tensor:
    """One layer of self-attention: share (..., T, K), weights (..., T, T), the mean over
    the heads."""
    return (share + weights @ share) / 2


def cross_attention(share: Tensor, weights: Tensor, context: Tensor, gate: float = 1.0) -> Tensor:
    """One layer of cross-attention: share (..., T, K), weights (..., T, N), and ``context``
    (..., N, K), the shares of the tokens looked at. ``gate`` counts by its size."""
    size = abs(gate)
    return (share + size * (weights @ context)) / (1 + size)


def vision(layers: Iterable[Tensor], prefix: int) -> Tensor:
    """The shares of a ViT's last tokens in its patches: L weights (N, N), each the mean over its
    heads, to (N, K), where the first ``prefix`` of the N tokens (the class token) are no patches
    and K = N - prefix."""
    share = None
    for weights in layers:
        if share is None:
            share = torch.eye(len(weights), device=weights.device)[:, prefix:]  # (N, K)
        share = self_attention(share, weights)
    assert share is not None
    return share


def rollout_maps(trace: Trace) -> tuple[np.ndarray, Said]:
    """A text's maps (Q, K) and what is said of its words; see `Trace`."""
    with record([layer.module for layer in trace.layers]) as looks:
        said = trace.said(Rows(recorded=trace.streams))
    shares = {trace.regions.stream: trace.vision()}  # (T, K) of each stream; others have none yet

    called = [(layer, looks[number]) for number, layer in enumerate(trace.layers)
              if looks.calls[number]]
    lengths: dict[str, int] = {}
    for layer, look in called:
        lengths[layer.stream] = max(look.length, lengths.get(layer.stream, 0))
    lengths = trace.lengths | lengths

    def share_of(stream: str) -> Tensor:
        seen = shares[trace.regions.stream]
        return shares.get(stream, seen.new_zeros(lengths[stream], seen.shape[1]))

    for layer, look in called:
        if trace.latents and layer.stream == trace.stream and layer.stream not in shares:
            share = share_of(layer.stream)
            share[list(trace.latents)] = shares["latents"][:len(trace.latents)]
            shares[layer.stream] = share
        if not any(name in shares for name in layer.context):
            continue  # nothing of the picture has come there
        share, weights = share_of(layer.stream), look.mean()[0]
        if layer.mixes:
            shares[layer.stream] = self_attention(share, weights)
        else:
            context = torch.cat([share_of(name) for name in layer.context])
            looked = cross_attention(share[:look.length], weights, context,
                                     1.0 if layer.gate is None else layer.gate)
            shares[layer.stream] = torch.cat([looked, share[look.length:]])
    maps = trace.over_words(share_of(trace.stream))
    return maps, said
