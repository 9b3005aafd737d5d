"""Pictures: from a file to upright RGB, to the model's square of pixels, and the way back.

Shapes: B batch, H x W pixels, K regions, gh x gw grid. Boxes are xyxy in pixels of the upright
original. The model's square is the whole picture squeezed to picture_size x picture_size: nothing
is cropped, so every region of the grid is a plain rectangle of the original.
"""

import contextlib
import hashlib
import io
import os
import stat
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vitdemo.config import LIMITS, Limits
from vitdemo.errors import PictureError

if TYPE_CHECKING:
    import torch

# Mean and std of the pixels (0..1, RGB) that a backbone was trained with.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SYMMETRIC = ((127 / 255,) * 3, (128 / 255,) * 3)

# What Pillow may open: no format that starts another program (EPS) or is no picture.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM",
           "ICO")
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1", b"ftypheim")
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF: stored lying on a side
# What Pillow raises on damaged data, by format.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError,
           OverflowError, MemoryError, RuntimeError, struct.error, zlib.error)


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture, the SHA-256 of its pixels and size, and the name it came with."""

    image: Image.Image
    digest: str
    name: str = ""


def normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) for a timm backbone by name, of RGB values 0..1."""
    return SYMMETRIC if "lite" in backbone else IMAGENET


def open_picture(source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image,
                 limits: Limits = LIMITS, name: str = "") -> Picture:
    """Read a picture of any common kind as upright RGB.

    CMYK, 16-bit, palette and grey pictures are converted, a see-through one is laid on white, an
    animated one gives its first frame, an EXIF-rotated one is turned upright. ``name`` is what the
    picture is called in messages where that is not the file's name. A PIL image given is left as
    it is.

    Raises:
        PictureError: no such file, no picture, broken, or over one of the limits.
    """
    if isinstance(source, Image.Image):
        return _finish(source, name or "The picture", limits, owned=False)
    if isinstance(source, bytes):
        found, data = "The picture", source
    elif isinstance(source, str | os.PathLike):
        found, data = _read_file(Path(source), limits)
    else:
        found, data = "The picture", source.read(limits.max_file_megabytes * 2**20 + 1)
    name = name or found
    if not data:
        raise PictureError(f"{name} is empty (0 bytes). Choose another file.")
    if len(data) > limits.max_file_megabytes * 2**20:
        raise PictureError(f"{name} is over the limit of {limits.max_file_megabytes} MB. "
                           "Save it smaller.")
    return _finish(_open_data(data, name, limits), name, limits, owned=True)


def _read_file(path: Path, limits: Limits) -> tuple[str, bytes]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{path} is a folder; a picture file is wanted.")
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block for ever
            raise PictureError(f"{path} is not a plain file; a picture file is wanted.")
        if status.st_size > limits.max_file_megabytes * 2**20:
            raise PictureError(f"{path.name} has {status.st_size / 2**20:.0f} MB; the limit "
                               f"is {limits.max_file_megabytes} MB. Save it smaller.")
        return path.name, path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        why = getattr(error, "strerror", None) or error
        raise PictureError(f"{path} cannot be read: {why}.") from error


def open_shrunk(data: bytes, side: int, name: str,
                limits: Limits = LIMITS) -> tuple[Image.Image, tuple[int, int]]:
    """A picture for the model's square alone: upright RGB, and (width, height) of the upright
    original. Conversions and limits are those of `open_picture`.

    A JPEG is decoded at a half, a quarter or an eighth of its size where each side keeps twice
    ``side`` pixels: several times as fast for a photograph of a camera.

    Raises:
        PictureError: no picture, broken, or over one of the limits.
    """
    if not data:
        raise PictureError(f"{name} is empty (0 bytes). Choose another file.")
    return _decode(_open_data(data, name, limits), name, limits, owned=True, shrink=2 * side)


