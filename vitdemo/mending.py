"""Files that every viewer shows and Pillow refuses: the same picture with what is bad left out.

Only what carries no pixels is left out, such as texts, resolutions and a missing end marker. A file
that lacks pixels stays refused: what is given here for it breaks, too, when it is decoded.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

PASSED_OVER = "picture.passed_over"
NO_END = "picture.no_end"
MAX_CHUNKS = 50_000  # in one file
MAX_PROFILE = 16 * 2**20  # bytes of a colour profile, unpacked
# What may stand in place of what is missing. Their first bits are ones where zeros are filled in
# otherwise, so that any code reads them as something else; 0xFF begins a marker of a JPEG.
_NOISE = tuple(bytes((first + step * n) % 255 for n in range(300))
               for first, step in ((0xD5, 37), (0xA9, 101)))
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)  # the next marker of a JPEG
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # ... that is none of a scan's
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_ONCE = (b"tRNS", b"eXIf")  # of these chunks the first that is good
# Tags of a TIFF that its pixels need, and then those that are worth keeping.
_TIFF_PIXELS = frozenset((254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292,
                          293, 317, 320, 322, 323, 324, 325, 330, 332, 338, 339, 347, 529, 530, 531,
                          532))
_TIFF_KEPT = frozenset((271, 272, 306, 34665, 34675, 34853))


@dataclass(frozen=True)
class Mended:
    """A file's bytes without what is bad; ``note`` is the key of what that was.

    ``info`` is to be added to what Pillow knows of the picture. Where ``others`` are given, the end
    is a guess: only if each of them decodes to the same pixels, none of these were guessed.
    """

    data: bytes
    note: str = PASSED_OVER
    info: dict[str, Any] = field(default_factory=dict)
    others: tuple[bytes, ...] = ()


def mended(data: bytes) -> Iterator[Mended]:
    """What may be tried in place of a file that cannot be decoded, the best first."""
    if data.startswith(_PNG):
        yield from _png(data)
    elif data.startswith(b"\xff\xd8"):
        yield from _jpeg(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        yield from _webp(data)
    elif data[:6] in (b"GIF87a", b"GIF89a"):
        yield Mended(data + bytes(300), NO_END, others=tuple(data + one for one in _NOISE))
    elif data.startswith(b"BM"):  # the last row may lack the bytes that fill it up
        yield Mended(data + bytes(3), NO_END, others=(data + b"\xff" * 3,))
    elif data[:4] in (b"II*\0", b"MM\0*"):
        yield from _tiff(data)


# PNG

def _png(data: bytes) -> Iterator[Mended]:
    chunks: list[bytes] = []
    info: dict[str, Any] = {}
    header, once = b"", set()
    for name, inside, checksum in _chunks(data):
        if name in (b"IHDR", b"PLTE", b"IDAT"):
            header = header or inside
            chunks.append(struct.pack(">I", len(inside)) + name + inside + checksum.ljust(4))
        elif len(checksum) < 4 or zlib.crc32(name + inside) != int.from_bytes(checksum, "big"):
            if name == b"eXIf":  # what cannot be right in it is passed over later
                info["exif"] = b"Exif\0\0" + inside
        elif name == b"iCCP" and "icc_profile" not in info:
            info["icc_profile"] = _profile(inside)
        elif name in _PNG_ONCE and name not in once and _usable(header, name, inside):
            once.add(name)
            chunks.append(_chunk(name, inside))
    if chunks:
        yield Mended(_PNG + b"".join(chunks) + _chunk(b"IEND", b""), info=info)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Name, content and checksum of each chunk before the end; those of the last may be cut off."""
    place = 8
    for _ in range(MAX_CHUNKS):
        end = place + 8 + int.from_bytes(data[place:place + 4], "big")
        name = data[place + 4:place + 8]
        if len(name) < 4 or name == b"IEND":
            return
        yield name, data[place + 8:end], data[end:end + 4]
        place = end + 4


