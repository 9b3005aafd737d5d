"""The gallery over a planted engine: folders with everything that real folders hold."""

import hashlib
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from planted import COLOURS, Planted, picture

from vitdemo.engine import Engine
from vitdemo.errors import PictureError, StoreError, TextError
from vitdemo.retrieval.base import Condition, Stamp, open_index
from vitdemo.retrieval.gallery import STORE_EVERY, Gallery, entry_id


@pytest.fixture
def backend() -> Planted:
    return Planted()


@pytest.fixture
def gallery(backend: Planted) -> Gallery:
    return Engine(backend).gallery()


def save(path: Path, colour: str = "red", size: tuple[int, int] = (12, 9), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLOURS[colour]).save(path, **options)
    return path


def test_add_and_search_by_text_and_by_picture(gallery: Gallery) -> None:
    assert gallery.search_text("red") == []
    assert gallery.add([(f"{colour}.png", picture(colour)) for colour in COLOURS]) == 3
    best, *rest = gallery.search_text("a green thing", limit=3)
    assert (best.path, best.width, best.height) == ("green.png", 40, 30)
    assert best.score == pytest.approx(1, abs=1e-4)
    assert best.id == entry_id("green.png") and len(best.id) == 32
    assert all(hit.score < 0.1 for hit in rest)
    assert gallery.search_picture(picture("blue", (9, 9)), limit=1)[0].path == "blue.png"
    assert gallery.search_text("蓝色", limit=1)[0].path == "blue.png"


def test_the_same_path_replaces_also_within_one_call(gallery: Gallery) -> None:
    gallery.add([("a", picture("red")), ("b", picture("red"))])
    assert gallery.add([("a", picture("green")), ("a", picture("blue"))]) == 1
    assert gallery.count() == 2
    assert gallery.search_text("blue", 1)[0].path == "a"
    assert gallery.search_text("green", 1)[0].score < 0.1
    assert gallery.add([]) == 0
    assert gallery.remove(["a", "nothing"]) == 1 and gallery.count() == 1


def test_wrong_searches_are_refused(gallery: Gallery) -> None:
    with pytest.raises(TextError):
        gallery.search_text("  ")
    with pytest.raises(StoreError, match="at least 1"):
        gallery.search_text("red", limit=0)