def open_small(path: str | os.PathLike[str], side: int, limits: Limits = LIMITS) -> Image.Image:
    """A small upright RGB copy of a picture file, no side over ``side`` pixels, of which, as with
    `open_shrunk`, no more is decoded than needed.

    Raises:
        PictureError: as `open_picture`.
    """
    name, data = _read_file(Path(path), limits)
    small, _ = open_shrunk(data, (side + 1) // 2, name, limits)
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return small


def picture_of(image: Image.Image, name: str = "") -> Picture:
    """An upright RGB image that was opened already, such as that of `open_small`, as it is."""
    return Picture(image, _digest(image), name)


def _open_data(data: bytes, name: str, limits: Limits) -> Image.Image:
    Image.init()
    if data[4:12] in _HEIC:
        register_heic()
    kinds = [kind for kind in (*FORMATS, "HEIF") if kind in Image.OPEN]
    try:
        return Image.open(io.BytesIO(data), formats=kinds)
    except UnidentifiedImageError as error:
        if data[4:12] in _HEIC:
            raise PictureError(f"{name} is a HEIC photograph, which cannot be read here. "
                               "Save it as JPEG first, or install the package pillow-heif."
                               ) from error
        raise PictureError(f"{name} is not a picture that can be read here. "
                           "Use JPEG, PNG, WebP, GIF, BMP or TIFF.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"{name} is far over the limit of {limits.max_megapixels} megapixels. "
                           "Make it smaller first.") from error
    except _BROKEN as error:
        raise _broken(name, error) from error


def register_heic() -> bool:
    """Let Pillow read HEIC where the package pillow-heif is installed; says whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    if "HEIF" not in Image.OPEN:
        register_heif_opener()
    return True


def _broken(name: str, error: BaseException) -> PictureError:
    return PictureError(f"{name} is broken or cut off ({error or type(error).__name__}). "
                        "Try to save or download it again.")


def _finish(image: Image.Image, name: str, limits: Limits, owned: bool) -> Picture:
    rgb, _ = _decode(image, name, limits, owned)
    return Picture(rgb, _digest(rgb), name)


def _decode(image: Image.Image, name: str, limits: Limits, owned: bool,
            shrink: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """Check the size before anything is decoded, then decode, turn upright and convert. Gives the
    picture, its sides at least ``shrink`` where that is not 0, and its full upright size."""
    width, height = image.size
    if width * height > limits.max_megapixels * 1_000_000:
        raise PictureError(f"{name} has {width} x {height} pixels "
                           f"({width * height / 1e6:.0f} megapixels); the limit is "
                           f"{limits.max_megapixels} megapixels. Make it smaller first.")
    if min(width, height) < limits.min_side:
        raise PictureError(f"{name} is only {width} x {height} pixels; each side must have at "
                           f"least {limits.min_side}.")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise PictureError(f"{name} is {width} x {height} pixels; a side may be at most "
                           f"{limits.max_aspect:g} times the other. Crop it first.")
    try:
        if shrink and image.format in ("JPEG", "MPO"):
            image.draft(None, (shrink, shrink))  # type: ignore[arg-type]
        image.load()  # a cut-off file raises here
    except _BROKEN as error:
        raise _broken(name, error) from error
    image = image if owned else image.copy()
    with contextlib.suppress(*_BROKEN):  # damaged EXIF data in a sound picture: not turned
        turned = image.getexif().get(_ORIENTATION) in _SIDEWAYS
        ImageOps.exif_transpose(image, in_place=True)
        width, height = (height, width) if turned else (width, height)
    return _to_rgb(image), (width, height)


def _digest(rgb: Image.Image) -> str:
    """SHA-256 of size and pixels, in strips: a copy of a large picture would cost its memory."""
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    for top in range(0, rgb.height, 256):
        digest.update(rgb.crop((0, top, rgb.width, min(top + 256, rgb.height))).tobytes())
    return digest.hexdigest()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_grey(image)
    if image.mode in ("La", "RGBa"):  # alpha multiplied in already
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        ground = Image.new("RGB", image.size, (255, 255, 255))
        ground.paste(image, mask=image)
        ground.info = {key: image.info[key] for key in ("exif",) if key in image.info}
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_grey(image: Image.Image) -> Image.Image:
    """A picture with one wide number per pixel to 8 bits.

    16 bits: white is 65535 (4095 in a 12-bit TIFF). "I" is 16 bits in disguise where the file
    says so or its values do. Numbers with a point: 0..1 and 0..255 are taken for black to white.
    Anything else (depths, counts) is stretched from its least to its greatest number.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258, (16,))
        white = 4095 if bits == (12,) else 65535
        table = np.round(np.arange(65536) * (255 / white)).clip(0, 255).astype(np.uint8)
        return Image.fromarray(table[values])
    strips = [slice(top, top + 256) for top in range(0, len(values), 256)]  # to save memory
    low, high = np.inf, -np.inf
    for strip in strips:
        finite = values[strip][np.isfinite(values[strip])].astype(np.float64)
        low, high = finite.min(initial=low), finite.max(initial=high)
    if image.mode == "I" and low >= 0 and high <= 65535 and (
            high > 255 or getattr(image, "format", "") in ("PNG", "PPM")):
        low, high = 0.0, 65535.0
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    grey = np.zeros(values.shape, np.uint8)
    if high > low:
        for strip in strips:
            scaled = (values[strip].astype(np.float64) - low) * (255 / (high - low))
            grey[strip] = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0
                                        ).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey)


