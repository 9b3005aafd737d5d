"""Filters: what is refused, what an index makes of them, and that both ways agree."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from planted import COLOURS, Planted

from vitdemo.engine import Engine
from vitdemo.errors import StoreError
from vitdemo.retrieval.filters import Filters, day, orientation_of
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import index_folders
from vitdemo.retrieval.query import Query


def save(path: Path, size: tuple[int, int], taken: str = "", camera: str = "",
         modified: float = 1_600_000_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if taken:
        exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = taken
    if camera:
        exif[Base.Model] = camera
    Image.new("RGB", size, COLOURS["red"]).save(path, exif=exif)
    os.utime(path, (modified, modified))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dated")
    save(folder / "a" / "wide.jpg", (60, 20), "2024:05:31 23:59:59", "Canon EOS")
    save(folder / "a" / "deep" / "tall.jpg", (20, 60), "2024:06:01 00:00:00", "Nikon")
    save(folder / "ab" / "even.jpg", (30, 30))  # of 2020-09-13, by the file
    return folder


@pytest.fixture(scope="module")
def gallery(folder: Path) -> Gallery:
    made = Engine(Planted()).gallery()
    index_folders(made, [folder], workers=1)
    return made


@pytest.mark.parametrize(("filters", "names"), [
    (Filters(), ["even", "tall", "wide"]),
    (Filters(folder="a"), ["tall", "wide"]),  # and not "ab", whose name begins alike
    (Filters(folder="a/deep/"), ["tall"]),
    (Filters(after="2024-06-01"), ["tall"]),
    (Filters(before="2024-05-31"), ["even", "wide"]),
    (Filters(after="2024-05", before="2024-05"), ["wide"]),
    (Filters(after="2024", before="2024"), ["tall", "wide"]),
    (Filters(before="2020-09-14"), ["even"]),  # no camera's date: the file's counts
    (Filters(min_width=30), ["even", "wide"]), (Filters(max_width=30), ["even", "tall"]),
    (Filters(min_height=30, max_height=59), ["even"]),
    (Filters(orientation="portrait"), ["tall"]), (Filters(orientation="landscape"), ["wide"]),
    (Filters(orientation="square"), ["even"]), (Filters(camera="EOS"), ["wide"]),
    (Filters(camera="canon eos"), ["wide"]),
    (Filters(camera="Nikon", orientation="landscape"), [])])
def test_what_fits_is_found_and_nothing_else(filters: Filters, names: list[str], folder: Path,
                                             gallery: Gallery) -> None:
    if filters.folder:
        filters = Filters(folder=str(folder / filters.folder))
    vector = Query.of("red").vector(gallery.embedder)
    found = gallery.search(vector, 12, filters.conditions())
    assert sorted(Path(hit.path).stem for hit in found) == names
    for hit in gallery.search(vector, 12):  # what is said of one picture agrees
        reasons = filters.against(hit.path, hit.width, hit.height, hit.metadata)
        assert bool(reasons) == (Path(hit.path).stem not in names), (hit, reasons)


def test_reasons_are_in_plain_words() -> None:
    filters = Filters("/b", "2024", "", 100, 0, 0, 10, "portrait", "Canon")
    assert filters.against("/a/x.jpg", 40, 30, {"day": "2023-01-01"}) == [
        "it does not lie in /b", "it is of 2023-01-01", "its width is 40 pixels",
        "its height is 30 pixels", "it is landscape", "its camera is not known"]
    assert Filters(before="2024").against("/a", 9, 9, {}) == ["its date is not known"]
    assert not Filters() and Filters(camera="x")


@pytest.mark.parametrize(("settings", "named"), [
    ({"after": "31.5.2024"}, "2024-05-31"), ({"before": "2024-02-30"}, "“2024-02-30” is no date"),
    ({"after": "2024-13"}, "no date"), ({"after": "2024-00"}, "“2024-00” is no date"),
    ({"before": "2024-02-00"}, "no date"), ({"after": "2024-00-07"}, "no date"),
    ({"after": "0000"}, "no date"), ({"before": "20240"}, "no date"), ({"after": 2024}, "a text"),
    ({"after": "²⁰²⁴"}, "no date"), ({"after": "9" * 5000}, "is no date"),
    ({"min_width": 10**30}, "at most 1,000,000"), ({"max_width": True}, "max_width is True"),
    ({"min_width": float("nan")}, "whole number"), ({"camera": "a\0b"}, "camera"),
    ({"folder": "\udcff"}, "folder"), ({"orientation": ["square"]}, "orientation"),
    ({"after": "2025", "before": "2024"}, "after 2025"),
    ({"min_width": -1}, "min_width is -1"), ({"min_height": 2.5}, "whole number"),
    ({"min_width": 50, "max_width": 40}, "at least 50 and at most 40"),
    ({"orientation": "wide"}, "landscape, portrait, square")])
def test_what_makes_no_sense_is_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(StoreError, match=named):
        Filters(**settings)  # type: ignore[arg-type]


def test_days_months_and_years() -> None:
    assert day("2024-5-1", first=True) == day("2024-05-01", first=False) == "2024-05-01"
    assert (day("2024-02", first=True), day("2024-02", first=False)) == ("2024-02-01", "2024-02-31")
    assert (day("2024", first=True), day("2024", first=False)) == ("2024-01-01", "2024-12-31")
    assert day("", first=True) == day(" ", first=False) == "" and not Filters(after=" ")
    for text in ("2024/5/31", "2024.05.31", "2024–05–31", "２０２４－０５－３１", " 2024-05-31 "):
        assert day(text, first=True) == "2024-05-31"
    assert day("0099", first=True) == "0099-01-01" and day("0099-2", first=False) == "0099-02-31"
    assert [orientation_of(*size) for size in ((2, 1), (1, 2), (1, 1))] == [
        "landscape", "portrait", "square"]


def test_any_date_is_read_exactly_or_refused() -> None:
    random = np.random.default_rng(0)
    pieces = ["2024", "1999", "0000", "-", "/", "–", ".", "0", "00", "1", "2", "02", "12", "13",
              "30", "31", "99", " ", "x", "５", ""]
    read = 0
    for _ in range(1000):
        text = "".join(random.choice(pieces, random.integers(1, 7)))
        try:
            first, last = day(text, first=True), day(text, first=False)
        except StoreError:
            continue
        if not text.strip():
            continue
        read += 1
        parts = [int(one) for one in re.split("[-/–.]", text.strip())]
        assert [int(one) for one in first.split("-")][:len(parts)] == parts, text
        assert first[:len(last)] <= last and last[:4] == first[:4], text
        assert len(parts) == 3 or first.endswith("-01"), text
    assert read > 20


def test_links_that_lead_out_of_the_allowed_folders_are_not_read(tmp_path: Path) -> None:
    save(tmp_path / "in" / "own.png", (20, 20))
    save(tmp_path / "out" / "secret.png", (20, 20))
    (tmp_path / "in" / "secret.png").symlink_to(tmp_path / "out" / "secret.png")
    (tmp_path / "in" / "all").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "own.png")  # leads nowhere new
    (tmp_path / "in" / "twice.png").symlink_to(tmp_path / "in" / "own.png")
    gallery = Engine(Planted()).gallery()
    report = index_folders(gallery, [tmp_path / "in"], workers=1, inside=[tmp_path / "in"])
    assert report.added == 2 and gallery.count() == 2
    assert sorted(Path(one.path).name for one in report.skipped) == ["all", "secret.png"]
    assert all("leads out" in one.reason for one in report.skipped)
    assert index_folders(gallery, [tmp_path / "in"], workers=1).added == 2  # all are allowed
