"""A model for tests of the app whose maps are known: the word "left" looks at the left half of the
picture, "right" at the right half, "top", "bottom", and "nothing" at nothing; other words look
everywhere alike. It behind the real engine makes the app's tests fast and their pixels certain.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.preprocess import grid_boxes
from vitdemo.records import ALL_TASKS, Candidate, Explanation, ModelInfo
from vitdemo.words import split_words

CAPTION = {"en": "a cat on the left and a dog on the right", "zh": "左边有一只猫右边有一条狗"}
GRID = (6, 8)
LAYERS, HEADS = 2, 3
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "红": (1, 0, 0)}


def planted_map(word: str) -> np.ndarray:
    """Where a word looks: float32 (rows * columns,), adding up to 1, or all zero."""
    rows, columns = GRID
    plane = np.zeros(GRID, dtype=np.float32)
    halves = {"left": np.s_[:, :columns // 2], "左边": np.s_[:, :columns // 2],
              "right": np.s_[:, columns // 2:], "右边": np.s_[:, columns // 2:],
              "top": np.s_[:rows // 2], "bottom": np.s_[rows // 2:]}
    if word != "nothing":
        plane[halves.get(word, np.s_[:])] = 1.0
        plane /= plane.sum()
    return plane.ravel()


class PlantedBackend(Backend):
    """Answers at once, always the same; layer 2 head 3 looks at the top, whatever the word."""

    def __init__(self, tasks: Sequence[str] = ALL_TASKS, missing: dict[str, str] | None = None,
                 gates: tuple[float, ...] = (0.42, -0.1)) -> None:
        self.info = ModelInfo("planted", "fake", "1", frozenset(tasks), ("en", "zh"), 4,
                              missing or {})
        self.gates = gates
        self.explained = 0

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        return [PictureFeatures(np.asarray(one.resize((4, 4)), dtype=np.float32) / 255, one.size)
                for one in pictures]

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        text = CAPTION[language]
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
        rows = [[*one.data.reshape(-1, 3).mean(axis=0), 0.05] for one in features]
        return _unit(rows)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit([[*np.sum([np.array(value) for name, value in COLOURS.items() if name in text]
                               or [[0, 0, 0]], axis=0), 0.05] for text in texts])

    def explain(self, features: PictureFeatures, *, instruction: str, text: str, language: str,
                task: str) -> tuple[Explanation, ...]:
        self.explained += 1
        if task == "ask":
            return (self._explanation(features, instruction, "question"),
                    self._explanation(features, text, "answer"))
        return (self._explanation(features, text, "caption" if task == "caption" else "text"),)

    def _explanation(self, features: PictureFeatures, text: str, source: str) -> Explanation:
        words = split_words(text)
        maps = np.stack([planted_map(word.text.lower()) for word in words])  # (Q, K)
        weights = np.broadcast_to(maps, (LAYERS, HEADS, *maps.shape)).astype(np.float32)
        if "nothing" not in text:
            weights = weights.copy()
            weights[1, 2] = planted_map("top")
        said = source in ("caption", "answer")
        return Explanation(
            text, source, words, weights, grid_boxes(GRID, features.size), GRID, features.size,
            "cross-attention", ("Step 1", "Step 2"), self.gates,
            tuple(0.2 if word.text == "dog" else 0.9 for word in words) if said else ())


def _unit(rows: Sequence[Sequence[float]]) -> np.ndarray:
    array = np.asarray(rows, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def planted_engine(**settings: object) -> Engine:
    """The real engine over `PlantedBackend`."""
    return Engine(PlantedBackend(**settings))  # type: ignore[arg-type]
