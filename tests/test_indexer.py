"""Bringing a store up to date with folders: only what changed costs anything."""

import os
import shutil
import stat
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from indexing import Colours, entries, open_gallery, paint
from PIL import Image

from vitdemo.errors import PictureError
from vitdemo.retrieval import readers
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import IndexReport, Progress, index_folders
from vitdemo.retrieval.reader import read
from vitdemo.texts import speaking


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures, in two folders."""
    for number in range(6):
        paint(tmp_path / "photos" / ("a" if number < 3 else "b") / f"{number}.png", number + 1)
    return tmp_path / "photos"


def update(gallery: Gallery, *folders: Path, **options: object) -> IndexReport:
    return index_folders(gallery, folders, workers=1, **options)  # type: ignore[arg-type]


def counts(report: IndexReport) -> tuple[int, ...]:
    return (report.added, report.changed, report.moved, report.deleted, report.unchanged)


def touch(path: Path, seconds: float = 10) -> None:
    """Give a file another time, as a backup program may."""
    status = path.stat()
    os.utime(path, (status.st_atime, status.st_mtime + seconds))


def test_only_what_changed_costs_anything(photos: Path, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, embedder = open_gallery(tmp_path / "store")
    assert counts(update(gallery, photos)) == (6, 0, 0, 0, 0)
    before = entries(gallery)
    with monkeypatch.context() as patched:  # a second run reads no file and starts no process
        patched.setattr(readers, "_start", lambda: pytest.fail("a process was started"))
        assert counts(update(gallery, photos)) == (0, 0, 0, 0, 6)
    embedder.names.clear()
    paint(photos / "a" / "new.png", 50)
    paint(photos / "a" / "0.png", 60, (30, 20))  # another picture under an old name
    (photos / "b" / "3.png").rename(photos / "a" / "moved.png")
    (photos / "b" / "4.png").unlink()
    touch(photos / "a" / "1.png")
    assert counts(update(gallery, photos)) == (1, 1, 1, 1, 3)
    assert embedder.names == ["0.png", "new.png"]
    after = entries(gallery)
    assert set(after) == {"0.png", "1.png", "2.png", "5.png", "moved.png", "new.png"}
    moved = after["moved.png"]
    assert moved.vector == pytest.approx(before["3.png"].vector)
    assert moved.metadata["folder"] == str(photos / "a") and moved.width == 12
    assert (after["0.png"].width, after["0.png"].height) == (30, 20)
    assert after["0.png"].vector != pytest.approx(before["0.png"].vector)
    assert after["1.png"].metadata["modified"] == (photos / "a" / "1.png").stat().st_mtime
    assert counts(update(gallery, photos)) == (0, 0, 0, 0, 6)


def test_the_same_picture_under_two_names(photos: Path) -> None:
    gallery, embedder = open_gallery()
    update(gallery, photos / "a")
    embedder.names.clear()
    shutil.copyfile(photos / "a" / "0.png", photos / "a" / "copy.png")
    assert counts(update(gallery, photos / "a")) == (1, 0, 0, 0, 3)
    assert embedder.names == []
    found = entries(gallery)
    assert found["copy.png"].vector == pytest.approx(found["0.png"].vector)
    (photos / "a" / "0.png").unlink()  # the copy stays
    assert counts(update(gallery, photos / "a")) == (0, 0, 0, 1, 3)
    assert "copy.png" in entries(gallery)


def test_two_files_that_swap_their_names(photos: Path) -> None:
    gallery, embedder = open_gallery()
    update(gallery, photos)
    before = entries(gallery)
    one, other, between = (photos / "a" / name for name in ("0.png", "1.png", "x"))
    touch(one, 5)
    one.rename(between)
    other.rename(one)
    between.rename(other)
    embedder.names.clear()
    report = update(gallery, photos)
    assert (report.changed, report.deleted, report.unchanged) == (2, 0, 4)
    assert embedder.names == []
    after = entries(gallery)
    assert after["0.png"].vector == pytest.approx(before["1.png"].vector)
    assert after["1.png"].vector == pytest.approx(before["0.png"].vector)


def test_a_folder_that_was_renamed_is_moved_not_read(photos: Path) -> None:
    gallery, embedder = open_gallery()
    update(gallery, photos)
    embedder.names.clear()
    (photos / "a").rename(photos.parent / "elsewhere")
    # Only the new place is named: the old files are looked for where the store knows them.
    assert counts(update(gallery, photos.parent / "elsewhere")) == (0, 0, 3, 0, 0)
    assert embedder.names == []
    assert counts(update(gallery, photos)) == (0, 0, 0, 0, 3)
    assert len(entries(gallery)) == 6


def test_other_folders_and_single_pictures_are_left_alone(photos: Path) -> None:
    gallery, _ = open_gallery()
    update(gallery, photos / "a", photos / "b", photos)  # one within the other
    assert gallery.count() == 6
    shutil.rmtree(photos / "b")
    assert counts(update(gallery, photos / "a")) == (0, 0, 0, 0, 3)
    assert gallery.count() == 6
    assert counts(update(gallery, photos, prune=True)) == (0, 0, 0, 3, 3)
    sibling = paint(photos.parent / "photos2" / "x.png", 70)
    update(gallery, sibling.parent)
    assert counts(update(gallery, photos))[3] == 0  # its name only begins with the other's
    assert "x.png" in entries(gallery)


def test_no_good_files_are_told_each_time_but_read_once(photos: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "a" / "broken.png").write_text("this is no picture")
    gallery, _ = open_gallery(tmp_path / "store")
    first = update(gallery, photos)
    assert [Path(one.path).name for one in first.skipped] == ["broken.png"]
    assert "not a picture" in first.skipped[0].reason
    with monkeypatch.context() as patched:
        patched.setattr(readers, "_start", lambda: pytest.fail("a file was read again"))
        again = update(open_gallery(tmp_path / "store")[0], photos)
    assert again.skipped == first.skipped and counts(again) == (0, 0, 0, 0, 6)
    paint(photos / "a" / "broken.png", 80)  # repaired
    assert counts(update(gallery, photos)) == (1, 0, 0, 0, 6)
    (photos / "a" / "0.png").write_text("broken now")
    report = update(gallery, photos)
    assert counts(report) == (0, 0, 0, 1, 6) and len(report.skipped) == 1
    assert "0.png" not in entries(gallery)  # its vector was that of an older content


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="may read everything")
def test_what_lies_in_a_closed_folder_is_kept(photos: Path) -> None:
    gallery, _ = open_gallery()
    update(gallery, photos)
    (photos / "b").chmod(0)
    try:
        report = update(gallery, photos)
    finally:
        (photos / "b").chmod(stat.S_IRWXU)
    assert counts(report) == (0, 0, 0, 0, 3) and gallery.count() == 6
    assert [Path(one.path).name for one in report.skipped] == ["b"]


def test_a_folder_that_cannot_be_listed_is_kept(photos: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, also where the tests may read everything."""
    gallery, _ = open_gallery()
    update(gallery, photos)
    scan = os.scandir

    def closed(place: str | Path) -> object:
        if Path(place) == photos / "b":
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setattr(os.path, "lexists", lambda path: "/b/" not in str(path))
    report = update(gallery, photos)
    assert counts(report) == (0, 0, 0, 0, 3) and gallery.count() == 6
    assert "cannot be opened: permission is denied" in report.skipped[0].reason


