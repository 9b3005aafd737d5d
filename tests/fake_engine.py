"""A model for tests of the app whose maps are known: the word "left" looks at the left half of the
picture, "right" at the right half, "top", "bottom", and "nothing" at nothing; other words look
everywhere alike. It behind the real engine makes the app's tests fast and their pixels certain.

What it says of a picture hangs on where the picture is sharp: a word with a place of its own is
likely as far as that place is, the others are likely anyway. So on a picture full of detail (noise)
the maps of "left" and "right" hold the evidence that a test expects, and on a plain one none does.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from vitdemo.attention.methods import label_of, normalised
from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.instructions import OLDEST
from vitdemo.preprocess import grid_boxes
from vitdemo.records import ALL_TASKS, Candidate, Explanation, ModelInfo, Request
from vitdemo.words import split_words

CAPTION = {"en": "a cat on the left and a dog on the right", "zh": "左边有一只猫右边有一条狗"}
BLURRED = {"en": "a dog on the right", "zh": "右边有一条狗"}  # where the left half is not sharp
GRID = (6, 8)
LAYERS, HEADS = 2, 3
FAKE_METHODS = ("cross-attention", "relevancy", "grad-cam")
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "红": (1, 0, 0)}


ROWS, COLUMNS = GRID
_LEFT, _RIGHT = np.s_[:, :COLUMNS // 2], np.s_[:, COLUMNS // 2:]
HALVES: dict[str, Any] = {"left": _LEFT, "左边": _LEFT, "right": _RIGHT, "右边": _RIGHT,
                          "top": np.s_[:ROWS // 2], "bottom": np.s_[ROWS // 2:]}


@dataclass(frozen=True)
class Seen:
    """What the model knows of a picture: mean colours (4, 4, 3) and how sharp each cell of the
    grid is (rows, columns), all 0..1."""

    colours: np.ndarray
    sharp: np.ndarray


def planted_map(word: str) -> np.ndarray:
    """Where a word looks: float32 (rows * columns,), adding up to 1, or all zero."""
    plane = np.zeros(GRID, dtype=np.float32)
    if word != "nothing":
        plane[HALVES.get(word, np.s_[:])] = 1.0
        plane /= plane.sum()
    return plane.ravel()


def sharpness(image: Image.Image) -> np.ndarray:
    """How much detail each cell of the grid holds: (rows, columns), 0 (none) to 1 (noise)."""
    side = 12  # pixels of a cell
    small = image.convert("L").resize((COLUMNS * side, ROWS * side), Image.Resampling.BOX)
    plane = np.asarray(small, dtype=np.float32)
    steps = np.abs(np.diff(plane, axis=1, append=plane[:, -1:]))
    cells = steps.reshape(ROWS, side, COLUMNS, side).mean(axis=(1, 3))
    return np.asarray(np.clip((cells - 2) / 4, 0, 1))


def likely(word: str, sharp: np.ndarray) -> float:
    """The probability of a word."""
    word = word.lower()
    if word in HALVES:
        return float(0.05 + 0.9 * sharp[HALVES[word]].mean())
    return 0.2 if word == "dog" else 0.9


class PlantedBackend(Backend):
    """Answers at once, always the same; layer 2 head 3 looks at the top, whatever the word."""

    def __init__(self, tasks: Sequence[str] = ALL_TASKS, missing: dict[str, str] | None = None,
                 gates: tuple[float, ...] = (0.42, -0.1)) -> None:
        self.info = ModelInfo("planted", "fake", "1", frozenset(tasks), ("en", "zh"), 4,
                              missing or {}, FAKE_METHODS if "explain" in tasks else (),
                              instructions=OLDEST)
        self.gates = gates
        self.explained = 0  # calls
        self.pictures = 0  # on which words' probabilities were computed

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        return [PictureFeatures(Seen(np.asarray(one.resize((4, 4)), dtype=np.float32) / 255,
                                     sharpness(one)), one.size) for one in pictures]

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        sharp = features.data.sharp
        lost = sharp.mean() > 0.1 and sharp[HALVES["left"]].mean() < 0.7
        text = (BLURRED if lost else CAPTION)[language]
        if instruction.startswith("Say:"):
            text = instruction[4:].strip()
        if instruction == "Break.":
            raise ZeroDivisionError("a fault of the program")
        ends = [word.end for word in split_words(text)]
        for end in ends:
            yield Step(text[:end], -0.1 * end, False)
        yield Step(text, -0.1 * len(text), True)

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        self.require("ask")
        found = [Candidate(text, value) for text, value in
                 (("left", 0.61), ("right", 0.2), ("top <b>", 0.1), ("bottom", 0.05),
                  ("nowhere", 0.01))]
        return tuple(found[:count])

    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        cosine = self.embed_pictures(features) @ self.embed_texts(texts).T
        return np.clip(cosine, 0, 1).astype(np.float32)

    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        rows = [[*one.data.colours.reshape(-1, 3).mean(axis=0), 0.05] for one in features]
        return _unit(rows)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit([[*np.sum([np.array(value) for name, value in COLOURS.items() if name in text]
                               or [[0, 0, 0]], axis=0), 0.05] for text in texts])

    def explain(self, features: PictureFeatures, request: Request,
                method: str = "") -> tuple[Explanation, ...]:
        self.explained += 1
        return tuple(self._explanation(features, words, source, method or FAKE_METHODS[0])
                     for words, source in self._parts(request))

    def word_probabilities(self, features: Sequence[PictureFeatures],
                           request: Request) -> tuple[np.ndarray, ...]:
        self.pictures += len(features)
        return tuple(np.array([[likely(word.text, one.data.sharp) for word in split_words(part)]
                               for one in features], np.float32)
                     for part, _ in self._parts(request))

    @staticmethod
    def _parts(request: Request) -> list[tuple[str, str]]:
        if request.task == "ask":
            return [(request.instruction, "question"), (request.text, "answer")]
        return [(request.text, "caption" if request.task == "caption" else "text")]

    def _explanation(self, features: PictureFeatures, text: str, source: str,
                     method: str) -> Explanation:
        words = split_words(text)
        maps = np.stack([planted_map(word.text.lower()) for word in words])  # (Q, K)
        weights = np.broadcast_to(maps, (LAYERS, HEADS, *maps.shape)).astype(np.float32)
        if "nothing" not in text:
            weights = weights.copy()
            weights[1, 2] = planted_map("top")
        said = source in ("caption", "answer")
        made = Explanation(
            text, source, words, weights, grid_boxes(GRID, features.size), GRID, features.size,
            "cross-attention", ("Step 1", "Step 2"), self.gates,
            tuple(likely(word.text, features.data.sharp) for word in words) if said else ())
        if method == "cross-attention":
            return made
        if method == "grad-cam":  # it looks at the wrong side
            maps = maps[:, ::-1]
        return replace(made, weights=normalised(maps)[None, None], method=method, gates=(),
                       layer_names=(label_of(method),), note=f"Made by {method}.")


class HeldBackend(PlantedBackend):
    """Names the strongest colour of a picture in what it says, and can be held within a call.

    ``calls`` counts the calls: "generate" (words), "answer", "score", "see", "embed", "explain",
    "weigh".
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._inside: Counter[str] = Counter()

    @contextmanager
    def hold(self, *names: str) -> Iterator[None]:
        """Calls of these names wait until this ends."""
        with self._changed:
            self._held = set(names)
        try:
            yield
        finally:
            with self._changed:
                self._held = set()
                self._changed.notify_all()

    def reached(self, name: str) -> None:
        """Wait until a call of this name is held."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._inside[name] > 0, 300), name

    def _pass(self, name: str) -> None:
        with self._changed:
            self.calls[name] += 1
            self._inside[name] += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: name not in self._held, 300), name
            self._inside[name] -= 1

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        self._pass("generate")
        if not instruction.startswith("Say:"):
            instruction = f"Say: a {_colour(features)} picture on the left and on the right"
        for step in super().generate(features, instruction, language, decoding):
            yield step
            self._pass("generate")

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        self._pass("answer")
        return (Candidate(f"{question.split()[-1].strip('?')} {_colour(features)}", 0.9),)

    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        self._pass("score")
        return super().score_pairs(features, texts)

    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        self._pass("see")
        return super().embed_pictures(features)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self._pass("embed")
        return super().embed_texts(texts)

    def explain(self, features: PictureFeatures, request: Request,
                method: str = "") -> tuple[Explanation, ...]:
        self._pass("explain")
        return super().explain(features, request, method)

    def word_probabilities(self, features: Sequence[PictureFeatures],
                           request: Request) -> tuple[np.ndarray, ...]:
        self._pass("weigh")
        return super().word_probabilities(features, request)


def _colour(features: PictureFeatures) -> str:
    return ("red", "green", "blue")[int(features.data.colours.mean(axis=(0, 1)).argmax())]


def _unit(rows: Sequence[Sequence[float]]) -> np.ndarray:
    array = np.asarray(rows, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def planted_engine(**settings: object) -> Engine:
    """The real engine over `PlantedBackend`."""
    return Engine(PlantedBackend(**settings))  # type: ignore[arg-type]
