"""The line of visitors before the model: in which order, how many, and what they are told."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.data_classes import PredictBodyInternal
from gradio.server_messages import EstimationMessage, LogMessage, ProcessCompletedMessage

from vitdemo.ui.line import CHECKS, EACH, LONG, MOST, VisitorLine, use_visitor_line, visitor

MODEL, SEARCH, EVIDENCE, CLEAR = range(4)


class Hall:
    """Blocks whose line nobody serves, so that what stands in it can be looked at."""

    def __init__(self) -> None:
        with gr.Blocks(analytics_enabled=False) as self.blocks:
            view, button = gr.HTML(), gr.Button()
            button.click(str, None, view, concurrency_id="model", concurrency_limit=4)
            button.click(str, None, view, show_progress="hidden", **LONG)
            button.click(str, None, view, concurrency_id=CHECKS, concurrency_limit=2)
            button.click(str, None, view, concurrency_id="at-once", concurrency_limit=None)
        use_visitor_line(self.blocks)
        self.line: VisitorLine = self.blocks._queue  # type: ignore[assignment]

    async def ask(self, who: str | None, what: int = MODEL, host: str = "1.2.3.4") -> str:
        """One request; the sentence with which it was sent away, or nothing."""
        body = PredictBodyInternal(fn_index=what, data=[], session_hash=who)
        request: Any = SimpleNamespace(client=SimpleNamespace(host=host))
        took, event, _ = await self.line.push(body, request, None)
        assert took
        told = self.messages(who or str(event))
        if isinstance(told[-1], ProcessCompletedMessage):
            assert not told[-1].success and told[-1].event_id == event
            return str(told[-1].output["error"])
        return ""

    def messages(self, who: str) -> list[Any]:
        waiting: Any = self.line.pending_messages_per_session[who]
        return list(waiting._queue)

    def places(self, group: str = "model") -> list[str]:
        """Who stands in line, the first one first."""
        return [visitor(event) for event in self.line.event_queue_per_concurrency_id[group].queue]

    def start(self) -> None:
        """The first in line for the model has its turn."""
        event = self.line.event_queue_per_concurrency_id["model"].queue.pop(0)
        self.line.active_jobs.append([event])
        self.line.broadcast_estimations("model")


@pytest.fixture
def hall() -> Hall:
    return Hall()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_four_hundred_requests_of_one_visitor_keep_nobody_waiting(hall: Hall) -> None:
    async def work() -> None:
        told = [await hall.ask("greedy") for _ in range(400)]
        kept = [sentence for sentence in told if not sentence]
        assert 1 < len(kept) <= EACH
        assert all("The app is busy" in sentence and "the wait is" in sentence
                   for sentence in told[len(kept):])
        assert not await hall.ask("greedy", CLEAR)  # what is done at once waits for nothing
        assert not await hall.ask("other")
        assert hall.places()[0] == "greedy" and hall.places()[1] == "other"
        hall.start()  # and then the other is first
        assert hall.places()[0] == "other"

    run(work())


def test_every_visitor_has_a_turn_before_anybody_has_a_second(hall: Hall) -> None:
    async def work() -> None:
        for who in "aaaabbc":
            await hall.ask(who)
        assert "".join(hall.places()) == "abcabaa"
        hall.start()
        assert "".join(hall.places()) == "bcabaa"  # a's next one comes after the others' first
        await hall.ask("d")
        assert "".join(hall.places()) == "bcdabaa"

    run(work())


def test_the_place_in_line_is_told_and_kept_up_to_date(hall: Hall) -> None:
    async def work() -> None:
        for who in "aaab":
            await hall.ask(who)
        last = hall.messages("b")[-1]
        assert isinstance(last, EstimationMessage)
        assert (last.rank, last.queue_size) == (1, 4)
        hall.start()
        assert hall.messages("b")[-1].rank == 0
        # Where the page shows no place by itself, a note says it.
        await hall.ask("a", SEARCH)
        assert not [one for one in hall.messages("a") if isinstance(one, LogMessage)]
        await hall.ask("b", SEARCH)
        (note,) = [one for one in hall.messages("b") if isinstance(one, LogMessage)]
        assert "you are number 2 in line" in note.log and "a few seconds" in note.log

    run(work())


def test_the_line_has_an_end_and_leaves_room_for_those_who_come_new(hall: Hall) -> None:
    async def work() -> None:
        for _ in range(2 * EACH):
            for number in range(30):
                await hall.ask(f"greedy {number}")
        assert len(hall.line) < MOST
        assert not await hall.ask("new")
        told = [await hall.ask(f"crowd {number}") for number in range(2 * MOST)]
        assert len(hall.line) == MOST
        assert f"{MOST} requests are in line" in told[-1] and "the wait is about" in told[-1]

    run(work())


def test_calls_without_a_session_are_one_visitor_for_each_address(hall: Hall) -> None:
    async def work() -> None:
        told = [await hall.ask(None) for _ in range(400)]
        assert 1 < sum(not sentence for sentence in told) <= EACH
        assert not await hall.ask(None, host="5.6.7.8")
        assert hall.places()[1] == "address 5.6.7.8"

    run(work())


def test_checks_that_nobody_asked_for_take_nobodys_place(hall: Hall) -> None:
    async def work() -> None:
        for number in range(MOST):
            assert not await hall.ask(f"page {number}", EVIDENCE)
        assert await hall.ask("one more", EVIDENCE)
        assert not await hall.ask("somebody") and not await hall.ask("somebody", SEARCH)

    run(work())


def test_who_has_gone_leaves_the_line(hall: Hall) -> None:
    async def work() -> None:
        for who in "aabbb":
            await hall.ask(who)
        await hall.line.clean_events(session_hash="a")
        assert hall.places() == ["b", "b", "b"]
        event = hall.line.event_queue_per_concurrency_id["model"].queue[0]
        await hall.line.remove_from_queue(event._id)  # cancelled
        assert hall.places() == ["b", "b"]
        assert not await hall.ask("c")
        assert hall.places() == ["b", "c", "b"]

    run(work())


def test_what_is_sent_away_leaves_nothing_behind(hall: Hall) -> None:
    async def work() -> None:
        for _ in range(400):
            await hall.ask("greedy")
        assert len(hall.line) == len(hall.line.event_ids_to_events) <= EACH
        assert len(hall.line.event_analytics) <= EACH

    run(work())


def test_a_wait_is_told_by_what_such_requests_took(hall: Hall) -> None:
    async def work() -> None:
        sentence = ""
        while not sentence:
            sentence = await hall.ask("a")
        assert "the wait is about 10 seconds" in sentence or "a few seconds" in sentence
        hall.line.process_time_per_fn[hall.blocks.fns[MODEL]].add(40.0)  # four run at a time
        count = len(hall.places())
        assert f"the wait is about {round(10 * count / 60)} minutes" in await hall.ask("a")

    run(work())


def test_nothing_goes_past_the_line(hall: Hall) -> None:
    assert hall.blocks.api_open is False