def test_it_may_be_cancelled_and_carries_on(tmp_path: Path) -> None:
    for number in range(60):
        paint(tmp_path / "photos" / f"{number:02}.png", number)
    gallery, embedder = open_gallery(tmp_path / "store")
    seen: list[Progress] = []
    report = update(gallery, tmp_path / "photos", progress=seen.append,
                    cancelled=lambda: bool(seen and seen[-1].total) and seen[-1].done >= 20)
    assert report.cancelled and 20 <= report.added < 40
    assert gallery.count() == report.added  # what was read is kept
    rest = update(gallery, tmp_path / "photos")
    assert not rest.cancelled and (rest.added, rest.unchanged) == (60 - report.added, report.added)
    assert Counter(embedder.names).most_common(1)[0][1] == 1
    assert len(entries(gallery)) == 60


def test_progress_says_how_far_and_how_fast(photos: Path, tmp_path: Path) -> None:
    gallery, _ = open_gallery()
    update(gallery, photos / "a")
    seen: list[Progress] = []
    update(gallery, photos, progress=seen.append)
    looking = [one for one in seen if not one.total]
    assert looking[-1].done == 6 and looking[-1].name == str(photos / "b")
    working = [one for one in seen if one.total]
    assert [(one.done, one.total) for one in working] == [(4, 6), (5, 6), (6, 6)]
    assert all(one.per_second > 0 for one in working)
    assert working[0].seconds_left == pytest.approx(2 / working[0].per_second)
    assert working[-1].seconds_left == 0 and working[-1].name == "5.png"
    seen.clear()
    update(gallery, photos, progress=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].seconds_left) == (6, 6, 0)


