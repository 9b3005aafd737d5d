"""The text encoder: a Transformer encoder laid out as BERT is, so that MiniLM's weights fit.

Shapes: M texts, T tokens, D width.
"""

import torch
from torch import Tensor, nn

from vitdemo.models.layers import FeedForward, SelfAttention


class TextBlock(nn.Module):
    """Self-attention and feed-forward, each followed by a layer norm (post-norm, as in BERT)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.feed_forward = FeedForward(width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (M, T, D), mask bool (M, 1, 1, T)."""
        x = self.attention_norm(x + self.attention(x, mask)[0])
        return self.feed_forward_norm(x + self.feed_forward(x))


class TextEncoder(nn.Module):
    """Token and position embeddings, then a stack of `TextBlock` (Devlin et al. 2019)."""

    def __init__(self, vocabulary: int, width: int, heads: int, layers: int,
                 max_tokens: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(max_tokens, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList([TextBlock(width, heads) for _ in range(layers)])
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (M, T), mask bool (M, T) True on real tokens, to (M, T, D)."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.token_embedding(ids) + self.position_embedding(positions))
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        return x


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens: (M, T, D), (M, T) to (M, D)."""
    share = mask.to(x.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    return (share[:, None] @ x).squeeze(1)
