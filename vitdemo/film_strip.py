"""A strip of a video's frames with the map of a word on each: where the model looked, over time.

All maps are on one scale, so that a frame in which the word has no place stays darker; beside each
frame's time stands how well the text fits it, by the match head.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitdemo.engine import Engine
from vitdemo.overlay import check_word, draw, percent
from vitdemo.pixel_budget import BUDGET
from vitdemo.preprocess import open_small, picture_of
from vitdemo.records import Explanation
from vitdemo.video import called, clock, frame_path, frame_seconds

MOST = 12  # frames in a strip
_COLUMNS = 4
_SIDE = 640  # pixels of the frames that the model is given
TILE, _FOOT = 320, 28  # pixels: the longest side of a frame in the strip, and the line beneath it
_INK, _PAPER = (32, 32, 32), (255, 255, 255)


@dataclass(frozen=True)
class Moment:
    """A frame of a strip: its second, how well the text fits it, 0..1, a small picture of it, and
    the maps of the text's words (T, K), shares of their attention."""

    second: float
    match: float
    image: Image.Image
    explanation: Explanation
    maps: np.ndarray

    def map_of(self, word: int | None) -> np.ndarray:
        """The map (K,) of a word by its number from 1, or the mean of all."""
        weights = self.maps.mean(axis=0) if word is None else self.maps[word - 1]
        return np.asarray(weights)


@dataclass(frozen=True)
class Strip:
    """The moments of a video for one text, in their order, and the text's words."""

    words: tuple[str, ...]
    moments: tuple[Moment, ...]

    def tiles(self, word: int | None) -> list[Image.Image]:
        """The frames with a word's map on them, all on one scale; of all words where it is None."""
        weights = [one.map_of(word) for one in self.moments]
        top = max(float(one.max()) for one in weights)
        return [draw(one.image, one.explanation, shares, top)
                for one, shares in zip(self.moments, weights, strict=True)]

    def sheet(self, word: int | None) -> Image.Image:
        """The same in rows, with a line beneath each: its time, and how well the text fits."""
        tiles = self.tiles(word)
        width, height = tiles[0].size
        columns = min(_COLUMNS, len(tiles))
        sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * (height + _FOOT)),
                          _PAPER)
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
        for place, (tile, moment) in enumerate(zip(tiles, self.moments, strict=True)):
            left, upper = place % columns * width, place // columns * (height + _FOOT)
            sheet.paste(tile, (left, upper))
            pen.text((left + 6, upper + height + 4),
                     f"{clock(moment.second)}  {percent(moment.match)}", _INK, font)
        return sheet


def film_strip(engine: Engine, file: str, text: str, method: str = "",
               word: int | None = None) -> Strip:
    """The strip of a video for a text. ``word`` is the one that it is asked for, by its number from
    1: one that is not there is refused after the first frame.

    Raises:
        PictureError: the video cannot be read.
        TextError: the text has no word.
        ConfigError: the method is not known, or there is no such word.
        TaskError: the model cannot match or explain.
    """
    seconds = frame_seconds(file, called(file), BUDGET.take)
    some = np.linspace(0, len(seconds) - 1, min(len(seconds), MOST)).round().astype(int)
    words: tuple[str, ...] = ()
    moments = []
    for second in (seconds[place] for place in some):
        picture = picture_of(open_small(frame_path(file, second), _SIDE), called(file))
        explanation = engine.explain(picture, text, method)[0]
        words = tuple(word.text for word in explanation.words)
        check_word(word, len(words))
        match = float(engine.match_pictures([picture], [text])[0, 0])
        moments.append(Moment(second, match, _tile(picture.image), explanation,
                              explanation.mean_map()))
    return Strip(words, tuple(moments))


def _tile(image: Image.Image) -> Image.Image:
    scale = TILE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
