"""When a picture was taken, from whatever its file says; the fuzzer holds that nothing raises."""

import os
from pathlib import Path

import numpy as np
import pytest
from indexing import entries, open_gallery
from odd_pictures import corners, encoded
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from vitdemo.camera import DATES, read_date
from vitdemo.preprocess import open_picture
from vitdemo.retrieval.indexer import index_folders
from vitdemo.retrieval.metadata import derived, metadata_of, told_day

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(("text", "right"), [
    ("2024:05:31 18:04:11", "2024-05-31T18:04:11"), ("2024:05:31 18:04:11.25",
                                                     "2024-05-31T18:04:11"),
    ("2024:05:31 18:04:11+02:00", "2024-05-31T18:04:11"), ("2024-05-31T18:04:11Z",
                                                           "2024-05-31T18:04:11"),
    ("2024-05-31 18:04:11.5-0330", "2024-05-31T18:04:11"), ("2024/05/31 18:04:11",
                                                            "2024-05-31T18:04:11"),
    ("2024.05.31 18:04", "2024-05-31T18:04:00"), ("2024: 5: 1  8: 4: 1", "2024-05-01T08:04:01"),
    ("2024:05:31", "2024-05-31"), ("2024:05:31   :  :  ", "2024-05-31"),
    ("2024:05:31 24:00:00", "2024-05-31T00:00:00"), ("2024:05:31 24:13:05", "2024-05-31T00:13:05"),
    ("2024:05:31 23:59:60", "2024-05-31T23:59:59"), ("2024:05:31 77:88:99", "2024-05-31"),
    ("2024:05:31 18:04:11\0\xff2019", "2024-05-31T18:04:11"), (" 2024:05:31 18:04:11 \0",
                                                               "2024-05-31T18:04:11"),
    ("2024:02:29 00:00:00", "2024-02-29T00:00:00"),
    ("0000:00:00 00:00:00", ""), ("    :  :     :  :  ", ""), ("", ""), ("2024:02:30 10:00:00", ""),
    ("0001:01:01 00:00:00", ""), ("2024:00:00 00:00:00", ""), ("yesterday", ""),
    ("2024:05:311 18:04:11", ""), ("\0\0\0", "")])
def test_dates_as_they_are_written(text: str, right: str) -> None:
    assert read_date(text) == right


GOOD = "2020:02:02 02:02:02"


def exif_of(original: object = None, digitized: object = None, gps: str = "",
            modified: object = None, camera: str = "") -> Image.Exif:
    exif = Image.Exif()
    for tag, value in ((Base.DateTimeOriginal, original), (Base.DateTimeDigitized, digitized)):
        if value is not None:
            exif.get_ifd(IFD.Exif)[tag] = value
    if gps:
        exif.get_ifd(IFD.GPSInfo)[GPS.GPSDateStamp] = gps
        exif.get_ifd(IFD.GPSInfo)[GPS.GPSTimeStamp] = (7.0, 8.0, 9.5)
    if modified is not None:
        exif[Base.DateTime] = modified
    if camera:
        exif[Base.Make], exif[Base.Model] = "Canon", camera
    return exif


def told(exif: Image.Exif, kind: str = "JPEG") -> tuple[object, object]:
    camera = open_picture(encoded(corners(), kind, exif=exif)).camera
    return camera.get("taken"), camera.get("dated")


def test_the_best_date_counts_and_is_named() -> None:
    assert DATES == ("original", "digitized", "gps", "modified", "file")
    later = "2023:03:03 03:03:03"
    assert told(exif_of(GOOD, later, "2023:01:01", later)) == ("2020-02-02T02:02:02", "original")
    assert told(exif_of(None, GOOD, "2023:01:01", later)) == ("2020-02-02T02:02:02", "digitized")
    assert told(exif_of(None, None, "2020:02:02", later)) == ("2020-02-02T07:08:09", "gps")
    assert told(exif_of(modified=GOOD)) == ("2020-02-02T02:02:02", "modified")
    for none in ("0000:00:00 00:00:00", "    :  :     :  :  ", "", "soon"):
        assert told(exif_of(none, GOOD, "", later)) == ("2020-02-02T02:02:02", "digitized")
    assert told(exif_of("0000:00:00 00:00:00")) == (None, None)
    misplaced = Image.Exif()
    misplaced[Base.DateTimeOriginal], misplaced[Base.DateTime] = GOOD, later
    assert told(misplaced) == ("2020-02-02T02:02:02", "original")


