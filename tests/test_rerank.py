"""Re-ranking by a matcher whose probabilities are written in the files' names."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import Planted, picture

from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.preprocess import Picture
from vitdemo.records import Hit, ModelInfo
from vitdemo.retrieval.query import Query, Term
from vitdemo.retrieval.rerank import BEST, Reranker


class Named:
    """Knows each picture by its grey value, which stands for a logit; counts what it is asked.
    "not" turns the logit round."""

    info = ModelInfo("named", "test", "1", frozenset(), ("en",), 0, match_weight=0.03)

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def match_pictures(self, pictures: Sequence[Picture], texts: Sequence[str]) -> np.ndarray:
        self.asked.append((len(pictures), tuple(texts)))
        logits = [np.asarray(one.image)[0, 0, 0] / 10 - 10 for one in pictures]
        return np.array([[1 / (1 + math.exp(-(-x if "not" in text else x))) for text in texts]
                         for x in logits], np.float32)


def hits(tmp_path: Path, logits: Sequence[float], scores: Sequence[float]) -> list[Hit]:
    found = []
    for place, (logit, score) in enumerate(zip(logits, scores, strict=True)):
        path = tmp_path / f"{place}.png"
        Image.new("RGB", (20, 20), (round(10 * (logit + 10)),) * 3).save(path)
        found.append(Hit(str(place), str(path), score, 20, 20))
    return found


def order(found: Sequence[Hit]) -> list[str]:
    return [hit.id for hit in found]


def test_the_order_is_by_cosine_plus_weighted_logit(tmp_path: Path) -> None:
    listed = hits(tmp_path, [-2, 3, 1, 5], [0.50, 0.45, 0.44, 0.10])
    ranked = Reranker(Named(), weight=0.03).order(listed, Query.of("dog"))
    # 0.44, 0.54, 0.47, 0.25
    assert order(ranked) == ["1", "2", "0", "3"]
    assert [hit.score for hit in ranked] == [0.45, 0.44, 0.50, 0.10]  # the cosine stays what it was
    assert ranked[0].match == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-3)
    assert order(Reranker(Named()).order(listed, Query.of("dog"))) == order(ranked)  # the model's
    assert order(Reranker(Named(), weight=0.0).order(listed, Query.of("dog"))) == list("0123")
    assert order(Reranker(Named(), weight=9.0).order(listed, Query.of("dog"))) == list("3120")


def test_only_the_best_are_looked_at_and_the_rest_stays(tmp_path: Path) -> None:
    matcher = Named()
    listed = hits(tmp_path, [0, 1, 2, 3, 9], [0.5, 0.4, 0.3, 0.2, 0.1])
    ranked = Reranker(matcher, 9.0).order(listed, Query.of("dog"), best=3)
    assert order(ranked) == ["2", "1", "0", "3", "4"]
    assert sum(count for count, _ in matcher.asked) == 3
    assert math.isnan(ranked[3].match) and math.isnan(ranked[4].match)
    assert BEST == 50


def test_what_was_asked_once_is_known(tmp_path: Path) -> None:
    matcher = Named()
    reranker = Reranker(matcher, 1.0)
    listed = hits(tmp_path, [0, 1, 2, 3, 4, 5], [0.5] * 6)
    told: list[tuple[int, int]] = []
    first = reranker.order(listed, Query.of("dog"), progress=lambda *far: told.append(far))
    assert told == [(n, 6) for n in range(6)] and [count for count, _ in matcher.asked] == [4, 2]
    assert reranker.order(listed, Query.of("dog")) == first and len(matcher.asked) == 2
    os.utime(listed[0].path, (1, 1))  # changed since
    reranker.order(listed, Query.of("dog"))
    assert [count for count, _ in matcher.asked] == [4, 2, 1]
    reranker.order(listed, Query.of("cat"))
    assert [count for count, _ in matcher.asked][3:] == [4, 2]


def test_terms_are_weighed_and_what_should_not_be_there_counts_against(tmp_path: Path) -> None:
    listed = hits(tmp_path, [-4, 0, 4], [0.5, 0.5, 0.5])
    reranker = Reranker(Named(), 1.0)
    assert order(reranker.order(listed, Query.of("-dog"))) == ["0", "1", "2"]
    assert order(reranker.order(listed, Query.of("dog -0.5 not"))) == ["2", "1", "0"]
    mixed = reranker.order(listed, Query((Term("dog", 1.0), Term("not", 3.0))))
    assert order(mixed) == ["0", "1", "2"]
    # (1 * -4 + 3 * 4) / 4 = 2
    assert mixed[0].match == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-2)


def test_a_picture_that_is_gone_comes_last_of_the_best(tmp_path: Path) -> None:
    listed = hits(tmp_path, [0, 1, 2, 9], [0.9, 0.5, 0.4, 0.1])
    os.remove(listed[0].path)
    ranked = Reranker(Named(), 1.0).order(listed, Query.of("dog"), best=3)
    assert order(ranked) == ["2", "1", "0", "3"] and math.isnan(ranked[2].match)


def test_without_words_nothing_is_asked(tmp_path: Path) -> None:
    matcher = Named()
    listed = hits(tmp_path, [0, 1], [0.5, 0.4])
    assert Reranker(matcher).order(listed, Query.of(picture=picture("red"))) == listed
    assert Reranker(matcher).order([], Query.of("dog")) == [] and not matcher.asked


def test_the_engine_matches_pictures_a_few_at_a_time() -> None:
    backend = Planted()
    engine = Engine(backend)
    photos = [picture("red", (20 + n, 20)) for n in range(9)]
    found = engine.match_pictures(photos, ["red", "blue"])
    assert found.shape == (9, 2) and (found[:, 0] > found[:, 1]).all()
    assert sum(backend.batches) == 9, "in slices, each once"
    assert found[0, 0] == pytest.approx(engine.match(photos[0], ["red"])[0].score)
    with pytest.raises(TaskError, match="cannot compare"):
        Engine(Planted(tasks=("embed",))).match_pictures(photos, ["red"])


class Judge(Named):
    """The same, and it can tell what fits; grey stands for the logit 2.8."""

    info = replace(Named.info, fit=(7.0, 1.0, -5.2))


def test_hits_fit_that_come_near_a_best_one_which_is_above_a_grey_picture(tmp_path: Path) -> None:
    def fits(logits: Sequence[float], cosine: float, query: Query) -> list[bool | None]:
        listed = hits(tmp_path, logits, [cosine] * len(logits))
        return [hit.fits for hit in Reranker(Judge()).order(listed, query)]

    # log-odds 3.1, 1.6, -2.9: what is more than 2.5 below the best one fits less
    assert fits([9, 7.5, 3], 0.3, Query.of("dog")) == [True, True, False]
    assert fits([9, 7.5, 3], 0.3, Query.of("dog +cat")) == [True, True, False]
    # -2.6 and -3.6: the nearest, and nothing fits
    assert fits([4.7, 3.7], 0.1, Query.of("blorf")) == [False, False]
    assert fits([9, 3], 0.3, Query.of("dog -cat")) == [None, None]
    assert fits([9, 3], 0.3, Query.of("dog", picture())) == [None, None]
    listed = hits(tmp_path, [9, 3], [0.3, 0.3])
    (tmp_path / "1.png").unlink()
    assert [hit.fits for hit in Reranker(Judge()).order(listed, Query.of("dog"))] == [True, None]
    assert all(hit.fits is None for hit in Reranker(Named()).order(listed, Query.of("dog")))
