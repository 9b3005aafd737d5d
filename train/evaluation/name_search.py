"""Search by one word: the everyday names of `vitdemo/models/names.tsv` as queries.

Shapes: W names, P pictures, E embedding width, K candidates.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from train.evaluation.bootstrap import mean_interval
from train.evaluation.metrics import best_places, ranks
from train.evaluation.rerank import cross_fitted, find
from vitdemo.models.names import Name


def names_said(captions: Sequence[str], names: Sequence[Name], language: str) -> list[bool]:
    """Of each name whether some of these captions, all of one language, holds a form of it."""
    text = " ".join(captions)
    if language == "en":
        letters = "".join(x if x.isalnum() else " " for x in " . ".join(captions).lower())
        text = f" {' '.join(letters.split())} "
    edge = " " if language == "en" else ""
    return [any(f"{edge}{form}{edge}" in text for form in name.forms[language]) for name in names]


def name_search(queries: np.ndarray, pictures: np.ndarray, said: np.ndarray,
                match: Callable[[np.ndarray], np.ndarray], count: int) -> dict[str, Any]:
    """"mrr", the mean over names of 1 / rank of the first picture whose captions hold the name, in
    percent, and "names", how many there are. With ``count``, "reranked": the same after the best K
    are put in order anew as in `reranked_scores` (names at even and at odd places by each other's
    weight), its "weights", and "candidates", K.

    Unit vectors of names (W, E) and pictures (P, E); ``said`` bool (W, P), at least one of each
    name; ``match`` gives logits (R,) of pairs int (R, 2), (picture, name). The intervals are by a
    bootstrap over names.
    """
    figures: dict[str, Any] = {**_mrr(best_places(queries @ pictures.T, said)),
                               "names": len(queries)}
    if count:
        found = find(queries, pictures, lambda rows: said[rows], count)
        pairs = np.stack((found.items, np.arange(len(queries))[:, None] + 0 * found.items), -1)
        logits = match(pairs.reshape(-1, 2)).reshape(found.items.shape)
        places, weights = cross_fitted(found, logits, np.arange(len(queries)) % 2,
                                       np.ones(len(queries), bool),
                                       lambda places: float(np.mean(1 / ranks(places))))
        figures["reranked"] = {**_mrr(places), "weights": weights, "candidates": count}
    return figures


def _mrr(places: np.ndarray) -> dict[str, Any]:
    reciprocal = 1 / ranks(places)
    return {"mrr": 100 * float(reciprocal.mean()),
            "ci": {"mrr": mean_interval(reciprocal, np.arange(len(places)))}}
