"""Building blocks of the text encoder, the fusion and the decoder.

Shapes: B memories (one per picture and instruction), C texts per memory, R = B * C rows, T text
tokens, N memory tokens, H heads, d = D / H, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of tokens (R, T, D), each (R, H, T, d)."""
        return split_heads(self.key(x), self.heads), split_heads(self.value(x), self.heads)


class SelfAttention(Attention):
    """Multi-head self-attention, with an optional key-value cache for one token at a time."""

    def forward(self, x: Tensor, mask: Tensor | None,
                past: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (R, T, D), ``mask`` broadcasts to (R, H, T, T_all), to (R, T, D), (keys, values)."""
        key, value = self.project(x)
        if past is not None:
            key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        mixed = attend(split_heads(self.query(x), self.heads), key, value, mask)
        return self.out(join_heads(mixed)), (key, value)


class CrossAttention(Attention):
    """Multi-head cross-attention of C texts per memory over that memory's tokens.

    Keys and values are projected once per memory; the C texts' words query them together.
    """

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """x (R, T, D) with R = B * C; ``memory`` from `project`; ``mask`` bool (B, 1, 1, N)."""
        key, value = memory
        query = self.split_query(x, key.shape[0])  # (B, H, C * T, d)
        mixed = attend(query, key, value, mask)
        return self.out(join_heads(mixed).reshape(x.shape))  # (R, T, D)

    def split_query(self, x: Tensor, memories: int) -> Tensor:
        """Queries of (R, T, D) grouped by memory: (B, H, C * T, d)."""
        return split_heads(self.query(x).reshape(memories, -1, x.shape[-1]), self.heads)

    def weights(self, x: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """The attention weights that `forward` uses without keeping: (R, H, T, N), summing to 1."""
        key, _ = memory
        query = self.split_query(x, key.shape[0])
        scores = (query.float() * query.shape[-1] ** -0.5) @ key.float().transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        shares = scores.softmax(dim=-1)  # (B, H, C * T, N)
        memories, heads, _, tokens = shares.shape
        shares = shares.view(memories, heads, -1, x.shape[1], tokens).transpose(1, 2)
        return shares.flatten(0, 1)  # (R, H, T, N)


class FeedForward(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, factor: int = 4) -> None:
        super().__init__()
        self.inner = nn.Linear(width, factor * width)
        self.out = nn.Linear(factor * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.out(F.gelu(self.inner(x)))
