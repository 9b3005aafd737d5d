"""The command ``explain`` of a video: a strip of its frames as a picture file."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitdemo.disk import replacing
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError
from vitdemo.film_strip import film_strip
from vitdemo.overlay import percent
from vitdemo.terminal import say
from vitdemo.texts import phrase
from vitdemo.video import frame_path


def run(options: argparse.Namespace, opened: Callable[[], Engine],
        print_json: Callable[[Any], None],
        print_table: Callable[[tuple[str, ...], list[tuple[str, ...]]], None]) -> int:
    """What ``python -m vitdemo explain`` does with a video. ``opened`` loads the model."""
    if not (options.text and options.png) or options.report or options.csv or options.evidence:
        raise ConfigError("terminal.video_strip")
    strip = film_strip(opened(), options.picture, options.text, options.method, options.word)
    sheet = strip.sheet(options.word)
    with replacing([Path(options.png)]) as (part,):
        sheet.save(part, "PNG")
    say(phrase("terminal.saved", file=options.png), sys.stderr)
    paths = [frame_path(options.picture, one.second) for one in strip.moments]
    if options.json:
        print_json({"video": options.picture, "text": options.text, "frames": [
            {"path": path, "match": one.match}
            for path, one in zip(paths, strip.moments, strict=True)]})
    else:
        print_table((phrase("column.fits"), phrase("column.frame")),
                    [(percent(one.match), path)
                     for path, one in zip(paths, strip.moments, strict=True)])
    return 0
