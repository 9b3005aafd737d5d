"""Our own model's texts as traces.

Three streams: "picture", whose tokens are the regions; "read", the instruction, the question or
the sentence, which the fusion lets look at the picture; "written", whose tokens look at both.

Legend: R rows, N picture tokens, which are the K regions, I tokens of the instruction, T tokens
that were written, M = N + I tokens of the memory, C channels of the backbone, D width.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from vitdemo.attention.methods import over_words
from vitdemo.attention.trace import (
    Layer,
    Place,
    Regions,
    Rows,
    Trace,
    WrittenTrace,
    place_indices,
)
from vitdemo.backends.base import PictureFeatures
from vitdemo.models.fusion import Memory
from vitdemo.models.names import named_words
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import grid_boxes
from vitdemo.records import Request
from vitdemo.words import split_words

if TYPE_CHECKING:
    from vitdemo.backends.native import NativeBackend

WITHOUT_REGIONS = ("cross-attention", "rollout", "relevancy", "grad-cam")
# The default first.
METHODS = ("matched-attention", *WITHOUT_REGIONS, "word-region")
# Pictures times tokens that the decoder reads in one go: the logits are (P, T, V).
_TOKENS_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True)
class NativeTrace(WrittenTrace):
    """``picture`` is what was kept of it, ``own`` the same features (1, N, C), fit for gradients;
    ``read`` the text that the fusion reads, ``ids`` and ``mask`` (1, I) its tokens; ``start`` is
    what the decoder begins with."""

    backend: "NativeBackend"
    picture: Tensor
    own: Tensor
    read: str
    ids: Tensor
    mask: Tensor
    start: int

    def features(self) -> Tensor:
        """Those of the backbone, (N, C)."""
        return self.own[0]

    def likeness(self) -> np.ndarray:
        """By the region head, from each token's own. These maps know no context: a word has the
        same map wherever it stands. That of a word which the names head knows is multiplied by
        where that sees it."""
        model, tokenizer = self.backend.model, self.backend.tokenizer
        ids = torch.tensor(tokenizer.pieces(self.text)[0], dtype=torch.long, device=self.own.device)
        assert model.region_head is not None
        maps = model.region_head.maps(self.own, ids)[0].cpu().numpy()  # (T, K)
        words = tokenizer.word_tokens(self.text)
        maps = over_words(maps, [tokens for _, tokens in words])  # (Q, K)
        if model.names is not None and (named := named_words([word.text for word, _ in words])):
            places = list(named)
            maps[places] *= model.names.maps(self.own, list(named.values()))[0].cpu().numpy()
            maps[places] /= maps[places].sum(1, keepdims=True).clip(min=1e-12)
        return maps

    def run(self, rows: Rows, places: Sequence[Place] | None) -> Tensor:
        """Where nothing was written, the match head judges."""
        if places is not None or self.source != "text":
            return super().run(rows, places)
        features, memory, z = self._read(rows)
        model = self.backend.model
        assert z is not None
        ids, mask = (one.expand(len(memory.tokens), -1) for one in (self.ids, self.mask))
        return model.match(memory, ids, mask, z, model.picture_head(features),
                           model.regions(features)).float()

    def logits(self, rows: Rows, places: Sequence[Place]) -> Tensor:
        """The fusion reads, the decoder writes. Nothing after the last of these places is read, and
        logits are made only there: those of all places would be (R, T, V)."""
        _, memory, _ = self._read(rows)
        decoder, device = self.backend.model.decoder, memory.tokens.device
        if not len(places):
            return memory.tokens.new_zeros(0, 1)
        row, place = place_indices(places, device)
        inputs = torch.tensor([[self.start, *self.written_ids][:int(place.max()) + 1]],
                              device=device)
        inputs, cache = inputs.expand(len(memory.tokens), -1), decoder.start(memory)
        hidden = decoder.hidden(inputs, cache)  # (R, T, D)
        copy = decoder.copies(hidden, inputs, cache)
        return decoder.logits(hidden[row, place], copy and copy.at(row, place)).float()

    def _read(self, rows: Rows) -> tuple[Tensor, Memory, Tensor | None]:
        """The pictures' features, what the decoder reads, and z (R, E), which nothing written
        needs."""
        features = torch.cat([one.data for one in rows.pictures]) if rows.pictures else self.own
        memory, z = self._memory(features, rows)
        if rows.through is not None:  # the decoder also sees the picture itself: no word's merit
            regions = memory.picture_tokens
            cut = torch.cat((memory.tokens[:, :regions].detach(), memory.tokens[:, regions:]), 1)
            memory = dataclasses.replace(memory, tokens=cut)
        return features, memory, z

    def _memory(self, features: Tensor, rows: Rows) -> tuple[Memory, Tensor | None]:
        model = self.backend.model
        if not rows.pictures and rows.count == 1 and rows.offset is None and \
                "read" not in rows.recorded and self.source != "text":
            return self.backend.memory(self.picture, self.read), None
        words, z = model.encode_text(self.ids, self.mask)
        which = torch.zeros(rows.count, dtype=torch.long, device=features.device)
        if rows.pictures:
            which = torch.arange(rows.count, device=features.device)
        names = model.nameable(features, which)
        if rows.offset is not None:
            features = features + rows.offset[:, None]
        tokens = model.vision.tokens(features).expand(rows.count, -1, -1)
        words, z, mask = (one.expand(rows.count, *one.shape[1:])
                          for one in (words, z, self.mask))
        memory = model.fuse(tokens, words, mask, z, names)
        if rows.count == 1 and not torch.is_grad_enabled() and not rows.pictures:
            self.backend.keep_memory(self.picture, self.read, memory)
        return memory, z


def native_traces(backend: "NativeBackend", features: PictureFeatures,
                  request: Request) -> tuple[Trace, ...]:
    """See `Backend.traces`."""
    model, tokenizer, task, text = backend.model, backend.tokenizer, request.task, request.text
    read, written = (text, "") if task == "match" else (request.instruction, text)
    ids, mask = (one.to(backend.device) for one in tokenizer.encode([read]))
    read_ids, written_ids = ids.shape[1], tuple(tokenizer.pieces(written)[0])
    fusion = tuple(Layer(block.cross, "read", ("picture",), model.config.heads, f"fusion {i + 1}",
                         gate) for i, (block, gate) in enumerate(zip(
                             model.fusion.blocks, model.gates().tolist(), strict=True)))
    own = features.data.clone()  # one made in inference mode takes no gradients
    vision, blocks = model.vision, cast(Any, model.text.blocks)
    shared: dict[str, Any] = dict(
        backend=backend, picture=features.data, own=own, read=read, ids=ids, mask=mask,
        start=tokenizer.language_start[request.language], text_of=tokenizer.decode,
        written_ids=(*written_ids, tokenizer.end),
        regions=Regions("picture", range(own.shape[1]),
                        grid_boxes(vision.grid, features.size, vision.edges), vision.grid,
                        features.size),
        lengths={"picture": own.shape[1], "read": read_ids, "written": len(written_ids) + 1},
        pictures_at_once=max(1, _TOKENS_AT_ONCE // (len(written_ids) + 1)))
    traces = []
    if task != "caption" and fusion:  # without fusion the words see no picture
        # After [CLS], and before [SEP] where the text was too long and was cut.
        tokens = [[token for token in found if token + 2 < read_ids]
                  for _, found in tokenizer.word_tokens(read)]
        traces.append(NativeTrace(
            text=read, source="question" if task == "ask" else "text", written=False,
            words=split_words(read), tokens=tokens, stream="read", shift=1,
            layers=(*(Layer(block.attention, "read", ("read",), model.config.text_heads)
                      for block in blocks), *fusion), **shared))
    if task != "match":
        places = [found for _, found in tokenizer.word_tokens(text)]
        # The decoder looks at the places of the fused words, whatever the text encoder mixed into
        # them before the picture came in.
        traces.append(NativeTrace(
            text=text, source="caption" if task == "caption" else "answer", written=True,
            words=split_words(text), tokens=places, stream="written", shift=0,
            layers=(*fusion, *_decoder_layers(model)), **shared))
    return tuple(traces)


def _decoder_layers(model: VLM) -> tuple[Layer, ...]:
    heads = model.config.heads
    return tuple(layer for i, block in enumerate(model.decoder.blocks) for layer in (
        Layer(block.self_attention, "written", ("written",), heads),
        Layer(block.cross, "written", ("picture", "read"), heads, f"decoder {i + 1}")))
