"""BLIP (Li et al. 2022, arXiv:2201.12086) from transformers, behind the backend interface.

A BLIP checkpoint is of one kind: it captions, or answers questions, or compares pictures with
texts. Joined by + they do all of it; they share nothing, each has its own vision encoder.

Legend: P pictures, M texts, N picture tokens (the class token first), D width, E embedding width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import (
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
)

from vitdemo.attention import rollout
from vitdemo.attention.capture import record
from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.backends.blip_model import Text, Writer, WriterState, encode_pixels
from vitdemo.backends.blip_trace import blip_traces
from vitdemo.backends.hub import Checkpoint, Family, HubBackend, kind_of
from vitdemo.backends.source import read_config
from vitdemo.backends.writing_backend import Start, WritingBackend
from vitdemo.device import Placement
from vitdemo.errors import CheckpointError
from vitdemo.instructions import is_preset
from vitdemo.preprocess import to_pixels, to_square
from vitdemo.records import Request
from vitdemo.texts import Message

TASKS = {"captioning": ("caption",), "VQA": ("ask",), "retrieval": ("match", "embed")}
# task -> the kind of checkpoint for it, and one such on the hub
WANTED = {
    "caption": ("captioning", "Salesforce/blip-image-captioning-base"),
    "ask": ("VQA", "Salesforce/blip-vqa-base"),
    "match": ("retrieval", "Salesforce/blip-itm-base-coco"),
    "embed": ("retrieval", "Salesforce/blip-itm-base-coco"),
}
TEXTS_AT_ONCE = 32  # in one pass of the text encoder alone
PAIRS_AT_ONCE = 4  # texts compared with one picture in one pass


@dataclass
class BlipPicture:
    """What is kept of one picture: the ``square`` that the model sees, the vision encoder's
    ``states`` (1, N, D) and, made when first needed, how much of each came from each patch
    (N, N - 1)."""

    square: Image.Image
    states: Tensor
    shares: Tensor | None = None


class BlipBackend(WritingBackend):
    """One checkpoint, of any kind; see the file."""

    family = Family("BLIP", "blip", {"captioning": BlipForConditionalGeneration,
                                     "VQA": BlipForQuestionAnswering,
                                     "retrieval": BlipForImageTextRetrieval},
                    "Salesforce/blip-image-captioning-base")
    pictures_at_once = 8

    def __init__(self, checkpoint: Checkpoint) -> None:
        kind, config = checkpoint.kind, checkpoint.model.config
        super().__init__(checkpoint, tasks=frozenset((*TASKS[kind], "explain")))
        self.reader = None if kind == "captioning" else Text(self.model.text_encoder)
        self.writer = None if kind == "retrieval" else Writer(self.model.text_decoder)
        missing = {task: Message("task.blip", trained=kind, kind=wanted, example=example,
                                 purpose=Message(f"task.{task}"))
                   for task, (wanted, example) in WANTED.items() if wanted != kind}
        self.info = replace(self.info, missing=missing,
                            dimension=config.image_text_hidden_size * (kind == "retrieval"))

    @classmethod
    def load(cls, source: str, placement: Placement) -> Backend:
        """As others, but whole: one that has no room is refused."""
        if placement.spread:  # its parts are called without what brings their weights
            raise CheckpointError("chooser.no_room", model=source)
        return super().load(source, placement)

    @classmethod
    def tasks_of(cls, source: str = "") -> tuple[str, ...]:
        """Those of its kind."""
        if not source:
            return (*WANTED, "explain")
        return (*TASKS[kind_of(source, read_config(source), cls.family)], "explain")

    # Pictures

    @property
    def picture_side(self) -> int:
        """That of the vision encoder."""
        return int(self.model.config.vision_config.image_size)

    def pixels(self, squares: Sequence[Image.Image]) -> Tensor:
        """Pictures as the model wants them: (P, 3, S, S)."""
        images = self.processor.image_processor
        return self.own(to_pixels(squares, self.picture_side, images.image_mean,
                                  images.image_std))

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[BlipPicture]:
        """Squeezed to a square."""
        squares = [to_square(picture, self.picture_side) for picture in pictures]
        states = encode_pixels(self.model.vision_model, self.pixels(squares))
        return (BlipPicture(square, row[None].clone())
                for square, row in zip(squares, states, strict=True))

    @torch.no_grad()
    def shares(self, picture: BlipPicture) -> Tensor:
        """How much of each state came from each patch, by rollout: float32 (N, N - 1). A second
        pass of the vision encoder, which is recorded; its result is small and kept."""
        if picture.shares is None:
            encoder = self.model.vision_model
            with record([layer.self_attn for layer in encoder.encoder.layers]) as looks:
                encoder(self.pixels([picture.square]))
            picture.shares = rollout.vision((look.mean()[0] for look in looks), prefix=1)
        return picture.shares

    # Words

    encode = HubBackend.encode  # characters that the vocabulary lacks are folded

    @torch.no_grad()
    def start(self, features: PictureFeatures, request: Request) -> Start:
        """BLIP takes no instructions: a free one is the beginning that the caption goes on from
        ("a photograph of"); the app's own presets and "" leave the beginning to the model. An
        answer looks at the question alone, which looked at the picture."""
        looked_at, begun, instruction = features.data.states, list[int](), request.instruction
        if request.task == "caption":
            begun = self.encode("" if is_preset(instruction) else instruction.strip())[0]
        elif self.reader is not None:
            ids, mask = self.checkpoint.batch([instruction])
            looked_at = self.reader.read(ids, self.reader.memory(looked_at), mask)
        writer = self.writer
        assert writer is not None
        return Start(WriterState(writer, writer.memory(looked_at)), [writer.start, *begun],
                     writer.end, lambda ids: self.checkpoint.text([*begun, *ids]))

    # Comparing

    @torch.no_grad()
    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """The image-text matching head's probability of "fits"."""
        self.require("match")
        assert self.reader is not None
        scores = np.zeros((len(features), len(texts)), dtype=np.float32)
        batches = [self.checkpoint.batch(texts[first:first + PAIRS_AT_ONCE])
                   for first in range(0, len(texts), PAIRS_AT_ONCE)]
        for row, one in zip(scores, features, strict=True):
            memory = self.reader.memory(one.data.states)
            values = [self.model.itm_head(self.reader.read(ids, memory, mask)[:, 0])
                      .float().softmax(-1)[:, 1] for ids, mask in batches]
            if values:
                row[:] = torch.cat(values).cpu().numpy()
        return scores

    @torch.no_grad()
    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        """The contrastive projection of the class token."""
        self.require("embed")
        return self._unit([self.model.vision_proj(one.data.states[:, 0]) for one in features])

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """The contrastive projection of [CLS], read without a picture."""
        self.require("embed")
        rows = []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            ids, mask = self.checkpoint.batch(texts[first:first + TEXTS_AT_ONCE])
            states = self.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            rows.append(self.model.text_proj(states[:, 0]))
        return self._unit(rows)

    def _unit(self, rows: Sequence[Tensor]) -> np.ndarray:
        vectors: Any = torch.cat([torch.zeros(0, self.info.dimension), *(
            row.float().cpu() for row in rows)])
        return F.normalize(vectors, dim=-1).numpy()

    traces = blip_traces
