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

from vitdemo.attention.methods import choose, explanation
from vitdemo.attention.sanity import randomise
from vitdemo.backends import blip_explain, blip_methods, blip_words
from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.backends.blip_decoder import Draft, Reader, Writer
from vitdemo.backends.blip_load import BlipCheckpoint, PixelFormat, load_checkpoint
from vitdemo.backends.blip_vision import encode_pixels, patch_shares
from vitdemo.config import Decoding
from vitdemo.device import Placement
from vitdemo.errors import CheckpointError, TaskError, TextError
from vitdemo.instructions import is_preset
from vitdemo.preprocess import grid_boxes, to_pixels, to_square
from vitdemo.records import Candidate, Explanation, ModelInfo, Unread
from vitdemo.words import normalise_answer

TASKS = {"captioning": ("caption",), "VQA": ("ask",), "retrieval": ("match", "embed")}
# task -> the kind of checkpoint for it, one such on the hub, and what it is good for
WANTED = {
    "caption": ("captioning", "Salesforce/blip-image-captioning-base", "captions"),
    "ask": ("VQA", "Salesforce/blip-vqa-base", "questions"),
    "match": ("retrieval", "Salesforce/blip-itm-base-coco", "comparing texts with pictures"),
    "embed": ("retrieval", "Salesforce/blip-itm-base-coco", "searching pictures"),
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

    def pixels(self, shape: PixelFormat) -> Tensor:
        """The picture as a checkpoint wants it: float32 (1, 3, S, S)."""
        return to_pixels([self.squares[shape.side]], shape.side, shape.mean, shape.std)


class BlipBackend(Backend):
    """One BLIP checkpoint of each kind, at least one in all."""

    def __init__(self, checkpoints: Sequence[BlipCheckpoint]) -> None:
        self._checkpoints = {checkpoint.kind: checkpoint for checkpoint in checkpoints}
        assert checkpoints
        assert len(self._checkpoints) == len(checkpoints)
        self._readers: dict[str, Reader] = {}
        self._writers: dict[str, Writer] = {}
        for kind, checkpoint in self._checkpoints.items():
            if kind != "captioning":
                self._readers[kind] = Reader(checkpoint.model.text_encoder)
            if kind != "retrieval":
                text = checkpoint.model.config.text_config
                self._writers[kind] = Writer(checkpoint.model.text_decoder, text.bos_token_id,
                                             text.sep_token_id)
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
            raise CheckpointError("No BLIP checkpoint is named; write blip:NAME_OR_FOLDER.")
        loaded: dict[str, BlipCheckpoint] = {}
        for name in names:
            checkpoint = load_checkpoint(name, placement)
            if checkpoint.kind in loaded:
                raise CheckpointError(
                    f"{loaded[checkpoint.kind].name} and {checkpoint.name} are both BLIP "
                    f"{checkpoint.kind} checkpoints; give at most one of each kind.")
            loaded[checkpoint.kind] = checkpoint
        return cls(list(loaded.values()))

    def randomised(self, seed: int, turn: AbstractContextManager[object]) -> "BlipBackend":
        """The same checkpoints with random weights."""
        copies = []
        for checkpoint in self._checkpoints.values():
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
        sides = {checkpoint.pixel_format.side for checkpoint in self._checkpoints.values()}
        return sides.pop() if len(sides) == 1 else 0

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """One pass of the vision encoder; with several checkpoints, each one's pass runs when it
        first needs these pictures, so that a gallery is not encoded three times."""
        features = []
        sides = {checkpoint.pixel_format.side for checkpoint in self._checkpoints.values()}
        for picture in pictures:
            squares = {side: to_square(picture, side) for side in sides}
            features.append(PictureFeatures(BlipPicture(squares), picture.size))
        if len(self._checkpoints) == 1:
            self._encode(next(iter(self._checkpoints)), features)
        return features

    @torch.no_grad()
    def _encode(self, kind: str, features: Sequence[PictureFeatures]) -> None:
        """See to it that these pictures have the states of this kind of checkpoint."""
        checkpoint = self._checkpoints[kind]
        waiting = [one.data for one in features if kind not in one.data.states]
        for i in range(0, len(waiting), PICTURES_AT_ONCE):
            some = waiting[i:i + PICTURES_AT_ONCE]
            pixels = torch.cat([one.pixels(checkpoint.pixel_format) for one in some])
            pixels = pixels.to(checkpoint.model.device, checkpoint.model.dtype)
            states = encode_pixels(checkpoint.model.vision_model, pixels)
            for one, row in zip(some, states, strict=True):
                one.states[kind] = row[None].clone()  # (1, N, D), free of the batch

    def _states(self, kind: str, features: PictureFeatures) -> Tensor:
        self._encode(kind, [features])
        states: Tensor = features.data.states[kind]
        return states

    def _shares(self, kind: str, features: PictureFeatures) -> Tensor:
        """A second pass of the vision encoder, which records; its result is small and kept."""
        picture, checkpoint = features.data, self._checkpoints[kind]
        if kind not in picture.shares:
            pixels = picture.pixels(checkpoint.pixel_format)
            pixels = pixels.to(checkpoint.model.device, checkpoint.model.dtype)
            picture.shares[kind] = patch_shares(checkpoint.model.vision_model, pixels)
        shares: Tensor = picture.shares[kind]
        return shares

    # Words

    def unread(self, text: str) -> Unread:
        """By the first checkpoint: all have BERT's vocabulary.

        Raises:
            TextError: the text is too long.
        """
        return next(iter(self._checkpoints.values())).unread(text)

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        """BLIP takes no instructions: a free one is the beginning that the caption goes on from
        ("a photograph of"); the app's own presets and "" leave the beginning to the model.

        Raises:
            TaskError: this is no captioning checkpoint, or another language is asked for.
            TextError: the beginning is too long.
        """
        self.require("caption")
        self._require_language(language)
        checkpoint, writer = self._checkpoints["captioning"], self._writers["captioning"]
        prompt = checkpoint.ids(self.prefix(instruction))[0]
        room = writer.reader.max_tokens - 1 - len(prompt)
        if room < decoding.max_tokens:
            raise TextError(f"The beginning has {len(prompt)} tokens, which leaves no room for a "
                            f"caption of {decoding.max_tokens}. Shorten it.")
        memory = writer.reader.memory(self._states("captioning", features))
        return self._steps(checkpoint, prompt, writer.write(memory, prompt, decoding))

    @staticmethod
    def _steps(checkpoint: BlipCheckpoint, prompt: list[int],
               drafts: Iterator[list[Draft]]) -> Iterator[Step]:
        text, total = "", 0.0
        for best, *_ in drafts:
            text, total = checkpoint.text([*prompt, *best.ids]), best.log_probability
            yield Step(text, total, False)
        yield Step(text, total, True)

    @staticmethod
    def prefix(instruction: str) -> str:
        """The beginning of a caption that an instruction stands for."""
        return "" if is_preset(instruction) else instruction.strip()

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        """Beam search over answers; an answer's probability is that of its tokens and its end.
        Spellings that read the same are one answer."""
        self.require("ask")
        self._require_language(language)
        if not question.strip():
            raise TextError("The question is empty. Write one.")
        checkpoint, writer = self._checkpoints["VQA"], self._writers["VQA"]
        ids, mask = checkpoint.batch([question])
        reader = self._readers["VQA"]
        asked = reader.encode(ids, mask, reader.memory(self._states("VQA", features)))
        decoding = Decoding(max_tokens=ANSWER_TOKENS, length_penalty=0)
        *_, found = writer.search(writer.reader.memory(asked), (), decoding, max(5, count))
        totals: dict[str, float] = {}
        for draft in found:
            text = normalise_answer(checkpoint.text(draft.ids))
            totals[text] = totals.get(text, 0.0) + float(np.exp(draft.log_probability))
        if len(totals) > 1:
            totals.pop("", None)  # saying nothing is no answer where there is another
        ranked = sorted(totals.items(), key=lambda pair: -pair[1])[:count]
        return tuple(Candidate(text, min(1.0, probability)) for text, probability in ranked)

    def _require_language(self, language: str) -> None:
        if language not in self.info.languages:
            raise TaskError(f"{self.info.name} knows only English. Choose English, or vitdemo's "
                            "own model.")

    # Comparing

    @torch.no_grad()
    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """The image-text matching head's probability of "fits"."""
        self.require("match")
        checkpoint, reader = self._checkpoints["retrieval"], self._readers["retrieval"]
        self._encode("retrieval", features)
        scores = np.zeros((len(features), len(texts)), dtype=np.float32)
        batches = [checkpoint.batch(texts[i:i + PAIRS_AT_ONCE])
                   for i in range(0, len(texts), PAIRS_AT_ONCE)]
        for row, one in zip(scores, features, strict=True):
            memory = reader.memory(one.data.states["retrieval"])
            values = [checkpoint.model.itm_head(reader.encode(ids, mask, memory)[:, 0])
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
        self._encode("retrieval", features)
        first = torch.cat([one.data.states["retrieval"][:, 0] for one in features])  # (P, D)
        return _unit(self._checkpoints["retrieval"].model.vision_proj(first))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """The contrastive projection of [CLS], read without a picture."""
        self.require("embed")
        checkpoint = self._checkpoints["retrieval"]
        rows = [np.zeros((0, self.info.dimension), dtype=np.float32)]
        for i in range(0, len(texts), TEXTS_AT_ONCE):
            ids, mask = checkpoint.batch(texts[i:i + TEXTS_AT_ONCE])
            states = checkpoint.model.text_encoder(input_ids=ids, attention_mask=mask)
            rows.append(_unit(checkpoint.model.text_proj(states.last_hidden_state[:, 0])))
        return np.concatenate(rows)

    # Explaining

    def explain(self, features: PictureFeatures, *, instruction: str, text: str, language: str,
                task: str, method: str = "") -> tuple[Explanation, ...]:
        """See `Backend.explain`, `blip_explain` for cross-attention and `blip_methods`.

        Raises:
            TaskError: this checkpoint is not made for the task.
            ConfigError: the model does not know the method.
            TextError: the text is too long.
        """
        self.require("explain")
        self.require(task)
        method = choose(method, self.info.methods)
        if method != "cross-attention" and task in ("caption", "ask", "match"):
            return self._explain_by(method, features, instruction, text, task)
        if task == "caption":
            return (blip_explain.explain_caption(
                self._checkpoints["captioning"], self._writers["captioning"],
                self._states("captioning", features), features.size, text),)
        if task == "ask":
            return blip_explain.explain_question(
                self._checkpoints["VQA"], self._readers["VQA"], self._writers["VQA"],
                self._states("VQA", features), features.size, instruction, text)
        if task == "match":
            return (blip_explain.explain_match(
                self._checkpoints["retrieval"], self._readers["retrieval"],
                self._states("retrieval", features), features.size, text),)
        raise TaskError(f"A {task!r} result has no words to explain; use caption, ask or match.")

    def _explain_by(self, method: str, features: PictureFeatures, instruction: str, text: str,
                    task: str) -> tuple[Explanation, ...]:
        kind = WANTED[task][0]
        checkpoint = self._checkpoints[kind]
        read, written = {"caption": ("", text), "ask": (instruction, text),
                         "match": (text, "")}[task]
        given = blip_methods.Task(
            checkpoint, self._readers.get(kind), self._writers.get(kind),
            self._states(kind, features), lambda: self._shares(kind, features), read, written)
        boxes = grid_boxes(checkpoint.grid, features.size)
        return tuple(explanation(found, method, boxes, checkpoint.grid, features.size,
                                 blip_explain.ANSWER_PATH if found.source == "answer" else "")
                     for found in blip_methods.word_maps(given, method))

    def word_probabilities(self, features: Sequence[PictureFeatures], *, instruction: str,
                           text: str, language: str, task: str) -> tuple[np.ndarray, ...]:
        """See `Backend.word_probabilities` and `blip_words`; errors as in `explain`."""
        self.require("explain")
        self.require(task)
        kind = WANTED[task][0] if task in ("caption", "ask", "match") else ""
        if not kind:
            raise TaskError(f"A {task!r} result has no words; use caption, ask or match.")
        checkpoint = self._checkpoints[kind]
        self._encode(kind, features)
        states = [one.data.states[kind] for one in features]
        if task == "caption":
            return (blip_words.caption_words(checkpoint, self._writers[kind], states, text),)
        if task == "ask":
            return blip_words.answer_words(checkpoint, self._readers[kind], self._writers[kind],
                                           states, instruction, text)
        return (blip_words.match_words(checkpoint, self._readers[kind], states, text),)


def _info(checkpoints: Sequence[BlipCheckpoint]) -> ModelInfo:
    kinds = [checkpoint.kind for checkpoint in checkpoints]
    tasks = {"explain", *(task for kind in kinds for task in TASKS[kind])}
    trained = (f"this BLIP checkpoint was trained for {kinds[0]} only" if len(kinds) == 1 else
               f"these BLIP checkpoints were trained for {' and '.join(kinds)} only")
    missing = {task: f"{trained}; load a BLIP {kind} checkpoint, such as {example}, for {purpose} "
                     "(several are joined by +, as in blip:A+B)"
               for task, (kind, example, purpose) in WANTED.items() if task not in tasks}
    dimension = sum(checkpoint.model.config.image_text_hidden_size for checkpoint in checkpoints
                    if checkpoint.kind == "retrieval")
    return ModelInfo(name=" + ".join(checkpoint.name for checkpoint in checkpoints),
                     family="blip", tasks=frozenset(tasks), languages=("en",),
                     revision="+".join(checkpoint.revision for checkpoint in checkpoints),
                     dimension=dimension, missing=missing, methods=blip_methods.METHODS)


def _unit(vectors: Tensor) -> np.ndarray:
    return F.normalize(vectors.float(), dim=-1).cpu().numpy()
