"""COCO's own annotation files: photographs with boxes by category and with captions by people.

Boxes are xyxy in pixels of the picture. Layout of the files: cocodataset.org/#format-data
("object detection" and "image captioning").
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.grounding.coco_words import category_names, mentions
from vitdemo.errors import DataError


@dataclass(frozen=True)
class Named:
    """A name in a caption: its words (places among `vitdemo.words.split_words`) and the category
    that it means, which has boxes in the picture."""

    words: tuple[int, ...]
    category: str


@dataclass(frozen=True)
class NamingCaption:
    """A caption, lower-cased and with single spaces as the model writes, and its names."""

    text: str
    names: tuple[Named, ...]


@dataclass(frozen=True)
class GroundedPicture:
    """A picture with at least one caption that names a thing in it.

    ``size`` is (width, height) in pixels. ``boxes`` has for each category float64 (n, 4), xyxy in
    pixels, kept inside the picture; boxes of crowds are among them.
    """

    file: Path
    size: tuple[int, int]
    captions: tuple[NamingCaption, ...]
    boxes: dict[str, np.ndarray]


def read_grounding(images: Path, instances: Path, captions: Path) -> tuple[GroundedPicture, ...]:
    """Every picture of the captions file in which a caption names a category that has boxes.

    Boxes of crowds ("iscrowd") count: "people" names a crowd. Boxes of no area do not. A caption
    that names nothing with boxes is left out, and a picture that has no other with it.

    Raises:
        DataError: a file or a picture is missing or has another form, or no caption names
            anything.
    """
    if not images.is_dir():
        raise DataError(f"--images {images} is no folder; give the folder with the photographs.")
    boxes_file, words_file = _Table(instances, "--instances"), _Table(captions, "--captions")
    categories = boxes_file.by_id("categories", "name", str)
    sizes = _sizes(boxes_file)
    boxes = _boxes(boxes_file, categories, sizes)
    texts = _texts(words_file)
    files = words_file.by_id("images", "file_name", str)
    extra = tuple(sorted(set(categories.values()) - set(category_names())))
    found = []
    for picture, of_picture in texts.items():
        if picture not in files:
            raise DataError(f"{captions}: a caption belongs to picture {picture}, which is not "
                            "under \"images\".")
        naming = tuple(filter(None, (_naming(text, boxes.get(picture, {}), extra)
                                     for text in of_picture)))
        if naming:
            used = {name.category for caption in naming for name in caption.names}
            found.append(GroundedPicture(
                images / files[picture], sizes[picture], naming,
                {category: boxes[picture][category] for category in sorted(used)}))
    if not found:
        raise DataError(f"No caption of {captions} names a category that has boxes in "
                        f"{instances}. Do the two files belong to the same pictures?")
    lost = [one.file.name for one in found if not one.file.is_file()]
    if lost:
        raise DataError(f"{images} lacks {len(lost)} of {len(found)} pictures, the first: "
                        f"{lost[0]}.")
    return tuple(found)


def _naming(text: str, boxes: dict[str, np.ndarray],
            extra: tuple[str, ...]) -> NamingCaption | None:
    """A caption with the names that have boxes; None where it has no such name."""
    text = " ".join(text.lower().split())
    names = []
    for mention in mentions(text, extra):
        category = next((one for one in mention.categories if one in boxes), None)
        if category is not None:
            names.append(Named(mention.words, category))
    return NamingCaption(text, tuple(names)) if names else None


class _Table:
    """One JSON file; what is read from it is checked, and a fault names the file and the place."""

    def __init__(self, file: Path, option: str) -> None:
        self.file = file
        try:
            self.content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"{option} {file} does not exist.") from error
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{option} {file} is no JSON ({error}).") from error
        except OSError as error:
            raise DataError(f"{option} {file} cannot be read: {error.strerror}.") from error
        if not isinstance(self.content, dict):
            raise DataError(f"{option} {file} is not in COCO's form: an object is wanted.")

    def rows(self, part: str) -> list[dict[str, Any]]:
        """The list ``part``, whose items must be objects."""
        rows = self.content.get(part)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f'{self.file} is not in COCO\'s form: it has no list "{part}".')
        return rows

    def value(self, row: dict[str, Any], part: str, number: int, key: str, kind: Any) -> Any:
        """One value of row ``number`` of a part, of the right kind."""
        value = row.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DataError(f'{self.file}: "{key}" of item {number + 1} of "{part}" is {value!r}; '
                            "that is not COCO's form.")
        return value

    def by_id(self, part: str, key: str, kind: Any) -> dict[int, Any]:
        """From the id of each row of a part to one of its values."""
        return {self.value(row, part, i, "id", int): self.value(row, part, i, key, kind)
                for i, row in enumerate(self.rows(part))}


def _sizes(table: _Table) -> dict[int, tuple[int, int]]:
    widths, heights = table.by_id("images", "width", int), table.by_id("images", "height", int)
    for picture, width in widths.items():
        if min(width, heights[picture]) < 1:
            raise DataError(f"{table.file}: picture {picture} is {width} x {heights[picture]}.")
    return {picture: (width, heights[picture]) for picture, width in widths.items()}


def _boxes(table: _Table, categories: dict[int, str],
           sizes: dict[int, tuple[int, int]]) -> dict[int, dict[str, np.ndarray]]:
    """Picture -> category -> boxes (n, 4)."""
    found: dict[int, dict[str, list[tuple[float, ...]]]] = {}
    for i, row in enumerate(table.rows("annotations")):
        picture = table.value(row, "annotations", i, "image_id", int)
        category = table.value(row, "annotations", i, "category_id", int)
        box = table.value(row, "annotations", i, "bbox", list)
        if picture not in sizes or category not in categories:
            raise DataError(f"{table.file}: item {i + 1} of \"annotations\" is about picture "
                            f"{picture} and category {category}; one of them is not listed.")
        if not _is_box(box):
            raise DataError(f'{table.file}: "bbox" of item {i + 1} of "annotations" is {box!r}; '
                            "x, y, width and height in pixels are wanted.")
        width, height = sizes[picture]
        x0, x1 = max(0.0, box[0]), min(float(width), box[0] + box[2])
        y0, y1 = max(0.0, box[1]), min(float(height), box[1] + box[3])
        if x1 > x0 and y1 > y0:
            of_picture = found.setdefault(picture, {})
            of_picture.setdefault(categories[category], []).append((x0, y0, x1, y1))
    return {picture: {category: np.asarray(boxes) for category, boxes in parts.items()}
            for picture, parts in found.items()}


def _is_box(box: Sequence[Any]) -> bool:
    return len(box) == 4 and all(isinstance(value, int | float) and math.isfinite(value)
                                 for value in box) and min(box[2:]) >= 0


def _texts(table: _Table) -> dict[int, list[str]]:
    """Picture -> its captions."""
    found: dict[int, list[str]] = {}
    for i, row in enumerate(table.rows("annotations")):
        picture = table.value(row, "annotations", i, "image_id", int)
        found.setdefault(picture, []).append(
            table.value(row, "annotations", i, "caption", str))
    return found
