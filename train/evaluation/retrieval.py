"""What search finds: by the vectors, and after the match head has put the best of them in order
anew, as ALBEF and BLIP do (Li et al. 2021, 2022), for sentences and for the everyday names of
`vitdemo/models/names.tsv` as queries. Figures are in percent.

The vectors rank everything; the best ``count`` of each query are put in order anew by
cosine + weight * match logit, and what the vectors put behind those stays there. The weight is
chosen where it is not reported: the pictures are parted into those at even and at odd places, and
the queries of one half are ranked with the weight that is best for the queries of the other.

Shapes: Q queries, I items, K candidates, E embedding width, W names, P pictures.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.evaluation.metrics import mean_interval
from vitdemo.models.names import Name

# Of a match logit beside a cosine.
WEIGHTS = (0.0, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
RECALLS = (1, 5, 10)
WAYS = ("text_to_image", "image_to_text")
_CHUNK = 512


def retrieval_scores(pictures: np.ndarray, texts: np.ndarray, picture_of: np.ndarray,
                     chunk: int = 512) -> dict[str, dict[str, Any]]:
    """Recall@1/5/10 in percent with 95% intervals, and median rank (from 1), both ways.

    ``pictures`` float32 (P, E) and ``texts`` float32 (M, E) are unit vectors, ``picture_of`` int
    (M,) is each text's picture. Text to image ranks all P pictures for each text; image to text
    ranks all M texts for each picture, and the best of its own counts. Equal similarities (to
    six places) are broken at random in expectation, so a model that sees no difference scores
    exactly chance.
    """
    texts = np.asarray(texts, np.float32)
    by_text, by_picture, judged = [], [], np.unique(picture_of)
    for start in range(0, len(texts), chunk):
        rows = slice(start, start + chunk)
        own = picture_of[rows, None] == np.arange(len(pictures))  # (chunk, P)
        by_text.append(best_places(texts[rows] @ pictures.T, own))
    for start in range(0, len(judged), chunk):
        some = judged[start:start + chunk]  # a picture with no text cannot be judged
        own = some[:, None] == picture_of  # (chunk, M)
        by_picture.append(best_places(pictures[some] @ texts.T, own))
    return {"text_to_image": recalls(np.concatenate(by_text), picture_of),
            "image_to_text": recalls(np.concatenate(by_picture), judged)}


def best_places(similarity: np.ndarray, own: np.ndarray) -> np.ndarray:
    """For each row the best own item's place: int (rows, 3) of how many items are certainly
    before it, how many are tied with it, and how many of those are its own."""
    similarity = similarity.round(6)
    best = np.where(own, similarity, -np.inf).max(axis=1, keepdims=True)
    tied = similarity == best
    return np.stack([(similarity > best).sum(1), tied.sum(1), (tied & own).sum(1)], axis=1)


def hits(places: np.ndarray) -> dict[str, np.ndarray]:
    """"r1", "r5" and "r10" of each row of `best_places`, the chance 0..1 that one of its own is
    among the first so many: (rows,) each."""
    rows = places.tolist()
    return {f"r{k}": np.array([_hit(before, tied, own, k) for before, tied, own in rows])
            for k in RECALLS}


def ranks(places: np.ndarray) -> np.ndarray:
    """The expected rank from 1 of the first own item, for each row of `best_places`: (rows,)."""
    before, tied, own = places.T
    return np.asarray(before + (tied + 1) / (own + 1))  # the smallest of `own` out of `tied`


def recalls(places: np.ndarray, picture: np.ndarray) -> dict[str, Any]:
    """Means in percent of `hits`, the median of `ranks`, and 95% intervals of the former, by draws
    of the pictures that the queries (rows,) belong to; what is searched through stays."""
    found = hits(places)
    return {**{key: 100 * float(of.mean()) for key, of in found.items()},
            "median_rank": float(np.median(ranks(places))),
            "ci": {key: mean_interval(of, picture) for key, of in found.items()}}


def _hit(before: int, tied: int, own: int, k: int) -> float:
    """The chance that one of ``own`` among ``tied`` items falls into the first k places."""
    slots = k - before
    if slots <= 0 or own == tied:
        return float(slots > 0)
    return 1 - math.comb(max(0, tied - slots), own) / math.comb(tied, own)


@dataclass
class Candidates:
    """One way of searching: items int (Q, K), their cosines, which are right bool (Q, K), and how
    many items are before the best right one where no candidate is right (Q,)."""

    items: np.ndarray
    cosines: np.ndarray
    right: np.ndarray
    before: np.ndarray


def reranked_scores(pictures: np.ndarray, texts: np.ndarray, picture_of: np.ndarray,
                    match: Callable[[np.ndarray], np.ndarray], count: int) -> dict[str, Any]:
    """Recall@1/5/10 and median rank after re-ranking, both ways; arguments as `retrieval_scores`.

    ``match`` gives the logits float (R,) of pairs int (R, 2), (picture, text), each asked for once.
    Also "candidates", K; and "weights": for each way the weight used for even and for odd pictures
    (0 where the other half is empty).
    """
    owner = np.arange(len(pictures))
    ways = {"text_to_image": find(texts, pictures, lambda rows: picture_of[rows, None] == owner,
                                  count),
            "image_to_text": find(pictures, texts, lambda rows: owner[rows, None] == picture_of,
                                  count)}
    logits = _match_both(ways, match, len(texts))
    belongs = {"text_to_image": picture_of, "image_to_text": owner}
    known = {"text_to_image": np.ones(len(texts), bool),
             "image_to_text": np.isin(owner, picture_of)}
    figures: dict[str, Any] = {"weights": {}, "candidates": count}
    for way in WAYS:
        picture = belongs[way][known[way]]
        places, weights = cross_fitted(ways[way], logits[way], belongs[way] % 2, known[way],
                                       _sum_of_recalls)
        figures[way], figures["weights"][way] = recalls(places, picture), weights
    return figures


def find(queries: np.ndarray, items: np.ndarray, right: Callable[[slice], np.ndarray],
         count: int) -> Candidates:
    """The best ``count`` items of each query by cosine; equal ones in a fixed random order.
    ``right`` says of some queries which items are right, bool (q, I)."""
    count = min(count, len(items))
    shuffled = np.random.default_rng(0).permutation(len(items))
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(queries), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cosines, mine = queries[rows] @ items.T, right(rows)  # (chunk, I)
        order = np.argsort(-cosines[:, shuffled].round(6), axis=1, kind="stable")[:, :count]
        best = shuffled[order]  # (chunk, K)
        own = np.where(mine, cosines.round(6), -np.inf).max(1, keepdims=True)
        before = np.maximum((cosines.round(6) > own).sum(1), count)
        parts.append((best, np.take_along_axis(cosines, best, 1),
                      np.take_along_axis(mine, best, 1), before))
    return Candidates(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _match_both(ways: dict[str, Candidates], match: Callable[[np.ndarray], np.ndarray],
                texts: int) -> dict[str, np.ndarray]:
    """The logit (Q, K) of every candidate of both ways; a pair that both want is asked for once."""
    codes = []
    for way in WAYS:
        items = ways[way].items
        queries = np.arange(len(items))[:, None]
        codes.append(queries + items * texts if way == "text_to_image" else
                     queries * texts + items)
    different, place = np.unique(np.concatenate([code.ravel() for code in codes]),
                                 return_inverse=True)
    logits = match(np.stack(np.divmod(different, texts), axis=1))[place]
    cut = codes[0].size
    return {way: part.reshape(code.shape) for way, part, code in
            zip(WAYS, (logits[:cut], logits[cut:]), codes, strict=True)}


def _places(found: Candidates, scores: np.ndarray) -> np.ndarray:
    """As `best_places`, with the candidates in the order of these scores (Q, K)."""
    places = np.stack((found.before, np.ones_like(found.before), np.ones_like(found.before)), 1)
    inside = found.right.any(1)
    places[inside] = best_places(scores[inside], found.right[inside])
    return places


def cross_fitted(found: Candidates, logits: np.ndarray, half: np.ndarray, known: np.ndarray,
                 score: Callable[[np.ndarray], float]) -> tuple[np.ndarray, list[float]]:
    """Places (Q', 3) of the known queries, each half with the other half's best weight by
    ``score`` of its places."""
    by_weight = [_places(found, found.cosines + weight * logits) for weight in WEIGHTS]
    weights, chosen = [], by_weight[0].copy()
    for own in (0, 1):
        other = known & (half != own)
        scores = [score(places[other]) for places in by_weight] if other.any() else [0.0]
        best = int(np.argmax(scores))
        weights.append(WEIGHTS[best])
        chosen[half == own] = by_weight[best][half == own]
    return chosen[known], weights


def _sum_of_recalls(places: np.ndarray) -> float:
    return sum(float(of.mean()) for of in hits(places).values())


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
