"""What lies in a part of the picture, and how specific a head is to its words, in plain numpy: the
viewer works out the same in the browser (`viewer/regions.js`).

L layers, H heads, Q words, K regions. Boxes are xyxy in pixels of the original.
"""

from collections.abc import Sequence

import numpy as np

from vitdemo.records import Explanation


def _clipped(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """(x0, y0, x1, y1) with the corners in order, cut off at the edges of the picture."""
    (x0, x1), (y0, y1) = (np.clip(sorted(pair), 0, side) for pair, side in zip(
        (box[::2], box[1::2]), size, strict=True))
    return np.array([x0, y0, x1, y1])


def box_area(box: Sequence[float], size: tuple[int, int]) -> float:
    """The share of a picture of ``size`` (width, height) that a box covers, 0..1."""
    x0, y0, x1, y1 = _clipped(box, size)
    return float((x1 - x0) * (y1 - y0) / (size[0] * size[1]))


def box_shares(explanation: Explanation, box: Sequence[float]) -> np.ndarray:
    """For each word the share of its attention on the picture that falls in a box: float64 (Q,),
    0..1, from the mean over layers and heads.

    A region that is partly inside counts by its area. A word that did not look at the picture
    has 0.
    """
    x0, y0, x1, y1 = _clipped(box, explanation.picture_size)
    left, up, right, down = explanation.boxes.astype(np.float64).T  # (K,) each
    areas = (right - left) * (down - up)
    solid = areas > 0
    width = np.minimum(right, x1) - np.maximum(left, x0)
    height = np.minimum(down, y1) - np.maximum(up, y0)
    inside = np.clip(width, 0, None) * np.clip(height, 0, None) / np.where(solid, areas, 1)  # (K,)
    maps = np.nan_to_num(explanation.mean_map().astype(np.float64)) * solid  # (Q, K)
    totals = maps.sum(axis=1)
    found = maps @ inside / np.where(totals > 0, totals, 1)
    return np.asarray(np.minimum(found, 1))


def specificity(weights: np.ndarray) -> np.ndarray:
    """How specific each head is to each word: float64 (L, H, Q), 0..1, from weights (L, H, Q, K).

    The Jensen-Shannon divergence (Lin 1991), in bits, between the word's map and the mean of that
    head's maps over all words, each map adding up to 1. A head that shows every word the same
    place has 0, and so has a map of zeros; maps of zeros are left out of the mean.
    """
    maps = np.nan_to_num(weights.astype(np.float64))
    totals = maps.sum(axis=-1, keepdims=True)
    looked = totals > 0  # (L, H, Q, 1)
    maps = maps / np.where(looked, totals, 1)
    mean = maps.sum(axis=2, keepdims=True) / np.maximum(looked.sum(axis=2, keepdims=True), 1)
    middle = (maps + mean) / 2

    def half(one: np.ndarray) -> np.ndarray:
        ratio = np.divide(one, middle, out=np.ones_like(middle), where=one > 0)
        return np.asarray((np.where(one > 0, one, 0) * np.log2(ratio)).sum(axis=-1) / 2)

    found = half(maps) + half(np.broadcast_to(mean, maps.shape))
    return np.where(looked[..., 0], np.clip(found, 0, None), 0)
