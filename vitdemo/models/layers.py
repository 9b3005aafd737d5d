"""Building blocks of the text encoder, the fusion and the decoder.

Shapes: B memories (one per picture and instruction), C texts per memory, R = B * C rows, T text
tokens, N memory tokens, H heads, d = D / H, D width. *Parts* are rows that share the linear maps
and nothing else: each has keys and values of its own, as many as it needs.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]  # keys and values


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of parts, one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(R, T, D) to (R, H, T, d)."""
    rows, length, width = x.shape
    return x.view(rows, length, heads, width // heads).transpose(1, 2)  # (R, H, T, d)


def join_heads(x: Tensor) -> Tensor:
    """(R, H, T, d) to (R, T, D)."""
    rows, heads, length, width = x.shape
    return x.transpose(1, 2).reshape(rows, length, heads * width)  # (R, T, D)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017, eq. 1); ``mask`` is True where seen.

    In training on a CPU the plain products are faster than the fused kernel; elsewhere the fused
    kernel is. Both give the same numbers up to rounding.
    """
    if not (torch.is_grad_enabled() and query.device.type == "cpu"):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (R, H, T, N)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1) @ value


def sinusoid(length: int, width: int) -> Tensor:
    """Sinusoidal positions (Vaswani et al. 2017, section 3.5): float32 (length, width)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(length)[:, None] * rate[None]  # (length, width / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :width]


class Attention(nn.Module):
    """The four linear maps of multi-head attention (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def project(self, x: Tensor) -> Pair:
        """Keys and values of tokens (R, T, D), each (R, H, T, d)."""
        return split_heads(self.key(x), self.heads), split_heads(self.value(x), self.heads)


class SelfAttention(Attention):
    """Multi-head self-attention, with an optional key-value cache for one token at a time."""

    def forward(self, x: Tensor, mask: Tensor | None, pasts: Sequence[Pair | None] = (None,),
                rows: Sequence[int] = ()) -> tuple[Tensor, list[Pair]]:
        """x (R, T, D), ``mask`` broadcasts to (R, H, T, T_all), to (R, T, D) and the keys and
        values of each part. ``pasts`` are those before x; ``rows`` how many each part has, where
        there are several."""
        sizes = list(rows) or [len(x)]
        query = split_heads(self.query(x), self.heads)
        presents, mixed = [], []
        for own, key, value, past in zip(*(one.split(sizes) for one in (query, *self.project(x))),
                                         pasts, strict=True):
            if past is not None:
                key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
            presents.append((key, value))
            mixed.append(attend(own, key, value, mask))
        return self.out(join_heads(joined(mixed))), presents


class CrossAttention(Attention):
    """Multi-head cross-attention of C texts per memory over that memory's tokens.

    Keys and values are projected once per memory; the C texts' words query them together.
    """

    def forward(self, x: Tensor, memories: Sequence[tuple[Pair, Tensor | None]],
                rows: Sequence[int] = ()) -> Tensor:
        """x (R, T, D) with R = B * C; ``memories`` of each part are from `project`, with a mask,
        bool (B, 1, 1, N); ``rows`` how many each part has, where there are several."""
        mixed = []
        for own, ((key, value), mask) in zip(self.query(x).split(list(rows) or [len(x)]), memories,
                                             strict=True):
            query = split_heads(own.reshape(len(key), -1, x.shape[-1]), self.heads)
            seen = attend(query, key, value, mask)  # (B, H, C * T, d)
            mixed.append(join_heads(seen).reshape(own.shape))
        return self.out(joined(mixed))  # (R, T, D)


class FeedForward(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, factor: int = 4) -> None:
        super().__init__()
        self.inner = nn.Linear(width, factor * width)
        self.out = nn.Linear(factor * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.out(F.gelu(self.inner(x)))
