"""Our own model behind the interface.

Legend: P pictures, M texts, N picture tokens, T text tokens, E embedding width, C channels of the
backbone; L, H, Q, K as in `records`.
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitdemo.attention.capture import capture_cross_attention, own_weights
from vitdemo.attention.methods import WordMaps, choose, explanation, matched
from vitdemo.attention.sanity import randomise
from vitdemo.backends import native_methods
from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.backends.native_words import written_probabilities
from vitdemo.cache import LRU
from vitdemo.config import Decoding
from vitdemo.device import Placement
from vitdemo.instructions import OLDEST, known
from vitdemo.models.answering import ANSWER_TOKENS, answer_beams
from vitdemo.models.checkpoint import load_checkpoint
from vitdemo.models.folding import folded
from vitdemo.models.fusion import Memory
from vitdemo.models.inference import Inference
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import grid_boxes, normalisation, to_pixels
from vitdemo.records import LANGUAGES, Candidate, Explanation, ModelInfo, Unread
from vitdemo.streams import side_by_side
from vitdemo.tokens import TextTokenizer
from vitdemo.words import split_words

_MATCH_WEIGHT = 0.5  # of a match logit that is measured against a bank
_MEMORIES = 4  # of captions written last, kept for their maps
# Pictures in one pass of the backbone. On a CPU the activations of more leave its cache.
PICTURES_AT_ONCE_CPU, PICTURES_AT_ONCE = 1, 64


def _for_each_word(values: np.ndarray, words: int) -> np.ndarray:
    """(P,) to (P, Q): words that were only read share one number."""
    return np.repeat(values[:, None], words, axis=1)


class NativeBackend(Backend):
    """A `VLM` with its tokenizer. The model must be in evaluation mode and stay as it is."""

    def __init__(self, model: VLM, tokenizer: TextTokenizer, *, name: str, revision: str,
                 placement: Placement, instructions: tuple[str, ...] = OLDEST) -> None:
        self._vision = folded(model.vision, model.config.picture_size).to(
            placement.device, placement.dtype)
        self.model = model.to(placement.device, placement.dtype)
        self.tokenizer = tokenizer
        self.inference = Inference(self.model, tokenizer)
        self.device, self.dtype = placement.device, placement.dtype
        self._memories: LRU[tuple[Tensor, Memory]] = LRU(_MEMORIES)
        tasks = {"caption", "ask", "match", "embed", "explain"}
        missing = {}
        if model.config.fusion == "linear":
            tasks.discard("explain")
            missing["explain"] = "its linear fusion mixes all regions of the picture into one"
        self.info = ModelInfo(name=name, family="native", revision=revision,
                              tasks=frozenset(tasks), languages=tuple(LANGUAGES),
                              dimension=model.config.embedding_width, missing=missing,
                              methods=native_methods.methods(model) if "explain" in tasks else (),
                              match_weight=ModelInfo.match_weight if model.querybank is None
                              else _MATCH_WEIGHT,
                              weighs_answers=model.querybank is not None,
                              instructions=instructions)

    @classmethod
    def load(cls, folder: Path | str, placement: Placement) -> "NativeBackend":
        """Read a checkpoint folder.

        Raises:
            CheckpointError: see `load_checkpoint`.
        """
        found = load_checkpoint(folder)
        name = str(found.meta.get("name") or found.folder.name)
        return cls(found.model, found.tokenizer, name=name, revision=found.revision,
                   placement=placement, instructions=known(found.meta.get("instructions")))

    def randomised(self, seed: int, turn: AbstractContextManager[object]) -> "NativeBackend":
        """The same network with random weights."""
        with turn:
            model = copy.deepcopy(self.model)
        randomise(model, seed)
        return NativeBackend(model, self.tokenizer, name=f"{self.info.name} with random weights",
                             revision=f"{self.info.revision}-random-{seed}",
                             placement=Placement(self.device, self.dtype, "as the trained model"),
                             instructions=self.info.instructions)

    @property
    def picture_side(self) -> int:
        """That of the model's configuration."""
        return self.model.config.picture_size

    def unread(self, text: str) -> Unread:
        """By the tokenizer."""
        return self.tokenizer.unread(text)

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """Features (1, N, C) of each picture, a few at a time; on a CPU, one on each core."""
        on_cpu = self.device.type == "cpu"
        size = PICTURES_AT_ONCE_CPU if on_cpu else PICTURES_AT_ONCE
        parts = [pictures[first:first + size] for first in range(0, len(pictures), size)]
        each = side_by_side if on_cpu and len(parts) > 1 else map
        return list(itertools.chain.from_iterable(each(self._encode_some, parts)))

    @torch.inference_mode()
    def _encode_some(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        config = self.model.config
        pixels = to_pixels(pictures, config.picture_size, *normalisation(config.backbone))
        pixels = pixels.to(self.device, self.dtype, memory_format=torch.channels_last)
        features = self._vision.features(pixels)
        return [PictureFeatures(features[i:i + 1], picture.size)
                for i, picture in enumerate(pictures)]

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        """Words as they are written."""
        self.require("caption")
        return self._generate(features, instruction, language, decoding)

    def _generate(self, features: PictureFeatures, instruction: str, language: str,
                  decoding: Decoding) -> Iterator[Step]:
        with torch.inference_mode():
            memory = self._memory(features.data, instruction)
        states = self.inference.write(features.data, memory, [language], decoding)
        while True:
            with torch.inference_mode():  # entered anew each time: a generator must not leak it
                state = next(states, None)
            if state is None:
                return
            (text,), final = state
            yield Step(self.tokenizer.decode(text.ids), text.log_probability, final)

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        """Beam search over whole answers, with no length normalisation: exp(sum log p); then, for
        a model that measures matches against a bank, by how what they claim fits, too."""
        self.require("ask")
        decoding = Decoding(beams=answer_beams(count), length_penalty=0.0,
                            max_tokens=ANSWER_TOKENS)
        chances, = self.inference.answers(features.data, [0], [question], [language], decoding)
        ordered = sorted(chances.items(), key=lambda item: item[1], reverse=True)
        return tuple(Candidate(text, min(1.0, value)) for text, value in ordered[:count])

    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """The match head's probability of every pair: float32 (P, M)."""
        self.require("match")
        pictures = [self.inference.see(one.data)[0] for one in features]
        pairs = np.argwhere(np.ones((len(pictures), len(texts))))  # picture by picture
        scores = self.inference.match(pictures, texts, pairs).sigmoid().cpu().numpy()
        return np.asarray(scores.reshape(len(pictures), len(texts)))

    @torch.inference_mode()
    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        """Unit vectors, float32 (P, E)."""
        self.require("embed")
        if not features:
            return np.zeros((0, self.info.dimension), dtype=np.float32)
        joined = torch.cat([feature.data for feature in features])
        return self._unit(self.model.picture_head(joined))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 (M, E)."""
        self.require("embed")
        return self._unit(self.inference.embed_texts(texts))

    def explain(self, features: PictureFeatures, *, instruction: str, text: str, language: str,
                task: str, method: str = "") -> tuple[Explanation, ...]:
        """The fusion's attention for words that were read, the decoder's for words that were
        written; the position that wrote a token is the one whose map it gets. See
        `native_methods` for the methods other than cross-attention.

        Raises:
            ConfigError: the model does not know the method.
        """
        self.require("explain")
        self.require(task)
        method = choose(method, self.info.methods)
        if method == "cross-attention":
            return self._cross_attention(features, instruction, text, language, task)
        if method == "matched-attention":
            return tuple(self._matched(features, one) for one in self._cross_attention(
                features, instruction, text, language, task))
        vision = self.model.vision
        boxes = grid_boxes(vision.grid, features.size, vision.edges)
        return tuple(explanation(found, method, boxes, vision.grid, features.size)
                     for found in native_methods.word_maps(
                         self.model, self.tokenizer, features.data, instruction=instruction,
                         text=text, language=language, task=task, method=method))

    def _matched(self, features: PictureFeatures, looked: Explanation) -> Explanation:
        """The same words by matched-attention."""
        match = native_methods.matching_regions(self.model, self.tokenizer, features.data,
                                                looked.text)
        found = WordMaps(looked.text, looked.source, looked.words,
                         matched(looked.mean_map(), match, looked.grid), looked.word_probabilities)
        return explanation(found, "matched-attention", looked.boxes, looked.grid,
                           looked.picture_size)

    @torch.inference_mode()
    def _cross_attention(self, features: PictureFeatures, instruction: str, text: str,
                         language: str, task: str) -> tuple[Explanation, ...]:
        read = text if task == "match" else instruction
        fusion: list[Any] = [block.cross for block in self.model.fusion.blocks]
        gates = tuple(float(gate) for gate in self.model.gates())
        if task == "caption":  # nothing of the instruction is shown
            memory = self._memory(features.data, read)
        else:
            with capture_cross_attention(fusion, own_weights) as seen:
                memory = self._read(features.data, read)
        found = []
        if task in ("ask", "match") and fusion:
            source = "question" if task == "ask" else "text"
            weights = seen.stacked()[:, 0, :, 1:-1]  # (L, H, T, N); [CLS], [SEP] are no words
            found.append(self._explanation(features, read, source, weights, "fusion", gates, None))
        if task in ("caption", "ask"):
            weights, chances = self._teacher_forced(memory, text, language)
            source = "caption" if task == "caption" else "answer"
            found.append(self._explanation(features, text, source, weights, "decoder", (), chances))
        return tuple(found)

    def word_probabilities(self, features: Sequence[PictureFeatures], *, instruction: str,
                           text: str, language: str, task: str) -> tuple[np.ndarray, ...]:
        """See `Backend.word_probabilities`; one teacher-forced pass over all pictures."""
        self.require("explain")
        self.require(task)
        fused = len(self.model.fusion.blocks) > 0  # else `explain` has no map of what was read
        if task == "match":
            scores = self.score_pairs(features, [text])[:, 0]
            return (_for_each_word(scores, len(split_words(text))),) if fused else ()
        joined = torch.cat([one.data for one in features])  # (P, N, C)
        words, whole = written_probabilities(self.inference, joined, instruction, text, language)
        if task == "ask" and fused:
            return _for_each_word(whole, len(split_words(instruction))), words
        return (words,)

    def _teacher_forced(self, memory: Memory, text: str, language: str) -> tuple[Tensor, Tensor]:
        """One pass over a finished text: weights (L, H, T, N) of each token that was written, and
        its probability (T,)."""
        ids, _ = self.tokenizer.pieces(text)
        row = [self.tokenizer.language_start[language], *ids]
        inputs = torch.tensor([row], device=self.device)
        decoder = self.model.decoder
        crossings: list[Any] = [block.cross for block in decoder.blocks]
        with capture_cross_attention(crossings, own_weights) as record:
            logits = decoder(inputs, memory)  # (1, 1 + T, V)
        weights = record.stacked()[:, 0, :, :len(ids), :memory.picture_tokens]  # (L, H, T, N)
        chances = logits[0, :len(ids)].float().softmax(-1)
        targets = torch.tensor(ids, dtype=torch.long, device=self.device)
        return weights, chances.gather(1, targets[:, None]).squeeze(1)

    def _explanation(self, features: PictureFeatures, text: str, source: str, weights: Tensor,
                     part: str, gates: tuple[float, ...], chances: Tensor | None) -> Explanation:
        """Tokens (L, H, T, N) to whole words (L, H, Q, N), by the mean over a word's tokens."""
        places = self.tokenizer.word_tokens(text)
        layers, heads, length, regions = weights.shape
        merged = np.zeros((layers, heads, len(places), regions), dtype=np.float32)
        values = weights.float().cpu().numpy()
        for q, (_, tokens) in enumerate(places):
            kept = [token for token in tokens if token < length]
            if kept:
                merged[:, :, q] = values[:, :, kept].mean(axis=2)
        probabilities: tuple[float, ...] = ()
        if chances is not None:
            probabilities = tuple(float(chances[tokens].prod()) if tokens else 1.0
                                  for _, tokens in places)
        vision = self.model.vision
        return Explanation(
            text=text, source=source, words=tuple(word for word, _ in places),
            weights=merged.clip(0, 1), boxes=grid_boxes(vision.grid, features.size, vision.edges),
            grid=vision.grid, picture_size=features.size, method="cross-attention",
            layer_names=tuple(f"{part} {i + 1}" for i in range(layers)), gates=gates,
            word_probabilities=probabilities)

    def _read(self, features: Tensor, text: str) -> Memory:
        return self.inference.memory(features, [0], [text])

    def _memory(self, features: Tensor, text: str) -> Memory:
        """The memory of one picture with a text. It is kept: a caption is explained right after it
        was written, and this is half of what its maps cost."""
        key = f"{id(features)} {text}"  # no other tensor has this id while this one is kept
        kept = self._memories.get(key)
        if kept is None:
            kept = features, self._read(features, text)
            self._memories.put(key, kept)
        return kept[1]

    @staticmethod
    def _unit(vectors: Tensor) -> np.ndarray:
        found = vectors.float().cpu().numpy()
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)
