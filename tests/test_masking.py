"""Masked pictures: the right regions are blurred, the others are untouched, and it is cheap."""

import time

import numpy as np
import pytest
from tiny import noise

from vitdemo.attention.masking import LONGEST, Masker, blank_picture, blurred_pictures
from vitdemo.preprocess import grid_boxes


def test_only_the_hidden_regions_change() -> None:
    image = noise(120, 90)
    boxes = grid_boxes((3, 4), image.size)
    hidden = np.zeros((3, 12), dtype=bool)
    hidden[1, [0, 11]] = True
    hidden[2] = True
    whole, two, blank = (np.asarray(one, np.int32) for one in
                         blurred_pictures(image, boxes, hidden))
    assert np.array_equal(whole, np.asarray(image))
    changed = (two != whole).any(-1)
    assert changed[:30, :30].mean() > 0.95 and changed[60:, 90:].mean() > 0.95
    changed[:30, :30] = changed[60:, 90:] = False
    assert not changed.any()
    assert np.array_equal(two[:30, :30], blank[:30, :30])
    assert blank.std() < 0.2 * whole.std(), "the blur leaves no shapes"
    assert abs(blank.mean() - whole.mean()) < 5, "and the rough colours"


def test_every_pixel_has_one_region_even_with_crooked_edges() -> None:
    image = noise(101, 67)
    edges = ([0, 0.131, 0.5, 1], [0, 0.07, 0.33, 0.9, 1])
    boxes = grid_boxes((3, 4), image.size, edges)
    masker = Masker(image, boxes)
    each = [np.asarray(one) != np.asarray(image) for one in masker.pictures(np.eye(12, dtype=bool))]
    count = np.sum([one.any(-1) for one in each], axis=0)
    assert count.max() == 1 and (count == 1).mean() > 0.95
    assert all(one.any() for one in each)


@pytest.mark.parametrize("size", [(2000, 1000), (300, 3000), (8, 8), (240, 8), (400, 400)])
def test_the_copy_is_small_and_no_region_is_lost(size: tuple[int, int]) -> None:
    image = noise(*size)
    boxes = grid_boxes((9, 9), size)
    masker = Masker(image, boxes)
    whole = masker.picture(np.zeros(81, dtype=bool))
    assert max(whole.size) <= max(LONGEST, 2 * 9 * max(size) / min(size) + 1)
    assert whole.width / whole.height == pytest.approx(size[0] / size[1], rel=0.15)
    sizes = np.bincount(masker._index.ravel(), minlength=81)
    assert len(sizes) == 81 and sizes.min() >= 1


def test_pixels_outside_all_boxes_are_never_blurred() -> None:
    image = noise(100, 100)
    boxes = np.array([[25, 25, 50, 75], [50, 25, 75, 75]], np.float32)
    (masked,) = blurred_pictures(image, boxes, np.ones((1, 2), dtype=bool))
    changed = (np.asarray(masked) != np.asarray(image)).any(-1)
    assert changed[25:75, 25:75].mean() > 0.95
    changed[25:75, 25:75] = False
    assert not changed.any()


def test_a_large_copy_keeps_the_pictures_own_pixels() -> None:
    image = noise(900, 600)
    boxes = grid_boxes((2, 2), image.size)
    picture = Masker(image, boxes, longest=1600).picture(np.array([True, False, False, False]))
    assert picture.size == (900, 600)
    assert np.array_equal(np.asarray(picture)[300:], np.asarray(image)[300:])
    assert np.asarray(picture)[:300, :450].std() < 20


def test_blank_is_one_grey_of_the_same_size() -> None:
    blank = blank_picture((31, 17))
    assert blank.size == (31, 17) and blank.mode == "RGB"
    assert len(blank.getcolors()) == 1


def test_a_hundred_masks_take_little_time() -> None:
    """A model takes tens of milliseconds a picture; a mask must be far below."""
    image = noise(500, 375)
    boxes = grid_boxes((9, 9), image.size)
    hidden = np.random.default_rng(0).random((100, 81)) < 0.5
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        assert len(blurred_pictures(image, boxes, hidden)) == 100
        best = min(best, time.process_time() - start)
    assert best < 1.0
