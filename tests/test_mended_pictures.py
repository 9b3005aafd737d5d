"""What every viewer shows is read, with a note; what lacks pixels stays refused."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from odd_pictures import RGB, chunk, close, corners, encoded, png, seen
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from vitdemo.errors import PictureError
from vitdemo.mending import mended
from vitdemo.preprocess import Picture, open_picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 53, 3)).astype(np.uint8))


def with_chunk(data: bytes, made: bytes, after: bool = False) -> bytes:
    """A PNG with one more chunk before or after its pixels."""
    place = len(data) - 12 if after else 33
    return data[:place] + made + data[place:]


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment."""
    return data[:2] + struct.pack(">BBH", 255, marker, len(content) + 2) + content + data[2:]


def same(one: Picture, other: Picture) -> bool:
    return one.digest == other.digest


def exif_of(**tags: object) -> Image.Exif:
    exif = Image.Exif()
    for name, value in tags.items():
        exif[Base[name]] = value
    return exif


LARGE = b"x" * 3_000_000
ODD_CHUNKS = {
    "a text of 3 MB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
    "XMP of 3 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LARGE)),
    "a text packed in an unknown way": chunk(b"zTXt", b"Comment\0\7abc"),
    "an empty profile": chunk(b"iCCP", b"name\0"),
    "half a resolution": chunk(b"pHYs", b"\0\0\1"),
    "half a primary": chunk(b"cHRM", b"abc"),
    "an animation of nothing": chunk(b"acTL", b"\0\0"),
    "a wrong checksum of a text": chunk(b"tEXt", b"Comment\0hello")[:-4] + b"abcd",
    "a wrong checksum of a time": chunk(b"tIME", b"\7\xe8\1\2\3\4\5")[:-4] + b"abcd",
    "a wrong checksum of what nobody knows": chunk(b"vpAg", b"123456789")[:-4] + b"abcd"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("made", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
def test_png_with_a_chunk_that_carries_no_pixels(made: bytes, after: bool) -> None:
    whole = encoded(corners())
    found = open_picture(with_chunk(whole, made, after), name="photo.png")
    assert same(found, open_picture(whole))
    if not after or made[4:8] == b"zTXt" or b"wrong" in made:
        assert all(note.startswith("photo.png: ") for note in found.notes)


def test_the_note_says_what_was_passed_over() -> None:
    data = with_chunk(encoded(corners()), ODD_CHUNKS["a wrong checksum of a text"])
    assert open_picture(data, name="a.png").notes == (
        "a.png: parts that carry no pixels are damaged and were passed over.",)
    assert open_picture(encoded(corners())).notes == ()


def test_a_profile_over_1_mb_counts_and_a_damaged_one_does_not() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = profile + np.random.default_rng(1).bytes(2_000_000)
    large = struct.pack(">I", len(large)) + large[4:]
    packed = chunk(b"iCCP", b"name\0\0" + zlib.compress(large, 1))
    data = with_chunk(encoded(corners()), packed)
    assert next(mended(data)).info["icc_profile"] == large
    assert seen(open_picture(data).image) == RGB
    found = open_picture(with_chunk(encoded(corners()), chunk(b"iCCP", b"name\0\0nothing")))
    assert seen(found.image) == RGB and "colour profile was passed over" in found.notes[0]


def test_png_keeps_its_turn_and_what_is_see_through() -> None:
    hole = ODD_CHUNKS["half a resolution"]
    turned = encoded(corners(), exif=exif_of(Orientation=6))
    assert open_picture(with_chunk(turned, hole)).image.size == (40, 60)
    clear = encoded(corners(), transparency=RGB[2])
    assert seen(open_picture(with_chunk(clear, hole)).image)[2] == (255, 255, 255)


def test_png_that_is_damaged_where_its_pixels_are_stays_refused() -> None:
    data = bytearray(encoded(corners()))
    data[20] ^= 1  # the width, and so the header's checksum
    with pytest.raises(PictureError):
        open_picture(bytes(data))
    data = bytearray(encoded(NOISE))
    data[200] ^= 1
    with pytest.raises(PictureError, match="broken or cut off"):
        open_picture(bytes(data))
    palette = encoded(corners().quantize(4))
    place = palette.index(b"PLTE") + 5
    with pytest.raises(PictureError):
        open_picture(palette[:place] + b"\x12" + palette[place + 1:])
    with pytest.raises(PictureError):
        open_picture(png(5000, 4000, b"\0" * 9))


def endings() -> Iterator[tuple[str, bytes, int]]:
    """Kind, file, and how many bytes at its end may be missing at least."""
    yield "JPEG", encoded(NOISE, "JPEG"), 2
    yield "progressive JPEG", encoded(NOISE, "JPEG", progressive=True), 2
    yield "JPEG with restarts", encoded(NOISE, "JPEG", restart_marker_blocks=2), 2
    yield "grey JPEG", encoded(NOISE.convert("L"), "JPEG", quality=30), 2
    yield "PNG", encoded(NOISE), 16
    text = with_chunk(encoded(NOISE), chunk(b"tEXt", b"Comment\0" + b"x" * 50), after=True)
    yield "PNG with a text", text, 60
    yield "GIF", encoded(NOISE, "GIF"), 3
    exif = exif_of(Make="maker" * 20)
    yield "WebP with EXIF", encoded(NOISE, "WEBP", exif=exif), 100
    yield "BMP", encoded(NOISE, "BMP"), 1


@pytest.mark.parametrize(("data", "least"), [one[1:] for one in endings()],
                         ids=[one[0] for one in endings()])
def test_only_the_end_is_missing(data: bytes, least: int) -> None:
    """Whatever is cut off: the picture is the whole one, or it is refused."""
    whole = open_picture(data)
    for cut in (*range(1, 24), least, 30, 60, len(data) // 2, len(data) * 4 // 5):
        try:
            found = open_picture(data[:len(data) - cut])
        except PictureError:
            assert cut > least, cut
        else:
            assert same(found, whole), cut


def test_a_jpeg_without_its_end_says_so() -> None:
    assert open_picture(encoded(NOISE, "JPEG")[:-2], name="b.jpg").notes == (
        "b.jpg: its end marker is missing; all of its pixels are there.",)


def test_a_progressive_jpeg_without_its_last_passes_is_refused() -> None:
    data = encoded(NOISE, "JPEG", progressive=True)
    scans = [place for place in range(len(data) - 1) if data[place:place + 2] == b"\xff\xda"]
    assert len(scans) > 3
    tables = data.rindex(b"\xff\xc4", 0, scans[-1])  # the last pass begins with its table
    with pytest.raises(PictureError, match="cut off"):
        open_picture(data[:tables])


def test_a_jpeg_that_was_filled_up_with_zeros_is_refused() -> None:
    data = encoded(NOISE, "JPEG")
    with pytest.raises(PictureError, match="cut off"):
        open_picture(data[:len(data) // 2] + bytes(20))


@pytest.mark.parametrize(("marker", "content"), [
    (0xE0, b"JFIF\0\1"), (0xE2, b"ICC_PROFILE\0"), (0xE2, b"ICC_PROFILE\0\1"), (0xEE, b"Adobe"),
    (0xE2, b"MPF\0" + bytes(9)), (0xED, b"Photoshop 3.0\0" + b"8BIM" * 3), (0xE1, b"Exif\0\0")])
def test_jpeg_with_half_a_segment(marker: int, content: bytes) -> None:
    whole = encoded(corners(), "JPEG", quality=98)
    assert same(open_picture(with_segment(whole, marker, content)), open_picture(whole))


def test_tiff_with_odd_tags_that_carry_no_pixels() -> None:
    for options in ({}, {"compression": "tiff_lzw"}):
        exif = exif_of(Make="maker", DateTime="2020:01:02 03:04:05")
        whole = encoded(NOISE, "TIFF", exif=exif, **options)
        start = struct.unpack("<I", whole[4:8])[0]
        count = struct.unpack("<H", whole[start:start + 2])[0]
        for n in range(count):
            place = start + 2 + 12 * n
            if struct.unpack("<H", whole[place:place + 2])[0] != Base.Make:
                continue
            for kind, size in ((0, 9), (2, 0xffffffff), (5, 70000), (13, 1), (99, 1)):
                odd = whole[:place + 2] + struct.pack("<HI", kind, size) + whole[place + 8:]
                assert same(open_picture(odd), open_picture(whole)), (kind, size)


def test_animated_webp_with_a_broken_later_frame_gives_its_first() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in RGB]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert close(seen(open_picture(data[:-9]).image), [RGB[0]] * 4, 1)


def test_parts_without_pixels_may_hold_anything() -> None:
    """A small fuzzer: random bytes in every place that carries no pixels."""
    random = np.random.default_rng(5)
    whole, jpeg = encoded(corners(24, 16)), encoded(corners(24, 16), "JPEG", quality=98)
    right = open_picture(whole).digest, open_picture(jpeg).digest
    names = (b"tEXt", b"zTXt", b"iTXt", b"sRGB", b"pHYs", b"gAMA", b"cHRM", b"tIME", b"acTL",
             b"fcTL", b"sBIT", b"bKGD", b"hIST", b"eXIf", b"vpAg")
    exif = exif_of(Make="maker", DateTime="2020:01:02 03:04:05").tobytes()
    heads = ((0xE0, b"JFIF\0"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xE2, b"MPF\0"),
             (0xE2, b"FPXR\0"), (0xED, b"Photoshop 3.0\0" b"8BIM"), (0xFE, b""), (0xE5, b""))
    for turn in range(30):
        for name in names:
            content = random.bytes(int(random.integers(0, 40)))
            if turn % 3 == 0:
                content = b"key\0\0" + zlib.compress(content)
            made = chunk(name, content)
            made = made if turn % 4 else made[:-1] + b"?"
            assert open_picture(with_chunk(whole, made, bool(turn % 2))).digest == right[0], made
        for marker, head in heads:
            content = head + random.bytes(int(random.integers(0, 40)))
            assert open_picture(with_segment(jpeg, marker, content)).digest == right[1], content
        broken = bytearray(exif)
        for place in random.integers(6, len(exif), 3):
            broken[place] = random.integers(0, 256)
        found = open_picture(with_segment(jpeg, 0xE1, bytes(broken)))
        assert sorted(found.image.size) == [16, 24], bytes(broken)


def test_nothing_is_slow_on_files_made_to_be() -> None:
    """Each is walked through once; a step for each byte in Python would take minutes."""
    for data in (b"\xff\xd8" + b"\xff" * 2_000_000, b"\xff\xd8" + bytes(2_000_000),
                 b"\xff\xd8" + b"\xff\x01" * 1_000_000, b"\x89PNG\r\n\x1a\n" + bytes(2_000_000),
                 b"RIFF\0\0\0\0WEBP" + bytes(2_000_000),
                 b"II*\0\10\0\0\0\xff\xff" + bytes(900_000)):
        assert len(list(mended(data))) <= 4
