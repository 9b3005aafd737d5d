"""Our own model behind the interface.

Legend: P pictures, M texts, N picture tokens, T text tokens, E embedding width, C channels of the
backbone; L, H, Q, K as in `records`.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitdemo.attention.sanity import randomise
from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.backends.native_trace import METHODS, WITHOUT_REGIONS, native_traces
from vitdemo.cache import LRU
from vitdemo.config import Decoding
from vitdemo.device import Placement
from vitdemo.instructions import OLDEST, known
from vitdemo.models.answering import ANSWER_TOKENS, answer_beams
from vitdemo.models.checkpoint import load_checkpoint
from vitdemo.models.decoding import Vocabulary, Writing, advance, begin
from vitdemo.models.folding import folded
from vitdemo.models.fusion import Memory
from vitdemo.models.inference import Inference
from vitdemo.models.names import named_words
from vitdemo.models.openvino_encoder import OpenVINOEncoder
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import normalisation, to_pixels
from vitdemo.records import ALL_TASKS, LANGUAGES, Candidate, ModelInfo, Unread
from vitdemo.streams import side_by_side
from vitdemo.texts import Message
from vitdemo.tokens import TextTokenizer
from vitdemo.words import content_words

_MATCH_WEIGHT = 0.5  # of a match logit that is measured against a bank
_FIT = (7.0, 1.0, -5.2)  # see `ModelInfo.fit` and docs/benchmarks.md; with a bank, too
TOGETHER = 16  # texts written as one batch
_MEMORIES = TOGETHER  # of captions written last, kept for their maps
# Pictures in one pass of the backbone. On a CPU the activations of more leave its cache.
PICTURES_AT_ONCE_CPU, PICTURES_AT_ONCE = 1, 64


State = TypeVar("State")


class Draft(Generic[State]):
    """A text that is being written, and what is told of it after each token: an iterator that
    `NativeBackend.advance` moves, with others as one batch."""

    def __init__(self, backend: "NativeBackend", begin: Callable[[], Writing],
                 tell: Callable[[Writing], State]) -> None:
        self._backend, self._begin, self._tell = backend, begin, tell

    @cached_property
    def writing(self) -> Writing:
        """Begun when its first turn comes."""
        return self._begin()

    def tell(self) -> State:
        """What there is to tell now."""
        return self._tell(self.writing)

    def __iter__(self) -> Iterator[State]:
        return self

    def __next__(self) -> State:
        state, = self._backend.advance([self])
        if state is None:
            raise StopIteration
        return state


class NativeBackend(Backend):
    """A `VLM` with its tokenizer. The model must be in evaluation mode and stay as it is."""

    methods, together = METHODS, TOGETHER

    def __init__(self, model: VLM, tokenizer: TextTokenizer, *, name: str, revision: str,
                 placement: Placement, instructions: tuple[str, ...] = OLDEST,
                 yes_no: tuple[float, ...] = ()) -> None:
        side = model.config.picture_size
        vision = folded(model.vision, side).to(placement.device, placement.dtype)
        self._side_by_side = placement.device.type == "cpu" and not placement.openvino
        self._features = OpenVINOEncoder(vision, side).features if placement.openvino \
            else vision.features
        self.model = model.to(placement.device, placement.dtype)
        self.tokenizer = tokenizer
        self.inference = Inference(self.model, tokenizer)
        self.device, self.dtype = placement.device, placement.dtype
        self._memories: LRU[tuple[Tensor, Memory]] = LRU(_MEMORIES)
        missing = {"explain": Message("task.linear_fusion")} if model.config.fusion == "linear" \
            else {}
        methods = METHODS if model.region_head is not None else WITHOUT_REGIONS
        self.info = ModelInfo(name=name, family="native", revision=revision,
                              tasks=frozenset(ALL_TASKS).difference(missing),
                              languages=tuple(LANGUAGES),
                              dimension=model.config.embedding_width, missing=missing,
                              methods=() if missing else methods,
                              match_weight=ModelInfo.match_weight if model.querybank is None
                              else _MATCH_WEIGHT,
                              fit=() if model.querybank is None else _FIT,
                              weighs_captions=True,
                              weighs_answers=model.querybank is not None,
                              instructions=instructions, yes_no=yes_no)

    @classmethod
    def load(cls, folder: Path | str, placement: Placement) -> "NativeBackend":
        """Read a checkpoint folder.

        Raises:
            CheckpointError: see `load_checkpoint`.
        """
        found = load_checkpoint(folder)
        name = str(found.meta.get("name") or found.folder.name)
        return cls(found.model, found.tokenizer, name=name,
                   revision=placement.revision(found.revision), placement=placement,
                   instructions=known(found.meta.get("instructions")),
                   yes_no=_yes_no(found.meta.get("figures")))

    @classmethod
    def languages_of(cls, source: str) -> tuple[str, ...]:
        """All of them."""
        return tuple(LANGUAGES)

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
        size = PICTURES_AT_ONCE_CPU if self.device.type == "cpu" else PICTURES_AT_ONCE
        parts = [pictures[first:first + size] for first in range(0, len(pictures), size)]
        each = side_by_side if self._side_by_side and len(parts) > 1 else map
        return list(itertools.chain.from_iterable(each(self._encode_some, parts)))

    @torch.inference_mode()
    def _encode_some(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        config = self.model.config
        pixels = to_pixels(pictures, config.picture_size, *normalisation(config.backbone))
        pixels = pixels.to(self.device, self.dtype, memory_format=torch.channels_last)
        features = self._features(pixels)
        return [PictureFeatures(features[i:i + 1], picture.size)
                for i, picture in enumerate(pictures)]

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        """Words as they are written."""
        self.require("caption")
        captioner = self.inference.captioner

        def started() -> Writing:
            return begin(self.model.decoder, self.memory(features.data, instruction),
                         captioner.vocabulary([language]), decoding)

        def told(writing: Writing) -> Step:
            (text, *_), = writing.texts
            if writing.over:
                text, = captioner.choose(features.data, decoding, writing.texts)
            return Step(self.tokenizer.decode(text.ids), text.log_probability, writing.over)

        return Draft(self, started, told)

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        """The last of `answering`."""
        return [*self.answering(features, question, language, count)][-1]

    def answering(self, features: PictureFeatures, question: str, language: str,
                  count: int = 5) -> Iterator[tuple[Candidate, ...]]:
        """Beam search over whole answers, with no length normalisation: exp(sum log p); then, for
        a model that measures matches against a bank, by how what they claim fits, too."""
        self.require("ask")

        def started() -> Writing:
            return begin(self.model.decoder, self.memory(features.data, question),
                         Vocabulary.of(self.tokenizer, [language]), _answering(count))

        def told(writing: Writing) -> tuple[Candidate, ...]:
            if not writing.over:
                return ()
            chances, = self.inference.weigh(features.data, [0], [question], writing.texts)
            return _likeliest(chances, count)

        return Draft(self, started, told)

    @torch.inference_mode()
    def advance(self, texts: Sequence[Any]) -> list[Any]:
        """As one batch, of any lengths; ``texts`` are `Draft`s."""
        drafts: list[Draft[Any]] = [one for one in texts if not one.writing.over]
        if drafts:
            advance([one.writing for one in drafts])
        return [one.tell() if one in drafts else None for one in texts]

    def answers(self, features: Sequence[PictureFeatures], question: str,
                language: str) -> list[str]:
        """As one batch."""
        self.require("ask")
        data, many = torch.cat([one.data for one in features]), len(features)
        return [_likeliest(chances, 1)[0].text for chances in self.inference.answers(
            data, range(many), [question] * many, [language] * many, _answering(5))]

    def captions(self, features: Sequence[PictureFeatures], instruction: str, language: str,
                 decoding: Decoding) -> list[str]:
        """As one batch."""
        self.require("caption")
        data = torch.cat([one.data for one in features])
        return self.inference.captions(data, instruction, language, decoding)

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

    @torch.inference_mode()
    def surely_seen(self, features: PictureFeatures, text: str, language: str) -> tuple[str, ...]:
        """By the names head; a name that shares a class with one in the text is not left out."""
        if self.model.names is None:
            return ()
        named, = self.model.names.sure(features.data)
        said = {place for name in named_words(content_words(text)).values()
                for place in name.classes}
        return tuple(name.words[language] for name in named if said.isdisjoint(name.classes))

    traces = native_traces

    def memory(self, features: Tensor, text: str) -> Memory:
        """The memory of one picture with a text. It is kept: a caption is explained right after it
        was written, and this is half of what its maps cost."""
        kept = self._memories.get(_key(features, text))
        if kept is not None:
            return kept[1]
        memory = self.inference.memory(features, [0], [text])
        self.keep_memory(features, text, memory)
        return memory

    def keep_memory(self, features: Tensor, text: str, memory: Memory) -> None:
        """Keep one for `memory`, made elsewhere."""
        self._memories.put(_key(features, text), (features, memory))

    @staticmethod
    def _unit(vectors: Tensor) -> np.ndarray:
        found = vectors.float().cpu().numpy()
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def _answering(count: int) -> Decoding:
    """How ``count`` answers are written."""
    return Decoding(beams=answer_beams(count), length_penalty=0.0, max_tokens=ANSWER_TOKENS)


def _likeliest(chances: dict[str, float], count: int) -> tuple[Candidate, ...]:
    ordered = sorted(chances.items(), key=lambda item: item[1], reverse=True)
    return tuple(Candidate(text, min(1.0, value)) for text, value in ordered[:count])


def _key(features: Tensor, text: str) -> str:
    """No other tensor has this id while this one is kept."""
    return f"{id(features)} {text}"


def _yes_no(figures: object) -> tuple[float, ...]:
    """That of `ModelInfo`, by the figures in a checkpoint's meta.json."""
    of_people = figures.get("yes_no") if isinstance(figures, dict) else None
    if not isinstance(of_people, dict):
        return ()
    found = [of_people.get(name) for name in ("right", "blank")]
    shares = tuple(one for one in found if isinstance(one, float) and 0 <= one <= 1)
    return shares if len(shares) == 2 else ()
