"""The interface that every model family fills in; the engine knows nothing else of a model.

P pictures, M texts, E embedding width; layers, heads, words and regions as in `records`.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from PIL import Image

from vitdemo.attention.explain import explain, word_probabilities
from vitdemo.attention.methods import outside_inference_mode
from vitdemo.attention.trace import Trace
from vitdemo.config import Decoding
from vitdemo.errors import TaskError
from vitdemo.records import ALL_TASKS, Candidate, Explanation, ModelInfo, Request, Unread
from vitdemo.texts import Message

T = TypeVar("T")
# The method that does a task: a class whose own one it is can do it.
_METHOD_OF = {"caption": "generate", "ask": "answer", "match": "score_pairs",
              "embed": "embed_pictures", "explain": "traces"}


@dataclass(frozen=True)
class PictureFeatures:
    """What the vision encoder made of one picture; kept in the engine's cache.

    ``data`` is the backend's own (tensors on its device). ``size`` is (width, height) in pixels of
    the picture the user gave.
    """

    data: Any
    size: tuple[int, int]

    @property
    def bytes(self) -> int:
        """Of all its tensors and arrays."""
        return _bytes(self.data)


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor | np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping):
        value = list(value.values())
    elif is_dataclass(value):
        value = [getattr(value, one.name) for one in fields(value)]
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


@dataclass(frozen=True)
class Step:
    """One state of a text that is being written.

    ``text`` is the whole text so far, in the model's raw form. ``log_probability`` is the sum over
    the tokens so far, in nats. ``final`` marks the last step, which is always given.
    """

    text: str
    log_probability: float
    final: bool


def require(info: ModelInfo, task: str) -> None:
    """Raise `TaskError` with the model's own reason where it cannot do ``task``."""
    if task not in info.tasks:
        raise TaskError("task.missing", model=info.name, task=Message(f"task.{task}"),
                        why=info.missing.get(task) or Message("task.not_made_for_it"))


