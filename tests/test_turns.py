"""Only what was asked for last writes on a panel."""

import asyncio
import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fake_engine import planted_engine
from PIL import Image

from vitdemo import wanted
from vitdemo.errors import TextError
from vitdemo.ui import build_ui
from vitdemo.ui.blocks import AppBlocks
from vitdemo.ui.components import PageValue, picture_input
from vitdemo.ui.session import Sessions
from vitdemo.ui.turns import Turn, Turns, in_turn
from vitdemo.wanted import NotWanted

SKIP = gr.skip()


class Notes(Turns):
    """A panel's state that tells how often it was cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.cleared = 0

    def clear(self) -> None:
        self.cleared += 1


def slices(turns: Turns, turn: Turn, name: str) -> Iterator[str]:
    """Work of three slices, each of which takes the device."""
    for n in range(3):
        wanted.check()
        yield f"{name}{n}"


def acting(handler: Callable[..., Iterator[Any]] = slices, last: bool = True) -> Any:
    return in_turn(Turns.begin, lambda error, _: str(error), last)(handler)


def test_the_last_request_wins_and_the_others_end() -> None:
    turns = Notes()
    first = acting()(turns, 1, "a")
    assert next(first) == "a0"
    second = acting()(turns, 2, "b")
    beginning = threading.Thread(target=lambda: got.append(next(second)))
    got: list[str] = []
    beginning.start()
    assert next(first) == SKIP  # only now is "a0" sure to be on its way before "b0"
    beginning.join()
    assert got == ["b0"] and list(first) == []
    assert list(second) == ["b1", "b2"]
    assert turns.cleared == 2


def test_a_picture_is_wrapped_so_that_nothing_new_leaves_its_file_alone(
        tmp_path: Path, picture: Image.Image) -> None:
    picture.save(path := tmp_path / "a.png")
    with AppBlocks(Sessions()) as page:
        field, text, button = picture_input(), gr.Textbox(), gr.Button()
        button.click(lambda: (str(path), "text"), None, [field, text])
    [event] = page.fns.values()

    def sent(*given: Any) -> list[Any]:
        return asyncio.run(page.postprocess_data(event, list(given), None))

    first, second = sent(str(path), "text")
    assert first["__type__"] == "update" and first["value"]["orig_name"] == "a.png"
    assert second == "text"
    assert sent(None, "text") == [{"__type__": "update", "value": None}, "text"]
    assert sent(SKIP, SKIP) == [SKIP, SKIP]


def test_what_waited_too_long_is_never_begun() -> None:
    turns, ran = Notes(), []

    def handler(turns: Turns, turn: Turn) -> Iterator[str]:
        ran.append(turn.number)
        yield "x"

    assert list(acting(handler)(turns, 5)) == ["x"]
    assert list(acting(handler)(turns, 4)) == [SKIP]
    assert list(acting(handler)(turns, 5)) == [SKIP]  # the same one twice
    assert ran == [5] and turns.cleared == 1


def test_requests_without_a_number_are_all_answered() -> None:
    turns = Notes()
    pair = [acting()(turns, 0, "a"), acting()(turns, None, "b")]
    assert [next(pair[0]), next(pair[1])] == ["a0", "b0"]
    assert [list(one) for one in pair] == [["a1", "a2"], ["b1", "b2"]]


def test_a_new_turn_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitdemo.ui.turns.SENDING", 0.01)
    turns = Notes()
    first = acting()(turns, 1, "a")
    next(first)  # nobody ever asks it for more
    assert list(acting()(turns, 2, "b")) == ["b0", "b1", "b2"]


def test_a_new_turn_waits_for_the_last_output_that_is_sent_twice(
        monkeypatch: pytest.MonkeyPatch) -> None:
    held, asked = True, threading.Event()

    def still() -> bool:
        asked.set()
        return held

    monkeypatch.setattr("vitdemo.ui.turns.SENDING", 60)
    monkeypatch.setattr("vitdemo.ui.turns._held", lambda: still)
    turns, got = Notes(), []
    list(acting()(turns, 1, "a"))
    asked.clear()
    second = threading.Thread(target=lambda: got.append(turns.begin(2)))
    second.start()
    asked.wait()
    assert turns.turn.number == 2 and not got
    held = False
    second.join()
    assert got == [turns.turn]


def test_a_page_that_goes_away_frees_what_it_was_sent() -> None:
    turns = Notes()
    first = acting()(turns, 1, "a")
    next(first)
    first.close()
    assert not turns.turn.sending()


def test_the_work_of_a_turn_is_done_once() -> None:
    turns = Notes()
    going_on = in_turn(Turns.go_on, lambda error, _: str(error))(slices)
    follow = in_turn(Turns.follow, lambda error, _: str(error))(slices)
    assert list(acting(last=False)(turns, 1, "a")) == ["a0", "a1", "a2"]
    assert list(follow(turns, 1, "f")) == [SKIP]  # its work is still to come
    assert list(going_on(turns, 0, "g")) == [SKIP]  # of another turn
    assert list(going_on(turns, 1, "g")) == ["g0", "g1", "g2"]
    assert list(going_on(turns, 1, "h")) == [SKIP]
    assert list(follow(turns, 1, "f")) == ["f0", "f1", "f2"]
    assert list(follow(turns, 1, "f")) == [SKIP]


def test_what_follows_a_result_goes_with_it() -> None:
    turns = Notes()
    follow = in_turn(Turns.follow, lambda error, _: str(error))(slices)
    ask = in_turn(Turns.join, lambda error, _: str(error))(slices)
    list(acting()(turns, 1, "a"))
    following, asking = follow(turns, 1, "f"), ask(turns, 1, "q")
    assert [next(following), next(asking)] == ["f0", "q0"]
    following.close()
    asking.close()
    following = ask(turns, 1, "q")
    next(following)
    turns.end()  # the page was closed
    assert list(following) == [SKIP]
    assert list(acting()(turns, 2, "b")) == [SKIP]


def test_only_the_newest_turn_changes_what_is_kept() -> None:
    turns = Notes()
    turn = turns.begin(1)
    context = wanted.while_wanted(turn.newest)

    def write() -> None:
        with turns.writing():
            pass

    context.run(write)
    turns.begin(2)
    with pytest.raises(NotWanted):
        context.run(write)


def test_an_error_is_that_of_its_turn() -> None:
    turns = Notes()

    def handler(turns: Turns, turn: Turn, late: bool) -> Iterator[str]:
        if late:
            turns.begin(turn.number + 1)
        raise TextError("Write something.")
        yield ""

    assert list(acting(handler)(turns, 1, False)) == ["Write something."]
    assert list(acting(handler)(turns, 2, True)) == [SKIP]


def test_each_page_has_its_own() -> None:
    turns = Notes()
    other = copy.deepcopy(turns)
    other.begin(3)
    assert turns.begin(1).newest() and type(other) is Notes


def test_every_event_that_uses_the_model_keeps_to_its_turn() -> None:
    for fn in build_ui(planted_engine()).fns.values():
        if fn.concurrency_id not in ("model", "checks", "at-once"):
            continue
        first, number = fn.inputs[:2]
        assert isinstance(first, gr.State) and isinstance(first.value, Turns), fn
        assert isinstance(number, PageValue) and fn.trigger_mode == "multiple", fn
        assert fn.queue is not False, fn  # the queue keeps the order
