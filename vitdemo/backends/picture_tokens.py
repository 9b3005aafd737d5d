"""Which token of a picture lies where in it, for models that put a picture's tokens among a text's.

Each kind of processor has one small function, which undoes what the processor does: squeeze, crop,
pad, tiles, merged patches. It gives ``cells``, float64 (P, 4), for each of the picture's tokens, in
their order, its box x0, y0, x1, y1 in pixels of the picture that the user gave, nan where it shows
nothing of it (a new line, a class token); and ``fine``, bool (P,), those that lie side by side. The
regions are theirs; the others (the whole picture beside its tiles) are shared out over them.

Legend: P tokens of a picture, K regions, n shares.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from vitdemo.attention.trace import Regions
from vitdemo.errors import CheckpointError
from vitdemo.preprocess import grid_boxes

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Processed:
    """One picture of ``size`` (width, height) as its processor gave it: ``inputs``; ``count`` is P,
    ``processor`` and ``config`` are the checkpoint's."""

    size: tuple[int, int]
    inputs: Mapping[str, Any]
    count: int
    processor: Any
    config: Any

    @property
    def whole(self) -> Box:
        """The picture's own box."""
        return 0, 0, *self.size


Cells = tuple[np.ndarray, np.ndarray]


def plain(picture: Processed) -> Cells:
    """One grid over what is left of the picture after squeezing, or after fitting its shorter side
    and cropping the middle (LLaVA); where it is padded to a square, after that."""
    images = picture.processor.image_processor
    height, width = picture.inputs["pixel_values"].shape[-2:]
    x0, y0, x1, y1 = picture.whole
    if getattr(images, "do_pad", False):
        side = max(picture.size)
        x0, y0 = -((side - picture.size[0]) // 2), -((side - picture.size[1]) // 2)
        x1, y1 = x0 + side, y0 + side
    shortest = length_of(images.size, "shortest_edge")
    if getattr(images, "do_center_crop", False) and shortest:
        scale = min(x1 - x0, y1 - y0) / shortest  # pixels of the picture in one of the model's
        middle = (x0 + x1) / 2, (y0 + y1) / 2
        x0, x1 = (middle[0] + sign * width * scale / 2 for sign in (-1, 1))
        y0, y1 = (middle[1] + sign * height * scale / 2 for sign in (-1, 1))
    for others in (0, 1):  # a class token
        count = picture.count - others
        rows = max(1, round(math.sqrt(count * height / width)))
        if count > 0 and count % rows == 0 and abs(count / rows / rows - width / height) < 0.1:
            cells = _grid(rows, count // rows, (x0, y0, x1, y1))
            return _all(np.concatenate([np.full((others, 4), np.nan), cells]))
    raise unknown(picture.config.model_type, picture.count)


def tiles(picture: Processed) -> Cells:
    """Idefics3 and SmolVLM: the picture squeezed to rows x columns of tiles, one after the other,
    and then whole, in one more; each is shuffled to a square of tokens."""
    rows, columns = (int(np.ravel(picture.inputs[name])[0]) for name in ("rows", "cols"))
    return _tiled(picture, rows, columns)


def canvas_tiles(picture: Processed) -> Cells:
    """InternVL: the same, with as many tiles as suit the picture's shape; one is the whole."""
    images = picture.processor.image_processor
    tile = length_of(images.size, "height"), length_of(images.size, "width")
    columns, rows = get_optimal_tiled_canvas(picture.size[::-1], tile, images.min_patches,
                                             images.max_patches)
    return _tiled(picture, rows, columns) if rows * columns > 1 else _tiled(picture, 0, 0)


def _tiled(picture: Processed, rows: int, columns: int) -> Cells:
    side = math.isqrt(picture.count // (rows * columns + 1))
    boxes = [*grid_boxes((rows, columns), picture.size)] if rows * columns else []
    cells = np.concatenate([_grid(side, side, box) for box in [*boxes, picture.whole]])
    return cells, np.arange(len(cells)) < len(boxes) * side**2 if boxes else _all(cells)[1]


def merged(picture: Processed) -> Cells:
    """Qwen-VL: the picture squeezed to whole patches, of which a square of neighbours is one
    token."""
    merge = picture.processor.image_processor.merge_size
    rows, columns = (int(number) // merge for number in picture.inputs["image_grid_thw"][0][1:])
    return _all(_grid(rows, columns, picture.whole))


def any_resolution(picture: Processed) -> Cells:
    """LLaVA-OneVision (and LLaVA-NeXT): the whole picture squeezed to one tile; then fitted into
    the middle of as many tiles as suit its shape, whose tokens are one grid. The rows and columns
    of padding are cut off, a grid that is too fine is made coarser, and a new line ends each row
    (`pack_image_features` of transformers)."""
    config, (width, height) = picture.config, picture.size
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    pinpoints = picture.processor.image_processor.image_grid_pinpoints
    canvas_height, canvas_width = select_best_resolution((height, width), pinpoints)
    rows, columns = (length // vision.image_size * side for length in (canvas_height, canvas_width))
    scale = min(canvas_width / width, canvas_height / height)
    cell = canvas_width / columns / scale, canvas_height / rows / scale  # in the picture's pixels
    pad_x = (canvas_width - math.ceil(width * scale)) // 2 / scale
    pad_y = (canvas_height - math.ceil(height * scale)) // 2 / scale
    if width / height > columns / rows:
        cut = 0, (rows - int(round(height * columns / width, 7))) // 2
    else:
        cut = (columns - int(round(width * rows / height, 7))) // 2, 0
    box = (cut[0] * cell[0] - pad_x, cut[1] * cell[1] - pad_y,
           (columns - cut[0]) * cell[0] - pad_x, (rows - cut[1]) * cell[1] - pad_y)
    rows, columns = rows - 2 * cut[1], columns - 2 * cut[0]
    most = str(getattr(config, "vision_aspect_ratio", "")).removeprefix("anyres_max_")
    if most.isdigit() and (ratio := math.sqrt(rows * columns / (int(most) * side**2))) > 1.1:
        rows, columns = int(rows // ratio), int(columns // ratio)
    lines = _grid(rows, columns, box).reshape(rows, columns, 4)
    # The cut may go a little into the picture: the outer cells are the nearest to what it left.
    lines[:, 0, 0], lines[0, :, 1] = min(box[0], 0), min(box[1], 0)
    lines[:, -1, 2], lines[-1, :, 3] = max(box[2], width), max(box[3], height)
    lines = np.concatenate([lines, np.full((rows, 1, 4), np.nan)], 1)  # (rows, columns + 1, 4)
    cells = np.concatenate([_grid(side, side, picture.whole), lines.reshape(-1, 4)])
    return cells, np.arange(len(cells)) >= side**2


# model_type -> how its pictures are processed. Another type is tried as a plain grid.
GEOMETRIES: dict[str, Callable[[Processed], Cells]] = {
    "idefics3": tiles, "smolvlm": tiles, "llava": plain, "llava_onevision": any_resolution,
    "llava_next": any_resolution, "qwen2_vl": merged, "qwen2_5_vl": merged, "qwen3_vl": merged,
    "internvl": canvas_tiles,
    "paligemma": plain, "gemma3": plain}


def regions_of(picture: Processed) -> Regions:
    """The picture's regions, with ``places`` counted among its own tokens.

    Raises:
        CheckpointError: where its tokens lie cannot be found.
    """
    cells, fine = GEOMETRIES.get(picture.config.model_type, plain)(picture)
    if len(cells) != picture.count:
        raise unknown(picture.config.model_type, picture.count)
    low, high = np.zeros(4), np.tile(np.array(picture.size, float), 2)
    cells = np.clip(cells, low, high)
    area = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])  # nan where there is none
    places = np.flatnonzero(area > 1e-6)
    fine, cells, area = fine[places], cells[places], area[places]
    own, others = np.flatnonzero(fine), np.flatnonzero(~fine)
    own = own[np.lexsort(cells[own][:, [0, 1]].round(3).T)]  # row by row
    boxes = cells[own]
    grid = tuple(len(np.unique(boxes[:, axis].round(3))) for axis in (1, 0))
    token, region = own, np.arange(len(own))
    share = np.ones(len(own))
    for one in others:
        width, height = (
            np.minimum(boxes[:, axis + 2], cells[one, axis + 2])
            - np.maximum(boxes[:, axis], cells[one, axis]) for axis in (0, 1))
        common = width.clip(min=0) * height.clip(min=0) / area[one]
        under = np.flatnonzero(common > 1e-6)
        token = np.append(token, np.full(len(under), one))
        region, share = np.append(region, under), np.append(share, common[under])
    return Regions("text", places.tolist(), boxes.astype(np.float32),
                   (grid[0], grid[1]) if grid[0] * grid[1] == len(boxes) else (0, 0), picture.size,
                   None if np.array_equal(token, region) else (token, region,
                                                               share.astype(np.float32)))


def _grid(rows: int, columns: int, box: Any) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([x0, y0, x0, y0]) + grid_boxes((rows, columns), (x1 - x0, y1 - y0))


def _all(cells: np.ndarray) -> Cells:
    return cells, np.ones(len(cells), dtype=bool)


def unknown(kind: str, count: int) -> CheckpointError:
    """That the tokens of a type of model cannot be found."""
    return CheckpointError("checkpoint.unknown_places", kind=kind, count=count,
                           known=", ".join(GEOMETRIES))


def patch_boxes(images: Any, size: tuple[int, int],
                grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the patches lie in a picture of ``size`` (width, height) that an image processor
    squeezes, or scales by its shorter side, and crops around the middle: boxes float32 (K, 4) in
    pixels of the picture, and which patches have one, bool (rows * columns): not mere padding."""
    scaled: tuple[int, ...] = size
    if images.do_resize and images.size:
        edge, short = length_of(images.size, "shortest_edge"), min(size)
        scaled = tuple(int(edge * side / short) for side in size) if edge else \
            (length_of(images.size, "width"), length_of(images.size, "height"))
    crop = images.crop_size if images.do_center_crop else None
    shown = (length_of(crop, "width"), length_of(crop, "height")) if crop else scaled
    return shown_boxes(size, scaled, shown, grid)


def shown_boxes(size: tuple[int, int], scaled: tuple[int, ...], shown: tuple[int, ...],
                grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """As `patch_boxes`, where the picture is ``scaled`` to this size, and its middle is ``shown``,
    with padding around it where that is larger."""
    # As many pixels of the scaled picture are cut off at the left and on top, or added where < 0.
    starts = [int((side - most) / 2) for side, most in zip(scaled, shown, strict=True)]
    ratio = np.array(size) / scaled
    boxes = grid_boxes(grid, tuple(ratio * shown)) + np.tile(ratio * starts, 2)
    boxes = boxes.clip(0, np.tile(size, 2)).astype(np.float32)
    kept = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    return boxes[kept], kept


def length_of(size: Any, name: str) -> int:
    """A length of an image processor's size, a dict in older versions of transformers; 0 where it
    has none."""
    return int((size.get(name) if isinstance(size, dict) else getattr(size, name, None)) or 0)