class Backend(ABC):
    """A vision-language model. Constructors take ready parts; `load` reads the disk or the hub.

    A method whose task is not in ``info.tasks`` raises `TaskError`. Pictures are upright RGB.
    Not safe to call from several threads at once: the engine holds the lock.
    """

    info: ModelInfo
    methods: tuple[str, ...] = ()  # of its maps, the first of them where none is asked for
    together = 1  # texts that `advance` writes as one batch

    @classmethod
    def tasks_of(cls, source: str = "") -> tuple[str, ...]:
        """What the checkpoint ``source`` can do, told without its weights; "" is the whole family,
        maybe not one model all of it.

        Raises:
            CheckpointError: it is of a kind that cannot be used.
        """
        return tuple(task for task in ALL_TASKS if
                     getattr(cls, _METHOD_OF[task]) is not getattr(Backend, _METHOD_OF[task]))

    @classmethod
    def languages_of(cls, source: str) -> tuple[str, ...]:
        """Those of `LANGUAGES` that it is used with, told without its weights."""
        return ("en",)

    def doing(self, task: str) -> "Backend":
        """The model that does a task, where several are joined; else this one.

        Raises:
            TaskError: none can.
        """
        return self

    def close(self) -> None:
        """Give the memory back. Nothing can be asked of the model any more: it says that it is
        closed."""
        closed = Message("task.closed")
        info = replace(self.info, tasks=frozenset(), missing=dict.fromkeys(ALL_TASKS, closed),
                       parts=())
        vars(self).clear()
        self.info = info
        gc.collect()  # hooks and caches refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def picture_side(self) -> int:
        """Pixels of the square that `encode_pictures` squeezes every picture to first; 0 where
        that is not one size, or pictures are not squeezed."""
        return 0

    def require(self, task: str) -> None:
        """Raise `TaskError` with the backend's own reason where it cannot do ``task``."""
        require(self.info, task)

    def _lacks(self, task: str) -> NoReturn:
        self.require(task)
        raise NotImplementedError(f"{type(self).__name__} lists {task!r} and does not do it")

    def require_language(self, language: str) -> None:
        """Raise `TaskError` where the model does not know a language."""
        if language not in self.info.languages:
            raise TaskError("task.english_only", model=self.info.name)

    def unread(self, text: str) -> Unread:
        """What of a text the model does not read: what it does not know, and what is cut off.
        Safe to call from several threads. It raises `TextError` for one that is too long."""
        return Unread()

    @abstractmethod
    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """Run the vision encoder, as one batch. It raises `CheckpointError` where it cannot be
        found where the picture's tokens lie."""

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        """Describe the picture, word by word; nothing is recorded. Beam search gives its best
        sentence so far at each step. The same seed and settings give the same text. It raises
        `TextError` for an instruction that cannot be read."""
        self._lacks("caption")

    def answering(self, features: PictureFeatures, question: str, language: str,
                  count: int = 5) -> Iterator[tuple[Candidate, ...]]:
        """`answer` a turn of the device at a time: the last value counts."""
        yield self.answer(features, question, language, count)

    def advance(self, texts: Sequence[Iterator[T]]) -> list[T | None]:
        """The next value of each text that `generate` or `answering` began, None after the last
        one; at most ``together`` of them."""
        return [next(text, None) for text in texts]

    def captions(self, features: Sequence[PictureFeatures], instruction: str, language: str,
                 decoding: Decoding) -> list[str]:
        """The last text of `generate` for each picture; as one batch where the family can."""
        return [[*self.generate(one, instruction, language, decoding)][-1].text
                for one in features]

    def answers(self, features: Sequence[PictureFeatures], question: str,
                language: str) -> list[str]:
        """The most probable answer for each picture; as one batch where the family can."""
        return [self.answer(one, question, language)[0].text for one in features]

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        """The ``count`` most probable answers, best first; their probabilities add up to at
        most 1."""
        self._lacks("ask")

    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """Match head: float32 (P, M), 0..1, every picture with every text."""
        self._lacks("match")

    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        """Unit vectors, float32 (P, E)."""
        self._lacks("embed")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 (M, E), on the sphere of the pictures. It raises `TextError` for a
        text that is too long."""
        self._lacks("embed")

    def surely_seen(self, features: PictureFeatures, text: str, language: str) -> tuple[str, ...]:
        """Names of things that are surely in the picture and that a text leaves out, the likeliest
        first; none where the model has no eye for names."""
        return ()

    def traces(self, features: PictureFeatures, request: Request) -> tuple[Trace, ...]:
        """A finished text as the explanations need it: one trace for each `Explanation` that
        `explain` gives, in its order; a text with no look at the picture has none. It is called
        outside of torch's inference mode; what was made in one must be cloned to take gradients.

        Raises:
            TaskError: this family cannot explain.
            TextError: the text is too long.
        """
        raise TaskError(f"{self.info.name} cannot explain its words.")

    def explain(self, features: PictureFeatures, request: Request,
                method: str = "") -> tuple[Explanation, ...]:
        """A finished text by one of ``info.methods`` ("" is the first of them): of a caption one
        Explanation with source "caption"; of an answer two, with sources "question" and "answer";
        of a sentence to compare one, with source "text".

        Raises:
            ConfigError: the model does not know the method.
            TextError: the text is too long.
        """
        self._require_words(request.task)
        with outside_inference_mode():
            return tuple(explain(trace, method, self.info.methods)
                         for trace in self.traces(features, request))

    def word_probabilities(self, features: Sequence[PictureFeatures],
                           request: Request) -> tuple[np.ndarray, ...]:
        """The probability of each word of a finished text on each of P pictures, in batches.

        One float32 array (P, Q) for each Explanation that `explain` gives for the same request, in
        the same order. A word that was written has the probability given the words before it
        (the product over its tokens). A word that was only read has none of its own: every word
        of a question has that of the whole answer, every word of a sentence to compare the match
        head's score.
        """
        self._require_words(request.task)
        with outside_inference_mode():
            return word_probabilities(self.traces(features[0], request), features)

    def _require_words(self, task: str) -> None:
        self.require("explain")
        self.require(task)
        if task not in ("caption", "ask", "match"):
            raise TaskError(f"A {task!r} result has no words to explain; use caption, ask or "
                            "match.")

    def randomised(self, seed: int, turn: AbstractContextManager[object]) -> "Backend":
        """A copy that has learned nothing: the same architecture with random weights drawn from
        ``seed`` (`vitdemo.attention.sanity.randomise`). This one stays as it is; it is read only
        within ``turn``, which the caller does not hold.

        Raises:
            TaskError: none can be made.
        """
        raise TaskError("task.no_copy", model=self.info.name)
