"""A word's map in plain words, and drawn over the picture: what the viewer does, without a browser.

K regions. Boxes are xyxy in pixels of the original.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitdemo.errors import ConfigError, TextError
from vitdemo.records import Explanation
from vitdemo.texts import phrase

# Seven even steps of the bright half of matplotlib's magma (CC0), as in the viewer's glow.
GLOW = ((183, 55, 121), (216, 69, 108), (242, 98, 93), (252, 137, 97),
        (254, 176, 120), (254, 215, 153), (252, 253, 191))
OPACITY = 0.7  # of the brightest part of a glow
PLACES = (("upper_left", "top", "upper_right"), ("left", "middle", "right"),
          ("lower_left", "bottom", "lower_right"))
STRONG_AREA = 1 / 12  # of the picture: what "strongest" speaks of
RASTER = 256  # longest side on which regions that are no full grid are drawn, in pixels


@dataclass(frozen=True)
class Summary:
    """What a map says: ``total`` of the word's attention fell on the picture; ``share`` of that
    lies in ``area`` of the picture, around ``place``; ``even`` marks a map with no strong spot.
    All numbers 0..1."""

    total: float
    share: float = 0.0
    area: float = 0.0
    place: str = ""
    even: bool = True

    def sentence(self) -> str:
        """For a person: "Strongest in the lower left; 34% of the attention in 8% of ...". """
        if self.total <= 0:
            return phrase("overlay.nowhere")
        return phrase("overlay.even" if self.even else "overlay.strongest", place=self.place,
                      share=percent(self.share), area=percent(self.area))


def where(explanation: Explanation, word: int, weights: np.ndarray) -> tuple[Summary, str]:
    """A word's map (K,) summed up, and in a sentence; a word that was not read has none."""
    summary = summarise(weights, explanation.boxes, explanation.picture_size)
    why = explanation.unread[word] if explanation.unread else ""
    return summary, phrase(f"unread.{why}.word") if why else summary.sentence()


def check_word(number: int | None, count: int) -> None:
    """See that a map can be drawn of a word by its number from 1, or of all ``count`` words.

    Raises:
        TextError: there are no words.
        ConfigError: there is no such word.
    """
    if not count:
        raise TextError("terminal.no_word")
    if number is not None and not 1 <= number <= count:
        raise ConfigError("terminal.word_number", number=number, last=count)


def percent(value: float) -> str:
    """0.34 -> "34%"; never "0%" for something; nan is a dash."""
    if math.isnan(value):
        return "–"
    if 0 < value < 0.00995:
        return phrase("percent.under_01") if value < 0.001 else f"{100 * value:.1f}%"
    return f"{100 * value:.0f}%"


def summarise(weights: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> Summary:
    """Put a map (K,) over boxes (K, 4) of a picture of size (width, height) in words.

    The strongest regions are the densest ones that make up about a twelfth of the picture, and at
    least one. They are named by their middle, or, where it is empty, by that of those around the
    densest. The viewer says it by the same rule (`vdSummary` in viewer/maps.js).
    """
    areas = np.clip((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 0, None)
    kept = areas > 0
    total = float(weights.sum())
    if total <= 0 or not kept.any():
        return Summary(0.0)
    weights, areas, boxes = weights[kept], areas[kept].astype(np.float64), boxes[kept]
    middles = np.stack(((boxes[:, 0] + boxes[:, 2]) / 2 / size[0],
                        (boxes[:, 1] + boxes[:, 3]) / 2 / size[1]), 1)  # (K, 2)
    density = weights / areas
    order = np.argsort(-density, kind="stable")
    room = areas.sum() * STRONG_AREA
    before = np.concatenate(([0.0], np.cumsum(areas[order])[:-1]))
    fits = before + areas[order] / 2 <= room
    fits[0] = True
    strongest = order[:int(np.argmin(fits)) if not fits.all() else len(order)]
    share = float(weights[strongest].sum()) / total
    area = float(areas[strongest].sum())
    column, row = np.clip(_middle(weights, middles, density, strongest) * 3, 0, 2).astype(int)
    return Summary(total, share, min(1.0, area / (size[0] * size[1])),
                   phrase(f"viewer.place.{PLACES[row][column]}"),
                   share < 1.5 * area / areas.sum())


def _middle(weights: np.ndarray, middles: np.ndarray, density: np.ndarray,
            strongest: np.ndarray) -> np.ndarray:
    """Where the strong regions lie: (x, y), 0..1 of the picture. Of ``strongest``, indices with the
    densest first, those almost as dense as the first count; on a plateau, all of it does."""
    peak = density[strongest[0]]
    flat = density[strongest[-1]] >= 0.9 * peak
    strong = density >= (0.9 if flat else 0.7) * peak
    dense = strong.copy()
    if not flat:
        strong &= np.isin(np.arange(len(density)), strongest)
    middle = np.average(middles[strong], axis=0, weights=weights[strong])
    nearest = np.hypot(*(middles - middle).T).argmin()
    if not dense[nearest]:  # two spots far apart: their middle is where nothing is
        strong &= np.hypot(*(middles - middles[density.argmax()]).T) < 0.25
        middle = np.average(middles[strong], axis=0, weights=weights[strong])
    return np.asarray(middle)


def draw(image: Image.Image, explanation: Explanation, weights: np.ndarray,
         scale: float = 0.0) -> Image.Image:
    """The picture with a map (K,) over it as a glow: what got no more than the mean stays as it is.

    Regions that tile the picture are drawn smoothly between their middles, others as they lie.
    ``image`` is the picture or a smaller copy of it; ``scale`` is the weight that is drawn
    brightest, where that is not the map's own largest. The viewer draws by the same rule (`vdRange`
    in viewer/paint.js).
    """
    mean = max(float(weights.mean()), 1e-12)
    top = max(scale or float(weights.max()), 2 * mean)
    quarter = float(np.sort(weights)[(len(weights) - 1) // 4]) / mean
    values = _raster(explanation, (weights - mean) / (top - mean), image.size).clip(0, 255)
    steps = np.linspace(0, 255, len(GLOW))
    colours = np.stack([np.interp(values, steps, channel) for channel in zip(*GLOW, strict=True)],
                       2)  # (height, width, 3)
    opacity = OPACITY * np.clip((1 - quarter) / 0.6, 0, 1)  # little is lit where all is even
    seen = opacity * np.minimum(1.6 * values / 255, 1)[..., None]
    return Image.fromarray((np.asarray(image) * (1 - seen) + colours * seen).astype(np.uint8))


def _raster(explanation: Explanation, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map with values 0..1 as 0..255 on every pixel: float32 (height, width)."""
    rows, columns = explanation.grid
    if rows * columns == len(values):
        small = values.reshape(rows, columns)
        way = Image.Resampling.BICUBIC
    else:
        scale = RASTER / max(size)
        boxes = explanation.boxes * np.tile(np.array(size) / explanation.picture_size, 2) * scale
        shape = (max(1, round(size[1] * scale)), max(1, round(size[0] * scale)))
        small, covers = np.zeros(shape), np.zeros(shape)
        for value, box in zip(values, boxes, strict=True):
            x0, y0, x1, y1 = box.round().astype(int)
            here = (slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1)))
            small[here] += value
            covers[here] += 1
        small /= np.maximum(covers, 1)  # where regions overlap: their mean
        way = Image.Resampling.NEAREST
    wide = Image.fromarray(small.astype(np.float32) * 255).resize(size, way)
    return np.asarray(wide)