def _chunk(name: bytes, content: bytes) -> bytes:
    return (struct.pack(">I", len(content)) + name + content
            + struct.pack(">I", zlib.crc32(name + content)))


def _profile(content: bytes) -> bytes:
    """The ICC profile of an iCCP chunk; b"" where there is none to be had."""
    _, found, packed = content.partition(b"\0")
    if not found or packed[:1] != b"\0":
        return b""
    try:
        unpacking = zlib.decompressobj()
        profile = unpacking.decompress(packed[1:], MAX_PROFILE)
    except zlib.error:
        return b""
    return b"" if unpacking.unconsumed_tail else profile


def _usable(header: bytes, name: bytes, content: bytes) -> bool:
    """Whether Pillow takes a chunk, tried in a picture of one pixel."""
    one = struct.pack(">II", 1, 1) + header[8:12] + b"\0"
    palette = _chunk(b"PLTE", bytes(768)) if header[9:10] == b"\3" else b""
    trial = (_PNG + _chunk(b"IHDR", one) + palette + _chunk(name, content)
             + _chunk(b"IDAT", zlib.compress(bytes(9))) + _chunk(b"IEND", b""))
    try:
        Image.open(io.BytesIO(trial), formats=["PNG"]).load()
    except (OSError, ValueError, SyntaxError, struct.error, LookupError, TypeError):
        return False
    return True


# JPEG

def _jpeg(data: bytes) -> Iterator[Mended]:
    kept, coded, restarts, place = [b"\xff\xd8"], _Coded(), 0, 2
    for _ in range(MAX_CHUNKS):
        found = _MARKER.search(data, place)
        if found is None:
            break
        marker, start = found[1][0], found.end()
        place = start
        if marker == 0xD9:
            yield Mended(b"".join(kept) + b"\xff\xd9")
            return
        if marker < 0xC0 or 0xD0 <= marker <= 0xD8:
            continue  # these stand alone
        size = int.from_bytes(data[start:start + 2], "big")
        content = data[start + 2:start + size]
        if len(content) != size - 2:
            break
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _keeps(marker, content):
            kept.append(bytes((0xFF, marker)) + data[start:start + size])
        place = start + size
        if marker in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
            coded.frame(content)
        elif marker == 0xDA:
            coded.scan(content)
            end = after.start() if (after := _AFTER_SCAN.search(data, place)) else len(data)
            restarts = sum(data.count(bytes((0xFF, 0xD0 + n)), place, end) for n in range(8))
            kept.append(data[place:end])
            place = end
    if coded.whole():
        yield _without_end(b"".join(kept), restarts)


def _without_end(start: bytes, restarts: int) -> Mended:
    """A JPEG whose end marker is to be added. ``restarts`` markers are in its last scan: without
    the next one, a decoder does not look at what stands where the next part should."""
    start = start.rstrip(b"\xff")
    if start.endswith(bytes(8)):  # a download that was never filled
        start = start.rstrip(b"\0")
    end, restart = b"\xff\xd9", bytes((0xFF, 0xD0 + restarts % 8))
    return Mended(start + end, NO_END, others=tuple(
        start + before + one + end for before in (b"", restart) for one in _NOISE))


def _keeps(marker: int, content: bytes) -> bool:
    """Whether an application's segment is of use and whole."""
    return (marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 14
            or marker == 0xE1 and content.startswith(b"Exif\0\0")
            or marker == 0xE2 and content.startswith(b"ICC_PROFILE\0") and len(content) > 14
            or marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12)


class _Coded:
    """Which coefficients of which components were coded to their last bit: a progressive JPEG that
    lacks its last passes decodes without complaint."""

    def __init__(self) -> None:
        self._lacking: dict[int, set[int]] = {}

    def frame(self, content: bytes) -> None:
        count = content[5] if len(content) > 5 else 0
        self._lacking = {number: set(range(64)) for number in content[6:6 + 3 * count:3]}

    def scan(self, content: bytes) -> None:
        count = content[0] if content else 0
        last = content[1 + 2 * count:4 + 2 * count]
        if len(last) == 3 and last[2] & 15 == 0:
            for number in content[1:1 + 2 * count:2]:
                self._lacking.get(number, set()).difference_update(range(last[0], last[1] + 1))

    def whole(self) -> bool:
        return bool(self._lacking) and not any(self._lacking.values())


