"""Damaged pictures, to see how captions and answers stand up to them.

Every picture is damaged in five ways at three strengths each, written as a file and read again by
the app's own reader. What a strength means is the same for every size of picture: lengths are
shares of the shorter side. Values are those of the picture as it was given, before the model's own
resize.
"""

import hashlib
import io
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from train.data.reading import Split
from vitdemo.disk import writing
from vitdemo.preprocess import open_picture

GREY = (128, 128, 128)  # what a turned picture's corners are filled with
# Way -> mild, middle, strong. JPEG's quality, 1..95; the standard deviation of noise, of 255, and
# of a Gaussian blur, in % of the shorter side; % of the light that is left; degrees to the left or
# to the right.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "jpeg": (30, 10, 5), "noise": (15, 35, 70), "blur": (0.5, 1.5, 3.0), "dark": (50, 25, 10),
    "rotation": (10, 20, 45)}


def corrupted(split: Split) -> Iterator[tuple[str, Split]]:
    """The split with every picture damaged, each way and strength by its name ("jpeg 30"); the
    files are there until the next one is asked for.

    Raises:
        DiskError: there is no room for them.
        PictureError: a picture cannot be read.
    """
    for way, strengths in STRENGTHS.items():
        for strength in strengths:
            with tempfile.TemporaryDirectory() as folder:
                with writing(Path(folder)):
                    rows = tuple(replace(row, path=write_damaged(row.path, way, strength,
                                                                 Path(folder), i))
                                 for i, row in enumerate(split.rows))
                yield f"{way} {strength:g}", replace(split, rows=rows)


def damage(image: Image.Image, way: str, strength: float, seed: int) -> Image.Image:
    """A damaged copy, RGB of the same size; ``way`` is a key of `STRENGTHS`. Noise, and the side
    to which a picture is turned, come from the seed."""
    generator = np.random.default_rng(seed)
    if way == "jpeg":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=round(strength))
        return Image.open(file).convert("RGB")
    if way == "noise":
        pixels = np.asarray(image, dtype=np.float32)
        noisy = pixels + generator.normal(0, strength, pixels.shape)
        return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))
    if way == "blur":
        return image.filter(ImageFilter.GaussianBlur(strength / 100 * min(image.size)))
    if way == "dark":
        return image.point([math.floor(i * strength / 100) for i in range(256)] * 3)
    return image.rotate(strength * generator.choice((-1, 1)), Image.Resampling.BICUBIC,
                        fillcolor=GREY)


def write_damaged(path: Path, way: str, strength: float, folder: Path, number: int) -> Path:
    """Read a picture as the app does and write it damaged, without further loss, as a file.

    The seed is the picture's name, so that every strength has the same noise, only more of it.

    Raises:
        PictureError: the picture cannot be read.
    """
    seed = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "little")
    file = folder / f"{number}.png"
    damage(open_picture(path).image, way, strength, seed).save(file, compress_level=1)
    return file