def to_square(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture squeezed to side x side pixels; one that has that size stays as it is."""
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def to_pixels(pictures: Sequence[Image.Image], side: int, mean: Sequence[float],
              std: Sequence[float]) -> "torch.Tensor":
    """Upright RGB pictures to float32 (B, 3, side, side), each squeezed whole to the square."""
    return normalised(to_bytes(pictures, side), mean, std)


def to_bytes(pictures: Sequence[Image.Image], side: int) -> "torch.Tensor":
    """Upright RGB pictures to uint8 (B, 3, side, side), each squeezed whole to the square; in
    memory the three of a pixel stand together."""
    import torch  # here: processes that only read pictures start without it

    rows = np.stack([np.asarray(to_square(picture, side)) for picture in pictures])
    return torch.from_numpy(rows).permute(0, 3, 1, 2)


def normalised(pixels: "torch.Tensor", mean: Sequence[float],
               std: Sequence[float]) -> "torch.Tensor":
    """What `to_bytes` gave, or stacked such, to float32 of the same shape, on its device."""
    import torch

    side = pixels.shape[-1]
    # Row by row: three channels in turn are too short for a processor's wide instructions.
    rows = pixels.movedim(-3, -1).flatten(-2).float().div_(255)  # (..., H, W * 3)
    middle, spread = (torch.tensor(each, device=pixels.device).repeat(side)
                      for each in (mean, std))
    return rows.sub_(middle).div_(spread).unflatten(-1, (side, 3)).movedim(-1, -3)


def grid_boxes(grid: tuple[int, int], size: tuple[int, int],
               edges: tuple[Sequence[float], Sequence[float]] | None = None) -> np.ndarray:
    """Boxes of a full grid over a picture, row by row: float32 (gh * gw, 4), xyxy in pixels.

    ``grid`` is (gh, gw), ``size`` is (width, height) of the upright original in pixels. ``edges``
    are where rows and columns end, gh + 1 and gw + 1 rising shares 0..1; without them the regions
    are equal parts.
    """
    rows, columns = grid
    down, across = edges or (np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1))
    x = np.asarray(across, dtype=np.float32) * size[0]
    y = np.asarray(down, dtype=np.float32) * size[1]
    boxes = np.empty((rows, columns, 4), dtype=np.float32)
    boxes[..., 0], boxes[..., 2] = x[None, :-1], x[None, 1:]
    boxes[..., 1], boxes[..., 3] = y[:-1, None], y[1:, None]
    return boxes.reshape(-1, 4)  # (K, 4)