def test_an_error_of_the_store_or_the_caller_ends_it(photos: Path) -> None:
    gallery, _ = open_gallery()
    with pytest.raises(PictureError, match="not a folder"):
        update(gallery, photos, photos / "nowhere")
    assert gallery.count() == 0

    def stop(now: Progress) -> None:
        if now.total:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        update(gallery, photos, progress=stop)


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_whose_reader_is_killed_is_asked_for_again(
        times: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First by another process, and where that is killed too, by the next run."""
    start, left = readers._start, [times]

    def fragile() -> object:
        process = start()
        write = process.stdin.write

        class Input:
            flush, close = process.stdin.flush, process.stdin.close

            @staticmethod
            def write(line: bytes) -> None:
                if b"2.png" in line and left[0]:
                    left[0] -= 1
                    process.kill()
                    process.wait()
                write(line)

        process.stdin = Input  # type: ignore[assignment]
        return process

    monkeypatch.setattr(readers, "_start", fragile)
    monkeypatch.setattr(readers._Process, "stop", _end)
    gallery, _ = open_gallery(tmp_path / "store")
    report = update(gallery, photos)
    assert report.added == (6 if times == 1 else 5)
    assert [Path(one.path).name for one in report.skipped] == ["2.png"][:times - 1]
    assert all("tried again the next time" in one.reason for one in report.skipped)
    again = update(gallery, photos)
    assert len(entries(gallery)) == 6 and not again.skipped


def _end(process: readers._Process) -> None:
    if process._running is not None:
        process._running.kill()
        process._running.wait()
        process._running = None


def test_a_large_photograph_is_read_small_and_looks_the_same(tmp_path: Path) -> None:
    values = np.add.outer(np.arange(3000), np.arange(4000)) % 4000 / 4000 * 255
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    path = tmp_path / "large.jpg"
    Image.fromarray(values.astype(np.uint8)).convert("RGB").save(path, quality=90, exif=exif)
    head, pixels = read(str(path), 320)
    whole, all_pixels = read(str(path), 0)
    assert head["size"] == (320, 320) and len(pixels) == 320 * 320 * 3
    assert (head["width"], head["height"]) == (whole["width"], whole["height"]) == (3000, 4000)
    square = Image.frombytes("RGB", whole["size"], all_pixels).resize((320, 320),
                                                                     Image.Resampling.BICUBIC)
    near = np.abs(np.frombuffer(pixels, np.uint8).reshape(320, 320, 3).astype(int)
                  - np.asarray(square).astype(int))
    assert near.mean() < 4  # of 255; another picture, or one not turned, differs by over 50


def test_side_of_the_models_square_is_asked_for(photos: Path) -> None:
    class Squares(Colours):
        picture_side = 8

        def embed_pictures(self, pictures):  # type: ignore[no-untyped-def]
            assert all(one.image.size == (8, 8) for one in pictures)
            return super().embed_pictures(pictures)

    gallery, _ = open_gallery()
    gallery.embedder = Squares()
    update(gallery, photos)
    assert {(one.width, one.height) for one in entries(gallery).values()} == {(12, 9)}


def test_what_is_no_picture_is_told_in_the_language_of_who_reads(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "no.jpg").write_bytes(b"no picture")
    gallery, _ = open_gallery(tmp_path / "store")
    for language, said in (("zh", "不是"), ("en", "is not a picture"), ("en", "is not a picture")):
        with speaking(language):
            (skipped,) = update(gallery, tmp_path / "photos").skipped
        assert said in skipped.reason


@pytest.mark.slow
def test_a_folder_of_5000_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = paint(tmp_path / "photos" / "good.png", 1, (64, 48)).read_bytes()
    for number in range(5000):
        cut = whole[:number % (len(whole) // 2)] + bytes([number % 256, number // 256])
        (tmp_path / "photos" / f"{number:04}.{'png' if number % 2 else 'jpg'}").write_bytes(cut)
    gallery, embedder = open_gallery(tmp_path / "store")
    report = index_folders(gallery, [tmp_path / "photos"])
    assert report.added == 1 and embedder.names == ["good.png"]
    assert len(report.skipped) == 5000 and all(one.reason for one in report.skipped)
    monkeypatch.setattr(readers.Readers, "pictures", lambda _, paths, side: iter(list(paths)))
    again = index_folders(gallery, [tmp_path / "photos"])  # with one to read, this would fail
    assert again.skipped == report.skipped and again.unchanged == 1 and again.added == 0


def test_heic_and_avif_are_read_where_their_library_is(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    paint(folder / "a.avif", 3, (64, 48))
    gallery, _ = open_gallery()
    assert update(gallery, folder).added == 1
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (64, 48), (200, 30, 30))
    pillow_heif.from_pillow(image).save(folder / "b.heic")
    report = update(gallery, folder)
    assert report.added == 1 and not report.skipped
    found = entries(gallery)["b.heic"]
    assert (found.width, found.height) == (64, 48) and found.vector.argmax() == 0