# WebP

def _webp(data: bytes) -> Iterator[Mended]:
    for names in ((b"ICCP", b"EXIF"), (b"ICCP",), (b"EXIF",), ()):
        whole, *others = (_riff(data, end, names) for end in (bytes(300), *_NOISE))
        guessed = whole != others[0]
        yield Mended(whole, NO_END if guessed else PASSED_OVER, {}, tuple(others * guessed))


def _riff(data: bytes, end: bytes, extras: tuple[bytes, ...]) -> bytes:
    """The pixels and some ``extras`` of a WebP; ``end`` stands for what of its pixels is missing,
    and what else is cut off is left out."""
    chunks: dict[bytes, bytes] = {}
    frames: list[bytes] = []
    place, filled = 12, data + end
    for _ in range(MAX_CHUNKS):
        name, size = data[place:place + 4], int.from_bytes(data[place + 4:place + 8], "little")
        if len(data) < place + 8:
            break
        content = (filled if name in (b"VP8 ", b"VP8L") else data)[place + 8:place + 8 + size]
        if len(content) == size:
            chunk = data[place:place + 8] + content + bytes(size % 2)
            if name == b"ANMF":
                frames.append(chunk)
            else:
                chunks.setdefault(name, chunk)
        place += 8 + size + size % 2
    head = bytearray(chunks.get(b"VP8X", b""))
    if len(head) > 8:
        flags = {b"ICCP": 0x20, b"EXIF": 0x08}
        head[8] = head[8] & 0x12 | sum(flags[one] for one in extras if one in chunks)
    pixels = (b"ANIM",) if frames else (b"ALPH", b"VP8 ", b"VP8L")
    body = b"".join((bytes(head), *(chunks.get(one, b"") for one in (
        *(one for one in extras if one == b"ICCP"), *pixels)), *frames,
        *(chunks.get(one, b"") for one in extras if one == b"EXIF")))
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


# TIFF

def _tiff(data: bytes) -> Iterator[Mended]:
    """With a new directory at the end that has only the tags that are needed."""
    order = "<" if data.startswith(b"II") else ">"
    start = struct.unpack(order + "I", data[4:8])[0] if len(data) >= 8 else len(data)
    count = int.from_bytes(data[start:start + 2], "little" if order == "<" else "big")
    entries = [data[start + 2 + 12 * n:start + 14 + 12 * n] for n in range(count)]
    if not entries or len(entries[-1]) < 12:
        return
    tags = {struct.unpack(order + "H", one[:2])[0]: one for one in reversed(entries)}
    info: dict[str, Any] = {}
    inverse, wide = (tags.get(tag, b"")[8:10] == value for tag, value in (
        (262, b"\0\0"), (258, b"\0\20")))
    if order == ">" and inverse and wide:
        # 16 bits with white as 0 are known to Pillow in one byte order only
        tags[262], info = tags[262][:8] + b"\0\1\0\0", {"white_is_zero": True}
    start = len(data) + 300 + len(data) % 2
    head = data[:4] + struct.pack(order + "I", start)
    for kept in (_TIFF_PIXELS | _TIFF_KEPT, _TIFF_PIXELS):
        chosen = [tags[tag] for tag in sorted(tags) if tag in kept]
        directory = struct.pack(order + "H", len(chosen)) + b"".join(chosen) + bytes(4)
        # Between the two there is what shows whether pixels lie behind the end.
        first, *others = (head + data[8:] + gap.ljust(start - len(data)) + directory
                          for gap in (b"", *_NOISE))
        yield Mended(first, "" if info else PASSED_OVER, info, tuple(others))
