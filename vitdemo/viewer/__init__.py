"""The attention viewer: plain JavaScript and the Python that feeds it.

The browser gets one JSON object, the payload, and needs nothing more from the server:

    {"picture": {"url": data URL, "width", "height",         pixels of the original
                 "note"},                                    may be missing: what is damaged in it
     "model": name, "texts": [text, ...],
     "settings": {name: value}, "caveats": [sentence],       may be missing
     "unread": sentence on what the model did not read, "sure": one on how sure it is,
     "offer": one on what it is sure of where the text is not sure, "understood": one on which
     instruction the person's own was taken for, "checking": whether maps are checked unasked,
     "choose": {"source", "word", "method", "layer", "head"}, "methods": [[name, label], ...]}

Each text holds the explanation of one `Explanation`, and what else is known of its words:

    {"source", "title", "language", "text", "words": [[start, end], ...] in code points,
     "method", "label", "shape": [L, H, Q, K], "bits": 16 or 8, "scale": float, "weights": base64,
     "layers": [...], "gates": [...], "note",
     "boxes": [x0, y0, x1, y1, ...], "grid": [rows, columns], "width", "height",
     "probabilities": [...], "unread": [why, ...]              "" for a word that was read
     "unsure": [word, ...], "first": word,                     the one that is chosen first
     "others": [{"method", "label", "shape", ...}]             the same words by other methods
     "always_on": {method: [region, ...]}                      regions that are hot for every word
     "evidence": {method: [null or {"verdict", "sentence", "deletion", ...}, ...]}   by word
     "share": {"gate", "attention", "probability", "blank", "anyway", "sentences"}}  lists by word

A weight is ``scale * (q / (2**bits - 1)) ** 2``, q little-endian: square roots keep small weights
exact enough beside large ones. L layers, H heads, Q words, K regions.

{"patch": [{"source", "text", and fields as above, "matter" or "smallest"}]} adds to the texts on
screen. The head of viewer.js lists the other payloads.
"""

import base64
import functools
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from vitdemo.preprocess import Picture
from vitdemo.records import Explanation
from vitdemo.texts import joined, section
from vitdemo.viewer.build import patch, quantise, texts
from vitdemo.words import same_words, split_words

__all__ = ["data_url", "display", "dress", "gradio_compare_script", "gradio_script", "jpeg",
           "patch", "payload", "quantise", "script", "styles", "texts"]

DISPLAY_SIDE = 1600  # longest side of the copy that the browser shows, in pixels
_FOLDER = Path(__file__).parent
# What uses another file's classes only when a viewer is made may stand before it.
_SCRIPTS = ("colours.js", "maps.js", "regions.js", "field.js", "paint.js", "text.js", "words.js",
            "controls.js", "evidence.js", "deeper.js", "looking.js", "board.js", "taking.js",
            "viewer.js", "compare.js")


def payload(explanations: Sequence[Explanation], picture: Picture, model: str = "",
            **additions: Any) -> dict[str, Any]:
    """Everything that the viewer shows of a picture and its texts, ready for JSON.

    ``additions`` are those of `texts`: other methods' maps, evidence and shares.
    """
    return {"picture": display(picture), "model": model, "texts": texts(explanations, **additions)}


def dress(explanation: Explanation, shown: str) -> Explanation:
    """The same explanation over the text as a person writes it ("A dog." for "a dog").

    Where the two do not have the same words, the explanation stays as it is.
    """
    words = split_words(shown)
    return replace(explanation, text=shown, words=words) if same_words(
        explanation.words, words) else explanation


def display(picture: Picture, side: int = DISPLAY_SIDE) -> dict[str, Any]:
    """A copy of the picture for the browser: a JPEG data URL whose longest side is at most
    ``side`` pixels, with the width and height of the original, and its notes where it has some."""
    width, height = picture.image.size
    shown = {"url": data_url(picture.image, side), "width": width, "height": height}
    return {**shown, "note": joined(picture.notes)} if picture.notes else shown


def data_url(image: Image.Image, side: int) -> str:
    """An RGB picture as a JPEG data URL, shrunk so that no side is over ``side`` pixels."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, side)).decode("ascii")


def jpeg(image: Image.Image, side: int) -> bytes:
    """An RGB picture as a JPEG file, shrunk so that no side is over ``side`` pixels."""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def script() -> str:
    """The viewer's JavaScript, in the current language: defines ``mountViewer(root, payload, ask)``
    and ``mountCompare(root, payload, ask)``."""
    sentences = json.dumps(section("viewer") | section("list"), ensure_ascii=False)
    return f"const VD_TEXTS = {sentences};\n" + "\n".join(map(_file, _SCRIPTS))


def gradio_script() -> str:
    """The few lines that tie the viewer to a `gr.HTML` component, whose requests are its event
    ``ask``. The page that it is on has run `script`, once for all its viewers."""
    return _file("gradio.js")


def gradio_compare_script() -> str:
    """As `gradio_script`, for a comparison in an element of the class ``vd-compare``."""
    return _file("gradio_compare.js")


def styles() -> str:
    """The viewer's CSS; everything in it is under the class ``vd-viewer``."""
    return _file("viewer.css")


@functools.cache
def _file(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")
