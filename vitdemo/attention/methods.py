"""The ways to explain a word, by name, and what they share.

A method turns one teacher-forced pass over a finished text into maps (Q, K): for each whole word
how much each region of the picture counted. The arithmetic of each is in a file of its own
(`rollout`, `relevancy`, `grad_cam`, `occlusion`); a backend records the pass and calls it.

Legend: Q whole words, K picture regions, T tokens.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from vitdemo.errors import ConfigError
from vitdemo.records import Candidate
from vitdemo.texts import joined, phrase

# Names, and in the catalogue ("method") what each is called on the screen.
METHODS = ("matched-attention", "cross-attention", "rollout", "relevancy", "grad-cam", "occlusion",
           "word-region")
SHARES = ("cross-attention", "rollout")  # their rows add up to the picture's share
_NUMBERS_AT_ONCE = 30_000_000  # attention weights in one pass with gradients, about 0.5 GB in all


@dataclass(frozen=True)
class Said:
    """What a model says of the Q words of a text that it wrote: the log-probability of each given
    those before it, in nats, and the ``rivals`` of an `Explanation`. Both are empty where the text
    was only read."""

    logs: tuple[float, ...] = ()
    rivals: tuple[tuple[Candidate, ...], ...] = ()

    @property
    def probabilities(self) -> tuple[float, ...]:
        """(Q,), 0..1."""
        return tuple(math.exp(min(0.0, log)) for log in self.logs)


def label_of(method: str) -> str:
    """What a method is called on the screen."""
    return phrase(f"method.name.{method}") if method in METHODS else method


def note_of(method: str, source: str) -> str:
    """How a method made the map of a text with this source, in a sentence or two. A word that was
    only read has no probability of its own: it is told what it is measured by instead."""
    measured = method not in (*SHARES, "word-region", "matched-attention")
    return joined((phrase(f"method.note.{method}"),
                   phrase(f"method.read.{source}")
                   if measured and source in ("question", "text") else ""))


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


def smoothed(weights: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Maps (..., K) over a full grid, each region with the mean of itself and its neighbours.

    At the edge of the picture the mean is over those that are there.
    """
    planes = weights.reshape(-1, *grid).astype(np.float64)
    sums = uniform_filter(planes, (1, 3, 3), mode="constant")
    there = uniform_filter(np.ones(grid), 3, mode="constant")
    return np.asarray((sums / there).reshape(weights.shape), dtype=weights.dtype)


def rows_at_once(weights_per_row: int) -> int:
    """How many copies of a text go through one pass with gradients, so that a text of hundreds of
    words fits in memory; ``weights_per_row`` is the number of attention weights of one copy."""
    return max(1, _NUMBERS_AT_ONCE // max(1, weights_per_row))


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Inside, no gradients are recorded, but `torch.enable_grad` can switch them on, whatever the
    caller switched off."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def for_gradients(tensor: Tensor) -> Tensor:
    """The same; a copy where it was made in `torch.inference_mode`, as such a one takes none."""
    return tensor.clone() if tensor.is_inference() else tensor
