"""Pictures of every odd kind end as upright RGB; what is refused is in test_refusals.py."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_pictures import RGB, close, corners, encoded, png, seen
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from vitdemo.errors import PictureError
from vitdemo.preprocess import (
    IMAGENET,
    SYMMETRIC,
    grid_boxes,
    normalisation,
    open_picture,
    to_pixels,
)

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
