"""Pictures made on the spot for the tests of preprocess."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

RGB = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]  # of the corners, row by row


def corners(width: int = 60, height: int = 40) -> Image.Image:
    """A picture with another colour in each quarter."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:height // 2, :width // 2], pixels[:height // 2, width // 2:] = RGB[0], RGB[1]
    pixels[height // 2:, :width // 2], pixels[height // 2:, width // 2:] = RGB[2], RGB[3]
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seen(image: Image.Image) -> list[tuple[int, int, int]]:
    """The colours in the middle of the quarters, row by row."""
    width, height = image.size
    return [image.getpixel((x * width // 4, y * height // 4)) for y in (1, 3) for x in (1, 3)]


def close(found: list[tuple[int, int, int]], right: list[tuple[int, int, int]], by: int) -> bool:
    return bool(np.abs(np.array(found, int) - np.array(right, int)).max() <= by)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, bits: int = 8, kind: int = 0) -> bytes:
    """A PNG whose header may say what it likes."""
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))
