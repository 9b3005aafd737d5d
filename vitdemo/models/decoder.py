"""The decoder: a causal Transformer that reads the fused memory and writes words.

Shapes: B memories, C texts per memory, R = B * C rows, T tokens, M memory tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdemo.models.fusion import Memory
from vitdemo.models.layers import (
    CrossAttention,
    FeedForward,
    Pair,
    SelfAttention,
    joined,
    sinusoid,
)
from vitdemo.models.pointer import Copy, Entries, Pointer, mixed


@dataclass
class Cache:
    """Keys and values: per layer, of the memory (B, H, M, d) and of the words (R, H, T, d);
    the words' ids (R, T); and what may be copied."""

    memory: list[Pair]
    mask: Tensor
    words: list[Pair] | None = None
    ids: Tensor | None = None
    names: Entries | None = None

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

    def forward(self, x: Tensor, mask: Tensor | None, rows: Sequence[int],
                memories: Sequence[tuple[Pair, Tensor | None]],
                pasts: Sequence[Pair | None]) -> tuple[Tensor, list[Pair]]:
        """x (R, T, D), in parts of so many ``rows``; returns it changed, and this layer's keys and
        values of each part."""
        mixed, presents = self.self_attention(self.self_norm(x), mask, pasts, rows)
        x = x + mixed
        x = x + self.cross(self.cross_norm(x), memories, rows)
        return x + self.feed_forward(self.feed_forward_norm(x)), presents


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
        names = None
        if self.pointer is not None and memory.names is not None:
            names = self.pointer.entries(memory.names, self.embedding.weight)
        return Cache(pairs, memory.mask[:, None, None], names=names)

    def hidden(self, ids: Tensor, cache: Cache, keep: bool = False) -> Tensor:
        """ids (R, T) that follow what ``cache`` holds, to states (R, T, D).

        ``keep`` adds their keys and values to the cache.
        """
        past, length = cache.length, ids.shape[1]
        mask = None
        if length > 1:
            every = torch.ones(length, past + length, dtype=torch.bool, device=ids.device)
            mask = every.tril(past)  # (T, T_all)
        return self._states([ids], [cache], mask, keep)

    def _states(self, ids: Sequence[Tensor], caches: Sequence[Cache], mask: Tensor | None,
                keep: bool) -> Tensor:
        """ids (R_i, T) that follow what each cache holds, to the states of all (R, T, D)."""
        rows, length = [len(one) for one in ids], ids[0].shape[1]
        width = self.embedding.embedding_dim
        table = sinusoid(max(cache.length for cache in caches) + length, width).to(
            ids[0].device, self.norm.weight.dtype)
        x = self.embedding(joined(ids)) * width ** 0.5 + joined(
            [table[cache.length:cache.length + length].expand(count, -1, -1)
             for count, cache in zip(rows, caches, strict=True)])
        x = F.dropout(x, self.dropout, self.training)
        words: list[list[Pair]] = []
        for i, block in enumerate(self.blocks):
            x, presents = block(x, mask, rows, [(cache.memory[i], cache.mask) for cache in caches],
                                [cache.words and cache.words[i] for cache in caches])
            words.append(presents)
        if keep:
            for one, cache, *own in zip(ids, caches, *words, strict=True):
                cache.words = own
                cache.ids = one if cache.ids is None else torch.cat((cache.ids, one), 1)
        return self.norm(x)

    def copies(self, hidden: Tensor, prefix: Tensor, cache: Cache) -> Copy | None:
        """What may be copied at the last places of a prefix (R, T), of which these are the states
        (R, S, D); None where nothing may."""
        if self.pointer is None or cache.names is None:
            return None
        return self.pointer(hidden, prefix, cache.names)

    def logits(self, hidden: Tensor, copy: Copy | None = None) -> Tensor:
        """(..., D) to (..., V); log-probabilities where words may be copied."""
        logits = self._plain(hidden)
        return logits if copy is None else mixed(logits, copy)

    def _plain(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., V), of the vocabulary alone."""
        hidden = F.dropout(hidden, self.dropout, self.training)
        return F.linear(hidden, self.embedding.weight, self.bias)

    def next(self, token: Tensor, cache: Cache) -> Tensor:
        """The logits (R, V) of what follows each row's next token (R,), which ``cache`` keeps."""
        return self.next_of_each([token], [cache])[0]

    def next_of_each(self, tokens: Sequence[Tensor], caches: Sequence[Cache]) -> list[Tensor]:
        """`next` of each cache. All rows go through the linear maps as one batch, whatever the
        lengths of the texts; the texts see nothing of each other."""
        rows = [len(token) for token in tokens]
        hidden = self._states([token[:, None] for token in tokens], caches, None, keep=True)
        found = []
        for own, logits, cache in zip(hidden.split(rows), self._plain(hidden).split(rows), caches,
                                      strict=True):
            assert cache.ids is not None
            copy = self.copies(own, cache.ids, cache)
            found.append((logits if copy is None else mixed(logits, copy))[:, 0])
        return found

    def forward(self, ids: Tensor, memory: Memory) -> Tensor:
        """Teacher-forced: ids (R, T) to logits (R, T, V) of each next token."""
        cache = self.start(memory)
        hidden = self.hidden(ids, cache)
        return self.logits(hidden, self.copies(hidden, ids, cache))
