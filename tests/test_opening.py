"""The page opens with a result: which example, made once, each visitor with an own copy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_engine import planted_engine
from PIL import Image

from vitdemo.attention.dependence import first_word, telling_words
from vitdemo.records import VERDICTS
from vitdemo.texts import speaking
from vitdemo.ui import Settings
from vitdemo.ui.components import Context
from vitdemo.ui.session import Sessions
from vitdemo.ui.tabs.opening import Opened, Opening


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vitdemo"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    examples = []
    for colour in ("blue", "green", "red"):
        examples.append(tmp_path / f"{colour}.png")
        Image.new("RGB", (64, 48), colour).save(examples[-1])
    return Context(planted_engine(), Settings(open_with_result=True), Sessions(), tuple(examples))


def verdicts(**known: int) -> Callable[[Opened], int]:
    """Places in `VERDICTS`, by the names of the examples; of others that of "chance"."""
    return lambda made: known.get(made.path.stem, VERDICTS.index("chance"))


@pytest.fixture
def opening(context: Context) -> Opening:
    return Opening(context)


def test_the_first_example_that_convinces_is_shown(opening: Opening,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Opened, "convinces", lambda self: self.path.stem == "red")
    assert opening.possible
    assert opening.get().path.stem == "red"


def test_where_none_does_it_is_the_first(opening: Opening,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Opened, "convinces", lambda self: False)
    assert opening.get().path.stem == "blue"


def test_once_checked_it_is_the_first_whose_map_is_the_words_own(
        opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Opened, "convinces", lambda self: True)
    monkeypatch.setattr(Opened, "rank", verdicts(red=0))
    assert opening.get().path.stem == "blue"
    opening._start()
    made = opening.get()
    assert made.path.stem == "red" and made.result is not None and made.result.evidence
    monkeypatch.setattr(Opened, "rank", verdicts())
    opening._start()
    assert opening.get().path.stem == "red"


def test_where_no_map_is_the_words_own_it_is_the_one_with_the_best_verdict(
        opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Opened, "convinces", lambda self: True)
    monkeypatch.setattr(Opened, "rank", verdicts(green=VERDICTS.index("shared")))
    opening._start()
    assert opening.get().path.stem == "green" and not opening.get().proved()


def test_it_is_made_once_a_language_and_each_visitor_has_an_own_copy(opening: Opening) -> None:
    first = opening.get()
    calls = opening.context.engine._backend.explained  # type: ignore[attr-defined]
    second = opening.get()
    assert opening.context.engine._backend.explained == calls  # type: ignore[attr-defined]
    assert first.result is not None and second.result is not None
    assert first.result.id == first.shown["id"] == second.shown["id"]
    first.result.evidence["caption", "cross-attention", 0] = None  # type: ignore[assignment]
    third = opening.get()
    assert third.result is not None and not second.result.evidence and not third.result.evidence
    with speaking("zh"):
        assert opening.get().shown["texts"][-1]["language"] == "zh"


def test_the_evidence_is_there_when_the_server_has_started(opening: Opening) -> None:
    opening._start()
    made = opening.get()
    assert made.result is not None and len(made.result.evidence) == 1
    assert made.shown["texts"][-1]["evidence"]


def test_the_one_least_like_its_other_words_is_checked_first(
        opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(Opened, "convinces", lambda self: True)
    likeness = {"red": 0.1, "blue": 0.5, "green": 0.9}
    monkeypatch.setattr(Opened, "likeness", lambda self: likeness[self.path.stem])
    monkeypatch.setattr(Opening, "_check",
                        lambda self, made: checked.append(made.path.stem))
    opening.get()
    opening._prove()
    assert checked == ["red", "blue", "green"]


def test_likeness_is_that_of_the_most_similar_map(opening: Opening) -> None:
    made = opening.get()
    assert made.result is not None
    shown = made.result.maps[-1]
    first, other = first_word(shown), next(
        place for place in telling_words(shown) if place != first_word(shown))
    weights = np.zeros_like(shown.weights)
    weights[..., first, 0] = 1.0
    apart = replace(made, result=replace(made.result, maps=(replace(shown, weights=weights),)))
    assert apart.likeness() == 0
    weights[..., other, :2] = 3.0
    assert apart.likeness() == pytest.approx(0.5**0.5)


def test_what_was_proved_is_shown_at_once_after_the_next_start(
        context: Context, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Opened, "convinces", lambda self: True)
    monkeypatch.setattr(Opened, "rank", verdicts(red=0))
    assert started(context).path.stem == "red"
    monkeypatch.setattr(Opening, "_prove", lambda self: None)
    assert started(context).path.stem == "red"

    other = context.engine.info
    monkeypatch.setattr(type(context.engine), "info",
                        property(lambda self: replace(other, revision="other")))
    assert started(context).path.stem == "blue", "that was of other weights"
    monkeypatch.setattr(type(context.engine), "info", property(lambda self: other))
    assert started(context).path.stem == "red"
    for broken in ("", "[]", '{"en": 3}', '{"en": "2"}'):
        next(cache.glob("opening-*.json")).write_text(broken)
        assert started(context).path.stem == "blue"
    context.examples[1].write_bytes(context.examples[0].read_bytes())
    assert started(context).path.stem == "blue", "those were other examples"


def test_what_is_proved_no_more_is_forgotten(context: Context, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
    monkeypatch.setattr(Opened, "convinces", lambda self: True)
    for proved in ("red", "green", ""):
        monkeypatch.setattr(Opened, "rank", verdicts(**{proved: 0} if proved else {}))
        started(context)
    monkeypatch.setattr(Opening, "_prove", lambda self: None)
    assert started(context).path.stem == "blue"


def test_without_a_cache_folder_it_works_all_the_same(
        context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    monkeypatch.setattr(Opened, "convinces", lambda self: True)
    monkeypatch.setattr(Opened, "rank", verdicts(red=0))
    assert started(context).path.stem == "red"


def started(context: Context) -> Opened:
    """What a page opens with, when a server has started and looked at the evidence."""
    opening = Opening(context)
    opening._start()
    return opening.get()
