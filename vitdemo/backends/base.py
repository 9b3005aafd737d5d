"""The interface that every model family fills in; the engine knows nothing else of a model.

P pictures, M texts, E embedding width; layers, heads, words and regions as in `records`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vitdemo.config import Decoding
from vitdemo.errors import TaskError
from vitdemo.records import Candidate, Explanation, ModelInfo, Unread


@dataclass(frozen=True)
class PictureFeatures:
    """What the vision encoder made of one picture; kept in the engine's cache.

    ``data`` is the backend's own (tensors on its device). ``size`` is (width, height) in pixels of
    the picture the user gave.
    """

    data: Any
    size: tuple[int, int]


@dataclass(frozen=True)
class Step:
    """One state of a text that is being written.

    ``text`` is the whole text so far, in the model's raw form. ``log_probability`` is the sum over
    the tokens so far, in nats. ``final`` marks the last step, which is always given.
    """

    text: str
    log_probability: float
    final: bool


class Backend(ABC):
    """A vision-language model. Constructors take ready parts; `load` reads the disk or the hub.

    A method whose task is not in ``info.tasks`` raises `TaskError`. Pictures are upright RGB.
    Not safe to call from several threads at once: the engine holds the lock.
    """

    info: ModelInfo

    @property
    def picture_side(self) -> int:
        """Pixels of the square that `encode_pictures` squeezes every picture to first; 0 where
        that is not one size, or pictures are not squeezed."""
        return 0

    def require(self, task: str) -> None:
        """Raise `TaskError` with the backend's own reason where it cannot do ``task``."""
        if task not in self.info.tasks:
            reason = self.info.missing.get(task, "this model was not made for it")
            raise TaskError(f"{self.info.name} cannot do '{task}': {reason}.")

    def unread(self, text: str) -> Unread:
        """What of a text the model does not read: what it does not know, and what is cut off.
        Safe to call from several threads."""
        return Unread()

    @abstractmethod
    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """Run the vision encoder, as one batch."""

    @abstractmethod
    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        """Describe the picture, word by word; nothing is recorded. Beam search gives its best
        sentence so far at each step. The same seed and settings give the same text."""

    @abstractmethod
    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        """The ``count`` most probable answers, best first; their probabilities add up to at
        most 1."""

    @abstractmethod
    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """Match head: float32 (P, M), 0..1, every picture with every text."""

    @abstractmethod
    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        """Unit vectors, float32 (P, E)."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 (M, E), on the sphere of the pictures."""

    @abstractmethod
    def explain(self, features: PictureFeatures, *, instruction: str, text: str, language: str,
                task: str, method: str = "") -> tuple[Explanation, ...]:
        """One teacher-forced pass over finished texts, read by one of ``info.methods`` ("" is
        the first of them).

        ``task`` "caption": ``text`` is the raw caption; one Explanation with source "caption".
        "ask": ``instruction`` is the question and ``text`` the answer; two, with sources
        "question" and "answer". "match": ``text`` is a sentence to compare with the picture;
        one, with source "text".
        """

    @abstractmethod
    def word_probabilities(self, features: Sequence[PictureFeatures], *, instruction: str,
                           text: str, language: str, task: str) -> tuple[np.ndarray, ...]:
        """The probability of each word of a finished text on each of P pictures, as one batch.

        One float32 array (P, Q) for each Explanation that `explain` gives for the same arguments,
        in the same order. A word that was written has the probability given the words before it
        (the product over its tokens). A word that was only read has none of its own: every word
        of a question has that of the whole answer, every word of a sentence to compare the match
        head's score.
        """

    def randomised(self, seed: int, turn: AbstractContextManager[object]) -> "Backend":
        """A copy that has learned nothing: the same architecture with random weights drawn from
        ``seed`` (`vitdemo.attention.sanity.randomise`). This one stays as it is; it is read only
        within ``turn``, which the caller does not hold.

        Raises:
            TaskError: this family cannot make one.
        """
        raise TaskError(f"{self.info.name} cannot be copied with random weights.")
