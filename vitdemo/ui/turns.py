"""Who may write on a part of the page: what was asked for last, and nothing else.

A *panel* is a part of one visitor's page where answers appear. What a person does there begins a
*turn*, with a number that their browser gives it at that moment. The newest turn has the panel. An
older one that still waits is never run; one that is under way shows nothing more, and ends the next
time it would take the device (`vitdemo.wanted`). What follows a result, such as its evidence,
belongs to the turn that made it.

The page gets what is sent in the order in which it is sent, as long as it goes through the queue;
so a new turn waits until what an older one is sending is on its way. Gradio sends the last output
of a handler once more when that ends; one that was overtaken ends with one that changes nothing.
"""

import functools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from vitdemo import wanted
from vitdemo.ui.components import PRIVATE, Failed, PageValue, guarded
from vitdemo.wanted import NotWanted

SENDING = 2.0  # seconds that a new turn waits at most for what an older one is sending
# Gives a request its number: it stands behind the panel's state.
NUMBER = """(turns, number, ...given) => {
  globalThis.vtNumber = (globalThis.vtNumber ?? 0) + 1;
  return [turns, globalThis.vtNumber, ...given];
}"""
# The first of all, and so older than anything that a person does: for what a link asks for.
FIRST = "(turns, number, ...given) => [turns, 0.5, ...given]"
# What only clears or fills fields waits for no one. It goes through the queue all the same.
AT_ONCE: dict[str, Any] = {**PRIVATE, "concurrency_id": "at-once", "concurrency_limit": None}


class Turn:
    """One request of a person.

    ``number`` is 0 where no browser gave one (the app's API): nothing replaces such a turn.
    ``done`` says that its own work has ended, and what follows it may begin.
    """

    def __init__(self, turns: "Turns", number: float) -> None:
        self.number = number
        self.taken = self.done = self.followed = False
        self._turns = turns
        self._sending = 0
        self._ended: list[Callable[[], bool]] = []

    def newest(self) -> bool:
        """Whether it still has the panel."""
        return not self.number or self._turns.turn is self

    def sending(self) -> bool:
        """Whether something of it is still to be sent to the page."""
        return self._sending > 0 or any(held() for held in self._ended)

    def ends(self) -> None:
        """A handler of it is at its end; its last output is sent once more."""
        self._ended = [held for held in [*self._ended, _held()] if held()]

    @contextmanager
    def send(self) -> Iterator[None]:
        """Around the sending of an answer.

        Raises:
            NotWanted: a newer turn has the panel.
        """
        with self._turns.changed:
            if not self.newest():
                raise NotWanted
            self._sending += 1
        try:
            yield
        finally:
            with self._turns.changed:
                self._sending -= 1
                self._turns.changed.notify_all()


class Turns:
    """Which turn has a panel: the base of what is kept for one visitor's panel."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.turn = Turn(self, 0)

    def __deepcopy__(self, memo: object) -> "Turns":
        return type(self)()  # each page begins with its own

    def clear(self) -> None:
        """A turn begins: forget what is on the panel."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around a change of what is kept, which only the newest turn may make.

        Raises:
            NotWanted: a newer turn has the panel.
        """
        with self.changed:
            wanted.check()
            yield

    # Ways into a turn. All raise `NotWanted` where it is too late for that.

    def begin(self, number: float) -> Turn:
        """A person asks for something."""
        with self.changed:
            if not number:
                self.clear()
                return Turn(self, 0)
            if number <= self.turn.number:
                raise NotWanted
            before, mine = self.turn, Turn(self, number)
            self.turn = mine
            self.clear()
            end = time.monotonic() + SENDING
            while before.sending() and time.monotonic() < end:
                self.changed.wait(0.005)
        return mine

    def go_on(self, number: float) -> Turn:
        """The work of a turn that another event has begun; once."""
        with self.changed:
            if self.turn.number != number or self.turn.taken:
                raise NotWanted
            self.turn.taken = True
            return self.turn

    def follow(self, _number: float) -> Turn:
        """What follows the work of a turn, when that is done; once."""
        with self.changed:
            if not self.turn.done or self.turn.followed:
                raise NotWanted
            self.turn.followed = True
            return self.turn

    def join(self, _number: float) -> Turn:
        """A request about what the newest turn has put on the panel."""
        return self.turn

    def end(self) -> None:
        """The page was left: nothing is wanted any more."""
        with self.changed:
            self.turn = Turn(self, math.inf)


Enter = Callable[[Any, float], Turn]
Handler = Callable[..., Iterator[Any]]


def in_turn(enter: Enter, failed: Failed, last: bool = True) -> Callable[[Handler], Handler]:
    """Make a handler ``(turns, turn, *inputs)``, a generator of outputs, keep to its turn.

    ``enter`` is one of the ways of `Turns`. ``failed`` is that of `guarded`. ``last`` says that
    the turn's work is then done. A payload gets the turn's number: what two events send may reach
    the page in another order, and a viewer passes over what is of an older turn.
    """

    def decorate(handler: Handler) -> Handler:
        safe = guarded(failed)(handler)

        @functools.wraps(handler)
        def run(turns: Turns, number: float | None, *inputs: Any) -> Iterator[Any]:
            try:
                turn = enter(turns, number or 0)
                for outputs in _within(wanted.while_wanted(turn.newest),
                                       safe(turns, turn, *inputs)):
                    with turn.send():
                        yield _of_turn(turn, outputs)
                turn.done = turn.done or last
                turn.ends()
            except NotWanted:
                yield gr.skip()

        return run

    return decorate


def _of_turn(turn: Turn, outputs: Any) -> Any:
    """Outputs whose payloads tell the turn's number, where a browser gave it one."""
    if isinstance(outputs, list | tuple):
        return [_of_turn(turn, one) if isinstance(one, dict) else one for one in outputs]
    payload = isinstance(outputs, dict) and "__type__" not in outputs
    return {**outputs, "turn": turn.number} if payload and turn.number else outputs


