"""The least of a picture that is enough for a word, and the least without which the word goes.

Greedy search over superpixels, with forward passes only, after EAGLE (Chen et al. 2025,
arXiv:2509.22496), whose objective is the same: what is shown must suffice, what is hidden must be
needed. Superpixels are SLIC's (Achanta et al. 2012), so that an outline follows things.

S superpixels, n masks.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours
from skimage.segmentation import slic

from vitdemo.attention.faithfulness import ANYWAY
from vitdemo.attention.masking import LONGEST
from vitdemo.records import Outline

PARTS = 40  # superpixels of a picture, about
TRIED = 8  # that are tried at each step: those that gained most when last tried
GONE = 0.2  # of what the picture gives the word: with no more than that left, it is gone

Value = Callable[[np.ndarray], np.ndarray]  # sets of superpixels, bool (n, S), to (n,)


def superpixels(image: Image.Image) -> np.ndarray:
    """Each pixel's superpixel, counted from 0: int32 (H, W) of a copy of at most `LONGEST`."""
    scale = min(1.0, LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    labels = slic(np.asarray(image.resize(size)), n_segments=PARTS, compactness=20, start_label=0)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def smallest(score: Value, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``count`` superpixels are enough, and without which the word goes: bool (S,) each.

    ``score`` gives the word's probability with these blurred. Enough keeps `ANYWAY` of the
    probability on the whole picture; the word is gone where at most `GONE` of what the picture
    gives it is left. Both are empty where a blurred picture is enough.
    """
    whole, blank = score(np.stack([np.zeros(count, bool), np.ones(count, bool)]))
    if blank >= ANYWAY * whole:
        return np.zeros(count, bool), np.zeros(count, bool)
    enough = _grown(lambda shown: score(~shown), count, ANYWAY * whole)
    left = blank + GONE * (whole - blank)
    return enough, _grown(lambda hidden: -score(hidden), count, -left)


def _grown(value: Value, count: int, target: float) -> np.ndarray:
    """A small set whose value reaches the target, which the set of all does."""
    chosen, gains = np.zeros(count, bool), value(np.eye(count, dtype=bool))
    reached = -np.inf
    while reached < target and not chosen.all():
        best = [place for place in np.argsort(-gains, kind="stable") if not chosen[place]][:TRIED]
        values = value(chosen | np.eye(count, dtype=bool)[best])
        gains[best] = values - max(reached, float(values.min()))
        reached = float(values.max())
        chosen[best[int(values.argmax())]] = True
    while chosen.sum() > 1:  # what later ones made superfluous
        places = np.flatnonzero(chosen)
        values = value(chosen & ~np.eye(count, dtype=bool)[places])
        if values.max() < target:
            break
        chosen[places[int(values.argmax())]] = False
    return chosen


def outline(labels: np.ndarray, chosen: np.ndarray, size: tuple[int, int]) -> Outline:
    """Closed lines around the chosen superpixels, in pixels of a picture of ``size``."""
    height, width = labels.shape
    lines = []
    for line in find_contours(np.pad(chosen[labels], 1).astype(float), 0.5):
        rows, columns = approximate_polygon(line, 0.7).T
        xs = ((columns - 0.5) * size[0] / width).clip(0, size[0])
        ys = ((rows - 0.5) * size[1] / height).clip(0, size[1])
        lines.append(tuple((float(x), float(y)) for x, y in zip(xs, ys, strict=True)))
    return tuple(lines)
