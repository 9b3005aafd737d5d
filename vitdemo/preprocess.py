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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from vitdemo.camera import SIDEWAYS, from_camera, turn_of
from vitdemo.colours import scaled_transparency, to_rgb
from vitdemo.config import LIMITS, Limits
from vitdemo.errors import BusyError, PictureError
from vitdemo.mending import Mended, mended
from vitdemo.pixel_budget import BUDGET, Share
from vitdemo.texts import Message, phrase
from vitdemo.video import in_video, read_frame
from vitdemo.written import written_in

if TYPE_CHECKING:
    import torch

# Mean and std of the pixels (0..1, RGB) that a backbone was trained with.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SYMMETRIC = ((127 / 255,) * 3, (128 / 255,) * 3)

# What Pillow may open: no format that starts another program (EPS) or is no picture.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM",
           "ICO")
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1", b"ftypheim")
# Pixels of 4 bytes that one pixel costs at most until it is upright RGB: that is there twice while
# it is turned, and a WebP is decoded as an animation, with two canvases.
_COST_OF_MODE = {"1": 2.25, "L": 2.25, "P": 2.25, "RGB": 2.0, "I": 4.0, "F": 4.0}
_COST_OF_KIND = {"WEBP": 6.0, "JPEG2000": 5.0, "AVIF": 5.0, "HEIF": 5.0}
SMALL = 1024  # pixels of a side, where a picture is kept for a model of no one size


class _Damaged(PictureError):
    """A file that cannot be decoded as it is."""


class Budget(Protocol):
    """What the memory for decoding is taken from; see `PixelBudget`."""

    def take(self, pixels: int, name: str) -> Share:
        """Wait for a share of so many pixels."""


