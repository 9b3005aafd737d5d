"""Pictures of every odd kind end as upright RGB, or are refused in a clear sentence."""

import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from vitdemo.config import Limits
from vitdemo.errors import PictureError
from vitdemo.preprocess import (
    IMAGENET,
    SYMMETRIC,
    grid_boxes,
    normalisation,
    open_picture,
    to_pixels,
)

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


# --- kinds that are handled ---

@pytest.mark.parametrize("kind, by", [("PNG", 0), ("JPEG", 4), ("WEBP", 8), ("BMP", 0),
                                      ("TIFF", 0), ("GIF", 0), ("PPM", 0), ("MPO", 4)])
def test_common_formats_from_file_bytes_and_stream(tmp_path: Path, kind: str, by: int) -> None:
    options = {"quality": 98} if kind in ("JPEG", "WEBP", "MPO") else {}
    data = encoded(corners(), kind, **options)
    file = tmp_path / "photo of mine.bin"
    file.write_bytes(data)
    pictures = [open_picture(source) for source in (file, str(file), data, io.BytesIO(data))]
    for picture in pictures:
        assert picture.image.mode == "RGB" and picture.image.size == (60, 40)
        assert close(seen(picture.image), RGB, by), seen(picture.image)
        assert picture.digest == pictures[0].digest
    assert pictures[0].name == "photo of mine.bin"
    assert open_picture(data, name="upload.png").name == "upload.png"


def test_all_eight_exif_orientations_end_upright() -> None:
    undo = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}
    for kind, by in (("JPEG", 4), ("PNG", 0), ("WEBP", 0), ("TIFF", 0)):
        for orientation, method in undo.items():
            exif = Image.Exif()
            exif[Base.Orientation] = orientation
            stored = corners() if method is None else corners().transpose(method)
            options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
            data = encoded(stored, kind, exif=exif, **options.get(kind, {}))
            for source in (data, Image.open(io.BytesIO(data))):
                image = open_picture(source).image
                assert image.size == (60, 40), (kind, orientation)
                assert close(seen(image), RGB, by), (kind, orientation, seen(image))


def test_the_limits_hold_for_a_rotated_picture_too() -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    data = encoded(Image.new("RGB", (31 * 8, 8)), "JPEG", exif=exif)
    with pytest.raises(PictureError, match="at most 30 times"):
        open_picture(data)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_in_a_sound_picture_is_passed_over() -> None:
    data = encoded(corners(), "JPEG", quality=98, exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff" * 9)
    assert close(seen(open_picture(data).image), RGB, 4)


def test_cmyk_jpeg_and_tiff() -> None:
    cmyk = corners().convert("CMYK")
    assert close(seen(open_picture(encoded(cmyk, "JPEG", quality=98)).image), RGB, 6)
    assert close(seen(open_picture(encoded(cmyk, "TIFF")).image), RGB, 0)


GREYS = np.array([[0, 64], [128, 255]])


def grey16(byte_order: str = "<") -> np.ndarray:
    return np.kron(GREYS * 257, np.ones((10, 10))).astype(f"{byte_order}u2")


RIGHT = [(int(g),) * 3 for g in GREYS.reshape(-1)]


def test_16_bit_grey_png_and_tiff_keep_their_tones() -> None:
    image = Image.fromarray(grey16())
    assert image.mode == "I;16"
    for source in (image, encoded(image, "PNG"), encoded(image, "TIFF")):
        assert seen(open_picture(source).image) == RIGHT
    big_endian = Image.frombytes("I;16B", (20, 20), grey16(">").tobytes())
    assert seen(open_picture(encoded(big_endian, "TIFF")).image) == RIGHT
    as_integers = Image.fromarray(grey16().astype(np.int32))
    assert as_integers.mode == "I" and seen(open_picture(as_integers).image) == RIGHT


def test_a_dark_16_bit_png_stays_dark() -> None:
    dark = Image.fromarray(np.full((20, 20), 200, np.uint16))  # 200 of 65535: all but black
    assert open_picture(encoded(dark, "PNG")).image.getextrema() == ((1, 1),) * 3


def test_16_bit_colour_png() -> None:
    values = np.asarray(corners(20, 20)).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    assert seen(open_picture(png(20, 20, rows, bits=16, kind=2)).image) == RGB


def test_12_bit_tiff_is_scaled_by_its_own_white() -> None:
    values = np.full((16, 16), 4095, np.uint16)
    values[:8] = 2048
    packed = bytearray()
    for a, b in values.reshape(-1, 2).tolist():
        packed += bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    tags = [(256, 3, 16), (257, 3, 16), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 1), (278, 3, 16), (279, 4, len(packed))]
    start = 8 + len(packed)
    data = b"II*\0" + struct.pack("<I", start) + bytes(packed) + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    image = open_picture(data + b"\0\0\0\0").image
    assert image.getpixel((3, 12)) == (255,) * 3 and image.getpixel((3, 3))[0] in (127, 128)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_float_tiff_of_0_to_1_and_of_0_to_255(scale: float) -> None:
    values = (np.kron(GREYS, np.ones((10, 10))) / 255 * scale).astype(np.float32)
    values[values == values.max()] *= 0.9  # no white: it must not be stretched
    right = [*RIGHT[:3], (round(255 * 0.9),) * 3]
    assert close(seen(open_picture(encoded(Image.fromarray(values), "TIFF")).image), right, 1)


