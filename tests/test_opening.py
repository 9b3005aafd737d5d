"""The page opens with a result: which example, made once, each visitor with an own copy."""

from pathlib import Path

import pytest
from fake_engine import planted_engine
from PIL import Image

from vitdemo.texts import speaking
from vitdemo.ui import Settings
from vitdemo.ui.components import Context
from vitdemo.ui.session import Sessions
from vitdemo.ui.tabs.opening import Opened, Opening


@pytest.fixture
def opening(tmp_path: Path) -> Opening:
    examples = []
    for colour in ("blue", "red"):
        examples.append(tmp_path / f"{colour}.png")
        Image.new("RGB", (64, 48), colour).save(examples[-1])
    return Opening(Context(planted_engine(), Settings(open_with_result=True), Sessions(),
                           tuple(examples)))


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
    monkeypatch.setattr(Opened, "proved", lambda self: self.path.stem == "red")
    assert opening.get().path.stem == "blue"
    opening._start()
    made = opening.get()
    assert made.path.stem == "red" and made.result is not None and made.result.evidence
    monkeypatch.setattr(Opened, "proved", lambda self: False)
    opening._start()
    assert opening.get().path.stem == "red"


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
