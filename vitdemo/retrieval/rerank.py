"""The best hits in a new order: the match head reads words and picture together.

Vectors are quick but are made of the words alone and of the picture alone. The match head sees both
at once, and is asked about the best `BEST` hits only. They are then in the order of
cosine + weight * match logit, as `train/evaluation/retrieval.py` measures it, and of what their
texts have of the words, as before; what was found behind them stays.

Something always comes first, so it is also judged whether anything fits: by how much more the words
fit the best hit than a plain grey picture, and by its cosine (`ModelInfo.fit`; benchmarks/
nothing_fits.py measures it). Where the best hit fits, so do those that come close to it. A picture
about which all of the words were written fits in any case.
"""

import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from cachetools import LRUCache
from PIL import Image

from vitdemo.errors import PictureError
from vitdemo.preprocess import Picture, open_small, picture_of
from vitdemo.records import Hit, ModelInfo
from vitdemo.retrieval.base import TEXT_WEIGHT
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.text_words import says_all
from vitdemo.video import file_of

BEST = 50
SIDE = 640  # pixels of the copy that the match head sees: more than any model's square
PART = 4  # pictures that go to the matcher together
KEPT = 200_000  # logits
FALL = 2.5  # nats of the log-odds below the best hit: what is further down fits less
GREY = (128, 128, 128)
_LIMIT = 12.0  # of a logit: beyond it probabilities are all the same

Tell = Callable[[int, int], None]


class Matcher(Protocol):
    """What compares pictures with texts: the engine."""

    @property
    def info(self) -> ModelInfo:
        """What the model is, how much its match logits weigh, and when something fits."""
    def match_pictures(self, pictures: Sequence[Picture], texts: Sequence[str]) -> np.ndarray:
        """Probabilities, float32 (P, M)."""


class Reranker:
    """Puts hits in order by the match head, and remembers what that said. Thread-safe.

    ``weight`` is that of a match logit beside a cosine; None: the one that suits the model.
    """

    def __init__(self, matcher: Matcher, weight: float | None = None) -> None:
        self.weight = matcher.info.match_weight if weight is None else weight
        self._matcher = matcher
        self._lock = threading.Lock()
        self._known: LRUCache[tuple[str, int, str], float] = LRUCache(KEPT)

    def order(self, hits: Sequence[Hit], query: Query, best: int = BEST,
              progress: Tell | None = None) -> list[Hit]:
        """All hits, the first ``best`` of them in a new order, with their ``match`` and ``fits``.

        ``match`` is the probability that the query's words fit; with several terms, that of the
        weighted mean of their logits. A picture that cannot be opened comes last of these. A query
        with no words leaves everything as it is. ``progress(done, total)`` is called now and then;
        what it raises ends the work.

        Raises:
            TaskError, TextError: the model cannot match, or not these words.
        """
        head = list(hits[:best])
        if not query.terms or not head:
            return list(hits)
        logits = self._logits(head, [term.text for term in query.terms], progress)  # (P, M)
        weights = np.array([term.weight for term in query.terms])
        shared = np.abs(weights).sum() + (query.picture_weight if query.picture else 0.0)
        means = logits @ weights / shared  # (P,)
        lowest = np.nanmin(means) if np.isfinite(means).any() else 0.0
        cosines = np.array([hit.score for hit in head])
        told = np.array([hit.told for hit in head])
        scores = (cosines + TEXT_WEIGHT * told
                  + self.weight * np.where(np.isnan(means), lowest - 1, means))
        fits = [fit if fit is None else fit or says_all(query.words, hit.path, hit.metadata)
                for fit, hit in zip(self._fits(query, cosines, means), head, strict=True)]
        matched = [replace(hit, match=math.nan if math.isnan(mean) else _sigmoid(float(mean)),
                           fits=fits[place])
                   for place, (hit, mean) in enumerate(zip(head, means, strict=True))]
        order = np.argsort(-scores, kind="stable")
        return [matched[place] for place in order] + list(hits[best:])

    def _fits(self, query: Query, cosines: np.ndarray, means: np.ndarray) -> list[bool | None]:
        """Whether each of some hits fits; None where that cannot be said: of a picture's likeness,
        of what should not be there, and of a model for which it was not measured."""
        numbers = self._matcher.info.fit
        if not numbers or query.picture or any(term.weight < 0 for term in query.terms):
            return [None] * len(means)
        grey = picture_of(Image.new("RGB", (64, 64), GREY))
        plain = _logit(self._matcher.match_pictures([grey], [one.text for one in query.terms]))[0]
        weights = np.array([term.weight for term in query.terms])
        rises = means - float(plain @ weights) / weights.sum()
        odds = numbers[0] * cosines + numbers[1] * rises + numbers[2]
        best = np.nanmax(odds, initial=-math.inf)
        return [None if math.isnan(value) else bool(best >= 0 and value >= best - FALL)
                for value in odds]

    def _logits(self, hits: Sequence[Hit], texts: Sequence[str],
                progress: Tell | None) -> np.ndarray:
        """Match logits float64 (P, M); a row of nan for what cannot be opened."""
        found = np.full((len(hits), len(texts)), np.nan)
        keys = [(hit.path, _changed(hit.path)) for hit in hits]
        with self._lock:
            for place, key in enumerate(keys):
                known = [self._known.get((*key, text)) for text in texts]
                if all(one is not None for one in known):
                    found[place] = known
        missing = [place for place in range(len(hits)) if np.isnan(found[place]).any()]
        for first in range(0, len(missing), PART):
            opened = {}
            for done, place in enumerate(missing[first:first + PART], first):
                if progress is not None:
                    progress(len(hits) - len(missing) + done, len(hits))
                try:
                    opened[place] = picture_of(open_small(hits[place].path, SIDE))
                except PictureError:
                    continue  # gone or broken since: the list itself says so
            if not opened:
                continue
            chances = self._matcher.match_pictures(list(opened.values()), texts)
            rows = np.clip(_logit(chances), -_LIMIT, _LIMIT)
            with self._lock:
                for place, row in zip(opened, rows, strict=True):
                    found[place] = row
                    for text, value in zip(texts, row, strict=True):
                        self._known[(*keys[place], text)] = float(value)
        return found


def nothing_fits(hits: Sequence[Hit]) -> bool:
    """Whether these were judged, and none of them fits."""
    judged = [hit.fits for hit in hits if hit.fits is not None]
    return bool(judged) and not any(judged)


def _changed(path: str) -> int:
    try:
        return os.stat(file_of(path)).st_mtime_ns
    except (OSError, ValueError):
        return 0


def _logit(chances: np.ndarray) -> np.ndarray:
    values = np.clip(np.asarray(chances, np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(np.log(values / (1 - values)))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