def test_other_numbers_are_stretched_and_no_number_is_no_trouble() -> None:
    depth = np.linspace(-1000, 3000, 400).reshape(20, 20).astype(np.float32)
    depth[0, 0], depth[0, 1], depth[19, 19] = np.nan, -np.inf, np.inf
    image = open_picture(encoded(Image.fromarray(depth), "TIFF")).image
    assert image.getpixel((0, 0)) == image.getpixel((1, 0)) == (0, 0, 0)
    assert image.getpixel((19, 19)) == (255, 255, 255)
    assert 120 < image.getpixel((10, 10))[0] < 140
    counts = np.linspace(0, 1_000_000, 400).reshape(20, 20).astype(np.int32)
    assert open_picture(Image.fromarray(counts)).image.getextrema() == ((0, 255),) * 3
    for same in (np.full((9, 9), np.nan), np.full((9, 9), 7e30), np.full((9, 9), -3e38)):
        flat = open_picture(Image.fromarray(same.astype(np.float32))).image
        assert flat.getextrema() == ((0, 0),) * 3
    wide = np.array([[-3e38, 3e38]] * 9 * 9, np.float32).reshape(9, -1)
    assert open_picture(Image.fromarray(wide)).image.getextrema() == ((0, 255),) * 3


def test_see_through_pictures_lie_on_white() -> None:
    rgba = corners().convert("RGBA")
    rgba.putalpha(Image.fromarray(np.kron([[255, 0], [128, 255]], np.ones((20, 30)))
                                  .astype(np.uint8)))
    half_blue = (127, 127, 255)
    right = [RGB[0], (255, 255, 255), half_blue, RGB[3]]
    assert close(seen(open_picture(encoded(rgba)).image), right, 1)
    assert close(seen(open_picture(encoded(rgba, "WEBP", lossless=True)).image), right, 1)
    assert close(seen(open_picture(rgba.convert("RGBa")).image), right, 1)
    la = Image.merge("LA", (Image.new("L", (20, 20), 0), Image.new("L", (20, 20), 0)))
    assert open_picture(encoded(la)).image.getextrema() == ((255, 255),) * 3
    assert open_picture(la.convert("La")).image.getextrema() == ((255, 255),) * 3


def test_palettes_with_and_without_transparency() -> None:
    palette = corners().quantize(4)
    assert close(seen(open_picture(encoded(palette)).image), RGB, 0)
    hidden = palette.getpixel((50, 10))
    right = [RGB[0], (255, 255, 255), RGB[2], RGB[3]]
    for kind in ("PNG", "GIF"):
        assert close(seen(open_picture(encoded(palette, kind, transparency=hidden)).image),
                     right, 0), kind
    levels = bytes(0 if n == hidden else 255 for n in range(4))
    assert close(seen(open_picture(encoded(palette, transparency=levels)).image), right, 0)
    pa = palette.convert("RGBA").convert("PA")
    assert open_picture(pa).image.mode == "RGB"


