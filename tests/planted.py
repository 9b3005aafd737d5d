"""A planted backend whose results follow from a picture's colours alone, for tests of what lies
above the backends: it has no weights, and every result can be worked out by hand."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.config import Decoding
from vitdemo.instructions import is_preset
from vitdemo.preprocess import Picture, grid_boxes, open_picture
from vitdemo.records import ALL_TASKS, Candidate, Explanation, ModelInfo, Request
from vitdemo.words import split_words

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
CHINESE = {"红": "red", "绿": "green", "蓝": "blue"}
GRID = (3, 4)


def picture(colour: str = "red", size: tuple[int, int] = (40, 30)) -> Picture:
    """One plain colour."""
    return open_picture(Image.new("RGB", size, COLOURS[colour]))


def save_colours(folder: Path) -> Path:
    """A folder with a picture of each colour, blue in a folder of its own, and a broken one."""
    (folder / "more").mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 30), colour).save(
            folder / ("more" if name == "blue" else "") / f"{name}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    rows = np.asarray(values, np.float64) + 1e-6
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class Planted(Backend):
    """Sees the mean colour of each of 3 x 4 cells. Counts its calls; refuses to be called by two
    threads at once."""

    def __init__(self, tasks: Sequence[str] = ALL_TASKS,
                 languages: Sequence[str] = ("en", "zh"), pause: float = 0.0,
                 missing: dict[str, str] | None = None, revision: str = "1") -> None:
        self.info = ModelInfo("planted", "test", revision, frozenset(tasks), tuple(languages),
                              3 if "embed" in tasks else 0, missing or {},
                              ("cross-attention",) if "explain" in tasks else ())
        self.pause = pause
        self.batches: list[int] = []  # sizes of the batches that were encoded
        self.explained: list[str] = []  # the methods asked for
        self.scored: list[int] = []  # sizes of the batches that words were scored on
        self.closed = 0  # generators that were ended
        self._busy = threading.Lock()

    def _enter(self) -> threading.Lock:
        assert self._busy.acquire(blocking=False), "two threads in the backend at once"
        time.sleep(self.pause)
        return self._busy

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        busy = self._enter()
        self.batches.append(len(pictures))
        cells = [np.asarray(p.resize(GRID[::-1], Image.Resampling.BOX), np.float32) / 255
                 for p in pictures]
        busy.release()
        return [PictureFeatures(one, p.size) for one, p in zip(cells, pictures, strict=True)]

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        name = list(COLOURS)[int(features.data.mean((0, 1)).argmax())]
        free = "" if is_preset(instruction) else instruction
        words = ["a", name, "picture", *free.split(), "."]
        if decoding.strategy == "sample":
            words.insert(1, "very" if decoding.seed else "rather")
        if language == "zh":
            words = ["一", "张", {v: k for k, v in CHINESE.items()}[name], "图"]
        words = words[:decoding.max_tokens]
        try:
            for n in range(1, len(words) + 1):
                busy = self._enter()
                text = ("" if language == "zh" else " ").join(words[:n])
                busy.release()
                yield Step(text, -0.5 * n, n == len(words))
        finally:
            self.closed += 1

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        mean = features.data.mean((0, 1)) + 1e-3
        shares = mean / mean.sum()
        order = np.argsort(-shares)[:count]
        return tuple(Candidate(list(COLOURS)[n], float(shares[n])) for n in order)

    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        return np.asarray((self.embed_pictures(features) @ self.embed_texts(texts).T + 1) / 2)

    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        return unit(np.stack([one.data.mean((0, 1)) for one in features]))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        busy = self._enter()
        rows = np.zeros((len(texts), 3))
        for row, text in zip(rows, texts, strict=True):
            for word in split_words(text.lower()):
                name = next((CHINESE[c] for c in word.text if c in CHINESE), word.text)
                if name in COLOURS:
                    row += COLOURS[name]
        busy.release()
        return unit(rows)

    def explain(self, features: PictureFeatures, request: Request,
                method: str = "") -> tuple[Explanation, ...]:
        self.explained.append(method)
        text = request.text
        texts = {"caption": [("caption", text)], "match": [("text", text)],
                 "ask": [("question", request.instruction), ("answer", text)]}[request.task]
        boxes = grid_boxes(GRID, features.size)
        found = []
        for source, one in texts:
            words = split_words(one)
            weights = np.full((2, 2, len(words), len(boxes)), 0.1 / len(boxes), np.float32)
            for q, word in enumerate(words):
                if word.text in COLOURS:  # a colour's word looks where that colour is
                    there = features.data[..., list(COLOURS).index(word.text)].reshape(-1)
                    weights[:, :, q] = 0.9 * there / max(there.sum(), 1e-6)
            found.append(Explanation(one, source, words, weights, boxes, GRID, features.size,
                                     method or "cross-attention", ("layer 1", "layer 2"),
                                     (0.25, 0.5), tuple(0.5 for _ in words)))
        return tuple(found)

    def word_probabilities(self, features: Sequence[PictureFeatures],
                           request: Request) -> tuple[np.ndarray, ...]:
        """A colour's word is as probable as there are cells of hardly anything else; every other
        word has one half, whatever the picture."""
        busy = self._enter()
        self.scored.append(len(features))
        busy.release()
        texts = [request.instruction, request.text] if request.task == "ask" else [request.text]
        means = np.stack([(one.data > 0.9).mean((0, 1)) for one in features])  # (P, 3)
        found = []
        for one in texts:
            columns = [means[:, list(COLOURS).index(word.text)] if word.text in COLOURS
                       else np.full(len(means), 0.5) for word in split_words(one)]
            found.append(np.stack(columns, 1).astype(np.float32) if columns
                         else np.zeros((len(means), 0), np.float32))
        return tuple(found)
