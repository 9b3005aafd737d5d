"""Occlusion: hide a window of the picture, slide it, and watch the word (Zeiler, Fergus 2014,
"Visualizing and Understanding Convolutional Networks", section 4.2). Slow, and the nearest to a
ground truth: it looks at nothing but what the model says.

Legend: K picture regions, Q words, S masked pictures (the first one with nothing hidden).
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from vitdemo.attention.methods import label_of, normalised, note_of
from vitdemo.records import Explanation

Score = Callable[[np.ndarray], np.ndarray]
_WINDOWS_ACROSS = 10  # at most so many along a side of a full grid


def windows(grid: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """Which regions each window hides: bool (S - 1, K); each region is in at least one.

    On a full grid of up to 10 x 10 a window is 3 x 3 regions around each region, cut off at the
    edge; on a finer grid window and step grow, so that there are never many more than 100; on one
    of fewer than 5 a side it is a single region. Regions that form no grid (``grid`` (0, 0)) are
    hidden with those whose middle is nearer than 1.5 times their own size; ``boxes`` is (K, 4).
    """
    rows, columns = grid
    if not rows * columns:
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = (boxes[:, 2:] - boxes[:, :2])[:, None]  # (K, 1, 2)
        apart = np.abs(middle[:, None] - middle[None])  # (K, K, 2)
        return np.asarray((apart < 1.5 * size).all(-1) | np.eye(len(boxes), dtype=bool))
    down, across = (_bands(count) for count in grid)
    both = down[:, None, :, None] & across[None, :, None, :]
    return both.reshape(-1, rows * columns)


def _bands(count: int) -> np.ndarray:
    """Windows along one side: bool (windows, count)."""
    step = math.ceil(count / _WINDOWS_ACROSS)
    reach = step if count >= 5 else 0
    centres = np.arange(0, count, step)
    return np.asarray(np.abs(np.arange(count)[None] - centres[:, None]) <= reach)


def occlusion(base: Explanation, score: Score) -> Explanation:
    """A map for every word of ``base``, whose words and regions are used and whose weights are not.

    ``score`` gives, for bool masks (S, K) of hidden regions, each word's probability, 0..1, on
    each masked picture: (S, Q). A region counts by the mean loss of probability over the windows
    that hide it, where there is a loss; a map adds up to 1, or is zero where nothing is lost.
    """
    hidden = windows(base.grid, base.boxes)
    asked = np.concatenate([np.zeros((1, hidden.shape[1]), dtype=bool), hidden])
    found = np.asarray(score(asked), dtype=np.float64)
    assert found.shape == (len(asked), len(base.words)), (found.shape, len(asked))
    loss = np.nan_to_num(found[:1] - found[1:], nan=0.0)  # (S - 1, Q)
    shares = hidden / hidden.sum(axis=0)  # (S - 1, K); every region is in a window
    maps = normalised(loss.T @ shares)
    note = note_of("occlusion", base.source)
    return dataclasses.replace(base, weights=maps[None, None], method="occlusion", gates=(),
                               layer_names=(label_of("occlusion"),), note=note)
