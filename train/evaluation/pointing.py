"""Scores of maps against boxes: the pointing game and the share of the map inside, with intervals.

n names of things in captions, K regions of a picture, P pictures, S draws of the bootstrap.
Boxes are xyxy in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluation.metrics import draw, interval

DRAWS = 1000  # of the bootstrap


def covered(regions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The share of each region that lies in at least one box: (K,), 0..1, exact.

    The boxes' edges cut the plane into cells; a cell is inside the union or outside of it, and
    what a region has of a cell is a width times a height.
    """
    x, y = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    inside = np.zeros((len(y) - 1, len(x) - 1), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        inside[np.searchsorted(y, y0):np.searchsorted(y, y1),
               np.searchsorted(x, x0):np.searchsorted(x, x1)] = True
    regions = np.asarray(regions, dtype=np.float64)
    wide = _overlap(regions[:, 0], regions[:, 2], x)  # (K, cells across)
    high = _overlap(regions[:, 1], regions[:, 3], y)  # (K, cells down)
    area = (regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])
    found = np.einsum("ky,yx,kx->k", high, inside.astype(np.float64), wide)
    return np.asarray(np.divide(found, area, out=np.zeros_like(found), where=area > 0))


def _overlap(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How much of each span start..end (K,) lies in each interval between edges (m + 1,)."""
    low = np.maximum(start[:, None], edges[None, :-1])
    high = np.minimum(end[:, None], edges[None, 1:])
    return np.asarray((high - low).clip(0))


def holds(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether each point (m, 2) lies in a box or on its edge: (m,)."""
    x, y = points[:, :1], points[:, 1:]
    return np.asarray(((x >= boxes[:, 0]) & (x <= boxes[:, 2])
                       & (y >= boxes[:, 1]) & (y <= boxes[:, 3])).any(axis=1))


@dataclass(frozen=True)
class Target:
    """What the K regions of a picture have of some boxes: ``cover`` (K,) the share of each region
    inside, ``middle`` (K,) whether its middle is inside."""

    cover: np.ndarray
    middle: np.ndarray

    @classmethod
    def of(cls, regions: np.ndarray, boxes: np.ndarray) -> "Target":
        """From regions (K, 4) and boxes (n, 4)."""
        middles = (regions[:, :2].astype(np.float64) + regions[:, 2:]) / 2
        return cls(covered(regions, boxes), holds(boxes, middles))


def hits_and_masses(weights: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Of M maps (M, K): whether the peak lies in a box, and the share inside the boxes; (M,) each.

    The peak is the middle of the strongest region; where several are equally strong, their mean
    counts, so that a flat map scores as chance does. The share is of the map's own sum, and a
    region that is partly inside counts by the part of its area. A map of zeros misses and has
    nothing inside.
    """
    weights = weights.astype(np.float64)
    total = weights.sum(axis=1)
    strongest = weights == weights.max(axis=1, keepdims=True)
    hits = (strongest & target.middle).sum(axis=1) / strongest.sum(axis=1)
    masses = np.divide(weights @ target.cover, total, out=np.zeros_like(total), where=total > 0)
    return np.where(total > 0, hits, 0.0), masses


@dataclass(frozen=True)
class Names:
    """What all methods share, for each of n names: the number of its picture 0..P-1, the boxes'
    share of the picture 0..1, and whether they hold the picture's centre."""

    picture: np.ndarray
    area: np.ndarray
    central: np.ndarray


class Scorer:
    """Means over names and 95% intervals by bootstrap over pictures, not over names: the names of
    one picture are not independent. All methods see the same draws."""

    def __init__(self, names: Names, seed: int = 0) -> None:
        self.names = names
        self._draws = draw(int(names.picture.max()) + 1, DRAWS, seed)  # (S, P)

    def figures(self, hits: np.ndarray, masses: np.ndarray) -> dict[str, object]:
        """The figures of one method from its hits and masses inside, (n,) each, 0..1.

        None where there is nothing to take a mean of.
        """
        names, off = self.names, ~self.names.central
        one, area = np.ones(len(hits)), names.area
        wanted = {"pointing": (hits, one), "pointing_off_centre": (hits * off, one * off),
                  "share_inside_over_area": (masses, area),
                  "share_inside_over_area_off_centre": (masses * off, area * off),
                  "mean_ratio": (masses / area, one), "inside": (masses, one),
                  "pointing_above_centre": (hits - names.central, one)}
        result: dict[str, object] = {}
        intervals: dict[str, object] = {}
        for key, (above, below) in wanted.items():
            result[key] = _rounded(above.sum(), below.sum())
            intervals[key] = self._interval(above, below)
        return {**result, "n": len(hits), "n_off_centre": int(off.sum()), "ci": intervals}

    def _interval(self, above: np.ndarray, below: np.ndarray) -> list[float] | None:
        tops, bottoms = (self._draws @ np.bincount(self.names.picture, of, self._draws.shape[1])
                         for of in (above, below))  # (S,)
        return interval(tops[bottoms > 0] / bottoms[bottoms > 0], 4)


def _rounded(above: float, below: float) -> float | None:
    return round(float(above / below), 4) if below > 0 else None


def baselines(scorer: Scorer) -> dict[str, dict[str, object]]:
    """"centre": the whole map is the picture's centre. "random": what a point drawn evenly over
    the picture scores on average, exactly: the boxes' share of the picture."""
    names = scorer.names
    central = names.central.astype(np.float64)
    return {"centre": scorer.figures(central, central),
            "random": scorer.figures(names.area, names.area)}


def names_of(rows: Sequence[tuple[int, float, bool]]) -> Names:
    """From (picture, area, holds the centre) of each name."""
    picture, area, central = zip(*rows, strict=True)
    return Names(np.asarray(picture), np.asarray(area, dtype=np.float64), np.asarray(central))
