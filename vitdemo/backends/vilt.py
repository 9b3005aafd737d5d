"""ViLT (Kim et al. 2021, arXiv:2102.03334) from transformers, which compares: a text's words and a
picture's patches stand in one stream of self-attention, and [CLS] says whether they fit.

The library puts the patches in a random order, and draws some where there are too many. Here they
are drawn once for a picture, always the same, and put in order by what the library says of each.

Legend: R rows, M texts, T tokens of a text, N patches and their class token, K regions, D width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import ViltForImageAndTextRetrieval

from vitdemo.attention.methods import for_gradients
from vitdemo.attention.trace import Layer, Place, Regions, Rows, Trace, with_offset
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.chat_trace import only_through_picture
from vitdemo.backends.hub import Checkpoint, Family, HubBackend, word_places
from vitdemo.preprocess import grid_boxes
from vitdemo.records import ModelInfo, Request
from vitdemo.texts import Message

PAIRS_AT_ONCE = 8  # texts compared with one picture in one pass


@dataclass(frozen=True)
class Seen:
    """One picture: its class token and the embeddings of its patches (1, N, D), row by row, and
    ``places`` (K, 2), the row and column of each patch, of a ``grid`` (rows, columns)."""

    patches: Tensor
    places: np.ndarray
    grid: tuple[int, int]


class ViltBackend(HubBackend):
    """One checkpoint for retrieval; see the file."""

    family = Family("ViLT", "vilt", {"retrieval": ViltForImageAndTextRetrieval},
                    "dandelin/vilt-b32-finetuned-coco")

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.info = ModelInfo(
            name=checkpoint.name, family=self.family.model_type, revision=checkpoint.revision,
            tasks=frozenset({"match", "explain"}), languages=("en",), dimension=0,
            methods=self.methods,
            missing={"embed": Message("task.no_vectors"),
                     **dict.fromkeys(("caption", "ask"), Message("task.writes_nothing"))})

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """Each keeps its shape. There is no vision encoder but a projection."""
        inputs = self.processor.image_processor(images=pictures, return_tensors="pt")
        pixels = self.own(inputs["pixel_values"])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            patches, _, (places, grid) = self.model.vilt.embeddings.visual_embed(
                pixels, self.own(inputs["pixel_mask"]),
                max_image_length=self.model.config.max_image_length)
        order = (places[0, :, 0] * grid[1] + places[0, :, 1]).argsort()
        drawn = torch.cat([order.new_zeros(1), order + 1])
        return [Seen(patches[:, drawn].clone(), places[0, order].cpu().numpy(), tuple(grid))]

    def forward(self, ids: Tensor, mask: Tensor, patches: Tensor) -> Tensor:
        """The logit that texts, ids and mask (R, T), fit patches (R, N, D): float32 (R,)."""
        return self.model(
            input_ids=ids, attention_mask=mask, image_embeds=patches,
            pixel_mask=mask.new_ones(patches.shape[:2])).logits[:, 0].float()

    @torch.no_grad()
    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """The ranking head's logit as a probability; it was trained to order texts by it."""
        self.require("match")
        scores = np.zeros((len(features), len(texts)), dtype=np.float32)
        for first in range(0, len(texts), PAIRS_AT_ONCE):
            ids, mask = self.checkpoint.batch(texts[first:first + PAIRS_AT_ONCE])
            for row, one in zip(scores, features, strict=True):
                logits = self.forward(ids, mask, one.data.patches.expand(len(ids), -1, -1))
                row[first:first + len(ids)] = logits.sigmoid().cpu().numpy()
        return scores

    def traces(self, features: PictureFeatures, request: Request) -> tuple[Trace, ...]:
        """The sentence, in one stream with the patches after it."""
        seen, text = features.data, request.text
        ids, mask = self.checkpoint.batch([text])
        boxes = grid_boxes(seen.grid, features.size)
        chosen = seen.places[:, 0] * seen.grid[1] + seen.places[:, 1]
        length, patches = ids.shape[1], seen.patches
        words, tokens = word_places(text, self.encode(text)[1])
        heads = self.model.config.num_attention_heads
        return (ViltTrace(
            text=text, source="text", written=False, words=words, tokens=tokens, stream="text",
            shift=1, lengths={"text": length + patches.shape[1]},
            layers=tuple(Layer(layer.attention.attention, "text", ("text",), heads,
                               f"layer {number}") for number, layer in
                         enumerate(self.model.vilt.encoder.layer, start=1)),
            regions=Regions("text", range(length + 1, length + 1 + len(chosen)), boxes[chosen],
                            seen.grid if len(chosen) == len(boxes) else (0, 0), features.size),
            backend=self, patches=for_gradients(patches), ids=ids, mask=mask),)


@dataclass(frozen=True, kw_only=True)
class ViltTrace(Trace):
    """``patches`` (1, N, D) are the picture's, ``ids`` and ``mask`` (1, T) the sentence's."""

    backend: ViltBackend
    patches: Tensor
    ids: Tensor
    mask: Tensor

    def features(self) -> Tensor:
        """The embeddings of the patches."""
        return self.patches[0, 1:]

    def run(self, rows: Rows, places: Sequence[Place] | None) -> Tensor:
        """The logit that they fit. Pictures may have patches of other numbers."""
        patches = [one.data.patches for one in rows.pictures] or [with_offset(
            self.patches.expand(rows.count, -1, -1), range(1, self.patches.shape[1]), rows.offset)]
        if len({one.shape for one in patches}) == 1:
            patches = [torch.cat(patches)]
        with only_through_picture(self.layers, self.ids.shape[1], self.lengths["text"] - 1,
                                  rows.through):
            logits = torch.cat([self.backend.forward(self.ids.expand(len(one), -1),
                                                     self.mask.expand(len(one), -1), one)
                                for one in patches])
        return logits if places is None else logits.new_zeros(0)
