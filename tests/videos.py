"""Videos that are made on the spot: scenes of a pattern each, at known seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
Colour = tuple[int, int, int]


def film(path: Path, scenes: Sequence[tuple[Colour, float]], rate: int = 10,
         size: tuple[int, int] = (64, 48), rotation: int = 0, codec: str = "mpeg4",
         seconds: Sequence[float] = (), sound: bool = False) -> Path:
    """A video of scenes, each a colour with its opposite in the upper left quarter, and so many
    seconds long. ``seconds`` are those of the single frames where they do not come evenly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        track = container.add_stream("aac", rate=8000) if sound else None
        ends = np.cumsum([length for _, length in scenes])
        times = seconds or np.arange(0, ends[-1] - 1e-6, 1 / rate)
        for second in times:
            colour = scenes[int(np.searchsorted(ends, second + 1e-6))][0]
            frame = av.VideoFrame.from_ndarray(scene(colour, size), "rgb24")
            frame.pts = round(second * rate)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
        if track is not None:
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            noise.sample_rate = 8000
            for packet in [*track.encode(noise), *track.encode()]:
                container.mux(packet)
    return path


def scene(colour: Colour, size: tuple[int, int]) -> np.ndarray:
    """A frame: uint8 (height, width, 3)."""
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[:] = colour
    pixels[:size[1] // 2, :size[0] // 2] = 255 - np.array(colour)
    return pixels


def near(pixel: Sequence[int], colour: Colour) -> bool:
    """Whether a pixel has a colour, as far as a codec keeps it."""
    return all(abs(one - other) < 24 for one, other in zip(pixel, colour, strict=True))
