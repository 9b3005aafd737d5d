"""Good pictures stay in a store: drives that are not mounted, odd terminals, want of memory."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from indexing import entries, open_gallery, paint

from vitdemo import file_names
from vitdemo.errors import PictureError, TextError
from vitdemo.index_command import _print_report
from vitdemo.retrieval import reader, readers
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import IndexReport, index_folders
from vitdemo.retrieval.metadata import derived
from vitdemo.retrieval.readers import Reading
from vitdemo.retrieval.unreadable import Unreadable
from vitdemo.retrieval.walk import State, look_through, passed_over_lines
from vitdemo.texts import Message, from_json, speaking
from vitdemo.words import clean_text

ROOT = Path(__file__).parent.parent


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four pictures in each of two folders, the second of which is a link to a drive."""
    for number in range(8):
        folder = tmp_path / ("photos/a" if number < 4 else "drive/2024")
        paint(folder / f"{number}.png", number + 1)
    (tmp_path / "photos" / "b").symlink_to(tmp_path / "drive")
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process."""
    monkeypatch.setattr(readers._Process, "read", lambda _, path, side: read(path, side))


def read(path: str, side: int) -> Reading:
    head, pixels = reader.read(file_names.on_disk(path), side, path)
    head.pop("pixels", None)
    if "inside" in head:  # what is written into it was asked for, and not the picture
        return Reading(content=head["content"], camera={"inside": head["inside"]})
    if "error" in head:
        head["error"] = from_json(head["error"])
        head.pop("fault", None)  # is for the log
    return Reading(**{**head, "size": tuple(head.get("size", (0, 0))), "pixels": pixels})


def update(gallery: Gallery, *folders: Path, prune: bool = False) -> IndexReport:
    return index_folders(gallery, folders, workers=1, prune=prune)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


# What vanishes all at once

CASES = {
    "the folder is empty": (lambda photos: empty(photos), ".", 8, "is empty"),
    "a folder in it is empty": (lambda photos: empty(photos / "a"), "a", 4, "a is empty"),
    "a folder in it is gone": (lambda photos: shutil.rmtree(photos / "a"), "a", 4,
                               "a is no longer there"),
    "the drive is empty": (lambda photos: empty(photos.parent / "drive"), "b", 4, "b is empty"),
    "the link leads nowhere": (lambda photos: shutil.rmtree(photos.parent / "drive"), "b", 4,
                               "b is a link that leads nowhere"),
    "a file is where it was": (lambda photos: (shutil.rmtree(photos / "a"),
                                               (photos / "a").write_text("x")), "a", 4,
                               "a is no folder any more"),
    "most are gone": (lambda photos: [(photos / "a" / f"{n}.png").unlink() for n in range(3)],
                      "a", 3, ""),
    "another drive is there": (lambda photos: (empty(photos.parent / "drive"), paint(
        photos.parent / "drive" / "2024" / "other.png", 99)), "b", 4, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_vanished_at_once_is_kept_until_the_user_says_so(
        case: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vanish, folder, gone, reason = CASES[case]
    gallery, _ = open_gallery()
    assert update(gallery, photos).added == 8
    vanish(photos)
    report = update(gallery, photos)
    assert report.deleted == 0 and gallery.count() == 8 + report.added
    (told,) = report.vanished
    assert (told.folder, told.gone) == (os.path.normpath(photos / folder), gone)
    assert told.reason.endswith(reason) and bool(told.reason) == bool(reason)
    assert report.parts[0].vanished == report.vanished
    _print_report(report)
    said = capsys.readouterr().out
    assert f"{gone} pictures of the store are not there any more" in said and "--prune" in said
    assert told.told() in said
    # What the app's button does: the folders that the question was about, no others.
    pruned = update(gallery, *(Path(one.folder) for one in report.vanished), prune=True)
    assert pruned.deleted == gone and not pruned.vanished
    assert gallery.count() == 8 + report.added - gone


def test_a_picture_or_two_that_were_deleted_go(photos: Path) -> None:
    gallery, _ = open_gallery()
    update(gallery, photos)
    (photos / "a" / "0.png").unlink()
    (photos / "b" / "2024" / "5.png").unlink()
    (photos / "b" / "2024" / "6.png").unlink()  # half of them
    report = update(gallery, photos)
    assert report.deleted == 3 and not report.vanished and gallery.count() == 5


def test_a_drive_that_is_back_is_as_it_was(photos: Path) -> None:
    gallery, embedder = open_gallery()
    update(gallery, photos)
    (photos.parent / "drive").rename(photos.parent / "unplugged")
    update(gallery, photos)
    (photos.parent / "unplugged").rename(photos.parent / "drive")
    embedder.names.clear()
    assert update(gallery, photos).unchanged == 8 and not embedder.names


def test_a_folder_that_is_gone_as_a_whole(photos: Path, tmp_path: Path) -> None:
    gallery, _ = open_gallery()
    update(gallery, photos)
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(PictureError, match=r"not a folder: there is nothing of that name"):
        update(gallery, photos)
    assert gallery.count() == 8
    with pytest.raises(PictureError, match="the store knows no picture of it"):
        update(gallery, tmp_path / "never", prune=True)
    assert update(gallery, photos, prune=True).deleted == 8


# What cannot be looked at

def test_what_cannot_be_looked_at_is_kept(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, _ = open_gallery()
    update(gallery, photos)
    look, stat = os.lstat, os.stat
    error = OSError(errno.EIO, "Input/output error")

    def broken(call):  # type: ignore[no-untyped-def]
        def looked(path, *given, **named):  # type: ignore[no-untyped-def]
            if str(path).endswith(("0.png", "2024")):
                raise error
            return call(path, *given, **named)
        return looked

    monkeypatch.setattr(os, "lstat", broken(look))
    monkeypatch.setattr(os, "stat", broken(stat))
    report = update(gallery, photos, prune=True)  # not even then
    assert report.deleted == 0 and gallery.count() == 8
    assert {Path(one.path).name for one in report.skipped} == {"0.png", "2024"}
    assert all("the drive reports an error" in one.reason for one in report.skipped)


def test_only_what_does_not_exist_is_missing(tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert file_names.missing(str(tmp_path / "no"))
    assert file_names.missing(str(tmp_path / "file" / "in it"))
    for name in ("link", "file", "a" * 300, "\0"):
        assert not file_names.missing(str(tmp_path / name)), name
    for number in (errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.ETIMEDOUT):
        monkeypatch.setattr(os, "lstat", lambda path, number=number: (_ for _ in ()).throw(
            OSError(number, os.strerror(number))))
        assert not file_names.missing("any")


CODE = f"""
import sys
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT)!r}]
from indexing import entries, open_gallery
from vitdemo.retrieval.indexer import index_folders
assert sys.getfilesystemencoding() == "ascii"
for store in sys.argv[2:]:
    gallery, _ = open_gallery(store)
    report = index_folders(gallery, [sys.argv[1]], workers=1)
    print(report.added, report.deleted, report.unchanged, len(report.skipped), len(report.vanished),
          ascii(sorted(entries(gallery))))