MODES = {"L": "JPEG", "1": "PNG", "P": "PNG", "LA": "PNG", "RGBA": "PNG", "CMYK": "JPEG",
         "I;16": "TIFF", "F": "TIFF"}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_picture_keeps_date_and_camera(mode: str) -> None:
    image = (Image.fromarray(np.full((16, 16), 999, np.uint16)) if mode == "I;16" else
             corners().convert("L").convert(mode) if mode == "F" else corners().convert(mode))
    exif = exif_of(GOOD, camera="Canon EOS 5D")
    exif[Base.Orientation] = 6
    for kind in {MODES[mode], "TIFF", "PNG" if mode not in ("CMYK", "F") else "TIFF"}:
        found = open_picture(encoded(image, kind, exif=exif.tobytes())).camera
        assert found == {"taken": "2020-02-02T02:02:02", "dated": "original",
                         "camera": "Canon EOS 5D"}, (mode, kind)


def test_the_store_keeps_which_date_it_is(tmp_path: Path) -> None:
    corners().save(tmp_path / "taken.jpg", exif=exif_of(GOOD))
    corners().convert("L").save(tmp_path / "edited.png", exif=exif_of(modified=GOOD))
    corners().save(tmp_path / "none.png")
    os.utime(tmp_path / "none.png", (1_600_000_000, 1_600_000_000))
    gallery, _ = open_gallery()
    index_folders(gallery, [tmp_path], workers=1)
    found = entries(gallery)
    assert {name: (one.metadata["day"], one.metadata["dated"]) for name, one in found.items()} == {
        "taken.jpg": ("2020-02-02", "original"), "edited.png": ("2020-02-02", "modified"),
        "none.png": ("2020-09-13", "file")}
    assert told_day(found["taken.jpg"].metadata) == "2020-02-02 (taken)"
    assert told_day(found["none.png"].metadata) == "2020-09-13 (of the file)"
    path = str(tmp_path / "edited.png")
    assert metadata_of(path, open_picture(path))["dated"] == "modified"


def test_an_absurd_time_of_the_file_is_no_day() -> None:
    for time in (99_999_999_999_999.0, -1e18, float("inf"), float("nan")):
        assert derived(4, 3, {"modified": time}) == {"orientation": "landscape"}


def test_whatever_the_tags_hold_the_picture_is_read() -> None:
    """A small fuzzer over EXIF data: types, counts, offsets and values are changed at random."""
    random = np.random.default_rng(11)
    exif = exif_of(GOOD, GOOD, "2020:02:02", GOOD, "Canon EOS")
    exif[Base.Orientation], exif[Base.XResolution] = 6, 72.5
    whole = exif.tobytes()
    digest = open_picture(encoded(corners(24, 16), exif=exif)).digest
    same = 0
    for turn in range(300):
        broken = bytearray(whole)
        for place in random.integers(6, len(whole), 1 + turn % 4):
            broken[place] = random.integers(0, 256)
        kind = ("JPEG", "PNG", "WEBP")[turn % 3]
        found = open_picture(encoded(corners(24, 16), kind, exif=bytes(broken)))
        assert sorted(found.image.size) == [16, 24]
        same += kind == "PNG" and found.digest == digest
    assert same > 60  # nearly all are still turned upright


def test_a_turn_with_a_tag_of_an_odd_type_beside_it_is_made() -> None:
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Software] = 6, "x"
    data = exif.tobytes()
    place = data.index(b"\x01\x31\x00\x02") + 2
    for kind in range(1, 14):  # a text that says it is a number, a fraction, ...
        odd = data[:place] + bytes((0, kind)) + data[place + 2:]
        assert open_picture(encoded(corners(), "JPEG", exif=odd)).image.size == (40, 60), kind
