"""The smallest part that is enough: on planted words, through the engine, and as an outline."""

import numpy as np
import pytest
from PIL import Image
from planted import COLOURS, Planted

from vitdemo.attention.masking import Masker
from vitdemo.attention.smallest import outline, smallest, superpixels
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.preprocess import open_picture

SIZE = (160, 120)
SQUARE = (100, 60, 150, 110)


def planted_square() -> Image.Image:
    """Green, with a red square in the lower right."""
    image = Image.new("RGB", SIZE, COLOURS["green"])
    image.paste(COLOURS["red"], SQUARE)
    return image


def score_of(parts: list[int], needed: int, base: float = 0.0):
    """A word that is there as long as ``needed`` of these are seen."""
    def score(hidden: np.ndarray) -> np.ndarray:
        seen = (~hidden[:, parts]).sum(1)
        return base + (0.9 - base) * np.minimum(1, seen / needed)
    return score


def test_what_is_enough_and_what_is_needed() -> None:
    enough, needed = smallest(score_of([3, 11, 12], 3), 20)
    assert np.flatnonzero(enough).tolist() == [3, 11, 12]
    assert np.flatnonzero(needed).tolist() == [3, 11, 12], "a fifth is left with none of them"
    enough, needed = smallest(score_of([3, 11, 12], 1), 20)
    assert enough.sum() == 1 and enough[[3, 11, 12]].any(), "each of them is enough"
    assert np.flatnonzero(needed).tolist() == [3, 11, 12], "and all must go"


def test_what_a_later_choice_makes_superfluous_goes() -> None:
    def score(hidden: np.ndarray) -> np.ndarray:
        seen = ~hidden
        return np.where(seen[:, 1] & seen[:, 2], 0.9, 0.3 * seen[:, 0] + 0.2 * seen[:, 1])
    enough, _ = smallest(score, 6)
    assert np.flatnonzero(enough).tolist() == [1, 2], "the first is the best alone"


def test_a_word_that_needs_no_picture_has_no_part() -> None:
    enough, needed = smallest(score_of([3], 1, base=0.8), 20)
    assert not enough.any() and not needed.any()


def test_superpixels_follow_things_and_outlines_go_around_them() -> None:
    labels = superpixels(planted_square())
    assert labels.shape == SIZE[::-1] and set(np.unique(labels)) == set(range(labels.max() + 1))
    inside = np.zeros(labels.shape, bool)
    inside[SQUARE[1]:SQUARE[3], SQUARE[0]:SQUARE[2]] = True
    red = np.array([inside[labels == part].mean() > 0.5 for part in range(labels.max() + 1)])
    assert (red[labels] == inside).mean() > 0.99
    (line,) = outline(labels, red, (320, 240))
    xs, ys = np.array(line).T
    wanted = 2 * np.array(SQUARE)
    assert np.allclose([xs.min(), ys.min(), xs.max(), ys.max()], wanted, atol=4)
    assert line[0] == line[-1], "closed"
    assert outline(labels, np.zeros_like(red), SIZE) == ()


def test_a_masker_takes_superpixels_of_any_size() -> None:
    labels = np.array([[0, 1], [2, 3]], dtype=np.int32)
    masker = Masker(planted_square(), labels)
    assert masker.regions == 4
    before = np.asarray(planted_square())
    found = np.asarray(masker.picture(np.array([False, False, False, True])))
    changed = (found != before).any(-1)
    assert changed[60:, 80:].any() and not changed[:60].any() and not changed[:, :80].any()


def test_the_engine_finds_the_planted_square() -> None:
    image = Image.new("RGB", (120, 90), COLOURS["green"])
    image.paste(COLOURS["red"], (60, 60, 120, 90))  # two cells of this model
    engine, photo = Engine(Planted()), open_picture(image)
    told: list[tuple[int, int]] = []
    part = engine.smallest_part(photo, "a red thing", 1,
                                progress=lambda done, total: told.append((done, total)))
    assert (part.word, part.source) == (1, "text") and told
    for lines in (part.enough, part.needed):
        xs, ys = np.concatenate([np.array(line) for line in lines]).T
        assert xs.min() > 52 and ys.min() > 52
    assert part.kept >= 0.8 * part.probability and 0 < part.enough_area < 0.2
    assert part.left <= part.blank + 0.2 * (part.probability - part.blank) + 1e-6
    for word in (3, -1, True):
        with pytest.raises(TextError, match="no word"):
            engine.smallest_part(photo, "a red thing", word)
