"""The attention viewer: plain JavaScript and the Python that feeds it.

The browser gets one JSON object, the payload, and needs nothing more from the server:

    {"picture": {"url": data URL, "width", "height"},        pixels of the original
     "model": name, "texts": [text, ...]}

Each text holds the explanation of one `Explanation`:

    {"source", "title", "language", "text", "words": [[start, end], ...] in code points,
     "shape": [L, H, Q, K], "bits": 16 or 8, "scale": float, "weights": base64,
     "boxes": [x0, y0, x1, y1, ...], "grid": [rows, columns], "width", "height",
     "layers": [...], "gates": [...], "probabilities": [...], "method", "note"}

A weight is ``scale * (q / (2**bits - 1)) ** 2``, q little-endian: square roots keep small weights
exact enough beside large ones. L layers, H heads, Q words, K regions.
"""

import base64
import functools
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitdemo.preprocess import Picture
from vitdemo.records import Explanation
from vitdemo.words import language_of, split_words

DISPLAY_SIDE = 1600  # longest side of the copy that the browser shows, in pixels
FINE_VALUES = 500_000  # up to this many weights travel as 16 bits each, more as 8
_FOLDER = Path(__file__).parent
_TITLES = {"caption": "Caption", "question": "Question", "answer": "Answer", "text": "Sentence"}


def payload(explanations: Sequence[Explanation], picture: Picture,
            model: str = "") -> dict[str, Any]:
    """Everything that the viewer shows of a picture and its texts, ready for JSON."""
    return {"picture": display(picture), "model": model, "texts": texts(explanations)}


def texts(explanations: Sequence[Explanation]) -> list[dict[str, Any]]:
    """The ``texts`` of a payload."""
    return [_text(explanation) for explanation in explanations]


def dress(explanation: Explanation, shown: str) -> Explanation:
    """The same explanation over the text as a person writes it ("A dog." for "a dog").

    Where the two do not have the same words, the explanation stays as it is.
    """
    words = split_words(shown)
    same = [word.text.casefold() for word in words] == [
        word.text.casefold() for word in explanation.words]
    return replace(explanation, text=shown, words=words) if same else explanation


def display(picture: Picture, side: int = DISPLAY_SIDE) -> dict[str, Any]:
    """A copy of the picture for the browser: a JPEG data URL whose longest side is at most
    ``side`` pixels, with the width and height of the original."""
    width, height = picture.image.size
    return {"url": data_url(picture.image, side), "width": width, "height": height}


def data_url(image: Image.Image, side: int) -> str:
    """An RGB picture as a JPEG data URL, shrunk so that no side is over ``side`` pixels."""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def quantise(weights: np.ndarray) -> tuple[int, float, str]:
    """Weights of any shape, 0 or more -> (bits, scale, base64) as the module's text says.

    The error is at most ``scale / 65535`` of a weight with 16 bits and ``scale / 255`` with 8.
    """
    bits = 16 if weights.size <= FINE_VALUES else 8
    scale = float(weights.max(initial=0.0))
    roots = np.sqrt(np.clip(weights / (scale or 1.0), 0.0, 1.0))
    whole = np.rint(roots * (2**bits - 1)).astype("<u2" if bits == 16 else "u1")
    return bits, scale, base64.b64encode(whole.tobytes()).decode("ascii")


def _text(explanation: Explanation) -> dict[str, Any]:
    bits, scale, weights = quantise(explanation.weights)
    width, height = explanation.picture_size
    return {
        "source": explanation.source,
        "title": _TITLES.get(explanation.source, "Text"),
        "language": language_of(explanation.text),
        "text": explanation.text,
        "words": [[word.start, word.end] for word in explanation.words],
        "shape": list(explanation.weights.shape),
        "bits": bits,
        "scale": scale,
        "weights": weights,
        "boxes": np.round(explanation.boxes.astype(float), 2).ravel().tolist(),
        "grid": list(explanation.grid),
        "width": width,
        "height": height,
        "layers": list(explanation.layer_names),
        "gates": [float(gate) for gate in explanation.gates],
        "probabilities": [float(value) for value in explanation.word_probabilities],
        "method": explanation.method,
        "note": explanation.note,
    }


@functools.cache
def script() -> str:
    """The viewer's JavaScript: defines ``mountViewer(root, payload)``."""
    names = ("colours.js", "maps.js", "paint.js", "text.js", "viewer.js")
    return "\n".join((_FOLDER / name).read_text("utf-8") for name in names)


@functools.cache
def gradio_script() -> str:
    """The viewer's JavaScript followed by the few lines that tie it to a `gr.HTML` component."""
    return script() + "\n" + (_FOLDER / "gradio.js").read_text("utf-8")


@functools.cache
def styles() -> str:
    """The viewer's CSS; everything in it is under the class ``vd-viewer``."""
    return (_FOLDER / "viewer.css").read_text("utf-8")
