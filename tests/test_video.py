"""Which frames stand for a video, and frames as pictures."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_engine import planted_engine
from PIL import Image
from videos import BLUE, GREEN, RED, av, film, near, scene

from vitdemo import commands, video
from vitdemo.cli import main
from vitdemo.errors import PictureError
from vitdemo.film_strip import film_strip
from vitdemo.pixel_budget import BUDGET
from vitdemo.preprocess import open_picture, open_small
from vitdemo.video import called, clock, file_of, frame_path, frame_seconds, second_of

SCENES = [(RED, 3.0), (GREEN, 2.0), (BLUE, 17.0)]


def seconds(path: Path) -> list[float]:
    return frame_seconds(str(path), path.name, BUDGET.take)


def at(path: Path, second: float) -> Image.Image:
    return open_picture(frame_path(str(path), second)).image


def test_paths_of_frames_are_media_fragments() -> None:
    path = frame_path("/a/my clip.MP4", 12.3)
    assert path == "/a/my clip.MP4#t=12.3" and frame_path("a.mov", 5) == "a.mov#t=5"
    assert file_of(path) == "/a/my clip.MP4" and second_of(path) == 12.3
    for other in ("/a/b.jpg", "/a/clip.mp4", "/a/x.mp4#t=3/b.jpg", "b.jpg#t=3", "a.mp4#t=3.jpg",
                  "a.mp4#t=-1", "a.mp4#t=nan"):
        assert file_of(other) == other and second_of(other) is None, other
    assert [clock(one) for one in (0, 12.9, 75, 3723.5)] == ["0:00", "0:12", "1:15", "1:02:03"]
    assert called(path) == "my clip.MP4 at 0:12" and called("/a/b.jpg") == "b.jpg"


@pytest.mark.parametrize("name, codec", [("a.mp4", "mpeg4"), ("a.mov", "libx264"),
                                         ("a.webm", "libvpx"), ("a.mkv", "mpeg4"),
                                         ("a.avi", "mpeg4"), ("a.mts", "mpeg2video")])
def test_a_frame_where_the_scene_changes_and_every_ten_seconds(tmp_path: Path, name: str,
                                                               codec: str) -> None:
    rate = 25 if codec == "mpeg2video" else 10
    path = film(tmp_path / name, SCENES, rate, codec=codec)
    found = seconds(path)
    assert found == pytest.approx([0, 3, 5, 15], abs=0.05)
    for second, colour in zip(found, (RED, GREEN, BLUE, BLUE), strict=True):
        assert near(at(path, second).getpixel((60, 40)), colour), second
    assert BUDGET.used < 64 * 48 * 20  # only what the open pictures themselves hold


def test_the_frame_on_screen_is_the_last_that_began(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", SCENES)
    assert near(at(path, 2.99).getpixel((60, 40)), RED)
    assert near(at(path, 3.05).getpixel((60, 40)), GREEN)
    assert near(at(path, 900).getpixel((60, 40)), BLUE)  # after the end: the last one


def test_frames_that_do_not_come_evenly_and_sound(tmp_path: Path) -> None:
    shown = [0, 0.1, 0.2, 2.5, 3.4, 3.5, 9, 21.5]
    path = film(tmp_path / "a.mp4", SCENES, seconds=shown, sound=True)
    assert seconds(path) == [0, 3.4, 9, 21.5]
    assert near(at(path, 8.9).getpixel((60, 40)), GREEN)


@pytest.mark.parametrize("turn, size, corner", [(90, (48, 64), (2, 61)), (-90, (48, 64), (45, 2)),
                                                (180, (64, 48), (61, 45))])
def test_a_turned_video_is_upright(tmp_path: Path, turn: int, size: tuple[int, int],
                                   corner: tuple[int, int]) -> None:
    path = film(tmp_path / "a.mp4", [(RED, 1)], rotation=turn)
    image = at(path, 0)
    assert image.size == size == open_small(frame_path(str(path), 0), 640).size
    opposite = tuple(255 - one for one in RED)
    corners = {(x, y): near(image.getpixel((x, y)), opposite)
               for x in (2, size[0] - 3) for y in (2, size[1] - 3)}
    assert [place for place, there in corners.items() if there] == [corner]


def test_black_frames_count_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    def plain(path: Path, scenes: list[tuple[bool, int]]) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for black, count in scenes:
                pixels = scene(GREEN, (64, 48)) * (0 if black else 1)
                for _ in range(count):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode())
        return path

    assert seconds(plain(tmp_path / "a.mp4", [(True, 20), (False, 20), (True, 20)])) == [2.0]
    assert seconds(plain(tmp_path / "b.mp4", [(True, 20)])) == [0.0]


def test_what_is_cut_off_gives_what_can_be_had(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mkv", SCENES).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[:len(whole) // 2])
    assert seconds(cut)[:2] == [0, 3]
    assert near(at(cut, 3).getpixel((60, 40)), GREEN)
    damaged = bytearray(whole)
    damaged[len(whole) // 3:len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 3)
    (tmp_path / "holes.mkv").write_bytes(damaged)
    assert seconds(tmp_path / "holes.mkv")[0] == 0


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mp4", SCENES).read_bytes()
    refused = {"cut.mp4": (whole[:len(whole) // 2], "cannot be read as a video"),
               "noise.mp4": (b"noise" * 999, "cannot be read as a video"),
               "empty.mp4": (b"", "is empty"),
               "list.mp4": (b"#EXTM3U\n#EXTINF:5,\na.mp4\n#EXT-X-ENDLIST\n",
                            "cannot be read as a video"),
               "list.avi": (f"ffconcat version 1.0\nfile {tmp_path / 'a.mp4'}\n".encode(),
                            "cannot be read as a video")}
    for name, (data, told) in refused.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PictureError, match=f"{name}.*{told}"):
            seconds(tmp_path / name)
    with pytest.raises(PictureError, match="does not exist"):
        open_picture(tmp_path / "gone.mp4#t=3")
    with pytest.raises(PictureError, match=r"a.mp4 is a video.*a.mp4#t=12.5"):
        open_picture(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        track = container.add_stream("aac", rate=8000)
        container.mux(track.encode())
    with pytest.raises(PictureError, match=r"sound.mp4"):
        seconds(tmp_path / "sound.mp4")


def test_a_picture_may_be_too_large(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [(RED, 1)], size=(640, 16))
    with pytest.raises(PictureError, match="at most 30 times"):
        open_picture(f"{path}#t=0")
    assert BUDGET.used == 0


def test_of_a_long_video_no_more_than_so_many_frames(tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", [((RED, GREEN, BLUE)[place % 3], 1) for place in range(40)],
                rate=5)
    assert len(seconds(path)) == 40
    monkeypatch.setattr(video, "FRAMES", 7)
    found = seconds(path)
    assert len(found) == 7 and found[0] == 0 and found[-1] == 39


def test_after_so_many_pixels_only_key_frames_are_looked_at(tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", [*SCENES, (RED, 9.0)])
    monkeypatch.setattr(video, "PIXELS", 64 * 48 * 60)  # six seconds
    packets: list[float] = []
    decoded = video._Video.decoded
    monkeypatch.setattr(video._Video, "decoded", lambda self, packet: (
        packets.append(float(packet.pts or 0)), decoded(self, packet))[1])
    found = seconds(path)
    assert len(packets) < 100  # of 310
    assert found[:2] == [0, 3]
    assert max(b - a for a, b in pairwise(found)) <= 15
    assert any(22 <= one < 24 for one in found)  # the last scene, from its first key frame on
    assert near(at(path, found[-1]).getpixel((60, 40)), RED)


def test_without_pyav_it_says_what_to_install(tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", [(RED, 1)])
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(PictureError, match="pip install av"):
        open_picture(f"{path}#t=0")
    assert video.video_reader() == ""


def test_a_strip_shows_where_a_word_looked_over_time(tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    path = film(tmp_path / "a.mp4", SCENES)
    strip = film_strip(planted_engine(), str(path), "on the left")
    assert [one.second for one in strip.moments] == seconds(path)
    assert strip.words == ("on", "the", "left")
    sheet = strip.sheet(3)
    assert sheet.size == (4 * 320, 240 + 28)
    for place, one in enumerate(strip.moments):
        tile = np.asarray(sheet.crop((place * 320, 0, place * 320 + 320, 240)), np.int16)
        frame = at(path, one.second).resize((320, 240), Image.Resampling.LANCZOS)
        changed = np.abs(tile - np.asarray(frame, np.int16)).mean(2)
        assert changed[:, :140].mean() > 20 > 8 > changed[:, 180:].mean(), place
        foot = np.asarray(sheet.crop((place * 320, 240, place * 320 + 320, 268)))
        assert foot.min() < 128  # something is written
    whole = [np.asarray(one, np.int16) for one in strip.tiles(None)]
    third = [np.asarray(one, np.int16) for one in strip.tiles(3)]
    assert all(np.abs(one - other).max() > 20 for one, other in zip(whole, third, strict=True))


def test_explain_draws_a_strip_of_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    path, out = film(tmp_path / "a.mp4", SCENES), tmp_path / "strip.png"
    monkeypatch.setattr(commands, "_engine", lambda options: planted_engine())
    assert main(["explain", str(path), "--text", "red on the left", "--png", str(out),
                 "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["frames"]
    assert [one["path"] for one in rows] == [frame_path(str(path), one) for one in seconds(path)]
    assert Image.open(out).width == 4 * 320
    assert main(["explain", str(path), "--text", "red"]) != 0
    assert "--png" in capsys.readouterr().err


def test_a_word_that_a_strip_does_not_have_is_refused_after_the_first_frame(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
        ) -> None:
    path, engine = film(tmp_path / "a.mp4", SCENES), planted_engine()
    explained: list[str] = []
    monkeypatch.setattr(commands, "_engine", lambda options: engine)
    monkeypatch.setattr(engine, "explain", lambda *given, explain=engine.explain: (
        explained.append(given[1]), explain(*given))[1])
    monkeypatch.setattr(engine, "match_pictures", lambda *given: pytest.fail("it went on"))
    assert main(["explain", str(path), "--text", "red", "--png", str(tmp_path / "strip.png"),
                 "--word", "9"]) != 0
    assert "--word is 9" in capsys.readouterr().err
    assert explained == ["red"]