def test_a_colour_marked_as_transparent() -> None:
    data = encoded(corners(), transparency=RGB[2])
    right = [RGB[0], RGB[1], (255, 255, 255), RGB[3]]
    assert close(seen(open_picture(data).image), right, 0)


def test_grey_black_and_white_and_other_colour_spaces() -> None:
    grey = Image.fromarray(np.kron(GREYS, np.ones((10, 10))).astype(np.uint8))
    assert seen(open_picture(encoded(grey)).image) == RIGHT
    bits = grey.point(lambda value: 255 * (value > 100)).convert("1")
    assert seen(open_picture(encoded(bits)).image) == [(0,) * 3, (0,) * 3, (255,) * 3, (255,) * 3]
    assert seen(open_picture(encoded(bits, "TIFF", compression="group4")).image)[3] == (255,) * 3
    for mode in ("YCbCr", "HSV"):
        assert close(seen(open_picture(corners().convert(mode)).image), RGB, 3)
    lab = ImageCms.profileToProfile(corners(), ImageCms.createProfile("sRGB"),
                                    ImageCms.createProfile("LAB"), outputMode="LAB")
    assert open_picture(lab).image.getextrema() != ((255, 255),) * 3  # "A" there is no alpha


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in RGB]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 4
    assert seen(open_picture(data).image) == [RGB[0]] * 4


def test_a_given_picture_is_neither_changed_nor_shared() -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    source = Image.open(io.BytesIO(encoded(corners(), exif=exif)))
    picture = open_picture(source)
    assert source.size == (60, 40) and picture.image.size == (40, 60)
    plain = corners()
    picture = open_picture(plain)
    plain.paste((0, 0, 0), (0, 0, 60, 40))
    assert seen(picture.image) == RGB


def test_the_digest_is_that_of_the_pixels_and_the_size() -> None:
    one = open_picture(corners())
    assert one.digest == open_picture(encoded(corners())).digest
    assert one.digest == open_picture(encoded(corners(), "BMP")).digest
    assert one.digest != open_picture(corners().transpose(Image.Transpose.ROTATE_180)).digest
    blank = {open_picture(Image.new("RGB", size)).digest for size in ((20, 30), (30, 20), (10, 60))}
    assert len(blank) == 3
    tall, changed = Image.new("RGB", (20, 600)), Image.new("RGB", (20, 600))
    changed.putpixel((19, 599), (0, 0, 1))  # the last pixel counts too
    assert open_picture(tall).digest != open_picture(changed).digest


# --- kinds that are refused ---

