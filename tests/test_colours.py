"""Colour profiles become sRGB; white that is 0 and what is see-through are seen as meant."""

import struct
import zlib

import numpy as np
import pytest
from colour_profiles import (
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    by_primaries,
    gamma,
    grey,
    inks,
    srgb_curve,
)
from odd_pictures import RGB, chunk, close, corners, encoded, png, seen
from PIL import Image, ImageCms

from vitdemo.preprocess import open_picture

P3 = by_primaries(DISPLAY_P3, gamma(2.2))


def plain(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (16, 16), colour if len(colour) > 1 else colour[0])


def pixel(data: bytes) -> tuple[int, ...]:
    found = open_picture(data)
    assert found.notes == ()
    return found.image.getpixel((8, 8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_display_p3_becomes_srgb(kind: str) -> None:
    options = {"quality": 100} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encoded(plain((200, 60, 40)), kind, icc_profile=P3, **options)
    assert close([pixel(data)], [(219, 37, 13)], 2)
    apple = by_primaries(DISPLAY_P3, srgb_curve())
    data = encoded(plain((200, 60, 40)), kind, icc_profile=apple, **options)
    assert close([pixel(data)], [(217, 42, 23)], 2)


def test_prophoto_gets_its_saturation_back() -> None:
    data = encoded(plain((150, 90, 50)), icc_profile=by_primaries(PROPHOTO, gamma(1.8)))
    red, green, blue = pixel(data)
    assert red - blue > 130 and red > green > blue


def test_palettes_see_through_and_turned_pictures_are_converted_too() -> None:
    right = pixel(encoded(plain((200, 60, 40)), icc_profile=P3))
    palette = plain((200, 60, 40)).quantize(2)
    assert pixel(encoded(palette, icc_profile=P3)) == right
    half = plain((200, 60, 40, 128), "RGBA")
    lighter = tuple(round(value * 128 / 255 + 127) for value in right)
    assert close([pixel(encoded(half, icc_profile=P3))], [lighter], 1)
    exif = Image.Exif()
    exif[274] = 6
    assert pixel(encoded(plain((200, 60, 40)), icc_profile=P3, exif=exif)) == right


def test_srgb_changes_nothing_to_the_bit() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype("u1"))
    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
                    by_primaries(SRGB, srgb_curve())):
        assert open_picture(encoded(noise, icc_profile=profile)).digest == open_picture(
            encoded(noise)).digest


def test_grey_profiles() -> None:
    linear = grey(gamma(1.0))
    assert close([pixel(encoded(plain((55,), "L"), icc_profile=linear))], [(128,) * 3], 2)
    wide = Image.fromarray(np.full((16, 16), 55 * 257, np.uint16))
    assert close([pixel(encoded(wide, "TIFF", icc_profile=linear))], [(128,) * 3], 2)
    clear = Image.merge("LA", (plain((55,), "L"), plain((0,), "L")))
    assert pixel(encoded(clear, icc_profile=linear)) == (255,) * 3
    hole = encoded(plain((55,), "L"), icc_profile=linear, transparency=55)
    assert pixel(hole) == (255,) * 3
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pixel(encoded(plain((55,), "L"), icc_profile=srgb)) == (55,) * 3  # as cameras write it


def test_cmyk_profiles() -> None:
    lab = np.zeros((2, 2, 2, 2, 3))
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lab[c, m, y, k] = (100 - 20 * (c + m + y), -30 * c + 40 * m, 40 * y - 20 * c)
        if k:
            lab[c, m, y, k] = (8, 0, 0)
    ink = inks(lab)
    for kind in ("JPEG", "TIFF"):
        green = pixel(encoded(plain((255, 0, 255, 0), "CMYK"), kind, icc_profile=ink))
        naive = pixel(encoded(plain((255, 0, 255, 0), "CMYK"), kind))
        assert close([naive], [(0, 255, 0)], 2) and green[0] > 60, (kind, green)  # as printed
    assert min(pixel(encoded(plain((0, 0, 0, 0), "CMYK"), "TIFF", icc_profile=ink))) > 245


