"""What tests of indexing share: pictures on disk, and an embedder that counts what it is given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vitdemo.preprocess import Picture
from vitdemo.retrieval.base import Found, Stamp, open_index, pages
from vitdemo.retrieval.gallery import Gallery

STAMP = Stamp("colours", "1", 3)


class Colours:
    """The vector of a picture is its mean colour, made as long as 1; it counts the pictures."""

    picture_side = 0

    def __init__(self) -> None:
        self.names: list[str] = []  # of the pictures that were embedded

    def embed_pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        self.names += [Path(one.name).name for one in pictures]
        rows = [np.asarray(one.image, np.float32).mean((0, 1)) + 1 for one in pictures]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise NotImplementedError


def open_gallery(uri: str | Path = "memory://") -> tuple[Gallery, Colours]:
    """A gallery and its embedder."""
    embedder = Colours()
    return Gallery(open_index(str(uri), STAMP), embedder), embedder


def paint(path: Path, seed: int, size: tuple[int, int] = (12, 9), **options: object) -> Path:
    """A picture of one colour, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (seed * 37 % 256, seed * 91 % 256, seed // 7 % 256)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def entries(gallery: Gallery) -> dict[str, Found]:
    """All entries by the names of their files; nothing may be there twice."""
    found = [one for page in pages(gallery.index, vectors=True) for one in page]
    assert len({one.id for one in found}) == len(found) == gallery.count()
    assert len({one.path for one in found}) == len(found)
    return {Path(one.path).name: one for one in found}