def refusal(source: object, **options) -> str:
    with pytest.raises(PictureError) as caught:
        open_picture(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(("The picture ", *((str(source), Path(source).name)
                               if isinstance(source, str | Path) else ())))
    assert message.endswith(".")
    return message


def test_what_is_no_picture(tmp_path: Path) -> None:
    assert "empty (0 bytes)" in refusal(b"")
    assert "not a picture" in refusal(b"hello, this is a text, and not a picture at all")
    assert "not a picture" in refusal(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert "not a picture" in refusal(b"%PDF-1.7" + bytes(100))
    assert "HEIC" in refusal(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert "not a picture" in refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n")
    assert "does not exist" in refusal(tmp_path / "nowhere.jpg")
    (tmp_path / "empty.jpg").touch()
    assert refusal(tmp_path / "empty.jpg") == "empty.jpg is empty (0 bytes). Choose another file."
    assert "is a folder" in refusal(tmp_path)
    assert "cannot be read" in refusal("a\0b.jpg")
    assert "cannot be read" in refusal("x" * 5000 + ".jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders there")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(refusal(tmp_path / "pipe.jpg")),
                              daemon=True)
    thread.start()
    thread.join(timeout=5)
    assert said and "not a plain file" in said[0]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_cut_off_files(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3)).astype(np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for share in (0.9, 0.5, 0.2):
        assert "cut off" in refusal(data[:int(len(data) * share)]), (kind, share)
    refusal(data[:12])


def test_a_lazily_read_picture_that_breaks_is_refused_too() -> None:
    data = encoded(corners(400, 400), "JPEG")
    assert "cut off" in refusal(Image.open(io.BytesIO(data[:len(data) // 2])))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_raise_nothing_but_picture_errors() -> None:
    random = np.random.default_rng(0)
    sources = {kind: encoded(corners(24, 16), kind)
               for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "ICO", "AVIF")
               if kind in Image.SAVE}
    sources["palette"] = encoded(corners(24, 16).quantize(4), transparency=1)
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Make] = 6, "maker"
    sources["exif"] = encoded(corners(24, 16), "JPEG", exif=exif)
    sources["deflate"] = encoded(corners(24, 16), "TIFF", compression="tiff_adobe_deflate")
    for kind, data in sources.items():
        for _ in range(150):
            broken = bytearray(data)
            for place in random.integers(0, len(data), random.integers(1, 8)):
                broken[place] = random.integers(0, 256)
            try:
                assert open_picture(bytes(broken)).image.mode == "RGB"
            except PictureError:
                pass
            except Exception as error:
                raise AssertionError(f"{kind}: {error!r} from {bytes(broken)!r}") from error


def test_a_png_whose_header_lies() -> None:
    rows = b"".join(b"\0" + bytes([200] * 20) for _ in range(20))
    assert open_picture(png(20, 20, rows)).image.size == (20, 20)
    assert "cut off" in refusal(png(5000, 4000, rows))  # far fewer pixels than it says
    picture = open_picture(png(10, 10, bytes(500)))  # more than it says: the header's size counts
    assert picture.image.size == (10, 10)
    assert refusal(png(0, 20, rows))
    assert refusal(png(2**31 - 1, 2**31 - 1, rows))


def test_200_megapixels_are_refused_at_once_and_undecoded() -> None:
    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(20_001 * 100)) for _ in range(100)) + rows.flush()
    head = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    bomb = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data)
            + chunk(b"IEND", b""))
    assert len(bomb) < 300_000
    start = time.perf_counter()
    assert "limit of 100 megapixels" in refusal(bomb)
    assert time.perf_counter() - start < 0.2  # decoding takes seconds


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limits_are_those_given() -> None:
    side = 10_010  # 100.2 megapixels: over our limit, below Pillow's own
    assert "10010 x 10010 pixels (100 megapixels)" in refusal(png(side, side, b""))
    small = Limits(max_megapixels=1, max_file_megabytes=1, min_side=10, max_aspect=2)
    assert "1000 x 1001" in refusal(Image.new("L", (1000, 1001)), limits=small)
    open_picture(Image.new("L", (1000, 1000)), limits=small)
    assert "at least 10" in refusal(Image.new("L", (9, 10)), limits=small)
    open_picture(Image.new("L", (10, 10)), limits=small)
    assert "Crop it first" in refusal(Image.new("L", (21, 10)), limits=small)
    assert "Crop it first" in refusal(Image.new("L", (10, 21)), limits=small)
    open_picture(Image.new("L", (20, 10)), limits=small)
    assert "1 MB" in refusal(bytes(2**20 + 1), limits=small)
    assert "1 MB" in refusal(io.BytesIO(bytes(2**21)), limits=small)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "Large.png"
    with file.open("wb") as out:
        out.truncate(51 * 2**20)  # a hole: takes no room
    assert "51 MB; the limit is 50 MB" in refusal(file)


