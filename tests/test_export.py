"""Hits as files: what stands in them, and what is kept out."""

import csv
import json
import math
import os
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from vitdemo.config import Limits
from vitdemo.errors import ConfigError, DiskError, PictureError
from vitdemo.records import Hit
from vitdemo.retrieval import export
from vitdemo.retrieval.export import LEFT_OUT, write_hits, zip_name
from vitdemo.tables import cell


@pytest.fixture
def hits(tmp_path: Path) -> list[Hit]:
    found = []
    for place, name in enumerate(("=cmd().png", "猫, “quoted”.png", "same.png")):
        folder = tmp_path / str(place)
        folder.mkdir()
        Image.new("RGB", (20, 10 + place), (place, 0, 0)).save(folder / name)
        found.append(Hit(str(place), str(folder / name), 0.5 - 0.1 * place, 20, 10 + place,
                         {"day": "2024-05-31", "camera": "Canon", "orientation": "landscape"},
                         0.9 if place == 0 else math.nan))
    return found


def test_a_table_for_spreadsheets(hits: list[Hit], tmp_path: Path) -> None:
    assert write_hits(tmp_path / "hits.csv", hits) == []
    text = (tmp_path / "hits.csv").read_text(encoding="utf-8-sig")
    assert (tmp_path / "hits.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["place"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["name"] == "'=cmd().png"  # no formula
    assert rows[1]["name"] == "猫, “quoted”.png" and rows[1]["path"] == hits[1].path
    assert (rows[0]["score"], rows[0]["match"], rows[1]["match"]) == ("0.5", "0.9", "")
    assert rows[2]["camera"] == "Canon" and rows[2]["height"] == "12"


def test_json_for_programs(hits: list[Hit], tmp_path: Path) -> None:
    write_hits(tmp_path / "hits.json", hits, "“cat” − “indoor”", paths=False)
    found = json.loads((tmp_path / "hits.json").read_text(encoding="utf-8"))
    assert found["query"] == "“cat” − “indoor”"
    assert found["hits"][0]["match"] == 0.9 and found["hits"][1]["match"] is None
    assert all("path" not in row for row in found["hits"])  # where others look on
    assert str(tmp_path) not in json.dumps(found)


def test_copies_in_their_order_with_the_table(hits: list[Hit], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    os.remove(hits[1].path)
    missing = write_hits(tmp_path / "hits.zip", hits, progress=lambda *far: told.append(far))
    assert missing == ["2: 猫, “quoted”.png is no longer there."]
    with zipfile.ZipFile(tmp_path / "hits.zip") as archive:
        assert archive.namelist() == ["01 =cmd().png", "03 same.png", "table.csv", LEFT_OUT]
        assert archive.read("03 same.png") == Path(hits[2].path).read_bytes()
        assert missing[0] in archive.read(LEFT_OUT).decode()
        assert archive.testzip() is None
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["hits.zip"]


@pytest.mark.parametrize(("seconds", "date"), [
    (0, (1980, 1, 1)), (-10**9, (1980, 1, 1)), (4_500_000_000, (2107, 12, 31)),
    (99_999_999_999, (2107, 12, 31)), (1_700_000_000, (2023, 11, 14))])
def test_a_zip_holds_pictures_of_any_year(seconds: int, date: tuple[int, ...],
                                          tmp_path: Path) -> None:
    file = tmp_path / "old.png"
    Image.new("RGB", (9, 9)).save(file)
    os.utime(file, (seconds, seconds))
    if abs(file.stat().st_mtime - seconds) > 1:
        pytest.skip("this file system keeps no such time")
    assert write_hits(tmp_path / "x.zip", [Hit("1", str(file), 1.0, 9, 9)]) == []
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        info = archive.infolist()[0]
        assert abs(info.date_time[0] - date[0]) <= 0 and info.external_attr >> 16 & 0o400
        assert info.date_time[:2] == date[:2]
        assert archive.read(info) == file.read_bytes()


def test_a_time_that_no_calendar_has_ends_nothing(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "odd.png"
    Image.new("RGB", (9, 9)).save(file)
    os.utime(file, (12345, 12345))
    usual = time.localtime

    def refuse(seconds: float) -> time.struct_time:
        if seconds == 12345:
            raise OverflowError("timestamp out of range for platform time_t")
        return usual(seconds)

    monkeypatch.setattr(export.time, "localtime", refuse)
    write_hits(tmp_path / "x.zip", [Hit("1", str(file), 1.0, 9, 9)])
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.infolist()[0].date_time[0] == 2107


@pytest.mark.parametrize("name", ["x" * 250 + ".png", "é" * 125 + ".png", "猫" * 83 + ".jpg",
                                  "🐱" * 62 + ".jpeg", "a" * 254, "." + "b" * 253,
                                  "c." + "d" * 250, "a\x1b[31m\n\x9b\u202e\udcff.png", "plain.png"])
@pytest.mark.parametrize("place", [1, 2000])
def test_no_name_in_a_zip_is_longer_than_a_name_may_be(name: str, place: int) -> None:
    found = zip_name(f"/photos/{name}", place, 4)
    assert len(found.encode()) <= 255 and found.startswith(f"{place:04d} ")
    assert not set(found) & set("\x1b\n\x9b\u202e\udcff/")
    if len(name.rpartition(".")[2]) < 10:
        assert found.endswith(name.rpartition(".")[2])
    assert name != "plain.png" or found == f"{place:04d} plain.png"


def test_a_hit_that_became_something_else_is_left_out(hits: list[Hit], tmp_path: Path) -> None:
    os.remove(hits[0].path)
    os.mkdir(hits[0].path)
    if hasattr(os, "mkfifo"):
        os.remove(hits[1].path)
        os.mkfifo(hits[1].path)  # would be waited for, for ever
    missing = write_hits(tmp_path / "hits.zip", hits)
    assert missing[0] == "1: =cmd().png cannot be read: it is a folder."
    assert not hasattr(os, "mkfifo") or "is not a plain file" in missing[1]


FORMULAS = ("=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＋1", "－1",
            "＠x", "\u200b=1")


def test_one_rule_for_formulas_in_every_table(tmp_path: Path) -> None:
    write_hits(tmp_path / "hits.csv", [
        Hit("1", f"/{text}", 0.5, 9, 9, {"camera": text, "day": text}) for text in FORMULAS])
    with open(tmp_path / "hits.csv", encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.reader(stream))
    assert not any(_runs(one) for row in rows for one in row), rows
    assert {"'" + text for text in FORMULAS} <= {one for row in rows for one in row}
    assert all(cell(text) == "'" + text for text in FORMULAS)
    assert cell(-0.5) == -0.5 and cell("a=b") == "a=b" and cell("") == "" and cell(None) is None


def _runs(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lstrip(" \u200b")[:1] in (*"=+-@\t\r\n＝＋－＠",)
    return False


def test_names_that_another_system_cannot_write_are_changed(tmp_path: Path) -> None:
    name = "a:b*c?.png" if os.name != "nt" else "abc.png"
    Image.new("RGB", (9, 9)).save(tmp_path / name, "PNG")
    write_hits(tmp_path / "x.zip", [Hit("1", str(tmp_path / name), 1.0, 9, 9)])
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist()[0] == ("01 a_b_c_.png" if os.name != "nt" else "01 abc.png")


def test_what_cannot_be_written_leaves_nothing(hits: list[Hit], tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"\.csv, \.json, \.zip"):
        write_hits(tmp_path / "hits.txt", hits)
    with pytest.raises(DiskError):
        write_hits(tmp_path / "nowhere" / "hits.csv", hits)
    monkeypatch.setattr(export, "LIMITS", Limits(max_zip_megabytes=0))
    with pytest.raises(PictureError, match="over 0 MB together"):
        write_hits(tmp_path / "hits.zip", hits)
    monkeypatch.undo()
    for hit in hits:
        os.remove(hit.path)
    with pytest.raises(PictureError, match="None of these"):
        write_hits(tmp_path / "hits.zip", hits)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_what_ends_the_work_leaves_nothing(hits: list[Hit], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_hits(tmp_path / "hits.zip", hits, progress=stop)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
