"""Five ways in which photographs are damaged, at three strengths each.

What a strength means is fixed here and is the same for every size of picture: lengths are shares of
the shorter side. Values are those of the picture as it was given, before the model's own resize.
"""

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from vitdemo.preprocess import open_picture

GREY = (128, 128, 128)  # what a turned picture's corners are filled with
# Way -> (unit, mild, middle, strong). JPEG's quality goes from 1 to 95; a deviation is the standard
# deviation of a Gaussian; a picture is turned to the left or to the right.
STRENGTHS: dict[str, tuple[str, float, float, float]] = {
    "jpeg": ("quality", 30, 10, 5),
    "noise": ("deviation, of 255", 15, 35, 70),
    "blur": ("deviation, % of the shorter side", 0.5, 1.5, 3.0),
    "dark": ("% of the light left", 50, 25, 10),
    "rotation": ("degrees", 10, 20, 45),
}


def damage(image: Image.Image, way: str, strength: float, seed: int) -> Image.Image:
    """A damaged copy, RGB of the same size; ``way`` is a key of `STRENGTHS`. Noise, and the side
    to which a picture is turned, come from the seed."""
    generator = np.random.default_rng(seed)
    ways: dict[str, Callable[[], Image.Image]] = {
        "jpeg": lambda: _jpeg(image, round(strength)),
        "noise": lambda: _noise(image, strength, generator),
        "blur": lambda: image.filter(
            ImageFilter.GaussianBlur(strength / 100 * min(image.size))),
        "dark": lambda: image.point([math.floor(i * strength / 100) for i in range(256)] * 3),
        "rotation": lambda: image.rotate(strength * generator.choice((-1, 1)),
                                         Image.Resampling.BICUBIC, fillcolor=GREY),
    }
    return ways[way]()


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _noise(image: Image.Image, deviation: float, generator: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noisy = pixels + generator.normal(0, deviation, pixels.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


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
