"""From any mode and colour space to RGB of 8 bits in sRGB, what is see-through laid on white."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from vitdemo.texts import Message

_SAME = 2  # levels of 255 that a profile may move colours by and still be sRGB
_STEPS = (0, 36, 73, 109, 146, 182, 219, 255)  # of the colours that a profile is tried on
_WIDE = ("I", "F")  # one number a pixel, of more than 8 bits; and what begins with I;16
# What Pillow raises on a profile that is damaged, or is for another kind of picture.
_BAD_PROFILE = (OSError, ValueError, TypeError, RuntimeError, MemoryError, ImageCms.PyCMSError)


class ProfileError(ValueError):
    """A colour profile cannot be used; ``why`` says why."""

    def __init__(self, why: Message) -> None:
        super().__init__(str(why))
        self.why = why


def to_rgb(image: Image.Image, profile: bytes | None = None
           ) -> tuple[Image.Image, Message | None]:
    """A decoded picture as RGB; ``image`` may be changed. And why its ICC ``profile`` was passed
    over, None where it was not.

    Without a profile colours are taken for sRGB. A profile that is sRGB changes nothing, to the
    bit. Rendering is perceptual, as in browsers.
    """
    if image.mode in _WIDE or image.mode.startswith("I;16"):
        image = _to_grey(image)
    if image.mode in ("La", "RGBa"):  # alpha multiplied in already
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    why: Message | None = None
    if profile and image.mode != "LAB":
        try:
            image = _to_srgb(image, profile)
        except ProfileError as error:
            why = error.why
    if _see_through(image):
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        ground = Image.new("RGB", image.size, (255, 255, 255))
        ground.paste(image, mask=image)
        return ground, why
    return (image if image.mode == "RGB" else image.convert("RGB")), why


def _see_through(image: Image.Image) -> bool:
    return image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The same colours in sRGB, as L, LA, RGB or RGBA.

    Raises:
        ProfileError: the profile is damaged, or not for such a picture.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
    except _BAD_PROFILE as error:
        raise ProfileError(Message("picture.profile_damaged")) from error
    if space == "GRAY" and image.mode in ("1", "L", "LA"):
        return _grey_to_srgb(image, source)
    if space == "RGB" and image.mode != "CMYK":
        mode = "RGBA" if _see_through(image) else "RGB"
    elif space == "CMYK" and image.mode == "CMYK":
        mode = "CMYK"
    else:
        raise ProfileError(Message("picture.profile_of_others", space=space or "?",
                                   mode=image.mode))
    transform = _transform(source, mode)
    if mode != "CMYK" and _changes_nothing(transform, mode):
        return image
    image = image if image.mode == mode else image.convert(mode)
    kept = {key: value for key, value in image.info.items() if key != "icc_profile"}
    image = _applied(transform, image, image if mode != "CMYK" else None)
    image.info = kept
    return image


def _grey_to_srgb(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """Grey levels through a table: there are 256 of them only."""
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    table = np.asarray(_applied(_transform(source, "L"), levels))[0, :, 1]  # (256,)
    if np.abs(table.astype(int) - np.arange(256)).max() <= _SAME:
        return image
    values = table.tolist()
    if "transparency" in image.info:  # one level means see-through: it has to be known by alpha
        image = image.convert("LA")
    if image.mode == "LA":
        return image.point([*values, *range(256)])
    return image.convert("L").point(values)


def _transform(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    """From a profile to sRGB, tried on white and black: one that turns them over is damaged."""
    try:
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        made = ImageCms.ImageCmsTransform(source, target, mode, "RGBA" if mode == "RGBA" else "RGB")
    except _BAD_PROFILE as error:
        raise ProfileError(Message("picture.profile_damaged")) from error
    ends: dict[str, Any] = {"L": (255, 0), "CMYK": ((0, 0, 0, 0), (0, 0, 0, 255)),
            "RGB": ((255,) * 3, (0,) * 3), "RGBA": ((255,) * 4, (0, 0, 0, 255))}
    white, black = (np.asarray(_applied(made, Image.new(mode, (1, 1), colour)))[0, 0, :3]
                    for colour in ends[mode])
    if white.min() < 128 or black.max() > 127:
        raise ProfileError(Message("picture.profile_damaged"))
    return made


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image,
             into: Image.Image | None = None) -> Image.Image:
    try:
        return transform.apply(image, into)
    except _BAD_PROFILE as error:
        raise ProfileError(Message("picture.profile_damaged")) from error


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    grid = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).astype(np.uint8)
    grid = grid.reshape(len(_STEPS), -1, 3)
    tried = np.asarray(_applied(transform, Image.fromarray(grid).convert(mode)))[..., :3]
    return int(np.abs(tried.astype(int) - grid).max()) <= _SAME


def _to_grey(image: Image.Image) -> Image.Image:
    """A picture with one wide number per pixel to 8 bits.

    16 bits: white is 65535 (4095 in a 12-bit TIFF). "I" is 16 bits in disguise where the file
    says so or its values do. Numbers with a point: 0..1 and 0..255 are taken for black to white.
    Anything else (depths, counts) is stretched from its least to its greatest number. A TIFF may
    say that 0 is white. The number that a PNG names as see-through becomes white.
    """
    values = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        white = 4095 if tags.get(258, (16,)) == (12,) else 65535
        table = np.round(np.arange(65536) * (255 / white)).clip(0, 255).astype(np.uint8)
        if isinstance(clear, int) and 0 <= clear <= 65535:
            table[clear] = 255
        grey = table[values]
    else:
        grey = _stretched(values, image)
    if tags.get(262) == 0 or image.info.get("white_is_zero"):
        np.subtract(255, grey, out=grey)
    return Image.fromarray(grey)


def _stretched(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """Numbers of 32 bits as grey levels, uint8 of the same shape."""
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
    return grey


def scaled_transparency(info: dict[Any, Any], rawmode: str) -> None:
    """Bring the see-through colour of a PNG to the levels of the decoded pixels: Pillow keeps the
    number of the file, which has 1 to 16 bits a sample."""
    clear = info.get("transparency")
    if rawmode in ("L;2", "L;4", "L") and isinstance(clear, int):
        bits = {"L;2": 2, "L;4": 4, "L": 8}[rawmode]
        info["transparency"] = (clear & (1 << bits) - 1) * (255 // ((1 << bits) - 1))
    elif rawmode == "RGB" and isinstance(clear, tuple):
        info["transparency"] = tuple(part & 255 for part in clear)
    elif rawmode == "RGB;16B" and isinstance(clear, tuple):
        info["transparency"] = tuple(part >> 8 for part in clear)
