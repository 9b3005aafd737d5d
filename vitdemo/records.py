"""Plain records that cross layers: no tensors, nothing on a GPU, nothing that can change.

Coordinates are xy in pixels of the picture the user gave (upright, before any resize).
L layers, H heads, Q whole words, K regions of the picture.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vitdemo.instructions import OLDEST


@dataclass(frozen=True)
class Word:
    """One whole word of a text: what a person clicks. ``text[start:end]`` in code points."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Unread:
    """What a model did not read of a text.

    ``unknown`` are the characters that it does not know, as they were typed: whole words, parts of
    words or signs. ``cut`` is the code point at which a text that is too long was cut, None where
    it was read to its end. ``nothing`` says that no word was read at all.
    """

    unknown: tuple[Word, ...] = ()
    cut: int | None = None
    nothing: bool = False


# Why a word was not read, and what a person is told of it.
UNREAD = {"unknown": "the model does not know this word", "cut": "the text was cut before it"}


@dataclass(frozen=True)
class Candidate:
    """A possible answer and the model's probability for it, 0..1."""

    text: str
    probability: float


@dataclass(frozen=True)
class Caption:
    """A description of a picture.

    ``text`` is as shown to a person (capital letter, full stop); ``raw_text`` is what the model
    wrote, the form that `explain` and the metrics take; ``log_probability`` is the sum over its
    tokens, in nats; ``seconds`` is the time from picture to last word; ``unread`` is about the
    instruction.
    """

    text: str
    raw_text: str
    language: str
    instruction: str
    log_probability: float
    seconds: float
    unread: Unread = Unread()


@dataclass(frozen=True)
class Answer:
    """The answer to a question, its probability 0..1, and the next best ones, best first.
    ``unread`` is about the question."""

    text: str
    question: str
    language: str
    probability: float
    runners_up: tuple[Candidate, ...]
    seconds: float
    unread: Unread = Unread()


@dataclass(frozen=True)
class Match:
    """How well a text fits a picture: ``score`` 0..1 (match head), ``similarity`` (cosine) -1..1,
    nan where the model has no vectors. Both are nan where nothing of the text was read."""

    text: str
    score: float
    similarity: float
    unread: Unread = Unread()


@dataclass(frozen=True)
class Hit:
    """One picture found: its id in the index, where it lies, and its score (cosine, -1..1).

    ``metadata`` is what the index keeps with it. ``match`` is the match head's probability, 0..1,
    that the words fit, nan where it was not asked.
    """

    id: str
    path: str
    score: float
    width: int
    height: int
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)
    match: float = math.nan


@dataclass(frozen=True)
class Explanation:
    """Where in the picture each word of a text looked, by layer and head.

    ``weights`` is float32 (L, H, Q, K), each value in 0..1; over K they add up to the share of
    that word's attention which fell on the picture (at most 1; the rest went to text).
    ``boxes`` is float32 (K, 4): x0, y0, x1, y1 in pixels of the picture the user gave.
    ``grid`` is (rows, columns) where the regions form a full grid in row-major order, else (0, 0).
    ``picture_size`` is (width, height) in pixels. ``source`` says which text this is: "caption",
    "question", "answer" or "text". ``layer_names`` has L names. ``gates`` has L values of
    tanh(gate), -1..1, and is empty where the model has no gates on these layers.
    ``word_probabilities`` has Q values 0..1, the model's probability of each word given those
    before it (the product over its tokens), and is empty for a text the model did not write.
    ``blank_probabilities`` are the same on a picture that is one grey, and empty where unknown.
    ``note`` says in plain words how the map was made where that is not the plain cross-attention.
    ``unread`` has Q values, "" for a word that was read, else one of `UNREAD`, and is empty where
    all were; the map of such a word is empty.
    """

    text: str
    source: str
    words: tuple[Word, ...]
    weights: np.ndarray
    boxes: np.ndarray
    grid: tuple[int, int]
    picture_size: tuple[int, int]
    method: str
    layer_names: tuple[str, ...]
    gates: tuple[float, ...] = ()
    word_probabilities: tuple[float, ...] = ()
    note: str = ""
    unread: tuple[str, ...] = ()
    blank_probabilities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        layers, _, queries, regions = self.weights.shape
        assert queries == len(self.words), (self.weights.shape, self.words)
        assert self.boxes.shape == (regions, 4), (self.weights.shape, self.boxes.shape)
        assert layers == len(self.layer_names), (self.weights.shape, self.layer_names)
        assert self.weights.dtype == np.float32 and self.boxes.dtype == np.float32

    def mean_map(self) -> np.ndarray:
        """Mean over layers and heads: float32 (Q, K)."""
        return np.asarray(self.weights.mean(axis=(0, 1)), dtype=np.float32)