"""


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are UTF-8 there")
def test_a_name_means_the_same_on_every_terminal(tmp_path: Path) -> None:
    names = ["Käse猫.png", "a.png", "b.png"]
    photos = tmp_path / "Büld"
    for number, name in enumerate(names):
        paint(photos / name, number)
    (photos / os.fsdecode(b"\xff.png")).write_bytes(b"no name")
    known, _ = open_gallery(tmp_path / "known")
    update(known, photos)
    known.close()
    plain = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", CODE, photos, tmp_path / "known",
                           tmp_path / "new"], env=plain, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    there = ascii(sorted(names))
    assert done.stdout.splitlines() == [f"0 0 3 1 0 {there}", f"3 0 0 1 0 {there}"]
    again, _ = open_gallery(tmp_path / "new")  # and back
    report = update(again, photos)
    assert report.unchanged == 3 and "not valid text" in report.skipped[0].reason


def test_a_text_that_the_terminal_cannot_say_names_its_encoding() -> None:
    typed = "这是什么".encode().decode("ascii", "surrogateescape")
    with pytest.raises(TextError, match=f"this terminal, {sys.getfilesystemencoding()}") as error:
        clean_text(typed, "The question")
    assert "control" not in str(error.value) and "UTF-8" in str(error.value)


# What fails for a reason outside the file

@pytest.mark.parametrize("error", [
    MemoryError(), OSError(errno.EIO, "Input/output error"), AttributeError("of our own")])
def test_what_fails_outside_of_the_file_is_tried_again(
        error: Exception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, _ = open_gallery(tmp_path / "store")
    update(gallery, photos / "a")
    paint(photos / "a" / "0.png", 70, (33, 22))  # known, and another one now
    paint(photos / "a" / "new.png", 71, (44, 22))
    with monkeypatch.context() as patched:
        def fail(*given: object) -> None:
            raise error

        patched.setattr(reader, "open_shrunk", fail)
        report = update(gallery, photos / "a")
    assert len(report.skipped) == 2 and report.deleted == 0 and gallery.count() == 4
    assert all("broken" not in one.reason for one in report.skipped)
    report = update(gallery, photos / "a")
    assert (report.added, report.changed, len(report.skipped)) == (1, 1, 0)


@pytest.mark.parametrize("cause", [MemoryError(), OSError("out of memory error when reading"),
                                   OSError("decoding error")])
def test_want_of_memory_within_a_decoder_is_not_the_files_fault(
        cause: Exception, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise PictureError("it is broken or cut off") from cause

    monkeypatch.setattr(reader, "open_shrunk", fail)
    head, _ = reader.read(str(photos / "a" / "0.png"), 8)
    assert head["broken"] == (str(cause) == "decoding error")
    assert head["broken"] or head["error"]["key"] == "reader.no_memory"


def test_readers_that_cannot_be_started_are_told(photos: Path, monkeypatch: pytest.MonkeyPatch
                                                 ) -> None:
    def fail() -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.undo()
    monkeypatch.setattr(readers, "_start", fail)
    gallery, _ = open_gallery()
    report = update(gallery, photos)
    assert report.added == 0 and len(report.skipped) == 8
    assert "could be started (there is not enough memory)" in report.skipped[0].reason


def test_what_an_older_version_called_unreadable_is_read_again(tmp_path: Path) -> None:
    file, state = tmp_path / "unreadable.json", State(3, 4.0)
    for text in ('{"reader": "Pillow 12.0.0", "files": {"/a": [3, 4.0, "It is broken."]}}',
                 "[" * 200_000, '{"reader": 1}', "\xff", ""):
        file.write_text(text, encoding="latin-1")
        assert not Unreadable(file).reason("/a", state)
    (tmp_path / "a").write_text("x")
    known = Unreadable(file)
    inner = Message("picture.empty", name="a")
    known.add(str(tmp_path / "a"), state, Message("gallery.unusable", count=1, reason=inner))
    known.save()
    reason = Unreadable(file).reason(str(tmp_path / "a"), state)
    assert str(reason) == str(inner) and "0 bytes" in str(reason)
    with speaking("zh"):
        assert str(reason) == str(inner) and "0 bytes" not in str(reason)
    for odd in ('"x"', "null", "1e999", "[]"):
        file.write_text(file.read_text().replace("[3, 4.0", f"[{odd}, 4.0"))
        assert not Unreadable(file).reason(str(tmp_path / "a"), state)


# Times, sizes and names come from outside

@pytest.mark.parametrize("seconds", [99999999999999, -99999999999999, 2.0**63, -62135596801.0])
def test_a_file_time_that_no_calendar_has_gives_no_day(seconds: float) -> None:
    assert "day" not in derived(4, 3, {"modified": seconds})


def test_absurd_times_names_and_depths_end_no_run(tmp_path: Path) -> None:
    memory = Path("/dev/shm")  # where a file's time may be any number
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else tmp_path
    photos = place / f"vitdemo-{os.getpid()}"
    odd = ["a\nb.png", "\x1b[31m.png", "'\" OR 1=1 --.png", "%s{0}.png", "\u202egnp.png",
           "é" * 120 + ".png", "-rf.png", "a\\b.png", "e\u0301.png", "\U0001f431.png"]
    deep = photos
    try:
        for number, name in enumerate(odd):
            paint(photos / name, number)
        for seconds, name in ((99999999999999, odd[0]), (-99999999999999, odd[1]), (0, odd[2])):
            os.utime(photos / name, (seconds, seconds))
        for _ in range(1100):  # deeper than Python may call itself
            deep = deep / "d"
            deep.mkdir()
        paint(deep / "deep.png", 60)
        gallery, _ = open_gallery(tmp_path / "store")
        assert update(gallery, photos).added == len(odd) + 1
        assert set(entries(gallery)) == {*odd, "deep.png"}
        again = update(gallery, photos)
        assert again.unchanged == len(odd) + 1 and not again.skipped
    finally:
        (deep / "deep.png").unlink(missing_ok=True)
        while deep != photos:
            deep.rmdir()
            deep = deep.parent
        shutil.rmtree(photos)


def test_a_file_that_is_longer_than_its_size_says_is_refused_in_time(
        photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LIMITS", reader.LIMITS.__class__(max_file_megabytes=1))
    path = photos / "a" / "0.png"
    path.write_bytes(bytes(3 * 2**20))
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *given, **named: os.stat_result(
        [*stat(*given, **named)[:6], 10, *stat(*given, **named)[7:10]]))
    head, _ = reader.read(str(path), 8)
    assert "the limit is 1 MB" in str(from_json(head["error"])) and head["broken"]


# What is passed over

def test_what_is_passed_over_is_told_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                             ) -> None:
    photos = tmp_path / "photos"
    paint(photos / "a.png", 1)
    for name in ("1.dng", "2.DNG", "b/3.dng", "4.cr2", "5.jxl", "6.PSD", "7.ico", "notes.txt",
                 "no ending", "odd.e\x1b[m", ".hidden.dng", "z.averylongending"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"x")
    (photos / "to a drive").symlink_to(tmp_path / "nowhere")
    gallery, _ = open_gallery()
    report = update(gallery, photos)
    assert report.passed_over == {"dng": 3, "cr2": 1, "jxl": 1, "psd": 1, "ico": 1, "txt": 1,
                                  "other": 3}
    assert report.ignored == 11 and report.parts[0].passed_over == report.passed_over
    (link,) = report.skipped
    assert link.path.endswith("to a drive") and "leads nowhere" in link.reason
    _print_report(report)
    said = capsys.readouterr().out
    lines = passed_over_lines(report.passed_over)
    assert "3 DNG, 1 CR2, 1 ICO, 1 JXL, 1 PSD. Save" in lines[0]
    assert "1 TXT, 3 without a usual ending" in lines[1]
    assert all(line in said for line in lines)
    many = passed_over_lines({f"x{number}y": 1 for number in range(50)})[0]
    assert many.endswith("38 of other kinds.")
    assert passed_over_lines({}) == []


def test_folders_with_names_that_are_no_text_are_told_once(tmp_path: Path) -> None:
    if sys.platform in ("win32", "darwin"):
        pytest.skip("such names cannot be given there")
    folder = tmp_path / os.fsdecode(b"\xff")
    paint(folder / "a.png", 1)
    paint(folder / "b.png", 1)
    tree = look_through([tmp_path])
    assert not tree.files and len(tree.skipped) == 1
    assert "\\udcff" in tree.skipped[0].path and "Rename" in tree.skipped[0].reason
    with pytest.raises(PictureError, match="not valid text"):
        update(open_gallery()[0], folder)
