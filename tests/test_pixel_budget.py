"""One budget for the memory of all pictures that are decoded at once, in every way in."""

import gc
import threading
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from indexing import entries, open_gallery, paint
from odd_pictures import encoded, png
from PIL import Image

from vitdemo import pixel_budget, preprocess
from vitdemo.errors import BusyError, PictureError
from vitdemo.pixel_budget import PixelBudget
from vitdemo.preprocess import open_picture, open_pictures, open_small, peak_pixels
from vitdemo.retrieval import readers
from vitdemo.retrieval.indexer import index_folders
from vitdemo.retrieval.thumbnails import Thumbnails

MEGA = 1_000_000


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> PixelBudget:
    """A budget of 4 megapixels for every way in, with no patience."""
    made = PixelBudget(4 * MEGA, patience=0.05)
    for module in (preprocess, readers, pixel_budget):
        monkeypatch.setattr(module, "BUDGET", made)
    return made


def large(path: Path, size: tuple[int, int] = (1000, 1000)) -> str:
    """A picture of one bit a pixel: a few bytes on disk."""
    row = b"\0" + bytes(-(-size[0] // 8))
    path.write_bytes(png(*size, row * size[1], bits=1))
    return str(path)


def test_shares_are_given_up_to_the_bound_and_come_back() -> None:
    budget = PixelBudget(10, patience=0.05)
    first = budget.take(6)
    with ThreadPoolExecutor(1) as pool:  # another thread
        with pytest.raises(BusyError, match="Try again in a moment"):
            pool.submit(budget.take, 5, "a.png").result()
        first.keep(2)
        assert budget.used == 2
        second = pool.submit(budget.take, 5).result()
    assert (budget.used, budget.peak) == (7, 7)
    for share in (first, second, first):
        share.keep(0)
    assert budget.used == 0


def test_a_share_goes_with_what_it_is_for() -> None:
    budget = PixelBudget(10)
    image = Image.new("RGB", (1, 1))
    budget.take(8).keep(3, image)
    assert budget.used == 3
    del image
    assert budget.used == 0


def test_who_waits_gets_its_turn_and_in_order() -> None:
    budget = PixelBudget(10)
    held, got = budget.take(10), []
    queued = threading.Event()

    def ask(pixels: int) -> None:
        share = budget.take(pixels)
        got.append(pixels)
        share.keep(0)

    threads = []
    for pixels in (10, 1):  # the small one would fit sooner, but came later
        threads.append(threading.Thread(target=ask, args=(pixels,)))
        threads[-1].start()
        while len(budget._waiting) < len(threads):
            queued.wait(0.001)
    held.keep(4)
    held.keep(0)
    for thread in threads:
        thread.join(10)
    assert got == [10, 1] and budget.used == 0


def test_waiting_for_oneself_is_refused_at_once_and_what_is_too_large_waits_to_be_alone() -> None:
    budget = PixelBudget(10, patience=1000)
    held = budget.take(8)
    with pytest.raises(BusyError, match="Use fewer or smaller"):
        budget.take(3, "b.png")
    held.keep(0)
    budget.take(1000).keep(0)
    assert budget.peak == 10


def test_what_lies_in_a_circle_is_let_go() -> None:
    budget = PixelBudget(10, patience=5)

    class Ring:
        pass

    ring = Ring()
    ring.itself = ring  # type: ignore[attr-defined]
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(budget.take, 8).result().keep(8, ring)
        del ring
        assert budget.used == 8
        budget.take(9).keep(0)
    finally:
        gc.enable()


def test_a_picture_holds_its_memory_as_long_as_it_is_there(budget: PixelBudget,
                                                           tmp_path: Path) -> None:
    picture = open_picture(large(tmp_path / "a.png"))
    assert budget.used == MEGA and budget.peak == peak_pixels(Image.new("1", (1000, 1000)))
    with pytest.raises(BusyError):
        [open_picture(large(tmp_path / "a.png")) for _ in range(9)]
    gone = weakref.ref(picture.image)
    del picture
    assert gone() is None and budget.used == 0
    with pytest.raises(PictureError):
        open_picture(encoded(Image.new("RGB", (900, 900)), "BMP")[:900])
    assert budget.used == 0


def test_many_uploads_take_the_memory_of_one(budget: PixelBudget, tmp_path: Path) -> None:
    """16 of 1 megapixel each, at once far over the budget."""
    paths = [large(tmp_path / f"{n}.png") for n in range(16)]
    gallery, embedder = open_gallery()
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    skipped, _ = gallery.add_files([*paths, str(bad)])
    assert gallery.count() == 16 and len(embedder.names) == 16
    assert [one.path for one in skipped] == [str(bad)]
    assert budget.peak <= 2.5 * MEGA and budget.used == 0
    found = entries(gallery)["3.png"]
    assert (found.width, found.height) == (1000, 1000)
    assert found.metadata["digest"] == open_picture(paths[3]).digest


def test_indexing_asks_this_process_for_the_memory_of_its_readers(budget: PixelBudget,
                                                                   tmp_path: Path) -> None:
    for n in range(4):
        large(tmp_path / f"{n}.png", (1000, 800 + n))
    paint(tmp_path / "small.jpg", 3)
    gallery, _ = open_gallery()
    assert index_folders(gallery, [tmp_path], workers=2).added == 5
    assert 800_000 < budget.peak <= 4 * MEGA and budget.used == 0
    other = tmp_path / "other"
    other.mkdir()
    large(other / "busy.png")
    held = budget.take(4 * MEGA)
    report = index_folders(gallery, [other], workers=1)
    assert "Try again in a moment" in report.skipped[0].reason and report.added == 0
    held.keep(0)
    assert index_folders(gallery, [other], workers=1).added == 1  # not remembered as broken


def test_thumbnails_and_small_copies_hold_nothing(budget: PixelBudget, tmp_path: Path) -> None:
    paths = [large(tmp_path / f"{n}.png") for n in range(6)]
    budget.patience = 60
    made = Thumbnails(side=50)
    assert all(isinstance(one, bytes) for one in made.many(paths))
    assert budget.used == 0 and budget.peak <= 4 * MEGA
    assert open_small(paths[0], 40).size == (40, 40) and budget.used == 0


def test_two_at_once_do_not_wait_for_each_other(budget: PixelBudget, tmp_path: Path) -> None:
    """Each needs two pictures; all of the first ones together fill the budget."""
    path = large(tmp_path / "a.png")
    budget.patience = 60
    start = threading.Barrier(6)

    def compare() -> int:
        start.wait()
        return len(open_pictures([path, path]))

    with ThreadPoolExecutor(6) as pool:
        assert [one.result(120) for one in [pool.submit(compare) for _ in range(6)]] == [2] * 6
    assert budget.used == 0 and budget.peak <= 4 * MEGA


def test_kinds_that_cost_more_a_pixel_count_more() -> None:
    def cost(kind: str, mode: str = "RGB", **options: object) -> float:
        data = encoded(Image.new(mode, (100, 100)), kind, **options)
        return peak_pixels(preprocess._open_data(data, "x", preprocess.LIMITS)) / 10_000

    assert cost("PNG") <= cost("PNG", "1") < cost("PNG", "RGBA") < cost("WEBP")
    assert cost("JPEG") < cost("JPEG", progressive=True)


def test_a_thousand_small_ones_leave_nothing_behind(budget: PixelBudget) -> None:
    random, data = np.random.default_rng(0), encoded(Image.new("RGB", (30, 30)))
    for _ in range(200):
        cut = int(random.integers(1, len(data)))
        for source in (data, data[:cut], data[:cut] + zlib.compress(data)):
            try:
                open_picture(source)
            except PictureError:
                continue
    assert budget.used == 0
