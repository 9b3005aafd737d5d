"""BLIP (Li et al. 2022, arXiv:2201.12086) from transformers, behind the backend interface.

A BLIP checkpoint is of one kind: it captions, or answers questions, or compares pictures with
texts. One backend may hold one of each ("blip:A+B+C") and then does all of it; the checkpoints
share nothing, each has its own vision encoder.

Legend: P pictures, M texts, N picture tokens (the class token first), D width, E embedding width.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

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
from vitdemo.attention.sanity import randomise
from vitdemo.attention.trace import Trace
from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.backends.blip_model import Text, Writer, encode_pixels
from vitdemo.backends.blip_trace import METHODS, blip_traces
from vitdemo.backends.hub import Checkpoint, Family, kind_of, load_checkpoint, read_config
from vitdemo.backends.writing import best_answers, search, steps, write
from vitdemo.config import Decoding
from vitdemo.device import Placement
from vitdemo.errors import CheckpointError, TextError
from vitdemo.instructions import is_preset
from vitdemo.preprocess import to_pixels, to_square
from vitdemo.records import Candidate, ModelInfo, Unread
from vitdemo.texts import Message

FAMILY = Family("BLIP", "blip", {"captioning": BlipForConditionalGeneration,
                                 "VQA": BlipForQuestionAnswering,
                                 "retrieval": BlipForImageTextRetrieval},
                "Salesforce/blip-image-captioning-base")
TASKS = {"captioning": ("caption",), "VQA": ("ask",), "retrieval": ("match", "embed")}
# task -> the kind of checkpoint for it, and one such on the hub
WANTED = {
    "caption": ("captioning", "Salesforce/blip-image-captioning-base"),
    "ask": ("VQA", "Salesforce/blip-vqa-base"),
    "match": ("retrieval", "Salesforce/blip-itm-base-coco"),
    "embed": ("retrieval", "Salesforce/blip-itm-base-coco"),
}
PICTURES_AT_ONCE = 8  # in one pass of the vision encoder
TEXTS_AT_ONCE = 32  # in one pass of the text encoder alone
PAIRS_AT_ONCE = 4  # texts compared with one picture in one pass
ANSWER_TOKENS = 12


@dataclass
class BlipPicture:
    """What is kept of one picture: the squares that the checkpoints see, by side, and by kind of
    checkpoint, made when first needed, the vision encoder's states (1, N, D) and how much of each
    came from each patch (N, N - 1)."""

    squares: dict[int, Image.Image]
    states: dict[str, Tensor] = field(default_factory=dict)
    shares: dict[str, Tensor] = field(default_factory=dict)

    def pixels(self, checkpoint: Checkpoint) -> Tensor:
        """The picture as a checkpoint wants it: (1, 3, S, S)."""
        side, images = side_of(checkpoint), checkpoint.processor.image_processor
        pixels = to_pixels([self.squares[side]], side, images.image_mean, images.image_std)
        return pixels.to(checkpoint.model.device, checkpoint.model.dtype)


def side_of(checkpoint: Checkpoint) -> int:
    """Pixels of a side of the square that it sees."""
    return int(checkpoint.model.config.vision_config.image_size)


class BlipBackend(Backend):
    """One BLIP checkpoint of each kind, at least one in all."""

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        self.checkpoints = {checkpoint.kind: checkpoint for checkpoint in checkpoints}
        assert checkpoints
        assert len(self.checkpoints) == len(checkpoints)
        self.readers = {kind: Text(one.model.text_encoder)
                        for kind, one in self.checkpoints.items() if kind != "captioning"}
        self.writers = {kind: Writer(one.model.text_decoder)
                        for kind, one in self.checkpoints.items() if kind != "retrieval"}
        self.info = _info(checkpoints)

    @classmethod
    def load(cls, source: str, placement: Placement) -> "BlipBackend":
        """Load the checkpoints that ``source`` names: a folder, a name on the hub, or several of
        them joined by + or commas.

        Raises:
            CheckpointError: one cannot be loaded, or two are of the same kind.
        """
        names = [source]
        if not os.path.isdir(source):
            names = [name.strip() for name in source.replace(",", "+").split("+") if name.strip()]
        if not names:
            raise CheckpointError("checkpoint.blip_none")
        if placement.spread:  # its parts are called without what brings their weights
            raise CheckpointError("chooser.no_room", model=source)
        loaded: dict[str, Checkpoint] = {}
        for name in names:
            checkpoint = load_checkpoint(name, placement, FAMILY)
            if checkpoint.kind in loaded:
                raise CheckpointError("checkpoint.blip_both", first=loaded[checkpoint.kind].name,
                                      second=checkpoint.name, kind=checkpoint.kind)
            loaded[checkpoint.kind] = checkpoint
        return cls(list(loaded.values()))

    @classmethod
    def tasks_of(cls, source: str = "") -> tuple[str, ...]:
        """Those of its kind."""
        if not source:
            return super().tasks_of()
        return (*TASKS[kind_of(source, read_config(source), FAMILY)], "explain")

    def randomised(self, seed: int, turn: AbstractContextManager[object]) -> "BlipBackend":
        """The same checkpoints with random weights."""
        copies = []
        for checkpoint in self.checkpoints.values():
            with turn:
                model = copy.deepcopy(checkpoint.model)
            randomise(model, seed)
            copies.append(replace(checkpoint, model=model,
                                  name=f"{checkpoint.name} with random weights",
                                  revision=f"{checkpoint.revision}-random-{seed}"))
        return BlipBackend(copies)

    # Pictures

    @property
    def picture_side(self) -> int:
        """That of the checkpoints, where they agree."""
        sides = {side_of(checkpoint) for checkpoint in self.checkpoints.values()}
        return sides.pop() if len(sides) == 1 else 0

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """One pass of the vision encoder; with several checkpoints, each one's pass runs when it
        first needs these pictures, so that a gallery is not encoded three times."""
        features = []
        sides = {side_of(checkpoint) for checkpoint in self.checkpoints.values()}
        for picture in pictures:
            squares = {side: to_square(picture, side) for side in sides}
            features.append(PictureFeatures(BlipPicture(squares), picture.size))
        if len(self.checkpoints) == 1:
            self.encode(next(iter(self.checkpoints)), features)
        return features

    @torch.no_grad()
    def encode(self, kind: str, features: Sequence[PictureFeatures]) -> None:
        """See to it that these pictures have the states of this kind of checkpoint."""
        checkpoint = self.checkpoints[kind]
        waiting = [one.data for one in features if kind not in one.data.states]
        for i in range(0, len(waiting), PICTURES_AT_ONCE):
            some = waiting[i:i + PICTURES_AT_ONCE]
            pixels = torch.cat([one.pixels(checkpoint) for one in some])
            states = encode_pixels(checkpoint.model.vision_model, pixels)
            for one, row in zip(some, states, strict=True):
                one.states[kind] = row[None].clone()  # (1, N, D), free of the batch

    def states(self, kind: str, features: PictureFeatures) -> Tensor:
        self.encode(kind, [features])
        states: Tensor = features.data.states[kind]
        return states

    @torch.no_grad()
    def shares(self, kind: str, features: PictureFeatures) -> Tensor:
        """How much of each state came from each patch, by rollout: float32 (N, N - 1). A second
        pass of the vision encoder, which records; its result is small and kept."""
        picture, checkpoint = features.data, self.checkpoints[kind]
        if kind not in picture.shares:
            weights: list[Tensor] = []
            encode_pixels(checkpoint.model.vision_model, picture.pixels(checkpoint), weights)
            picture.shares[kind] = rollout.vision(weights, prefix=1)
        shares: Tensor = picture.shares[kind]
        return shares

    # Words

    def unread(self, text: str) -> Unread:
        """By the first checkpoint: all have BERT's vocabulary.

        Raises:
            TextError: the text is too long.
        """
        return next(iter(self.checkpoints.values())).unread(text)

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        """BLIP takes no instructions: a free one is the beginning that the caption goes on from
        ("a photograph of"); the app's own presets and "" leave the beginning to the model.

        Raises:
            TaskError: this is no captioning checkpoint, or another language is asked for.
            TextError: the beginning is too long.
        """
        self.require("caption")
        self.require_language(language)
        checkpoint, writer = self.checkpoints["captioning"], self.writers["captioning"]
        prompt = checkpoint.ids(self.prefix(instruction))[0]
        room = checkpoint.limit + 1 - len(prompt)
        if room < decoding.max_tokens:
            raise TextError("typed.no_room", count=len(prompt), most=decoding.max_tokens)
        state = writer.state(writer.memory(self.states("captioning", features)))
        return steps(write(state, writer.prompt(prompt), writer.end, decoding),
                     lambda ids: checkpoint.text([*prompt, *ids]))

    @staticmethod
    def prefix(instruction: str) -> str:
        """The beginning of a caption that an instruction stands for."""
        return "" if is_preset(instruction) else instruction.strip()

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        """Beam search over answers; an answer's probability is that of its tokens and its end.
        Spellings that read the same are one answer."""
        self.require("ask")
        self.require_language(language)
        if not question.strip():
            raise TextError("typed.empty", what=Message("typed.question"))
        checkpoint, writer = self.checkpoints["VQA"], self.writers["VQA"]
        ids, mask = checkpoint.batch([question])
        reader = self.readers["VQA"]
        with torch.no_grad():
            asked = reader.read(ids, reader.memory(self.states("VQA", features)), mask)
        decoding = Decoding(max_tokens=ANSWER_TOKENS, length_penalty=0)
        *_, found = search(writer.state(writer.memory(asked)), writer.prompt(()), writer.end,
                           decoding, max(5, count))
        return best_answers(found, checkpoint.text, count)

    # Comparing

    @torch.no_grad()
    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """The image-text matching head's probability of "fits"."""
        self.require("match")
        checkpoint, reader = self.checkpoints["retrieval"], self.readers["retrieval"]
        self.encode("retrieval", features)
        scores = np.zeros((len(features), len(texts)), dtype=np.float32)
        batches = [checkpoint.batch(texts[i:i + PAIRS_AT_ONCE])
                   for i in range(0, len(texts), PAIRS_AT_ONCE)]
        for row, one in zip(scores, features, strict=True):
            memory = reader.memory(one.data.states["retrieval"])
            values = [checkpoint.model.itm_head(reader.read(ids, memory, mask)[:, 0])
                      .float().softmax(-1)[:, 1] for ids, mask in batches]
            if values:
                row[:] = torch.cat(values).cpu().numpy()
        return scores

    @torch.no_grad()
    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        """The contrastive projection of the class token."""
        self.require("embed")
        if not features:
            return np.zeros((0, self.info.dimension), dtype=np.float32)
        self.encode("retrieval", features)
        first = torch.cat([one.data.states["retrieval"][:, 0] for one in features])  # (P, D)
        return _unit(self.checkpoints["retrieval"].model.vision_proj(first))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """The contrastive projection of [CLS], read without a picture."""
        self.require("embed")
        checkpoint = self.checkpoints["retrieval"]
        rows = [np.zeros((0, self.info.dimension), dtype=np.float32)]
        for i in range(0, len(texts), TEXTS_AT_ONCE):
            ids, mask = checkpoint.batch(texts[i:i + TEXTS_AT_ONCE])
            states = checkpoint.model.text_encoder(input_ids=ids, attention_mask=mask)
            rows.append(_unit(checkpoint.model.text_proj(states.last_hidden_state[:, 0])))
        return np.concatenate(rows)

    # Explaining

    def traces(self, features: PictureFeatures, *, instruction: str, text: str, language: str,
               task: str) -> tuple[Trace, ...]:
        """See `blip_trace`.

        Raises:
            TextError: the text is too long.
        """
        return blip_traces(self, WANTED[task][0], features, instruction, text)


def _info(checkpoints: Sequence[Checkpoint]) -> ModelInfo:
    kinds = [checkpoint.kind for checkpoint in checkpoints]
    tasks = {"explain", *(task for kind in kinds for task in TASKS[kind])}
    missing = {task: Message("task.blip", trained=" + ".join(kinds), kind=kind, example=example,
                             purpose=Message(f"task.{task}"))
               for task, (kind, example) in WANTED.items() if task not in tasks}
    dimension = sum(checkpoint.model.config.image_text_hidden_size for checkpoint in checkpoints
                    if checkpoint.kind == "retrieval")
    return ModelInfo(name=" + ".join(checkpoint.name for checkpoint in checkpoints),
                     family="blip", tasks=frozenset(tasks), languages=("en",),
                     revision="+".join(checkpoint.revision for checkpoint in checkpoints),
                     dimension=dimension, missing=missing, methods=METHODS)


def _unit(vectors: Tensor) -> np.ndarray:
    return F.normalize(vectors.float(), dim=-1).cpu().numpy()
