"""The line in which requests of all visitors wait for the model: bounded, and fair to each.

Gradio's own queue is first come, first served, and has no bound for one visitor; everything else
about it stays: a request that is cancelled, or whose page is gone, leaves it.
"""

from asyncio import Queue as Messages
from collections import Counter
from typing import Any

import gradio as gr
from fastapi import Request
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue
from gradio.server_messages import LogMessage, ProcessCompletedMessage
from gradio.utils import error_payload

from vitdemo.texts import phrase
from vitdemo.ui.jobs import duration

CHECKS = "checks"  # the group of what nobody asked for
# What may take many seconds: it never stands before those who wait for a short answer.
LONG: dict[str, Any] = {"concurrency_id": "long", "concurrency_limit": 4}
MOST = 120  # requests that wait, of all visitors together
EACH = 12  # of one visitor while nobody else waits; fewer, down to 1, as the line grows


class VisitorLine(Queue):
    """Gives every visitor a turn before any has a second one, and sends away what is too much.

    A visitor is an open page, or a client by its session; calls without a session are one visitor
    for each address. Checks that nobody asked for, and what is done at once, stand in lines of
    their own, with bounds of their own, so that they never take anybody's place. What is sent away
    is told how long the line is.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.counts = {"taken": 0, "sent away": 0}

    async def push(self, body: PredictBodyInternal, request: Request,
                   username: str | None) -> tuple[bool, Any, Any]:
        """As Gradio's, but for what is sent away: it ends at once, with a sentence."""
        function = self.blocks.fns.get(-1 if body.fn_index is None else body.fn_index)
        if function is None:
            return await super().push(body, request, username)
        event = Event(body.session_hash, function, request, username)
        sentence = self._sentence(event)
        self.counts["sent away" if sentence else "taken"] += 1
        if sentence:
            return await self._send_away(event, sentence)
        answer = await super().push(body, request, username)
        mine = self.event_ids_to_events.get(str(answer[1]))
        shown = function.show_progress != "hidden"  # by the page itself
        if mine is not None and not shown and function.trigger_after is None:
            self._tell_place(mine)
        return answer

    def broadcast_estimations(self, concurrency_id: str, after: int | None = None) -> None:
        """Puts a line in its order, and tells all who wait in it which place they have."""
        queue = self.event_queue_per_concurrency_id[concurrency_id].queue
        running = [event for job in self.active_jobs if job for event in job]
        turns = Counter(visitor(event) for event in running
                        if event.concurrency_id == concurrency_id)
        queue.sort(key=lambda event: event.enqueue_time)
        order = {}
        for event in queue:
            order[event] = turns[visitor(event)]
            turns[visitor(event)] += 1
        queue.sort(key=lambda event: order[event])  # stable: else as they came
        super().broadcast_estimations(concurrency_id)

    def _sentence(self, event: Event) -> str:
        """Why a request is sent away; empty where there is room for it."""
        line = [one for queue in self.event_queue_per_concurrency_id.values()
                for one in queue.queue if _kind(one) == _kind(event)]
        own = sum(visitor(one) == visitor(event) for one in line)
        wait = duration(self._seconds(line))
        if len(line) >= MOST:
            return phrase("line.full", count=len(line), wait=wait)
        if own and own >= EACH * (1 - len(line) / MOST):
            return phrase("line.own", own=own, count=len(line), wait=wait)
        return ""

    def _seconds(self, line: list[Event]) -> float:
        """About how long those in line take, as far as their kinds are known."""
        seconds = 0.0
        for event in line:
            queue = self.event_queue_per_concurrency_id[event.concurrency_id]
            known = self.process_time_per_fn.get(event.fn)
            seconds += known.avg_time / (queue.concurrency_limit or 1) if known else 1.0
        return seconds

    async def _send_away(self, event: Event, sentence: str) -> tuple[bool, Any, Any]:
        title = phrase("line.busy")
        error = gr.Error(sentence, title=title, print_exception=False)
        async with self.pending_message_lock:
            self.pending_event_ids_session.setdefault(event.session_hash, set()).add(event._id)
            if event.session_hash not in self.pending_messages_per_session:
                self.pending_messages_per_session[event.session_hash] = Messages()
        self.send_message(event, ProcessCompletedMessage(
            output=error_payload(error, True), title=title, success=False))
        return True, event._id, "success"

    def _tell_place(self, event: Event) -> None:
        """A note on the page, where somebody else is to be waited for."""
        queue = self.event_queue_per_concurrency_id[event.concurrency_id]
        if event not in queue.queue:  # it is known already what comes of it
            return
        place = queue.queue.index(event)
        if place or queue.current_concurrency >= (queue.concurrency_limit or 1):
            self.send_message(event, LogMessage(
                log=phrase("line.place", place=place + 1,
                           wait=duration(self._seconds(queue.queue[:place + 1]))),
                level="info", title=phrase("line.in_line"), duration=5))


def use_visitor_line(blocks: gr.Blocks) -> None:
    """Let everything that the app is asked for stand in such a line; nothing goes past it."""
    blocks.api_open = False
    blocks._queue = VisitorLine(
        live_updates=True, concurrency_count=blocks.max_threads, update_intervals=1, max_size=None,
        blocks=blocks)


def _kind(event: Event) -> str:
    """Which bounds count for a request."""
    apart = event.concurrency_id == CHECKS or event.fn.concurrency_limit is None
    return str(event.concurrency_id) if apart else ""


def visitor(event: Event) -> str:
    """Whose request it is."""
    if event.session_hash != event._id:
        return event.session_hash
    client = event.request.client
    return f"address {client.host if client else ''}"
