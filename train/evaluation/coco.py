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

from train.data.coco_words import category_names, mentions
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
    boxes_file, words_file = _load(instances, "--instances"), _load(captions, "--captions")
    try:
        categories = {row["id"]: str(row["name"]) for row in boxes_file["categories"]}
        sizes = {row["id"]: (int(row["width"]), int(row["height"])) for row in boxes_file["images"]}
        boxes = _boxes(boxes_file["annotations"], categories, sizes)
        files = {row["id"]: str(row["file_name"]) for row in words_file["images"]}
        texts: dict[int, list[str]] = {}
        for row in words_file["annotations"]:
            texts.setdefault(row["image_id"], []).append(row["caption"].strip())
        if unlisted := texts.keys() - files.keys():
            raise ValueError(f"a caption belongs to picture {min(unlisted)}, which is not listed")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{instances} or {captions} is not in COCO's form: {error!r}.") from error
    extra = tuple(sorted(set(categories.values()) - set(category_names())))
    found = []
    for picture, of_picture in texts.items():
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


def _load(file: Path, option: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{option} {file} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{option} {file} is not in COCO's form: an object is wanted.")
    return content


def _boxes(rows: Sequence[dict[str, Any]], categories: dict[int, str],
           sizes: dict[int, tuple[int, int]]) -> dict[int, dict[str, np.ndarray]]:
    """Picture -> category -> boxes (n, 4)."""
    found: dict[int, dict[str, list[tuple[float, ...]]]] = {}
    for row in rows:
        width, height = sizes[row["image_id"]]
        left, top, wide, high = map(float, row["bbox"])
        if not math.isfinite(left + top + wide + high) or min(wide, high) < 0:
            raise ValueError(f"the bbox {row['bbox']}; x, y, width and height are wanted")
        x0, x1 = max(0.0, left), min(float(width), left + wide)
        y0, y1 = max(0.0, top), min(float(height), top + high)
        category = categories[row["category_id"]]
        if x1 > x0 and y1 > y0:
            of_picture = found.setdefault(row["image_id"], {})
            of_picture.setdefault(category, []).append((x0, y0, x1, y1))
    return {picture: {category: np.asarray(boxes) for category, boxes in parts.items()}
            for picture, parts in found.items()}
