"""Thumbnails: made once, never too many, and right for several users at once."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from vitdemo.errors import PictureError
from vitdemo.preprocess import open_picture, open_small
from vitdemo.retrieval.thumbnails import Thumbnails


def noise(path: Path, seed: int, size: tuple[int, int] = (400, 300), **options: object) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def test_a_thumbnail_is_small_upright_and_made_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    path = noise(tmp_path / "a.jpg", 0, (800, 400), exif=exif)
    kept = Thumbnails(side=100)
    first = kept.get(path)
    opened = Image.open(io.BytesIO(first))
    assert opened.format == "JPEG" and opened.size == (50, 100)
    assert kept.get(path) is first and kept.made == 1 and kept.size == len(first)
    noise(tmp_path / "a.jpg", 1, (300, 600))
    os.utime(path, (1, 1))
    assert kept.get(path) != first and kept.made == 2  # another file now


def test_all_together_stay_below_the_bound(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"{n}.png", n) for n in range(12)]
    one = len(Thumbnails(side=60).get(paths[0]))
    kept = Thumbnails(max_bytes=5 * one, side=60)
    for path in paths:
        kept.get(path)
        assert kept.size <= 5 * one
    assert kept.size / one >= 3
    kept.get(paths[-1])
    assert kept.made == 12  # the newest is still there
    kept.get(paths[0])
    assert kept.made == 13  # the oldest went
    tiny = Thumbnails(max_bytes=10, side=60)
    assert len(tiny.get(paths[0])) > 10 and tiny.size == 0  # given all the same


def test_many_at_once_make_each_once(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"{n}.png", n) for n in range(4)]
    kept, gate = Thumbnails(side=80), threading.Barrier(8)

    def visitor(number: int) -> list[bytes]:
        gate.wait()
        return [kept.get(paths[(n + number) % 4]) for n in range(4)]

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(visitor, range(8)))
    assert kept.made == 4
    for number, found in enumerate(seen):  # and nobody got somebody else's
        assert found == [kept.get(paths[(n + number) % 4]) for n in range(4)]
    assert len({kept.get(path) for path in paths}) == 4


def test_errors_stand_in_their_place(tmp_path: Path) -> None:
    good = noise(tmp_path / "a.png", 0)
    (tmp_path / "b.png").write_bytes(b"no picture")
    first, second, third = Thumbnails().many([good, str(tmp_path / "b.png"),
                                              str(tmp_path / "gone.png")])
    assert isinstance(first, bytes)
    assert isinstance(second, PictureError) and "not a picture" in str(second)
    assert isinstance(third, PictureError) and "no longer there" in str(third)
    assert Thumbnails().many([]) == []


def test_a_small_copy_looks_like_the_picture(tmp_path: Path) -> None:
    row = np.linspace(0, 255, 3000, dtype=np.uint8)[None, :, None]
    ramp = row * np.ones((2000, 1, 3), np.uint8)
    Image.fromarray(ramp).save(tmp_path / "ramp.jpg", quality=95)
    small = open_small(tmp_path / "ramp.jpg", 200)
    assert small.size == (200, 133) and small.mode == "RGB"
    whole = open_picture(tmp_path / "ramp.jpg").image.resize((200, 133), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(small, float) - np.asarray(whole, float)).mean() < 2
    with pytest.raises(PictureError, match="0 bytes"):
        (tmp_path / "empty.jpg").touch()
        open_small(tmp_path / "empty.jpg", 100)


def test_a_picture_of_one_colour_has_no_hash(tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), "red").save(tmp_path / "plain.png")
    Image.linear_gradient("L").save(tmp_path / "grades.png")
    thumbnails = Thumbnails()
    assert thumbnails.hash_of(str(tmp_path / "plain.png")) is None
    assert thumbnails.hash_of(str(tmp_path / "gone.png")) is None
    found = thumbnails.hash_of(str(tmp_path / "grades.png"))
    assert found is not None and found.shape == (64,)
