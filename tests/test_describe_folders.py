"""``python -m vitdemo describe``: what it writes, and that nothing of it is ever lost."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from planted import COLOURS, Planted, picture, save_colours

from train.data.reading import read_split
from vitdemo import description_files, disk, sidecars
from vitdemo.backends.base import PictureFeatures
from vitdemo.config import Decoding, EngineConfig
from vitdemo.describe_command import outputs
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, DiskError, VitDemoError
from vitdemo.folder_descriptions import DescribeReport, describe_folders
from vitdemo.records import Wishes
from vitdemo.sidecars import read_sidecar

QUESTION = "which colour is it?"
BOTH = Wishes(("en", "zh"), (QUESTION,))


class Naming(Planted):
    """The planted model with an eye for names."""

    def surely_seen(self, features: PictureFeatures, text: str, language: str) -> tuple[str, ...]:
        return ("wall", "paint")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_colours(tmp_path / "photos of 猫")


def described(folder: Path, forms: Sequence[str], existing: str = "skip",
              wishes: Wishes = BOTH, out: str = "") -> DescribeReport:
    return describe_folders(Engine(Naming()), outputs([str(folder)], forms, out, existing), wishes,
                            workers=1)


def counts(report: DescribeReport) -> tuple[int, int]:
    return report.described, report.unchanged


@pytest.mark.parametrize("form", ["json", "xmp", "jsonl", "csv", "metadata"])
def test_each_form_is_read_back_and_only_what_changed_is_described(photos: Path, form: str) -> None:
    before = (photos / "red.png").read_bytes()
    report = described(photos, [form])
    assert counts(report) == (3, 0)
    assert [Path(one.path).name for one in report.skipped] == ["broken.jpg"]
    red = str(photos / "red.png")
    (_, output), = outputs([str(photos)], [form], "", "skip")
    row = output.row(red)
    assert row is not None
    assert row["captions"] == ["A red picture."] and row["captions_zh"] == ["一张红图。"]
    assert [(one["question"], one["answer"]) for one in row["qa"]] == [(QUESTION, "red")]
    assert row["names"] == ["wall", "paint"]
    assert counts(described(photos, [form])) == (0, 3)
    Image.new("RGB", (40, 30), COLOURS["green"]).save(red)
    os.utime(red, (1, 1))
    assert counts(described(photos, [form])) == (1, 2)
    (_, output), = outputs([str(photos)], [form], "", "skip")
    assert (output.row(red) or {})["captions"] == ["A green picture."]
    os.utime(red, (2, 2))  # a new date alone
    assert counts(described(photos, [form])) == (0, 3)
    assert (photos / "red.png").read_bytes() != before  # by this test; by nothing else:
    assert (photos / "green.png").read_bytes() == red_bytes(photos, "green")


def red_bytes(photos: Path, name: str) -> bytes:
    file = photos / "same.bin"
    Image.new("RGB", (40, 30), COLOURS[name]).save(file, "PNG")
    return file.read_bytes()


def test_text_and_xmp_hold_what_other_programs_read(photos: Path) -> None:
    described(photos, ["txt", "xmp"])
    text = (photos / "red.png.txt").read_text("utf-8")
    assert text == f"A red picture.\n一张红图。\n\n{QUESTION} red\n\nwall, paint\n"
    root = ET.parse(photos / "red.png.xmp").getroot()
    rdf, dc = sidecars._SPACES["rdf"], sidecars._SPACES["dc"]
    alternatives = root.findall(f".//{{{dc}}}description/{{{rdf}}}Alt/{{{rdf}}}li")
    assert [(list(one.attrib.values()), one.text) for one in alternatives] == [
        (["x-default"], "A red picture."), (["zh"], "一张红图。")]
    bag = root.findall(f".//{{{dc}}}subject/{{{rdf}}}Bag/{{{rdf}}}li")
    assert [one.text for one in bag] == ["wall", "paint"]


def test_a_described_folder_is_read_by_training(photos: Path) -> None:
    described(photos, ["metadata"])
    (photos / "broken.jpg").unlink()
    rows = read_split(photos).rows
    assert {row.path.name: row.captions for row in rows} == {
        f"{name}.png": (f"A {name} picture.",) for name in COLOURS}
    assert all(row.captions_zh and row.questions[0].question == QUESTION for row in rows)


@pytest.mark.parametrize("form", ["metadata", "json"])
def test_what_somebody_wrote_is_left_added_to_or_replaced(photos: Path, form: str) -> None:
    own = {"file_name": "red.png", "captions": ["My wall."], "rating": 5}
    file = photos / ("metadata.jsonl" if form == "metadata" else "red.png.json")
    file.write_text(json.dumps(own) + "\n")

    def row() -> dict[str, object]:
        (_, output), = outputs([str(photos)], [form], "", "skip")
        return output.row(str(photos / "red.png")) or {}

    assert counts(described(photos, [form])) == (2, 1) and row() == own
    assert counts(described(photos, [form], "append")) == (1, 2)
    assert row()["captions"] == ["My wall.", "A red picture."] and row()["rating"] == 5
    assert counts(described(photos, [form], "append")) == (0, 3)
    again = Wishes(("en",), ("is it red?",))
    assert counts(described(photos, [form], "append", again)) == (3, 0)
    assert len(row()["qa"]) == 2  # type: ignore[arg-type]
    assert row()["captions"] == ["My wall.", "A red picture."]
    assert counts(described(photos, [form], "overwrite")) == (3, 0)
    assert row()["captions"] == ["A red picture."] and row()["rating"] == 5
    if form == "metadata":
        (photos / "broken.jpg").unlink()
        assert len(read_split(photos).rows) == 3  # each picture once


def test_the_xmp_of_another_program_keeps_its_own(photos: Path) -> None:
    file = photos / "red.png.xmp"
    theirs = ('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
              '22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap'
              '/1.0/" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>')
    file.write_text(theirs)
    described(photos, ["xmp"])
    assert file.read_text() == theirs
    described(photos, ["xmp"], "append")
    assert 'xmp:Rating="5"' in file.read_text()
    assert (read_sidecar(file, "xmp") or {})["captions"] == ["A red picture."]
    file.write_text("<x:xmp")
    report = described(photos, ["xmp"], "overwrite")
    assert file.read_text() == "<x:xmp" and [one.path for one in report.left] == [str(file)]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_torn_last_line_is_mended(photos: Path, form: str) -> None:
    file = photos / f"descriptions.{form}"
    described(photos, [form])
    whole = file.read_bytes()
    for cut in (1, 20, 300):
        file.write_bytes(whole[:-cut])
        report = described(photos, [form])
        assert report.described + report.unchanged == 3 and report.described <= 2
        assert file.read_bytes().count(b"\n") == whole.count(b"\n")
    file.write_bytes(whole[:5])  # hardly begun
    assert counts(described(photos, [form])) == (3, 0)
    assert file.read_bytes() == whole


def test_another_table_is_refused(photos: Path) -> None:
    (photos / "descriptions.csv").write_text("name,price\nx,1\n")
    with pytest.raises(ConfigError, match="--out"):
        described(photos, ["csv"])
    assert (photos / "descriptions.csv").read_text() == "name,price\nx,1\n"


def test_a_text_is_no_formula_in_the_table(tmp_path: Path) -> None:
    table = description_files.Table(tmp_path / "t.csv", "skip")
    row = {"captions": ["=1+1"], "captions_zh": [], "qa": [], "names": [], "content": "c",
           "bytes": 1, "modified": 2.5, "made": ["0123456789ab"]}
    table.write([(str(tmp_path / "a.png"), row)])
    assert "'=1+1" in (tmp_path / "t.csv").read_text("utf-8-sig")
    back = description_files.Table(tmp_path / "t.csv", "skip").row(str(tmp_path / "a.png"))
    assert back == {"file_name": "a.png", **row}


@pytest.mark.parametrize("form", ["json", "xmp", "txt", "jsonl", "csv"])
def test_a_full_disk_is_a_sentence_and_loses_nothing(photos: Path, form: str,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    described(photos, [form])
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(description_files.os, "fsync", full)
        patch.setattr(disk, "sync", full)
        with pytest.raises(DiskError, match="disk is full.*What was there before is kept"):
            described(photos, [form], "overwrite")
    assert before == {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    assert counts(described(photos, [form])) == (0, 3)


def test_out_goes_with_one_file_only(photos: Path, tmp_path: Path) -> None:
    for forms, out in ((["json"], "a.jsonl"), (["jsonl", "csv"], "a.csv"),
                       (["csv"], str(tmp_path / "none" / "a.csv"))):
        with pytest.raises(ConfigError):
            outputs([str(photos)], forms, out, "skip")
    described(photos, ["jsonl"], out=str(tmp_path / "all.jsonl"))
    names = [json.loads(line)["file_name"] for line in (tmp_path / "all.jsonl").open()]
    assert sorted(names) == [f"photos of 猫/{name}.png" for name in ("green", "more/blue", "red")]


def test_what_the_model_cannot_do_is_told_before_anything_is_written(photos: Path) -> None:
    engine = Engine(Planted(languages=("en",)))
    with pytest.raises(VitDemoError, match="planted"):
        describe_folders(engine, outputs([str(photos)], ["json"], "", "skip"), BOTH, workers=1)
    assert not list(photos.rglob("*.json"))


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("stop", ["SIGKILL", "SIGINT"])
def test_a_run_that_is_ended_carries_on(tiny_checkpoint: Path, tmp_path: Path, stop: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(60):
        Image.new("RGB", (30, 20), (number * 4, 90, 200)).save(folder / f"{number:02}.png")
    lines = folder / "descriptions.jsonl"
    command = [sys.executable, "-c",
               "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
               "import vitdemo.folder_descriptions as f; f.BATCH = 2; "
               "import sys; from vitdemo.cli import main; sys.exit(main(sys.argv[1:]))",
               "describe", str(folder), "--write", "jsonl", "--write", "json", "--model",
               str(tiny_checkpoint), "--device", "cpu", "--workers", "1", "--strategy", "greedy",
               "--max-tokens", "8"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 200
        while not lines.exists() or lines.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, getattr(signal, stop))
        _, said = process.communicate(timeout=200)
    if stop == "SIGINT":
        assert process.returncode == 130 and "The same command carries on" in said
    saved = [json.loads(line) for line in lines.read_bytes().split(b"\n")[:-1]]
    assert 4 <= len(saved) < 60
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.png.json")}
    assert all(json.loads(path.read_text("utf-8")) for path in kept)
    done = subprocess.run(command, cwd=root, text=True, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in lines.open(encoding="utf-8")]
    assert len({row["file_name"] for row in rows}) == len(rows) == 60
    assert rows[:len(saved)] == saved  # nothing was lost or written again
    assert len(list(folder.glob("*.png.json"))) == 60
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_a_batch_says_what_single_pictures_get(tiny_checkpoint: Path) -> None:
    engine = Engine.load(EngineConfig(model=str(tiny_checkpoint), device="cpu"))
    pictures = [picture(colour) for colour in COLOURS]
    greedy = Decoding(strategy="greedy", max_tokens=8)
    said = engine.describe(pictures, Wishes(("en",), (QUESTION,)), greedy)
    assert [one.captions for one in said] == [
        (engine.caption(one, decoding=greedy).text,) for one in pictures]
    assert [one.answers for one in said] == [(engine.ask(one, QUESTION).text,) for one in pictures]
