"""Files that are no picture, broken or over a limit are refused in a clear sentence, at once."""

import io
import os
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from odd_pictures import chunk, corners, encoded, png
from PIL import Image, ImageFile
from PIL.ExifTags import Base

from vitdemo.config import Limits
from vitdemo.errors import PictureError
from vitdemo.preprocess import open_picture


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


def test_200_megapixels_are_refused_at_once_and_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(20_001 * 100)) for _ in range(100)) + rows.flush()
    head = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    bomb = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data)
            + chunk(b"IEND", b""))
    assert len(bomb) < 300_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it was decoded"))
    assert "limit of 100 megapixels" in refusal(bomb)


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
