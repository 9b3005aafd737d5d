"""The decoder: a causal Transformer that reads the fused memory and writes words.

Shapes: B memories, C texts per memory, R = B * C rows, T tokens, M memory tokens, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdemo.models.fusion import Memory
from vitdemo.models.layers import CrossAttention, FeedForward, SelfAttention, sinusoid
from vitdemo.models.pointer import Copy, Names, Pointer, mixed

Pair = tuple[Tensor, Tensor]


@dataclass
class Cache:
    """Keys and values: per layer, of the memory (B, H, M, d) and of the words (R, H, T, d);
    the words' ids (R, T); and what may be copied."""

    memory: list[Pair]
    mask: Tensor
    words: list[Pair] | None = None
    ids: Tensor | None = None
    names: Names | None = None

    @property
    def length(self) -> int:
        """How many tokens are kept."""
        return 0 if self.words is None else self.words[0][0].shape[2]

    def select(self, rows: Tensor) -> None:
        """Keep these rows' words, in this order (beams that go on)."""
        if self.words is not None:
            self.words = [(key[rows], value[rows]) for key, value in self.words]
        if self.ids is not None:
            self.ids = self.ids[rows]


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to the memory, feed-forward; norm before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor, mask: Tensor | None, memory: Pair, memory_mask: Tensor,
                past: Pair | None) -> tuple[Tensor, Pair]:
        """x (R, T, D); returns it changed, and this layer's keys and values."""
        mixed, present = self.self_attention(self.self_norm(x), mask, past)
        x = x + mixed
        x = x + self.cross(self.cross_norm(x), memory, memory_mask)
        return x + self.feed_forward(self.feed_forward_norm(x)), present


class Decoder(nn.Module):
    """A stack of `DecoderBlock`; the output matrix is the embedding matrix (Press, Wolf 2017)."""

    def __init__(self, vocabulary: int, width: int, heads: int, layers: int,
                 pointer: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks: Any = nn.ModuleList([DecoderBlock(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.pointer = Pointer(width) if pointer else None
        self.dropout = 0.0  # set by training; on the embeddings and before the output
        nn.init.normal_(self.embedding.weight, std=width ** -0.5)

    def start(self, memory: Memory) -> Cache:
        """Project the memory once, for any number of words and texts."""
        pairs = [block.cross.project(memory.tokens) for block in self.blocks]
        return Cache(pairs, memory.mask[:, None, None], names=memory.names)

    def hidden(self, ids: Tensor, cache: Cache, keep: bool = False) -> Tensor:
        """ids (R, T) that follow what ``cache`` holds, to states (R, T, D).

        ``keep`` adds their keys and values to the cache.
        """
        length, past = ids.shape[1], cache.length
        width = self.embedding.embedding_dim
        positions = sinusoid(past + length, width)[past:].to(ids.device, self.norm.weight.dtype)
        x = self.embedding(ids) * width ** 0.5 + positions
        x = F.dropout(x, self.dropout, self.training)
        mask = None
        if length > 1:
            every = torch.ones(length, past + length, dtype=torch.bool, device=ids.device)
            mask = every.tril(past)  # (T, T_all)
        words = []
        for i, block in enumerate(self.blocks):
            before = None if cache.words is None else cache.words[i]
            x, present = block(x, mask, cache.memory[i], cache.mask, before)
            words.append(present)
        if keep:
            cache.words = words
            cache.ids = ids if cache.ids is None else torch.cat((cache.ids, ids), 1)
        return self.norm(x)

    def copies(self, hidden: Tensor, prefix: Tensor, cache: Cache) -> Copy | None:
        """What may be copied at the last places of a prefix (R, T), of which these are the states
        (R, S, D); None where nothing may."""
        if self.pointer is None or cache.names is None:
            return None
        return self.pointer(hidden, prefix, cache.names, self.embedding.weight)

    def logits(self, hidden: Tensor, copy: Copy | None = None) -> Tensor:
        """(..., D) to (..., V); log-probabilities where words may be copied."""
        hidden = F.dropout(hidden, self.dropout, self.training)
        logits = F.linear(hidden, self.embedding.weight, self.bias)
        return logits if copy is None else mixed(logits, copy)

    def next(self, token: Tensor, cache: Cache) -> Tensor:
        """The logits (R, V) of what follows each row's next token (R,), which ``cache`` keeps."""
        hidden = self.hidden(token[:, None], cache, keep=True)[:, -1:]
        assert cache.ids is not None
        return self.logits(hidden, self.copies(hidden, cache.ids, cache))[:, 0]

    def forward(self, ids: Tensor, memory: Memory) -> Tensor:
        """Teacher-forced: ids (R, T) to logits (R, T, V) of each next token."""
        cache = self.start(memory)
        hidden = self.hidden(ids, cache)
        return self.logits(hidden, self.copies(hidden, ids, cache))
