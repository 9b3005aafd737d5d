"""The ways to explain a word, by name, and what they share.

A method turns one teacher-forced pass over a finished text into maps (Q, K): for each whole word
how much each region of the picture counted. The arithmetic of each is in a file of its own
(`rollout`, `relevancy`, `grad_cam`, `occlusion`); a backend records the pass and calls it.

Legend: Q whole words, K picture regions, T tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from vitdemo.attention.regions import smoothed
from vitdemo.errors import ConfigError
from vitdemo.records import Explanation, Word

# Name -> what it is called on the screen.
METHODS = {
    "matched-attention": "Where it looked, matched to the word",
    "cross-attention": "Where it looked, layer by layer",
    "rollout": "Where it looked, through all layers",
    "relevancy": "Looks that made it choose the word",
    "grad-cam": "Picture features that made it choose the word",
    "occlusion": "What it misses when covered",
    "word-region": "What looks like the word",
}
# One plain sentence on how the map was made.
NOTES = {
    "matched-attention": "Made from where the model looked for the word, all layers together, "
                         "counted more where the picture looks like the word.",
    "rollout": "Made by following the attention through all layers: each layer passes on half of "
               "what it knew and half of what it looked at.",
    "relevancy": "Made from attention, counted only where looking more would have made the word "
                 "more likely.",
    "grad-cam": "Made from the picture's last features: those that make the word more likely, at "
                "the places where they are strong.",
    "occlusion": "Made by blurring the picture piece by piece and watching how much less likely "
                 "the word gets.",
    "word-region": "Made by comparing the word with each region of the picture, whether or not "
                   "the model used that region to say it.",
}
# What a word that was only read is measured by, as it has no probability of its own.
READ_NOTES = {
    "question": " For a word of the question, what counts is how likely the answer is.",
    "text": " For a sentence to compare, what counts is how well it fits the picture.",
}
_SHARES = ("cross-attention", "rollout")  # their rows add up to the picture's share
_NUMBERS_AT_ONCE = 30_000_000  # attention weights in one pass with gradients, about 0.5 GB in all


@dataclass(frozen=True)
class WordMaps:
    """What a method found about one text: its words, their maps float (Q, K), and the probability
    of each word (Q,), empty where the text was only read."""

    text: str
    source: str
    words: tuple[Word, ...]
    maps: np.ndarray
    probabilities: tuple[float, ...] = ()


def choose(method: str, methods: Sequence[str]) -> str:
    """The method asked for, or the first of ``methods`` where "" is.

    Raises:
        ConfigError: it is none of ``methods``.
    """
    if method in methods:
        return method
    if not method and methods:
        return methods[0]
    raise ConfigError(f"method is {method!r}; this model can explain by "
                      f"{', '.join(methods) or 'none'}.")


def normalised(maps: np.ndarray) -> np.ndarray:
    """Maps (..., K) as float32, at least 0, that add up to 1 over K.

    What is negative or no number counts as 0; a map with nothing left stays zero.
    """
    clean = np.nan_to_num(np.asarray(maps, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    clean = clean.clip(min=0)
    peak = clean.max(axis=-1, keepdims=True, initial=0.0)
    scaled = np.divide(clean, peak, out=np.zeros_like(clean), where=peak > 0)
    total = scaled.sum(axis=-1, keepdims=True)
    return np.divide(scaled, total, out=scaled, where=total > 0).astype(np.float32)


def bounded(maps: np.ndarray) -> np.ndarray:
    """Maps (..., K) whose sums already mean something, as float32: no NaN, at least 0, and no more
    than 1 over K."""
    clean = np.nan_to_num(np.asarray(maps, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    clean = clean.clip(min=0)
    return (clean / clean.sum(axis=-1, keepdims=True).clip(min=1)).astype(np.float32)


def over_words(maps: np.ndarray, places: Sequence[Sequence[int]]) -> np.ndarray:
    """The mean over each word's tokens: (T, K) to (Q, K). A word of no tokens gets zeros."""
    merged = np.zeros((len(places), maps.shape[1]), dtype=maps.dtype)
    for row, tokens in zip(merged, places, strict=True):
        kept = [token for token in tokens if token < len(maps)]  # a text too long was cut
        if kept:
            row[:] = maps[kept].mean(axis=0)
    return merged


def matched(attention: np.ndarray, match: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cross-attention counted more where the region looks like the word: float (Q, K).

    ``attention`` (Q, K) is the mean over layers and heads; on a full grid above 3 x 3 each region
    takes the mean over itself and its neighbours, as single regions are noisy. It is multiplied by
    the square root of ``match`` (Q, K), the region head's map. Ours: neither alone points as well
    (see docs/decisions.md).
    """
    rows, columns = grid
    if min(rows, columns) > 3:  # on a smaller grid the window would wipe the map out
        attention = smoothed(attention, grid)
    return np.asarray(attention * np.sqrt(match.clip(min=0)))


def explanation(found: WordMaps, method: str, boxes: np.ndarray, grid: tuple[int, int],
                picture_size: tuple[int, int], more: str = "") -> Explanation:
    """A method's maps as a record with one layer and one head; ``more`` is a sentence to add to the
    note. See `Explanation`."""
    clean = bounded(found.maps) if method in _SHARES else normalised(found.maps)
    note = NOTES[method]
    if method not in (*_SHARES, "word-region", "matched-attention"):
        note += READ_NOTES.get(found.source, "")
    note = f"{note} {more}".strip()
    return Explanation(
        text=found.text, source=found.source, words=found.words, weights=clean[None, None],
        boxes=boxes, grid=grid, picture_size=picture_size, method=method,
        layer_names=(METHODS[method],), word_probabilities=found.probabilities, note=note)


def rows_at_once(weights_per_row: int) -> int:
    """How many copies of a text go through one pass with gradients, so that a text of hundreds of
    words fits in memory; ``weights_per_row`` is the number of attention weights of one copy."""
    return max(1, _NUMBERS_AT_ONCE // max(1, weights_per_row))


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Inside, no gradients are recorded, but `torch.enable_grad` can switch them on, whatever the
    caller switched off. A tensor that was made in `torch.inference_mode` can take none, and must
    be cloned here before it is used."""
    with torch.inference_mode(False), torch.no_grad():
        yield
