"""Explanations as JSON and as CSV, exactly as the model gave them.

L layers, H heads, Q words, K regions. Boxes are x0, y0, x1, y1 in pixels of the picture that was
given. A float32 is written with the fewest digits that read back as the same float32.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np

from vitdemo import __version__
from vitdemo.attention.dependence import confidence_sentence
from vitdemo.attention.faithfulness import evidence_sentence
from vitdemo.attention.methods import label_of
from vitdemo.record_json import without_nan, word_json
from vitdemo.records import Evidence, Explanation, ModelInfo, PictureShare
from vitdemo.report.caveats import CANNOT
from vitdemo.tables import cell
from vitdemo.texts import phrase

COLUMNS = ("source", "method", "word_index", "word", "layer", "head", "region", "x0", "y0", "x1",
           "y1", "weight", "word_probability")
MOST_ROWS = 1_000_000  # what a spreadsheet can open; above it, the CSV has the mean maps only
MEAN = "mean"  # stands for layer and head where a row is the mean over all of them


def to_json(explanations: Sequence[Explanation], info: ModelInfo | None = None, *,
            others: Sequence[Explanation] = (), evidence: Sequence[Evidence] = (),
            shares: Sequence[PictureShare] = (), settings: Mapping[str, str] | None = None,
            name: str = "", when: datetime | None = None,
            probability: float | None = None) -> dict[str, Any]:
    """Everything that is known of a result, as plain lists and dictionaries ready for JSON.

    "weights" is [layer][head][word][region]. ``others`` are explanations of the same texts by other
    methods, ``name`` that of the picture's file, ``when`` the time of writing, ``probability`` that
    of the whole answer; "sure" is the line on how sure the model is. A number that is not known is
    null.
    """
    size = list(explanations[0].picture_size) if explanations else None
    last = explanations[-1] if explanations else None
    yes_no = info.behind(last).yes_no if info and last else ()
    model = {"name": info.name, "family": info.family, "revision": info.revision} if info else None
    found = {
        "format": "vitdemo explanation 1",
        "vitdemo": __version__,
        "made": (when or datetime.now().astimezone()).isoformat(timespec="seconds"),
        "model": model,
        "picture": {"name": name, "size": size},
        "settings": dict(settings or {}),
        "sure": confidence_sentence(last, probability, yes_no) if last else "",
        "explanations": [_explanation(one) for one in explanations],
        "others": [_explanation(one) for one in others],
        "evidence": [{**asdict(one), "sentence": evidence_sentence(one)} for one in evidence],
        "shares": [asdict(one) for one in shares],
        "caveats": [phrase(key) for key in CANNOT],
    }
    cleaned: dict[str, Any] = without_nan(found)
    return cleaned


def _explanation(one: Explanation) -> dict[str, Any]:
    words = [word_json(one, number) for number in range(len(one.words))]
    return {"source": one.source, "text": one.text, "method": one.method,
            "label": label_of(one.method), "note": one.note,
            "picture_size": list(one.picture_size), "grid": list(one.grid),
            "boxes": plain(one.boxes), "layer_names": list(one.layer_names),
            "gates": list(one.gates), "words": words, "weights": plain(one.weights)}


def plain(values: np.ndarray) -> Any:
    """An array as nested lists of floats: each is the shortest decimal that reads back as the same
    number of the array's type."""
    array = np.asarray(values)
    flat = [float(text) for text in array.ravel().astype(str)]
    return np.array(flat, np.float64).reshape(array.shape).tolist()


def to_csv(explanations: Sequence[Explanation], others: Sequence[Explanation] = ()) -> str:
    """One row for each word, region, layer and head, with the heads of `COLUMNS`.

    Words, heads and regions count from 1. Where that would be over `MOST_ROWS` rows, there is one
    row for each word and region instead, with "mean" for layer and head. How sure the model was of
    a word stands in each of its rows. Text that a spreadsheet would take for a formula gets an
    apostrophe in front.
    """
    stream = io.StringIO()
    writer = csv.writer(stream)  # texts are made cells once and not for every number beside them
    writer.writerow(COLUMNS)
    every = [*explanations, *others]
    whole = sum(one.weights.size for one in every) <= MOST_ROWS
    for one in every:
        writer.writerows(_rows(one, whole))
    return stream.getvalue()


def _rows(one: Explanation, whole: bool) -> Iterator[tuple[Any, ...]]:
    weights = one.weights if whole else one.mean_map()[None, None]
    texts = weights.astype(str)  # the fewest digits that read back as the same float32
    boxes = one.boxes.astype(str).tolist()
    layers = [cell(name) for name in one.layer_names] if whole else [MEAN]
    start = (cell(one.source), cell(one.method))
    sure = one.word_probabilities or [""] * len(one.words)
    for layer, of_layer in zip(layers, texts, strict=True):
        for head, of_head in enumerate(of_layer, start=1):
            for number, (word, row) in enumerate(zip(one.words, of_head, strict=True), start=1):
                place = (*start, number, cell(word.text), layer, head if whole else MEAN)
                for region, (box, value) in enumerate(zip(boxes, row, strict=True), start=1):
                    yield (*place, region, *box, value, sure[number - 1])