def noted(data: bytes) -> str:
    found = open_picture(data, name="a.jpg")
    assert close(seen(found.image), RGB, 4)
    (note,) = found.notes
    return note


def test_a_profile_that_cannot_be_used_is_passed_over_with_a_note() -> None:
    def save(profile: bytes) -> bytes:
        return encoded(corners(), "JPEG", quality=98, icc_profile=profile)

    assert noted(save(b"no profile at all" * 20)) == (
        "a.jpg: its colour profile was passed over, as it is damaged; its colours may differ a "
        "little from the right ones.")
    assert "damaged" in noted(save(P3[:200]))
    assert "GRAY colours" in noted(save(grey(gamma(1.0))))
    upside = by_primaries(tuple(tuple(-value for value in row) for row in SRGB), gamma(1.0))
    assert "damaged" in noted(save(upside))
    random = np.random.default_rng(3)
    for _ in range(30):  # whatever stands in it, the picture is read
        broken = bytearray(P3)
        for place in random.integers(0, len(P3), 5):
            broken[place] = random.integers(0, 256)
        assert open_picture(save(bytes(broken))).image.size == (60, 40)


# --- white as 0 ---

def tiff(values: np.ndarray, photometric: int, order: str = "<", form: int = 1) -> bytes:
    pixels = values.tobytes()
    tags = [(256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, 8 * values.itemsize),
            (259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 4, len(values)),
            (279, 4, len(pixels)), (339, 3, form)]
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(pixels))
    data += pixels + struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        data += struct.pack(order + "HHI", tag, kind, 1)
        data += struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I",
                                                                                  value)
    return data + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_with_white_as_0_are_no_negatives(order: str) -> None:
    dark = np.full((16, 16), 65535 - 60 * 257, f"{order}u2")
    dark[:8] = 65535
    found = open_picture(tiff(dark, 0, order))
    assert found.notes == ()
    assert found.image.getpixel((3, 12)) == (60,) * 3 and found.image.getpixel((3, 3)) == (0,) * 3
    assert open_picture(tiff(dark, 1, order)).image.getpixel((3, 3)) == (255,) * 3
    real = np.full((16, 16), 0.25, f"{order}f4")
    assert open_picture(tiff(real, 0, order, 3)).image.getpixel((3, 3)) == (191,) * 3


# --- a colour that is see-through ---

def test_16_bit_grey_with_a_see_through_level() -> None:
    values = np.full((16, 16), 1000, ">u2")
    values[:8] = 1001
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    data = png(16, 16, rows, bits=16)
    data = data[:33] + chunk(b"tRNS", struct.pack(">H", 1000)) + data[33:]
    image = open_picture(data).image
    assert image.getpixel((3, 3)) == (4,) * 3  # one level beside it
    assert image.getpixel((3, 12)) == (255,) * 3


@pytest.mark.parametrize(("bits", "level"), [(1, 1), (2, 1), (4, 5)])
def test_few_bits_of_grey_with_a_see_through_level(bits: int, level: int) -> None:
    byte = int(format(level, f"0{bits}b") * (8 // bits), 2)
    rows = b"".join(b"\0" + bytes([byte]) * (2 * bits) for _ in range(16))
    data = png(16, 16, rows, bits=bits)
    for value, right in ((level, 255), (0, 255 * level // ((1 << bits) - 1))):
        marked = data[:33] + chunk(b"tRNS", struct.pack(">H", value)) + data[33:]
        assert open_picture(marked).image.getpixel((8, 8)) == (right,) * 3


def test_16_bit_colours_with_a_see_through_one() -> None:
    values = np.asarray(corners(20, 20)).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    clear = struct.pack(">3H", *(value * 257 for value in RGB[2]))
    data = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"tRNS", clear)
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert seen(open_picture(data).image) == [RGB[0], RGB[1], (255,) * 3, RGB[3]]