def _held() -> Callable[[], bool]:
    """Whether Gradio's queue still has the event that this runs in."""
    queue = getattr(LocalContext.blocks.get(None), "_queue", None)
    event = LocalContext.event_id.get(None)
    events = getattr(queue, "event_ids_to_events", {})
    return lambda: event in events


def _within(context: Context, steps: Iterator[Any]) -> Iterator[Any]:
    """Run a generator in a context, whichever threads ask for its items."""
    end = object()
    try:
        while (item := context.run(next, steps, end)) is not end:
            yield item
    finally:
        context.run(steps.close)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Panel:
    """A panel as it is laid out: ``state`` keeps a visitor's `Turns`, ``number`` carries that of a
    turn from the event that begins it to the one that does its work."""

    state: gr.State
    number: PageValue

    @classmethod
    def of(cls, turns: Turns) -> "Panel":
        """Lay it out; each page gets its own copy of ``turns``."""
        return cls(gr.State(turns), PageValue(0))

    def act(self, trigger: Any, handler: Handler, inputs: list[Any], outputs: list[Any],
            failed: Failed, **settings: Any) -> Any:
        """Tie a person's act, which begins a turn and does its work."""
        return self._tie(trigger, in_turn(Turns.begin, failed)(handler), inputs, outputs,
                         **{"js": NUMBER, **settings})

    def open(self, trigger: Any, handler: Handler, inputs: list[Any], outputs: list[Any],
             failed: Failed, **settings: Any) -> Any:
        """Tie a person's act, which begins a turn at once; `go_on` does its work. The handler's
        first output is the turn's number."""
        return self._tie(trigger, in_turn(Turns.begin, failed, last=False)(handler), inputs,
                         [self.number, *outputs], js=NUMBER, **{**AT_ONCE, **settings})

    def go_on(self, event: Any, handler: Handler, inputs: list[Any], outputs: list[Any],
              failed: Failed, **settings: Any) -> Any:
        """After an event of `open`: the turn's work."""
        return self._tie(event.then, in_turn(Turns.go_on, failed)(handler), inputs, outputs,
                         **settings)

    def follow(self, event: Any, handler: Handler, inputs: list[Any], outputs: list[Any],
               failed: Failed, **settings: Any) -> Any:
        """After the turn's work: what follows it."""
        return self._tie(event.then, in_turn(Turns.follow, failed)(handler), inputs, outputs,
                         **settings)

    def join(self, trigger: Any, handler: Handler, inputs: list[Any], outputs: list[Any],
             failed: Failed, **settings: Any) -> Any:
        """Tie requests about what is on the panel."""
        return self._tie(trigger, in_turn(Turns.join, failed)(handler), inputs, outputs,
                         **settings)

    def take_over(self, event: Any, number: PageValue, handler: Handler, inputs: list[Any],
                  outputs: list[Any], failed: Failed) -> Any:
        """After an event of another panel: its turn, of which ``number`` has the number, is one of
        this panel, too."""
        return self._tie(event.then, in_turn(Turns.begin, failed)(handler), inputs, outputs,
                         number, **AT_ONCE)

    def _tie(self, trigger: Any, handler: Handler, inputs: list[Any], outputs: list[Any],
             number: PageValue | None = None, **settings: Any) -> Any:
        # "multiple": a new act is never passed over because an older one is still at work.
        tie = functools.partial(gr.on, trigger) if isinstance(trigger, list) else trigger
        return tie(handler, [self.state, number or self.number, *inputs],
                   outputs, trigger_mode="multiple", **{**PRIVATE, **settings})