@dataclass(frozen=True)
class Opened:
    """A decoded picture, upright RGB, and the (width, height) of the upright original.

    ``camera`` and ``notes`` are those of `Picture`.
    """

    image: Image.Image
    size: tuple[int, int]
    camera: dict[str, str | int | float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture, the SHA-256 of its pixels and size, and the name it came with.

    ``camera`` tells when and with what it was taken (`vitdemo.camera.from_camera`), and as "inside"
    what somebody wrote into the file; ``notes`` are sentences on what of the file is damaged and
    was passed over.
    """

    image: Image.Image
    digest: str
    name: str = ""
    camera: Mapping[str, str | int | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) for a timm backbone by name, of RGB values 0..1."""
    return SYMMETRIC if "lite" in backbone else IMAGENET


def open_picture(source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image,
                 limits: Limits = LIMITS, name: str = "") -> Picture:
    """Read a picture of any common kind as upright RGB.

    CMYK, 16-bit, palette and grey pictures are converted, a see-through one is laid on white, an
    animated one gives its first frame, an EXIF-rotated one is turned upright. A path may be that of
    a frame of a video (`vitdemo.video`). ``name`` is what the picture is called in messages where
    that is not the file's name. A PIL image given is left as it is.

    Raises:
        PictureError: no such file, no picture, broken, or over one of the limits.
    """
    if isinstance(source, Image.Image):
        name = name or phrase("picture.unnamed")
        return _finish(_decode(source, name, limits, None), name)
    if isinstance(source, bytes):
        found, data = phrase("picture.unnamed"), source
    elif isinstance(source, str | os.PathLike):
        if in_video(source):
            name = name or os.path.basename(source)
            return _finish(open_frame(os.fspath(source), name, limits), name)
        found, data = _read_file(Path(source), limits, name)
    else:
        found, data = phrase("picture.unnamed"), source.read(limits.max_file_megabytes * 2**20 + 1)
    name = name or found
    if not data:
        raise PictureError("picture.empty", name=name)
    if len(data) > limits.max_file_megabytes * 2**20:
        raise PictureError("picture.over", name=name, most=limits.max_file_megabytes)
    return _finish(_read(data, name, limits, BUDGET), name)


def open_pictures(sources: Sequence[str | os.PathLike[str] | bytes]) -> list[Picture]:
    """Several pictures that are needed at the same time, as `open_picture` gives them; messages
    call files by their names alone. None waits for memory while it holds some: two that do so
    would wait for each other.

    Raises:
        PictureError: as `open_picture`, of the first that cannot be used.
    """
    with BUDGET.together():
        return [open_picture(source, name="" if isinstance(source, bytes) else
                             Path(source).name) for source in sources]


def _finish(opened: Opened, name: str) -> Picture:
    return Picture(opened.image, pixel_digest(opened.image), name, opened.camera, opened.notes)


def _read_file(path: Path, limits: Limits, name: str = "") -> tuple[str, bytes]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError("picture.folder", name=name or path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block for ever
            raise PictureError("picture.not_plain", name=name or path)
        if status.st_size > limits.max_file_megabytes * 2**20:
            raise PictureError("picture.large_file", name=path.name,
                               size=round(status.st_size / 2**20), most=limits.max_file_megabytes)
        return path.name, path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError("picture.none", name=name or path) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        raise PictureError("picture.unreadable", name=name or path, why=error) from error


def open_shrunk(data: bytes, side: int, name: str, limits: Limits = LIMITS,
                budget: Budget = BUDGET) -> Opened:
    """A picture for the model's square alone. Conversions and limits are those of `open_picture`.

    A JPEG is decoded at a half, a quarter or an eighth of its size where each side keeps twice
    ``side`` pixels: several times as fast for a photograph of a camera. ``budget`` is what the
    memory for it is taken from.

    Raises:
        PictureError: no picture, broken, or over one of the limits.
        BusyError: there is no memory for it now.
    """
    if not data:
        raise PictureError("picture.empty", name=name)
    return _read(data, name, limits, budget, shrink=2 * side)


def open_small(path: str | os.PathLike[str], side: int, limits: Limits = LIMITS) -> Image.Image:
    """A small upright RGB copy of a picture file, no side over ``side`` pixels, of which, as with
    `open_shrunk`, no more is decoded than needed.

    Raises:
        PictureError: as `open_picture`.
    """
    if in_video(path):
        return within(open_frame(os.fspath(path), os.path.basename(path), limits).image, side)
    name, data = _read_file(Path(path), limits)
    return within(open_shrunk(data, (side + 1) // 2, name, limits).image, side)


def open_frame(path: str, name: str, limits: Limits = LIMITS, budget: Budget = BUDGET) -> Opened:
    """A frame of a video, by its path. Raises as `open_picture`."""
    frame = read_frame(path, name, lambda size: _check_size(size, name, limits), budget.take)
    return Opened(frame.image, frame.image.size, frame.camera, ())


def squeezed(picture: Picture, side: int) -> Picture:
    """A picture as the model sees it, to be kept where many are or for long: squeezed to side x
    side; where that is 0, no side over `SMALL` pixels. Its digest is another one."""
    small = to_square(picture.image, side) if side else within(picture.image, SMALL)
    return replace(picture, image=small, digest=f"{picture.digest}/{small.width}")


def within(image: Image.Image, side: int) -> Image.Image:
    """A copy no side of which is over ``side`` pixels."""
    if max(image.size) <= side:
        return image.copy()
    width, height = (max(1, round(length * side / max(image.size))) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def picture_of(image: Image.Image, name: str = "") -> Picture:
    """An upright RGB image that was opened already, such as that of `open_small`, as it is."""
    return Picture(image, pixel_digest(image), name)


def _read(data: bytes, name: str, limits: Limits, budget: Budget, shrink: int = 0) -> Opened:
    """Decode a file's bytes, and where they are damaged, what of them every viewer shows."""
    try:
        return _decode(_open_data(data, name, limits), name, limits, budget, shrink)
    except _Damaged as error:
        damage = error.message  # the error itself would hold what was decoded so far
    for one in mended(data):
        with contextlib.suppress(_Damaged):
            found = _read_mended(one, name, limits, budget, shrink)
            notes = (phrase(one.note, name=name),) if one.note else ()
            return replace(found, notes=notes + found.notes)
    raise PictureError(damage)


def _read_mended(one: Mended, name: str, limits: Limits, budget: Budget, shrink: int) -> Opened:
    """Raises `_Damaged` where it cannot be decoded, or pixels of it would be a guess."""
    digests = set()
    found: Opened | None = None
    for data in (*one.others, one.data):
        found = None  # only one of them lies in memory
        image = _open_data(data, name, limits)
        image.info.update(one.info)
        found = _decode(image, name, limits, budget, shrink)
        if one.others:
            digests.add(pixel_digest(found.image))
        if len(digests) > 1:
            raise _Damaged("picture.broken", name=name, why=Message("reason.contents"))
    assert found is not None
    return found


def _open_data(data: bytes, name: str, limits: Limits) -> Image.Image:
    Image.init()
    if data[4:12] in _HEIC:
        register_heic()
    kinds = [kind for kind in (*FORMATS, "HEIF") if kind in Image.OPEN]
    try:
        return Image.open(io.BytesIO(data), formats=kinds)
    except UnidentifiedImageError as error:
        if data[4:12] in _HEIC:
            raise PictureError("picture.heic", name=name) from error
        raise _Damaged("picture.other_kind", name=name) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError("picture.far_over", name=name, most=limits.max_megapixels) from error
    except Exception as error:  # Pillow on foreign bytes: of any kind, and never a fault of ours
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


def _broken(name: str, error: Exception) -> PictureError:
    if isinstance(error, MemoryError):
        return BusyError("picture.no_memory", name=name)
    return _Damaged("picture.broken", name=name, why=error)


def _check_size(size: tuple[int, int], name: str, limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_megapixels * 1_000_000:
        raise PictureError("picture.large", name=name, width=width, height=height,
                           megapixels=round(width * height / 1e6), most=limits.max_megapixels)
    if min(width, height) < limits.min_side:
        raise PictureError("picture.small", name=name, width=width, height=height,
                           least=limits.min_side)
    if max(width, height) > limits.max_aspect * min(width, height):
        raise PictureError("picture.narrow", name=name, width=width, height=height,
                           times=limits.max_aspect)


def _decode(image: Image.Image, name: str, limits: Limits, budget: Budget | None,
            shrink: int = 0) -> Opened:
    """Check the size before anything is decoded, take a share of the ``budget``, then decode,
    convert and turn upright; the sides keep at least ``shrink`` pixels where that is not 0.
    Without a budget the picture is a caller's own: it is left as it is."""
    size = image.size
    _check_size(size, name, limits)
    share = None
    try:
        if shrink and image.format in ("JPEG", "MPO"):
            image.draft(None, (shrink, shrink))  # type: ignore[arg-type]
        share = budget.take(peak_pixels(image), name) if budget else None
        tiles = getattr(image, "tile", None)
        rawmode = str(tiles[0][3]) if tiles and image.format == "PNG" else ""
        image.load()  # a cut-off file raises here
        camera, turn = from_camera(image), turn_of(image)
        if text := written_in(image):
            camera["inside"] = text
        image = image if budget else image.copy()
        scaled_transparency(image.info, rawmode)
        profile = image.info.get("icc_profile", b"")
        usable = profile if isinstance(profile, bytes) else b""
        rgb, why = to_rgb(image, usable)
        del image
        if profile != b"" and not usable:
            why = Message("picture.profile_damaged")
        rgb = rgb.transpose(turn) if turn is not None else rgb
    except BaseException as error:
        if share is not None:
            share.keep(0)
        if isinstance(error, PictureError) or not isinstance(error, Exception):
            raise
        raise _broken(name, error) from error
    rgb.info = {}  # nothing of it is of the new pixels
    if share is not None:
        share.keep(rgb.width * rgb.height, rgb)
    notes = (phrase("picture.profile_passed_over", name=name, why=why),) if why else ()
    return Opened(rgb, size[::-1] if turn in SIDEWAYS else size, camera, notes)


def peak_pixels(image: Image.Image) -> int:
    """What decoding a picture, converting it to RGB and turning it takes at most, in pixels of 4
    bytes."""
    cost = _COST_OF_MODE.get(image.mode, 3.0) + ("transparency" in image.info)
    if image.info.get("progressive"):  # all its coefficients are in memory
        cost += 1.5
    return round(image.width * image.height * max(cost, _COST_OF_KIND.get(image.format or "", 0)))


def pixel_digest(rgb: Image.Image) -> str:
    """SHA-256 of size and pixels, in strips: a copy of a large picture would cost its memory."""
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    for top in range(0, rgb.height, 256):
        digest.update(rgb.crop((0, top, rgb.width, min(top + 256, rgb.height))).tobytes())
    return digest.hexdigest()


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
