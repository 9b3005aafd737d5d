"""How the instruction and the picture come together: four ways, behind one call.

Shapes: B pairs of picture and instruction, N picture tokens, T text tokens, M memory tokens,
D width. ``memory`` is what the decoder reads: its first ``picture_tokens`` tokens are regions of
the picture, in the order of the grid; the others are words of the instruction.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitdemo.models.layers import CrossAttention, FeedForward
from vitdemo.models.pointer import Names
from vitdemo.models.text import masked_mean


@dataclass
class Memory:
    """What the decoder reads: tokens (B, M, D), bool mask (B, M), how many are picture tokens, and
    the instruction after fusion (B, T, D); what may be copied, where there are such names."""

    tokens: Tensor
    mask: Tensor
    picture_tokens: int
    text: Tensor
    names: Names | None = None


class FusionBlock(nn.Module):
    """Gated cross-attention, text over picture (Alayrac et al. 2022, Flamingo, section 2.2).

    x + tanh(a) CrossAttention(LN(x), picture), then x + tanh(b) FeedForward(LN(x)); a and b are
    learned and start at 0, so that the picture comes in gently. Without gates both are 1.
    """

    def __init__(self, width: int, heads: int, gated: bool) -> None:
        super().__init__()
        self.cross_norm = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, factor=2)
        self.cross_gate = nn.Parameter(torch.zeros(1)) if gated else None
        self.feed_forward_gate = nn.Parameter(torch.zeros(1)) if gated else None

    def gate(self) -> Tensor:
        """tanh of the cross-attention's gate, -1..1; 1 where there is none."""
        return torch.ones(1) if self.cross_gate is None else self.cross_gate.tanh()

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        """x (B, T, D), picture (B, N, D) to (B, T, D)."""
        seen = self.cross(self.cross_norm(x), [(self.cross.project(picture), None)])
        x = x + (seen if self.cross_gate is None else self.cross_gate.tanh() * seen)
        thought = self.feed_forward(self.feed_forward_norm(x))
        gate = self.feed_forward_gate
        return x + (thought if gate is None else gate.tanh() * thought)


class Fusion(nn.Module):
    """Picture tokens and instruction to the decoder's memory.

    gated_cross_attention and cross_attention: the words query the picture, and the decoder reads
    the picture's tokens and the fused words. concat: the decoder reads both, unfused. linear: one
    linear map of each word beside the mean of the picture's tokens; no regions are left.
    """

    def __init__(self, kind: str, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.kind = kind
        gated = kind == "gated_cross_attention"
        count = layers if kind.endswith("cross_attention") else 0
        self.blocks: Any = nn.ModuleList([FusionBlock(width, heads, gated) for _ in range(count)])
        self.linear = nn.Linear(2 * width, width) if kind == "linear" else None
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: Tensor, text: Tensor, text_mask: Tensor) -> Memory:
        """picture (B, N, D), text (B, T, D), text_mask bool (B, T)."""
        if self.linear is not None:
            mean = picture.mean(1, keepdim=True).expand_as(text)
            text = self.linear(torch.cat((text, mean), -1))  # (B, T, D)
            return Memory(self.norm(text), text_mask, 0, text)
        for block in self.blocks:
            text = block(text, picture)
        seen = torch.ones(picture.shape[:2], dtype=torch.bool, device=picture.device)
        tokens = self.norm(torch.cat((picture, text), 1))  # (B, N + T, D)
        return Memory(tokens, torch.cat((seen, text_mask), 1), picture.shape[1], text)


class Modulation(nn.Module):
    """The instruction scales and shifts the picture's tokens (FiLM, Perez et al. 2018, eq. 2)."""

    def __init__(self, embedding_width: int, width: int) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(embedding_width, 2 * width)
        nn.init.zeros_(self.scale_shift.weight)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, picture: Tensor, z: Tensor) -> Tensor:
        """picture (B, N, D), z (B, E) to (B, N, D)."""
        scale, shift = self.scale_shift(z)[:, None].chunk(2, dim=-1)  # (B, 1, D)
        return picture * (1 + scale) + shift


class InstructionHead(nn.Module):
    """g(t) -> z: the mean of the text encoder's words to the sphere shared with pictures."""

    def __init__(self, width: int, embedding_width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, embedding_width)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """words (M, T, D), mask bool (M, T) to z (M, E), not yet of unit length."""
        return self.out(masked_mean(words, mask))
