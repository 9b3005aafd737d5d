"""Plain records that cross layers: no tensors, nothing on a GPU, nothing that can change.

Coordinates are xy in pixels of the picture the user gave (upright, before any resize).
L layers, H heads, Q whole words, K regions of the picture.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vitdemo.texts import Message


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


# Why a word was not read: the model does not know it, or the text was cut before it.
UNREAD = ("unknown", "cut")


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
class Request:
    """What a model is asked of a picture, and the ``text`` that came of it, "" as long as there is
    none.

    ``task`` "caption": ``text`` is the raw caption. "ask": ``instruction`` is the question and
    ``text`` the answer. "match": ``text`` is a sentence to compare with the picture.
    """

    instruction: str
    text: str
    language: str
    task: str


@dataclass(frozen=True)
class Wishes:
    """What is to be said of each of many pictures: a caption in each of the languages, answers to
    questions, each in its own language, and the names of what is surely seen."""

    languages: tuple[str, ...] = ("en",)
    questions: tuple[str, ...] = ()
    instruction: str = ""


@dataclass(frozen=True)
class Description:
    """What was said of one picture: captions in the order of the languages, an answer to each of
    the questions, and names in the first language, the likeliest first."""

    captions: tuple[str, ...]
    answers: tuple[str, ...]
    names: tuple[str, ...]


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
    that the words fit, nan where it was not asked. ``fits`` says whether they do, so far as the
    model can tell; None where it was not asked, or cannot tell. ``told`` is how much of the words
    stands in what is written about the picture, 0..1, and 1 less where words to keep away do.
    """

    id: str
    path: str
    score: float
    width: int
    height: int
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)
    match: float = math.nan
    fits: bool | None = None
    told: float = 0.0


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
    ``rivals`` has for each of the Q words the likeliest texts that could begin there, the words
    before it being as they are, with their probabilities, falling, which add up to at most 1: whole
    words, pieces of words, "…s" for a piece that the word before would go on with, and "" for the
    end of the text. It is empty for a text the model did not write.
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
    rivals: tuple[tuple[Candidate, ...], ...] = ()

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
class OtherMap:
    """What blurring along the map of another word does to a word: that other one's place among the
    words and its text, and the areas under the tested word's curves, 0..1."""

    word: int
    text: str
    deletion: float
    insertion: float


@dataclass(frozen=True)
class Evidence:
    """How far the map of one word can be trusted (Petsiuk et al. 2018, RISE, section 4.2).

    ``deletion`` blurs the map's regions from the most to the least important, so a small area is
    good; ``insertion`` from the least to the most important, so a large area is good. The same
    areas for random orders (one value an order; the picture is the same, so they are shared by all
    words), for an order by the distance from the centre and, where each word has a probability of
    its own, for the maps of ``others``, words of the same text, stand beside them. ``probability``
    is the word's on the whole picture, ``blank`` on the picture with every region blurred.
    ``verdict`` is one of `VERDICTS`. ``word`` counts the whole words of the explanation from 0.
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
    others: tuple[OtherMap, ...] = ()


# What the evidence says of a map, best first; "shared" is one that is better than chance but not
# than the centre or another word's, "language" a word that does not need the picture.
VERDICTS = ("strong", "some", "shared", "chance", "worse", "language")


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


Outline = tuple[tuple[tuple[float, float], ...], ...]  # closed lines of points (x, y)


@dataclass(frozen=True)
class SmallestPart:
    """The least of the picture that is enough for one word, and the least without which it goes.

    ``enough`` and ``needed`` are outlines in pixels of the picture the user gave, with a hole where
    one line lies inside another; both are empty where the word does not need the picture. Their
    areas are shares of the picture. ``probability`` is the word's on the whole picture, ``blank``
    with all of it blurred, ``kept`` with all but ``enough``, ``left`` with ``needed`` blurred.
    """

    word: int
    source: str
    enough: Outline
    enough_area: float
    needed: Outline
    needed_area: float
    probability: float
    blank: float
    kept: float
    left: float


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
    new order (docs/decisions.md); ``fit`` makes the log-odds that the best hit fits at all out of
    its cosine and of how far its match logit is above that of a grey picture: two factors and what
    is added; empty where that was not measured. ``weighs_captions``: a caption is chosen also by
    how well it fits the picture. ``weighs_answers``: an answer also by how well what it claims
    does, which its maps know nothing of. ``instructions`` are the keys of those that it was taught
    (`vitdemo.instructions`). ``yes_no`` are the shares, 0..1, of people's yes/no questions that it
    answers right with the picture and with a blank one; empty where that was not measured.
    ``precision`` names the numbers that its weights are kept in. ``parts`` are several models that
    share the work, in whose order each task goes to the first that can do it."""

    name: str
    family: str
    revision: str
    tasks: frozenset[str]
    languages: tuple[str, ...]
    dimension: int
    missing: Mapping[str, str | Message] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    match_weight: float = 0.03
    fit: tuple[float, ...] = ()
    weighs_captions: bool = False
    weighs_answers: bool = False
    instructions: tuple[str, ...] = ("describe",)
    yes_no: tuple[float, ...] = ()
    precision: str = "float32"
    parts: tuple["ModelInfo", ...] = ()

    def doing(self, task: str) -> "ModelInfo":
        """The model that does a task: itself, or one of its parts."""
        return next((part for part in self.parts if task in part.tasks), self)

    def why_not(self, task: str) -> str | Message:
        """Why it cannot do a task."""
        return self.missing.get(task) or Message("task.not_made_for_it")

    def behind(self, explanation: Explanation) -> "ModelInfo":
        """The model that an explanation is of."""
        return self.doing(_TASKS_OF[explanation.source])


_TASKS_OF = {"caption": "caption", "question": "ask", "answer": "ask", "text": "match"}
ALL_TASKS = ("caption", "ask", "match", "embed", "explain")
LANGUAGES = {"en": "English", "zh": "中文"}