@dataclass(frozen=True)
class Curve:
    """A word's probability while more and more of the picture is blurred.

    ``hidden`` has S shares of the regions, 0..1, rising; ``probability`` S values, 0..1; ``area``
    is the area under the curve by trapezoids, 0..1.
    """

    hidden: tuple[float, ...]
    probability: tuple[float, ...]
    area: float


@dataclass(frozen=True)
class Evidence:
    """How far the map of one word can be trusted (Petsiuk et al. 2018, RISE, section 4.2).

    ``deletion`` blurs the map's regions from the most to the least important, so a small area is
    good; ``insertion`` from the least to the most important, so a large area is good. The same
    areas for random orders (one value an order; the picture is the same, so they are shared by all
    words) and for an order by the distance from the centre stand beside them. ``probability`` is
    the word's on the whole picture, ``blank`` on the picture with every region blurred. ``verdict``
    is one of `VERDICTS`. ``word`` counts the whole words of the explanation from 0.
    """

    word: int
    source: str
    method: str
    deletion: Curve
    insertion: Curve
    random_deletion: tuple[float, ...]
    random_insertion: tuple[float, ...]
    centre_deletion: float
    centre_insertion: float
    probability: float
    blank: float
    verdict: str


# What the evidence says of a map, best first; "language" is a word that does not need the picture.
VERDICTS = ("strong", "some", "chance", "worse", "language")


@dataclass(frozen=True)
class WhatIf:
    """What the model says with a map's strongest regions blurred, and with as many others.

    ``hidden`` and ``random`` are places of regions; ``before``, ``after`` and ``after_random`` the
    texts that it then writes; ``probability`` and its two companions the probability, 0..1, of the
    word asked about.
    """

    word: int
    source: str
    method: str
    hidden: tuple[int, ...]
    random: tuple[int, ...]
    before: str
    after: str
    after_random: str
    probability: float
    probability_after: float
    probability_random: float


@dataclass(frozen=True)
class PictureShare:
    """How much the picture counted for each of the Q words of one explanation.

    ``gate`` is the mean size of the gates, 0..1, nan where the model has none; ``attention`` the
    share of each word's attention that fell on the picture, 0..1; ``probability`` each word's
    probability, ``blank`` the same with a picture that is one grey; ``anyway`` marks words that
    the model would have said anyway. ``unseen`` is what a model that weighs answers would have
    answered to the grey picture; "" where there is no such answer. ``unread`` is as in
    `Explanation`.
    """

    source: str
    gate: float
    attention: tuple[float, ...]
    probability: tuple[float, ...]
    blank: tuple[float, ...]
    anyway: tuple[bool, ...]
    unseen: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelInfo:
    """What a backend is and can do. ``tasks`` is a subset of `ALL_TASKS`; ``missing`` says, for
    each task it cannot do, why, in a sentence for the user. ``dimension`` is that of its
    embedding vectors, 0 where it has none. ``methods`` names the ways to explain that it knows
    (`vitdemo.attention.methods.METHODS`), the default one first; empty where it cannot explain.
    ``match_weight`` is that of a match logit beside a cosine, where search puts its best hits in a
    new order (docs/decisions.md). ``weighs_answers``: an answer is chosen also by how well what it
    claims fits the picture, which its maps know nothing of. ``instructions`` are the keys of those
    that it was taught (`vitdemo.instructions`)."""

    name: str
    family: str
    revision: str
    tasks: frozenset[str]
    languages: tuple[str, ...]
    dimension: int
    missing: dict[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    match_weight: float = 0.03
    weighs_answers: bool = False
    instructions: tuple[str, ...] = OLDEST


ALL_TASKS = ("caption", "ask", "match", "embed", "explain")
LANGUAGES = {"en": "English", "zh": "中文"}
