"""What lies in a box, and how specific a head is, against plain slow ways."""

import numpy as np
import pytest
from viewer_numbers import box_area, box_shares, specificity
from viewer_page import explanation, random_maps


def test_shares_equal_counting_pixels() -> None:
    one = explanation(random_maps(), size=(160, 120))  # cells of 40 x 40 pixels
    box = (30, 10, 95, 70)
    plane = np.zeros((6, 120, 160))
    for k, (x0, y0, x1, y1) in enumerate(one.boxes.astype(int)):
        plane[:, y0:y1, x0:x1] = (one.mean_map()[:, k] / 1600)[:, None, None]
    wanted = plane[:, 10:70, 30:95].sum((1, 2)) / plane.sum((1, 2))
    assert np.allclose(box_shares(one, box), wanted, atol=1e-5)
    assert box_area(box, (160, 120)) == pytest.approx(65 * 60 / 19200)
    assert np.allclose(box_shares(one, (0, 0, 160, 120)), 1)
    assert np.allclose(box_shares(one, (95, 70, 30, 10)), wanted, atol=1e-5)  # turned round
    assert np.allclose(box_shares(one, (-9, -9, 999, 999)), 1)  # what hangs over is cut off


def test_a_word_that_did_not_look_has_none_and_no_region_without_area_counts() -> None:
    maps = random_maps()[0, 0]
    maps[2] = 0
    maps[3, 4] = np.nan
    one = explanation(maps)
    found = box_shares(one, (0, 0, 80, 120))
    assert found[2] == 0 and np.isfinite(found).all()
    one.boxes[5] = 0  # a region of padding
    kept = np.delete(np.arange(12), 5)
    left = np.isin(kept % 4, (0, 1))
    assert box_shares(one, (0, 0, 80, 120))[0] == pytest.approx(
        maps[0, kept][left].sum() / maps[0, kept].sum())


def test_specificity() -> None:
    same = np.tile(random_maps()[0, 0, :1], (6, 1))  # one map for all words
    apart = np.eye(6, 12)  # each word at a place of its own
    blank = apart.copy()
    blank[1] = 0
    found = specificity(np.stack([same, apart, blank])[None])  # (1, 3, 6)
    assert found.shape == (1, 3, 6)
    assert np.allclose(found[0, 0], 0, atol=1e-9)
    # JS of a point against the mean of six: half of log2(12/7) and of the mean's two parts.
    wanted = 0.5 * np.log2(1 / (7 / 12)) + 0.5 * (np.log2((1 / 6) / (7 / 12)) / 6 + 5 / 6)
    assert np.allclose(found[0, 1], wanted)
    assert found[0, 2, 1] == 0 and (found[0, 2, [0, 2, 3]] > 0).all()