def test_tiny_and_very_long_pictures() -> None:
    assert "only 1 x 1" in refusal(Image.new("RGB", (1, 1)))
    assert "at least 8" in refusal(Image.new("RGB", (7, 100)))
    assert open_picture(Image.new("RGB", (8, 8))).image.size == (8, 8)
    assert "at most 30 times" in refusal(Image.new("RGB", (10_000, 10)))
    assert open_picture(Image.new("RGB", (240, 8))).image.size == (240, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_within_a_few_times_the_picture() -> None:
    """Peak above the start, in bytes per pixel; Pillow itself takes 4 for each RGB pixel."""
    code = """
import io
from PIL import Image
from vitdemo.preprocess import open_picture
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status")
                if line.startswith(name))
for mode in ("RGB", "RGBA", "CMYK", "I;16", "F"):
    file = io.BytesIO()
    Image.new(mode, (2500, 2000)).save(file, "TIFF", compression="packbits")
    open_picture(Image.new(mode, (9, 9)))
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    before = status("VmRSS")
    open_picture(file.getvalue())
    print(mode, (status("VmHWM") - before) / 5e6)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=Path(__file__).parent.parent)
    if "clear_refs" in done.stderr:
        pytest.skip("this system does not let the peak be reset")
    assert done.returncode == 0, done.stderr
    peaks = {mode: float(peak) for mode, peak in map(str.split, done.stdout.splitlines())}
    most = {"RGB": 6, "RGBA": 10, "CMYK": 10, "I;16": 10, "F": 12}
    assert all(peaks[mode] < most[mode] for mode in most), peaks


# --- the model's square and the way back ---

def test_to_pixels_is_normalised_rgb_in_the_right_order() -> None:
    mean, std = IMAGENET
    pixels = to_pixels([corners(), corners(31, 90)], 32, mean, std)
    assert pixels.shape == (2, 3, 32, 32) and pixels.dtype == torch.float32
    for one in pixels:
        rgb = (one * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)) * 255
        quarters = [rgb[:, y, x] for y in (8, 24) for x in (8, 24)]  # the whole picture is there
        assert np.abs(torch.stack(quarters).numpy() - np.array(RGB)).max() < 3


def test_symmetric_normalisation_is_that_of_the_lite_networks() -> None:
    mean, std = normalisation("tf_efficientnet_lite2")
    assert (mean, std) == SYMMETRIC
    grey = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    assert to_pixels([grey], 8, mean, std).mean().item() == pytest.approx((200 - 127) / 128)
    assert normalisation("resnet18") == IMAGENET


@pytest.mark.parametrize("size", [(640, 480), (333, 97), (8, 240)])
def test_grid_boxes_tile_the_picture_row_by_row(size: tuple[int, int]) -> None:
    boxes = grid_boxes((7, 9), size)
    assert boxes.shape == (63, 4) and boxes.dtype == np.float32
    assert boxes[0, :2].tolist() == [0, 0] and boxes[-1, 2:].tolist() == list(size)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert areas.sum() == pytest.approx(size[0] * size[1], rel=1e-5)
    assert np.allclose(areas, areas[0], rtol=1e-4)
    rows = boxes.reshape(7, 9, 4)
    assert (rows[:, 1:, 0] == rows[:, :-1, 2]).all()  # neighbours share their edge, to the bit
    assert (rows[1:, :, 1] == rows[:-1, :, 3]).all()
    assert np.allclose(rows[2, 3], [3 * size[0] / 9, 2 * size[1] / 7, 4 * size[0] / 9,
                                    3 * size[1] / 7])


def test_a_bright_cell_of_the_original_is_the_bright_cell_of_the_square() -> None:
    width, height, grid = 300, 120, (4, 8)
    for cell in (0, 5, 17, 31):
        x0, y0, x1, y1 = grid_boxes(grid, (width, height))[cell].round().astype(int)
        image = Image.new("RGB", (width, height))
        image.paste((255, 255, 255), (x0, y0, x1, y1))
        square = to_pixels([image], 64, (0, 0, 0), (1, 1, 1))
        means = torch.nn.functional.adaptive_avg_pool2d(square, grid)[0].mean(0).reshape(-1)
        assert means.argmax() == cell and means[cell] > 0.9 and means.sum() < 1.3
