"""Near-duplicates: what two tests take for almost the same, and which one is to be kept."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from planted import Planted

from vitdemo.engine import Engine
from vitdemo.errors import ConfigError
from vitdemo.retrieval import duplicates
from vitdemo.retrieval.duplicates import find_duplicates, sharpness
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import index_folders

DAY = 86400


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Coarse shapes: another seed lies elsewhere, though its mean colour is much the same."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 1), dtype=np.uint8)
    return Image.fromarray(np.repeat(noise, 3, axis=2)).resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, days: int = 0, **options: object) -> None:
    image.save(path, **options)
    os.utime(path, (days * DAY, days * DAY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    save(scene(1), folder / "whole.png", days=30)
    save(scene(1, (160, 120)), folder / "small.jpg", days=10, quality=60)
    save(scene(1).filter(ImageFilter.GaussianBlur(2)), folder / "blurred.png", days=20)
    save(scene(2), folder / "other.png")  # as grey as the first: its vector is near, its shapes not
    save(scene(3), folder / "twin-a.png")
    save(scene(3), folder / "twin-b.png")
    return folder


@pytest.fixture
def gallery(folder: Path) -> Gallery:
    made = Engine(Planted()).gallery()
    index_folders(made, [folder], workers=1)
    return made


def names(groups: duplicates.Groups) -> list[list[str]]:
    return [[Path(one.path).name for one in group.pictures] for group in groups.groups]


def test_copies_are_grouped_and_lookalikes_of_the_vectors_are_not(gallery: Gallery) -> None:
    told: list[tuple[int, int]] = []
    found = find_duplicates(gallery.index, progress=lambda *far: told.append(far))
    assert found.compared == 6 and found.gone == 0 and not found.more and told
    first, second = names(found)
    assert first[0] == "whole.png" and set(first[1:]) == {"small.jpg", "blurred.png"}
    assert second == ["twin-a.png", "twin-b.png"]
    best, *rest = found.groups[0].pictures
    assert best.cosine == pytest.approx(1) and best.distance == 0
    assert all(one.cosine >= duplicates.COSINE for one in rest)
    assert all(one.distance <= duplicates.DISTANCE for one in rest)
    # All six vectors are near each other: without the second test it would be one group.
    loose = find_duplicates(gallery.index, distance=64)
    assert len(loose.groups) == 1 and len(loose.groups[0].pictures) == 6


@pytest.mark.parametrize(("keep", "kept", "reason"), [
    ("largest", "whole.png", "equally large ones it is the sharpest"),
    ("oldest", "small.jpg", "oldest, of 1970-01-11"), ("newest", "whole.png", "newest")])
def test_what_to_keep_is_the_persons_choice(keep: str, kept: str, reason: str,
                                            gallery: Gallery) -> None:
    group = find_duplicates(gallery.index, keep=keep).groups[0]
    assert Path(group.pictures[0].path).name == kept and reason in group.reason


def test_the_sharpest_is_told_from_the_blurred(gallery: Gallery, folder: Path) -> None:
    plain, blurred = scene(1), scene(1).filter(ImageFilter.GaussianBlur(4))
    assert sharpness(plain) > sharpness(blurred) > 0
    assert sharpness(Image.new("RGB", (50, 50))) == 0 == sharpness(Image.new("RGB", (2, 50)))
    group = find_duplicates(gallery.index, keep="sharpest").groups[0]
    assert group.pictures[0].sharpness == max(one.sharpness for one in group.pictures)


def test_filters_gone_files_and_the_bound(gallery: Gallery, folder: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    small = Filters(max_width=200).conditions()
    assert find_duplicates(gallery.index, small) == duplicates.Groups((), 1, 0, False)
    assert find_duplicates(gallery.index, Filters(min_width=999).conditions()).compared == 0
    before = sorted(folder.iterdir())
    os.remove(folder / "twin-a.png")
    found = find_duplicates(gallery.index)
    assert found.gone == 1 and len(found.groups) == 1
    assert sorted(folder.iterdir()) == [path for path in before if path.name != "twin-a.png"]
    assert gallery.count() == 6  # nothing was taken out, either
    monkeypatch.setattr(duplicates, "MOST", 4)
    found = find_duplicates(gallery.index)
    assert found.more and found.compared == 4


def test_many_vectors_are_compared_in_blocks(gallery: Gallery,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    whole = names(find_duplicates(gallery.index))
    monkeypatch.setattr(duplicates, "_ROWS", 2)
    assert names(find_duplicates(gallery.index)) == whole


@pytest.mark.parametrize("settings", [{"keep": "prettiest"}, {"cosine": 1.5}, {"distance": 65}])
def test_settings_out_of_range_are_refused(settings: dict[str, object], gallery: Gallery) -> None:
    with pytest.raises(ConfigError, match="must be"):
        find_duplicates(gallery.index, **settings)  # type: ignore[arg-type]