def test_a_folder_with_everything_in_it(tmp_path: Path, gallery: Gallery) -> None:
    folder = tmp_path / "photos"
    save(folder / "red.jpg")
    save(folder / "deep" / "er" / "绿 'quoted'.PNG", "green")
    save(folder / "no_ending", "blue", format="PNG")
    save(folder / ".hidden.png", "blue")
    save(folder / ".cache" / "thumbnail.png", "blue")
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "notes.txt").write_text("notes")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 50)
    whole = save(folder / "cut.jpg", size=(200, 200)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[:len(whole) // 2])
    calls: list[tuple[int, int, str]] = []
    report = gallery.add_folder(folder, lambda *call: calls.append(call))
    assert report.added == gallery.count() == 2
    assert {hit.path for hit in gallery.search_text("red")} == {
        str(folder / "red.jpg"), str(folder / "deep" / "er" / "绿 'quoted'.PNG")}
    reasons = {Path(one.path).name: one.reason for one in report.skipped}
    assert set(reasons) == {"empty.jpg", "text.jpg", "phone.heic", "cut.jpg"}
    assert "0 bytes" in reasons["empty.jpg"] and "not a picture" in reasons["text.jpg"]
    assert "HEIC" in reasons["phone.heic"] and "cut off" in reasons["cut.jpg"]
    assert report.ignored == 2  # notes.txt and no_ending
    assert report.folder == str(folder) and report.seconds > 0
    assert [call[:2] for call in calls] == [(n, 6) for n in range(1, 7)]
    assert {call[2] for call in calls} >= {"red.jpg", "绿 'quoted'.PNG", "cut.jpg"}


def test_a_folder_again_adds_nothing_twice(tmp_path: Path, gallery: Gallery,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png")
    gallery.add_folder(tmp_path)
    save(tmp_path / "a.png", "blue")
    save(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    assert gallery.add_folder(Path(".")).added == 2  # the same folder, named otherwise
    assert gallery.count() == 2
    assert Path(gallery.search_text("blue", 1)[0].path).name == "a.png"


def test_links_that_lead_in_circles_end(tmp_path: Path, gallery: Gallery) -> None:
    folder, outside = tmp_path / "photos", tmp_path / "outside"
    save(folder / "a.png")
    save(outside / "b.png")
    try:
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        (folder / "below").mkdir()
        (folder / "below" / "up").symlink_to(folder, target_is_directory=True)
        (folder / "other").symlink_to(outside, target_is_directory=True)
        (outside / "back").symlink_to(folder, target_is_directory=True)
        (folder / "dead.png").symlink_to(folder / "nothing.png")
    except OSError:
        pytest.skip("this system makes no links")
    report = gallery.add_folder(folder)
    assert report.added == 2
    assert [Path(one.path).name for one in report.skipped] == ["dead.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_pipes_sockets_and_names_that_are_no_text(tmp_path: Path, gallery: Gallery) -> None:
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")  # would block for ever when read
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
        try:
            Image.new("RGB", (9, 9)).save(os.fsencode(tmp_path) + b"/caf\xe9.png", "PNG")
            names = {"pipe.png", "socket.png", "caf\\udce9.png"}
        except OSError:
            names = {"pipe.png", "socket.png"}  # a file system that takes only valid text
        report = gallery.add_folder(tmp_path)
    assert report.added == 1
    reasons = {Path(one.path).name: one.reason for one in report.skipped}
    assert set(reasons) == names
    assert "plain file" in reasons["pipe.png"]
    if len(names) == 3:
        assert "Rename" in reasons["caf\\udce9.png"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="may read everything")
def test_what_may_not_be_read_is_reported(tmp_path: Path, gallery: Gallery) -> None:
    save(tmp_path / "a.png").chmod(0)
    save(tmp_path / "closed" / "b.png").parent.chmod(0)
    try:
        report = gallery.add_folder(tmp_path)
    finally:
        (tmp_path / "closed").chmod(stat.S_IRWXU)
    assert {Path(one.path).name for one in report.skipped} == {"a.png", "closed"}


def test_no_folder_is_refused(tmp_path: Path, gallery: Gallery) -> None:
    with pytest.raises(PictureError, match="not a folder"):
        gallery.add_folder(tmp_path / "nowhere")
    with pytest.raises(PictureError, match="not a folder"):
        gallery.add_folder(save(tmp_path / "a.png"))
    (tmp_path / "nothing_in_it").mkdir()
    assert gallery.add_folder(tmp_path / "nothing_in_it").added == 0


def test_batches_are_of_16_pictures_or_100_megapixels(tmp_path: Path, gallery: Gallery,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    embed = Engine.embed_pictures

    def counted(engine: Engine, pictures: Any) -> Any:
        batches.append(len(pictures))
        return embed(engine, pictures)

    monkeypatch.setattr(Engine, "embed_pictures", counted)
    for number in range(35):
        save(tmp_path / "small" / f"{number:02}.png", size=(12, 9 + number))
    gallery.add_folder(tmp_path / "small")
    assert batches == [16, 16, 3]
    batches.clear()
    monkeypatch.setattr("vitdemo.retrieval.indexer.BATCH_MEGAPIXELS", 0.002)
    for number in range(5):
        save(tmp_path / "large" / f"{number}.png", size=(30, 30 + number))
    gallery.add_folder(tmp_path / "large")
    assert batches == [2, 2, 1]


def test_what_was_read_before_an_interruption_is_kept(tmp_path: Path, backend: Planted) -> None:
    for number in range(40):
        save(tmp_path / "photos" / f"{number:02}.png", size=(12, 9 + number))

    def stop(done: int, total: int, name: str) -> None:
        if done == 33:
            raise KeyboardInterrupt

    gallery = Engine(backend).gallery(str(tmp_path / "store"))
    with pytest.raises(KeyboardInterrupt):
        gallery.add_folder(tmp_path / "photos", stop)
    gallery.close()
    assert Engine(backend).gallery(str(tmp_path / "store")).count() == 32


def test_the_store_is_written_every_few_hundred_pictures(tmp_path: Path, gallery: Gallery,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitdemo.retrieval.indexer.STORE_EVERY", 32)
    assert STORE_EVERY >= 100
    sizes: list[int] = []
    add = gallery.index.add
    monkeypatch.setattr(gallery.index, "add",
                        lambda entries: (sizes.append(len(entries)), add(entries)))
    for number in range(70):
        save(tmp_path / f"{number:02}.png", size=(12, 9 + number))
    assert gallery.add_folder(tmp_path).added == gallery.count() == 70
    assert sizes == [32, 32, 6]


def test_metadata_of_a_photograph_can_be_filtered_by(tmp_path: Path, gallery: Gallery) -> None:
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Canon", "Canon EOS 5D"
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "2021:07:14 09:30:00"
    exif[Base.Orientation] = 6
    save(tmp_path / "dated" / "a.jpg", size=(20, 10), exif=exif)
    other = Image.Exif()
    other[Base.Make], other[Base.Model] = "Fuji", "X\0\x07"
    other[Base.DateTime] = "    :  :     :  :  "
    save(tmp_path / "b.jpg", exif=other)
    save(tmp_path / "c.png")
    gallery.add_folder(tmp_path)

    def names(*where: Condition) -> list[str]:
        return [Path(hit.path).name for hit in gallery.search_text("red", where=where)]

    assert names(Condition("taken", "=", "2021-07-14T09:30:00")) == ["a.jpg"]
    assert names(Condition("camera", "=", "Canon EOS 5D")) == ["a.jpg"]
    assert names(Condition("taken", "!=", "")) == ["a.jpg"]
    assert names(Condition("camera", "!=", "")) == ["a.jpg"]
    assert names(Condition("width", "=", 10), Condition("height", "=", 20)) == ["a.jpg"]  # upright
    assert names(Condition("folder", "=", str(tmp_path))) == ["b.jpg", "c.png"]
    content = hashlib.sha256((tmp_path / "c.png").read_bytes()).hexdigest()
    assert names(Condition("content", "=", content)) == ["c.png"]
    assert names(Condition("bytes", "=", (tmp_path / "c.png").stat().st_size)) == ["c.png"]
    modified = (tmp_path / "c.png").stat().st_mtime
    assert "c.png" in names(Condition("modified", "=", modified))


def test_a_store_of_another_model_is_refused(tmp_path: Path) -> None:
    Engine(Planted()).gallery(str(tmp_path)).add([("a", picture("red"))])
    with pytest.raises(StoreError, match=r"planted .revision 1.*revision 2"):
        Engine(Planted(revision="2")).gallery(str(tmp_path))
    assert open_index(str(tmp_path), Stamp("planted", "1", 3)).count() == 1
