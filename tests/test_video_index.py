"""Videos among the pictures of a store: their frames are found, and only what changed is read."""

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from indexing import entries, open_gallery, paint
from planted import Planted
from videos import BLUE, GREEN, RED, film, near

from vitdemo import video
from vitdemo.config import LIMITS
from vitdemo.describe_command import outputs
from vitdemo.engine import Engine
from vitdemo.errors import PictureError
from vitdemo.folder_descriptions import describe_folders
from vitdemo.preprocess import open_picture
from vitdemo.records import Wishes
from vitdemo.retrieval import indexer
from vitdemo.retrieval.duplicates import find_duplicates, fold
from vitdemo.retrieval.export import write_hits
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import IndexReport, index_folders
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.read_only import ReadOnlyIndex
from vitdemo.retrieval.readers import Readers
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.retrieval.walk import passed_over_lines
from vitdemo.texts import speaking
from vitdemo.ui.components import Context, Settings
from vitdemo.ui.search.captions import captioning
from vitdemo.ui.search.galleries import UPLOADS, album_of_files
from vitdemo.ui.search.hits import page_html
from vitdemo.ui.search.state import HitList
from vitdemo.ui.session import Sessions
from vitdemo.ui.videos import Videos
from vitdemo.video import file_of, second_of

SCENES = [(RED, 3.0), (GREEN, 2.0), (BLUE, 4.0)]
FRAMES = ["clip.mp4#t=0", "clip.mp4#t=3", "clip.mp4#t=5"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    film(tmp_path / "photos" / "clip.mp4", SCENES)
    paint(tmp_path / "photos" / "photo.png", 0)
    return tmp_path / "photos"


def read(gallery: Gallery, *folders: Path, prune: bool = False) -> IndexReport:
    return index_folders(gallery, folders, workers=1, prune=prune)


def counts(report: IndexReport) -> dict[str, int]:
    names = ("added", "changed", "moved", "deleted", "unchanged", "reworded")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def towards(colour: tuple[int, int, int]) -> np.ndarray:
    vector = np.asarray(colour, np.float32)
    return vector / np.linalg.norm(vector)


def test_a_hit_is_the_frame_at_its_second(folder: Path) -> None:
    gallery, _ = open_gallery(folder.parent / "store")
    report = read(gallery, folder)
    assert counts(report) == {"added": 4} and not report.skipped and report.ignored == 0
    assert sorted(entries(gallery)) == [*FRAMES, "photo.png"]
    for colour, second in ((RED, 0), (GREEN, 3), (BLUE, 5)):
        hit = gallery.search(towards(colour), 1)[0]
        assert (Path(file_of(hit.path)).name, second_of(hit.path)) == ("clip.mp4", second)
        assert (hit.width, hit.height) == (64, 48) and hit.metadata["frames"] == 3
        assert hit.metadata["bytes"] == (folder / "clip.mp4").stat().st_size
        assert near(open_picture(hit.path).image.getpixel((60, 40)), colour)
    gallery.close()


def test_what_has_not_changed_is_not_read_again(folder: Path) -> None:
    gallery, embedder = open_gallery()
    read(gallery, folder)
    embedder.names.clear()
    assert counts(read(gallery, folder)) == {"unchanged": 4}
    os.utime(folder / "clip.mp4", (1e9, 1e9))  # its time alone
    assert counts(read(gallery, folder)) == {"unchanged": 4}
    (folder / "clip.mp4").rename(folder / "renamed.mp4")
    assert counts(read(gallery, folder)) == {"moved": 3, "unchanged": 1}
    shutil.copy2(folder / "renamed.mp4", folder / "copy.mp4")
    assert counts(read(gallery, folder)) == {"added": 3, "unchanged": 4}
    assert embedder.names == []
    (folder / "copy.mp4").unlink()
    report = read(gallery, folder)
    assert counts(report) == {"deleted": 3, "unchanged": 4} and not report.vanished
    assert sorted(entries(gallery)) == ["photo.png", *(one.replace("clip", "renamed")
                                                       for one in FRAMES)]
    one = entries(gallery)["renamed.mp4#t=3"]
    assert one.metadata["frames"] == 3 and int(np.argmax(one.vector)) == 1


def test_a_changed_video_leaves_no_frames_of_the_old_one(folder: Path) -> None:
    gallery, _ = open_gallery()
    read(gallery, folder)
    film(folder / "clip.mp4", [(GREEN, 4.0), (RED, 2.0)])
    assert counts(read(gallery, folder)) == {"changed": 2, "unchanged": 1}
    assert sorted(entries(gallery)) == ["clip.mp4#t=0", "clip.mp4#t=4", "photo.png"]
    (folder / "clip.mp4").write_bytes(b"no video any more")
    report = read(gallery, folder)
    assert counts(report) == {"deleted": 2, "unchanged": 1}
    assert "cannot be read as a video" in report.skipped[0].reason
    assert read(gallery, folder).skipped == report.skipped  # remembered
    assert list(entries(gallery)) == ["photo.png"]


def test_a_run_that_ends_within_a_video_is_carried_on(folder: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, embedder = open_gallery()
    monkeypatch.setattr(indexer, "BATCH", 1)
    real = embedder.embed_pictures

    def embed(pictures: list) -> np.ndarray:
        if pictures[0].name.endswith("#t=5"):
            raise KeyboardInterrupt
        return real(pictures)

    embedder.embed_pictures = embed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        read(gallery, folder)
    assert sorted(entries(gallery)) == FRAMES[:2]
    embedder.embed_pictures = real  # type: ignore[method-assign]
    read(gallery, folder)
    assert sorted(entries(gallery)) == [*FRAMES, "photo.png"]
    assert counts(read(gallery, folder)) == {"unchanged": 4}


def test_a_frame_that_cannot_be_read_is_told_once_and_the_others_stay(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, _ = open_gallery(folder.parent / "store")
    real = Readers._read

    def reading(self, path, side):  # type: ignore[no-untyped-def]
        one = real(self, path, side)
        return indexer.Reading(error="broken there", broken=True) if path.endswith("=3") else one

    monkeypatch.setattr(Readers, "_read", reading)
    report = read(gallery, folder)
    assert counts(report) == {"added": 3} and "clip.mp4#t=3" in report.skipped[0].path
    again = read(gallery, folder)
    assert [one.reason for one in again.skipped] == ["broken there"]
    assert sorted(entries(gallery)) == [FRAMES[0], FRAMES[2], "photo.png"]
    gallery.close()


def test_texts_beside_a_video_are_those_of_its_frames(folder: Path) -> None:
    gallery, embedder = open_gallery(folder.parent / "store")
    (folder / "clip.mp4.txt").write_text("holiday at sea")
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "clip.mp4#t=3", "captions": ["a lighthouse"]}\n')
    report = read(gallery, folder)
    assert report.ignored == 0
    told = {name: one.metadata["beside"] for name, one in entries(gallery).items()
            if one.metadata["beside"]}
    assert told == {FRAMES[0]: "holiday at sea", FRAMES[1]: "a lighthouse\nholiday at sea",
                    FRAMES[2]: "holiday at sea"}
    hits = gallery.search(towards(BLUE), 4, words=Query.of("lighthouse").words)
    assert hits[0].path.endswith("#t=3") and hits[0].told == 1
    assert not gallery.search(towards(BLUE), 4, words=Query.of("t mp 4 3").words)[0].told
    embedder.names.clear()
    (folder / "clip.mp4.txt").write_text("in the mountains")
    assert counts(read(gallery, folder)) == {"reworded": 3, "unchanged": 1}
    assert embedder.names == []
    gallery.close()


def test_a_video_that_vanished_counts_as_one_file(folder: Path) -> None:
    gallery, _ = open_gallery()
    read(gallery, folder)
    (folder / "clip.mp4").unlink()
    report = read(gallery, folder)  # one of two files, though three of four pictures
    assert counts(report) == {"deleted": 3, "unchanged": 1} and not report.vanished


def test_frames_of_one_look_fold_and_are_no_copies_to_delete(folder: Path) -> None:
    shutil.copy2(folder / "clip.mp4", folder / "twin.mp4")
    gallery, _ = open_gallery()
    read(gallery, folder)
    hits, vectors = gallery.search_with_vectors(towards(BLUE), 10)
    groups = fold(hits, vectors, Thumbnails().hash_of)
    assert {file_of(Path(one.path).name) for one in groups[0]} == {"clip.mp4", "twin.mp4"}
    assert {second_of(one.path) for one in groups[0]} == {5}
    assert find_duplicates(gallery.index).groups == ()


def test_the_page_shows_a_hits_time_and_plays_from_there(folder: Path) -> None:
    gallery, _ = open_gallery()
    read(gallery, folder)
    hits = HitList(Thumbnails().hash_of, gallery)
    hits.hits, hits.vectors = gallery.search_with_vectors(towards(GREEN), 4)
    hits.groups, hits.whole = [[hit] for hit in hits.hits], True
    page = page_html(hits, Thumbnails(), why=True, versus=True)
    assert page.count("<img") == 4 and "clip.mp4 at 0:03" in page and "#t=" not in page
    with speaking("zh"):
        assert "clip.mp4，0:03 处" in page_html(hits, Thumbnails(), why=True, versus=True)
    videos = Videos()
    player = videos.player(hits.hits[0].path)
    name = player.split('src="/video/')[1].split('#t=3"')[0]
    assert videos.file(name) == str(folder / "clip.mp4") and str(folder) not in player
    assert videos.player(str(folder / "photo.png")) == "" and videos.file("clip.mp4") is None


def test_frames_are_saved_as_pictures(folder: Path) -> None:
    gallery, _ = open_gallery()
    read(gallery, folder)
    hits = gallery.search(towards(GREEN), 4)
    assert write_hits(folder.parent / "hits.zip", hits) == []
    with zipfile.ZipFile(folder.parent / "hits.zip") as archive:
        first = archive.namelist()[0]
        assert first == "01 clip.mp4#t=3.jpg"
        assert near(open_picture(archive.read(first)).image.getpixel((60, 40)), GREEN)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_a_link_to_a_video_elsewhere_is_not_shown_to_others(folder: Path) -> None:
    (folder / "out.mp4").symlink_to(film(folder.parent / "secret" / "b.mp4", [(GREEN, 2.0)]))
    gallery, _ = open_gallery()
    read(gallery, folder)
    shown = ReadOnlyIndex(gallery.index, [str(folder)])
    names = {Path(file_of(one.path)).name for one in shown.search(towards(GREEN), 9)}
    assert names == {"clip.mp4", "photo.png"}


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_frames_are_described_and_only_what_changed(folder: Path, form: str) -> None:
    def described() -> tuple[int, int]:
        report = describe_folders(Engine(Planted()), outputs([str(folder)], [form], "", "skip"),
                                  Wishes(), workers=1)
        assert not report.skipped
        return report.described, report.unchanged

    assert described() == (4, 0)
    if form == "json":
        said = json.loads((folder / "clip.mp4#t=3.json").read_text())["captions"]
        gallery, _ = open_gallery()
        assert read(gallery, folder).ignored == 0
        assert entries(gallery)["clip.mp4#t=3"].metadata["beside"].splitlines() == said
    if form == "jsonl":
        rows = [json.loads(one) for one in (folder / "descriptions.jsonl").open()]
        assert [one["file_name"] for one in rows] == [*FRAMES, "photo.png"]
        assert all(one["captions"] for one in rows) and rows[0]["frames"] == 3
    assert described() == (0, 2)  # files
    film(folder / "clip.mp4", [(GREEN, 4.0), (RED, 2.0)])
    assert described()[0] == 2


def test_uploaded_videos_are_read_by_their_frames(folder: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Planted())
    (folder / "broken.mp4").write_bytes(b"no video")
    paths = [str(folder / name) for name in ("broken.mp4", "photo.png", "clip.mp4")]
    done: list[tuple[int, int]] = []
    album = album_of_files(engine, paths, "your upload", lambda *far: done.append(far))
    assert album.opened().count() == 4 and done[-1] == (1, 2)
    assert [path for path, _ in album.skipped] == paths[:1]
    assert "cannot be read as a video" in album.skipped[0][1]
    hits = album.opened().search(towards(GREEN), 9)
    frame = next(one for one in hits if one.path.endswith("clip.mp4#t=3"))
    assert (frame.width, frame.height) == (64, 48) and frame.metadata["frames"] == 3
    assert frame.metadata["orientation"] == "landscape" and frame.metadata["content"]
    album.close()


def test_uploaded_videos_have_bounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Planted())
    paths = [str(folder / "photo.png"), str(folder / "clip.mp4")]
    for name in ("max_video_minutes", "max_video_megabytes"):
        monkeypatch.setattr(video, "LIMITS", replace(LIMITS, **{name: 0}))
        album = album_of_files(engine, paths, "your upload")
        assert album.opened().count() == 1 and "clip.mp4 lasts 0:09" in album.skipped[0][1]
        album.close()
    monkeypatch.undo()
    with pytest.raises(PictureError, match=f"limit is {LIMITS.max_videos}"):
        album_of_files(engine, paths[1:] * (LIMITS.max_videos + 1), "your upload")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(PictureError, match="pip install av"):
        album_of_files(engine, paths[1:], "your upload")


def test_frames_of_uploaded_videos_are_described(folder: Path) -> None:
    context = Context(Engine(Planted()), Settings(), Sessions(), ())
    paths = [str(folder / name) for name in ("photo.png", "clip.mp4")]
    work, result = captioning(context, UPLOADS, "", paths, lambda now: None)
    assert work().described == 4
    assert [name for name, _ in result().table()] == [*FRAMES, "photo.png"]
    assert all(captions for _, captions in result().table())


def test_a_cancelled_upload_ends_within_a_video(folder: Path) -> None:
    told: list[int] = []

    def tell(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        album_of_files(Engine(Planted()), [str(folder / "clip.mp4")], "your upload", tell)
    assert len(told) == 3  # before it, and after two of its frames


def test_a_folder_is_listed_once_for_all_its_videos(folder: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        shutil.copy2(folder / "clip.mp4", folder / f"{number}.mp4")
    ((_, sidecars),) = outputs([str(folder)], ["json"], "", "skip")
    listed: list[object] = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: (listed.append(path), real(path))[1])
    assert [sidecars.frames(str(folder / f"{number}.mp4")) for number in range(3)] == [[]] * 3
    assert len(listed) == 1
    sidecars.write([(f"{folder}/1.mp4#t=3", {"captions": ["a"], "bytes": 1})])
    assert sidecars.frames(str(folder / "1.mp4")) == [f"{folder}/1.mp4#t=3"]
    assert sidecars.frames(str(folder / "2.mp4")) == [] and len(listed) == 2


def test_without_pyav_videos_are_passed_over_and_stay(folder: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, _ = open_gallery()
    read(gallery, folder)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    report = read(gallery, folder)
    assert counts(report) == {"unchanged": 1} and dict(report.passed_over) == {"mp4": 1}
    assert gallery.count() == 4 and not report.vanished
    assert "1 MP4. Install the package av: pip install av." in passed_over_lines(
        report.passed_over)[0]
    with pytest.raises(PictureError, match="pip install av"):
        Thumbnails().get(f"{folder}/clip.mp4#t=0")
