"""95% intervals by bootstrap (Efron 1979), over pictures and not over captions or questions: those
of one picture are not independent.

Shapes: P pictures, S draws, R rows (texts, questions) of these pictures.
"""

import functools

import numpy as np

DRAWS = 200
_INTERVAL = (2.5, 97.5)  # percent: 95% in between


@functools.lru_cache(8)
def draw(pictures: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each draw has each picture: int (S, P), each row adding up to P."""
    random = np.random.default_rng(seed)
    return random.multinomial(pictures, np.full(pictures, 1 / pictures), draws)


def interval(values: np.ndarray, digits: int = 2) -> list[float] | None:
    """The ends of the middle 95% of a figure's values in the draws; None where there are none."""
    if not len(values):
        return None
    return [round(float(value), digits) for value in np.percentile(values, _INTERVAL)]


def mean_interval(values: np.ndarray, picture: np.ndarray) -> list[float] | None:
    """Of the mean over rows, in percent: values 0..1 (R,), and the picture int (R,) of each."""
    _, place = np.unique(picture, return_inverse=True)
    above = np.bincount(place, np.asarray(values, np.float64))  # (P,)
    draws = draw(len(above))
    return interval(100 * (draws @ above) / (draws @ np.bincount(place)))
