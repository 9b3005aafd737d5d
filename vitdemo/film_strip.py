"""A strip of a video's frames with the map of a word on each: where the model looked, over time.

All maps are on one scale, so that a frame in which the word has no place stays darker; beside each
frame's time stands how well the text fits it, by the match head.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitdemo.disk import replacing
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, TextError
from vitdemo.overlay import draw, percent
from vitdemo.pixel_budget import BUDGET
from vitdemo.preprocess import open_small, picture_of
from vitdemo.terminal import say
from vitdemo.texts import phrase
from vitdemo.video import called, clock, frame_path, frame_seconds

MOST = 12  # frames in a strip
_COLUMNS = 4
_SIDE = 640  # pixels of the frames that the model is given
_TILE, _FOOT = 320, 28  # pixels: the longest side of a frame in the strip, and the line beneath it
_INK, _PAPER = (32, 32, 32), (255, 255, 255)


@dataclass(frozen=True)
class Moment:
    """A frame of a strip: its second, how well the text fits it, 0..1, and the map of the word,
    shares of its attention (K,)."""

    second: float
    match: float
    weights: np.ndarray


def run(options: argparse.Namespace, opened: Callable[[], Engine],
        print_json: Callable[[Any], None],
        print_table: Callable[[tuple[str, ...], list[tuple[str, ...]]], None]) -> int:
    """What ``python -m vitdemo explain`` does with a video. ``opened`` loads the model."""
    if not (options.text and options.png) or options.report or options.csv or options.evidence:
        raise ConfigError("terminal.video_strip")
    sheet, moments = film_strip(opened(), options.picture, options.text, options.word,
                                options.method)
    with replacing([Path(options.png)]) as (part,):
        sheet.save(part, "PNG")
    say(phrase("terminal.saved", file=options.png), sys.stderr)
    paths = [frame_path(options.picture, one.second) for one in moments]
    if options.json:
        print_json({"video": options.picture, "text": options.text, "frames": [
            {"path": path, "match": one.match} for path, one in zip(paths, moments, strict=True)]})
    else:
        print_table((phrase("column.fits"), phrase("column.frame")),
                    [(percent(one.match), path) for path, one in zip(paths, moments, strict=True)])
    return 0


def film_strip(engine: Engine, file: str, text: str, word: int | None = None, method: str = ""
               ) -> tuple[Image.Image, list[Moment]]:
    """The strip of a video for the ``word`` of a text, by its number from 1, or for all its words
    together, and its moments in their order.

    Raises:
        PictureError: the video cannot be read.
        TextError: the text has no word.
        ConfigError: it has no word of that number, or the method is not known.
        TaskError: the model cannot match or explain.
    """
    seconds = frame_seconds(file, called(file), BUDGET.take)
    some = np.linspace(0, len(seconds) - 1, min(len(seconds), MOST)).round().astype(int)
    found = []
    for second in (seconds[place] for place in some):
        picture = picture_of(open_small(frame_path(file, second), _SIDE), called(file))
        explanation = engine.explain(picture, text, method)[0]
        maps = explanation.mean_map()  # (T, K)
        if not len(maps):
            raise TextError("terminal.no_word")
        if word is not None and not 1 <= word <= len(maps):
            raise ConfigError("terminal.word_number", number=word, last=len(maps))
        weights = maps.mean(axis=0) if word is None else maps[word - 1]
        match = float(engine.match_pictures([picture], [text])[0, 0])
        found.append((picture.image, explanation, Moment(second, match, weights)))
    top = max(float(moment.weights.max()) for _, _, moment in found)
    tiles = [draw(image, explanation, moment.weights, top) for image, explanation, moment in found]
    moments = [moment for _, _, moment in found]
    return _laid_out(tiles, moments), moments


def _laid_out(tiles: Sequence[Image.Image], moments: Sequence[Moment]) -> Image.Image:
    """The frames in rows, with a line beneath each."""
    scale = _TILE / max(tiles[0].size)
    width, height = (max(1, round(side * scale)) for side in tiles[0].size)
    columns = min(_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * (height + _FOOT)),
                      _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for place, (tile, moment) in enumerate(zip(tiles, moments, strict=True)):
        left, upper = place % columns * width, place // columns * (height + _FOOT)
        sheet.paste(tile.resize((width, height), Image.Resampling.LANCZOS), (left, upper))
        pen.text((left + 6, upper + height + 4),
                 f"{clock(moment.second)}  {percent(moment.match)}", _INK, font)
    return sheet
