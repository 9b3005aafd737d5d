"""Pictures with some of their regions blurred away, many of them cheaply.

K regions of a picture, with boxes (K, 4): x0, y0, x1, y1 in pixels of that picture.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter

LONGEST = 400  # pixels of the copy's longest side; models look at less
BLUR = 0.1  # standard deviation of the blur, as a share of the longest side
THINNEST = 2  # pixels that the thinnest region has at least on the copy
GREY = (128, 128, 128)


class Masker:
    """One picture, ready to be masked: a copy, a blurred copy, and each pixel's region.

    The copy's longest side is at most ``longest`` pixels, unless a region would become thinner
    than `THINNEST`. The Gaussian blur's standard deviation is `BLUR` of the longest side: shapes
    go, the rough colours stay, so that no border of black or grey squares tells the model
    something new (as in RISE, Petsiuk et al. 2018, section 4.2, where "insertion" starts from a
    blurred picture). ``boxes`` are those of the regions, or each pixel's region as whole numbers
    (h, w), of any size. A pixel belongs to the region that its middle lies in, to the later one
    where boxes overlap; a pixel outside all boxes is never blurred.
    """

    def __init__(self, image: Image.Image, boxes: np.ndarray, longest: int = LONGEST) -> None:
        labelled = np.asarray(boxes).dtype.kind == "i"
        thinnest = float(max(image.size))
        if not labelled:
            boxes = np.asarray(boxes, np.float64)
            assert boxes.ndim == 2 and boxes.shape[1] == 4, boxes.shape
            sides = boxes[:, 2:] - boxes[:, :2]
            thinnest = float(sides[sides > 0].min(initial=thinnest))
        scale = max(min(1.0, longest / max(image.size)), THINNEST / thinnest)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        self.regions = int(boxes.max()) + 1 if labelled else len(boxes)
        self._sharp = np.asarray(_resized(image, size))  # (H, W, 3) uint8
        self._blurred = np.asarray(_resized(_blurred(image), size))
        self._index = np.asarray(Image.fromarray(boxes.astype(np.int32)).resize(
            size, Image.Resampling.NEAREST)) if labelled else \
            self._index_of(boxes * np.tile(np.array(size) / image.size, 2), size)

    def _index_of(self, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Each pixel's region, K where it has none: int32 (H, W)."""
        index = np.full(size[::-1], self.regions, dtype=np.int32)
        edges = np.ceil(boxes - 0.5).astype(int).clip(0)
        for region, (x0, y0, x1, y1) in enumerate(edges):
            index[y0:y1, x0:x1] = region
        return index

    def picture(self, hidden: np.ndarray) -> Image.Image:
        """The copy with these regions blurred: bool (K,)."""
        away = np.append(np.asarray(hidden, dtype=bool), False)[self._index]  # (H, W)
        return Image.fromarray(np.where(away[..., None], self._blurred, self._sharp))

    def pictures(self, hidden: np.ndarray) -> Iterator[Image.Image]:
        """One picture for each row of ``hidden``, bool (n, K), made when it is asked for."""
        assert hidden.ndim == 2 and hidden.shape[1] == self.regions, hidden.shape
        for row in hidden:
            yield self.picture(row)


def blurred_pictures(image: Image.Image, boxes: np.ndarray,
                     hidden: np.ndarray) -> list[Image.Image]:
    """`Masker` for once: a picture for each row of ``hidden``, bool (n, K)."""
    return list(Masker(image, boxes).pictures(np.asarray(hidden, dtype=bool)))


def blank_picture(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """One grey all over. Models squeeze every picture to one size, so its own hardly matters."""
    return Image.new("RGB", size, GREY)


def _blurred(image: Image.Image) -> Image.Image:
    """Blurred on a small copy: what is left after the blur needs no more pixels."""
    scale = min(1.0, LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = _resized(image, size)
    return small.filter(ImageFilter.GaussianBlur(BLUR * max(small.size)))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC,
                                                         reducing_gap=3.0)
