"""The parts of a BLIP model that others than transformers' own way of calling them need: the vision
encoder with the fused kernel, and text models that look at a memory which is projected once.

Legend: B pictures, N picture tokens (the class token first), R rows (beams, texts or pictures),
H heads, T text positions, d head width, D width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from vitdemo.backends.hub import cache_argument
from vitdemo.backends.writing_backend import select_written


def encode_pixels(model: Any, pixels: Tensor) -> Tensor:
    """What `BlipVisionModel` gives as last_hidden_state: pixels (B, 3, S, S) to (B, N, D).

    transformers computes every attention matrix in full; the fused kernel gives the same states in
    less time."""
    states: Tensor = model.embeddings(pixels)
    for layer in model.encoder.layers:
        states = states + _attend(layer.self_attn, layer.layer_norm1(states))
        states = states + layer.mlp(layer.layer_norm2(states))
    return model.post_layernorm(states)


def _attend(module: Any, states: Tensor) -> Tensor:
    batch, length, width = states.shape
    mixed = module.qkv(states).view(batch, length, 3, module.num_heads, -1)  # (B, N, 3, H, d)
    query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (B, H, N, d)
    result = F.scaled_dot_product_attention(query, key, value, scale=module.scale)
    return module.projection(result.transpose(1, 2).reshape(batch, length, width))  # (B, N, D)


@dataclass(frozen=True)
class Memory:
    """What a text looks at: ``states`` (B, N, D), and each layer's key and value of it,
    (B, H, N, d). B is 1, or R where each text has its own."""

    states: Tensor
    pairs: tuple[tuple[Tensor, Tensor], ...]

    def cache(self, rows: int = 1) -> EncoderDecoderCache:
        """A cache for ``rows`` texts that all look at this memory; ``rows`` is B where B is not
        1."""
        cross = DynamicCache()
        for i, (key, value) in enumerate(self.pairs):
            cross.update(key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1), i)
        return EncoderDecoderCache(DynamicCache(), cross)


class Text:
    """A BLIP text model with cross-attention; keeps the last memory it was asked for, so that
    writing a caption and explaining it project the picture once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._last: Memory | None = None
        self._cache = cache_argument(model)

    @property
    def layers(self) -> list[tuple[Any, Any]]:
        """Each layer's self-attention and cross-attention."""
        return [(layer.attention.self, layer.crossattention.self)
                for layer in self.model.encoder.layer]

    @property
    def heads(self) -> int:
        """H."""
        return int(self.model.config.num_attention_heads)

    @torch.no_grad()
    def memory(self, states: Tensor) -> Memory:
        """Project ``states`` (1, N, D) for every layer, once for the same tensor."""
        if self._last is None or self._last.states is not states:
            self._last = None  # the old one's room is free before the new one is made
            self._last = self.project(states)
        return self._last

    def project(self, states: Tensor) -> Memory:
        """Project ``states`` (B, N, D) for every layer; nothing is kept."""
        return Memory(states, tuple((self._project(module, module.key, states),
                                     self._project(module, module.value, states))
                                    for _, module in self.layers))

    def shifted(self, memory: Memory, offset: Tensor) -> Memory:
        """``memory`` of one picture, as it is with ``offset`` (R, D) added to all states but the
        class token's. As projections are linear, no state is projected again."""
        region = torch.ones(1, 1, memory.states.shape[1], 1, device=offset.device)
        region[:, :, 0] = 0
        pairs = []
        for (_, layer), pair in zip(self.layers, memory.pairs, strict=True):
            moves = (F.linear(offset, linear.weight).view(len(offset), self.heads, 1, -1)
                     for linear in (layer.key, layer.value))
            pairs.append(tuple(kept + region.to(kept) * move
                               for kept, move in zip(pair, moves, strict=True)))
        return Memory(memory.states.expand(len(offset), -1, -1), tuple(pairs))  # type: ignore

    def read(self, ids: Tensor, looked_at: Memory | Tensor, mask: Tensor | None = None) -> Tensor:
        """Texts (R, T) with a memory, or with states (R, N, D), in view, to states (R, T, D): both
        ways with their mask, or as a decoder without one."""
        more: dict[str, Any] = {"is_decoder": True} if mask is None else {"attention_mask": mask}
        if isinstance(looked_at, Memory):
            more[self._cache] = looked_at.cache(len(ids))
            if mask is None:
                more["use_cache"] = True
            looked_at = looked_at.states.expand(len(ids), -1, -1)
        return self.model(input_ids=ids, encoder_hidden_states=looked_at,
                          **more).last_hidden_state

    @staticmethod
    def _project(module: Any, linear: Any, states: Tensor) -> Tensor:
        shape = (*states.shape[:-1], -1, module.attention_head_size)
        return linear(states).view(shape).transpose(1, 2)  # (B, H, N, d)


class Writer(Text):
    """BLIP's text decoder, which writes after ``start`` and stops at ``end`` (token ids)."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.bert)
        self.decoder = model
        self.start, self.end = model.config.bos_token_id, model.config.sep_token_id


class WriterState:
    """See `vitdemo.backends.writing.State`."""

    def __init__(self, writer: Writer, memory: Memory) -> None:
        self._writer, self._memory, self._cache = writer, memory, memory.cache()
        self._argument = cache_argument(writer.decoder)

    def next(self, ids: Tensor) -> Tensor:
        """Logits of the token after ids."""
        return self._writer.decoder(
            input_ids=ids, encoder_hidden_states=self._memory.states, use_cache=True,
            logits_to_keep=1, **{self._argument: self._cache}).logits[:, -1].float()

    def select(self, rows: Sequence[int]) -> None:
        """The cache of these rows."""
        select_written(self._cache, rows)
