"""Hits as files: what stands in them, and what is kept out."""

import csv
import json
import math
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from vitdemo.config import Limits
from vitdemo.errors import ConfigError, DiskError, PictureError
from vitdemo.records import Hit
from vitdemo.retrieval import export
from vitdemo.retrieval.export import LEFT_OUT, write_hits


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
