"""BLIP's texts as traces.

Three streams: "picture", the class token and the patches; "read", the question or the sentence,
which looks at the picture; "written", a caption, which looks at the picture, or an answer, which
looks at the question alone.

Legend: R rows, N picture tokens, K = N - 1 regions, T tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vitdemo.attention.methods import for_gradients
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
from vitdemo.backends.blip_model import Memory, Text
from vitdemo.backends.hub import word_places
from vitdemo.preprocess import grid_boxes
from vitdemo.records import Request
from vitdemo.texts import phrase

if TYPE_CHECKING:
    from vitdemo.backends.blip import BlipBackend, BlipPicture

ANSWER_PATH = "method.answer_path"  # a key


@dataclass(frozen=True, kw_only=True)
class BlipTrace(WrittenTrace):
    """``states`` are the ``picture``'s, (1, N, D); the backend's reader reads ``ids`` with their
    ``mask`` (1, T)."""

    backend: "BlipBackend"
    picture: "BlipPicture"
    states: Tensor
    ids: Tensor
    mask: Tensor

    def features(self) -> Tensor:
        """The vision encoder's last states."""
        return self.states[0, 1:]

    def vision(self) -> Tensor:
        """The vision encoder mixes patches."""
        return self.backend.shares(self.picture)

    def run(self, rows: Rows, places: Sequence[Place] | None) -> Tensor:
        """Where nothing was written, the matching head judges."""
        if places is not None or self.backend.writer is not None:
            return super().run(rows, places)
        looked_at = self._read(rows)
        assert isinstance(looked_at, Tensor)
        fits: Tensor = self.backend.model.itm_head(looked_at[:, 0]).float()
        return fits[:, 1] - fits[:, 0]  # the logit of the softmax's "fits"

    def logits(self, rows: Rows, places: Sequence[Place]) -> Tensor:
        """The reader reads, the writer writes."""
        looked_at = self._read(rows)
        if not len(places):
            return self.states.new_zeros(0, 1)
        writer = self.backend.writer
        assert writer is not None
        row, place = place_indices(places, self.states.device)
        inputs = self.backend.tensor([writer.start, *self.written_ids][:int(place.max()) + 1])
        hidden = writer.read(inputs.expand(rows.count, -1), looked_at)
        # Logits only where a word stands: those of all places would be (R, T, V).
        return writer.decoder.cls(hidden[row, place]).float()

    def _read(self, rows: Rows) -> Memory | Tensor:
        """What the writer looks at: the question's states, or else the picture's."""
        memory, reader = self._memory(rows), self.backend.reader
        return memory if reader is None else reader.read(
            self.ids.expand(rows.count, -1), memory, self.mask.expand(rows.count, -1))

    def _memory(self, rows: Rows) -> Memory:
        """The picture's, or one for each row."""
        text = self.backend.reader or self.backend.writer
        assert text is not None
        if rows.pictures:
            return text.project(torch.cat([one.data.states for one in rows.pictures]))
        memory = text.memory(self.states)
        return memory if rows.offset is None else text.shifted(memory, rows.offset)


def blip_traces(backend: "BlipBackend", features: PictureFeatures,
                request: Request) -> tuple[Trace, ...]:
    """See `Backend.traces`."""
    checkpoint, reader, writer = backend.checkpoint, backend.reader, backend.writer
    own = for_gradients(features.data.states)
    text = request.text
    read = text if writer is None else request.instruction
    ids, mask = checkpoint.batch([read if reader is not None else ""])
    written_ids, written_offsets = checkpoint.ids("" if writer is None else text)
    grid = (checkpoint.model.config.vision_config.image_size
            // checkpoint.model.config.vision_config.patch_size,) * 2
    shared: dict[str, Any] = dict(
        backend=backend, picture=features.data, states=own, ids=ids, mask=mask,
        text_of=checkpoint.text, written_ids=[*written_ids, 0 if writer is None else writer.end],
        regions=Regions("picture", range(1, own.shape[1]), grid_boxes(grid, features.size), grid,
                        features.size),
        lengths={"picture": own.shape[1], "read": ids.shape[1], "written": len(written_ids) + 1})
    traces = []
    if reader is not None:
        words, tokens = word_places(read, checkpoint.ids(read)[1])
        traces.append(BlipTrace(
            text=read, source="text" if writer is None else "question", written=False, words=words,
            tokens=tokens, stream="read", shift=1, layers=_layers(reader, "read", "picture"),
            **shared))
    if writer is not None:
        words, tokens = word_places(text, written_offsets)
        context = "picture" if reader is None else "read"
        before = () if reader is None else _layers(reader, "read", "picture")
        traces.append(BlipTrace(
            text=text, source="caption" if reader is None else "answer", written=True, words=words,
            tokens=tokens, stream="written", shift=0,
            path="" if reader is None else phrase(ANSWER_PATH),
            layers=(*before, *_layers(writer, "written", context)), **shared))
    return tuple(traces)


def _layers(text: Text, stream: str, context: str) -> tuple[Layer, ...]:
    return tuple(layer for number, (own, cross) in enumerate(text.layers, start=1) for layer in (
        Layer(own, stream, (stream,), text.heads),
        Layer(cross, stream, (context,), text.heads, f"cross-attention {number}")))
