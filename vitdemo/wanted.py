"""Whether anybody still waits for what is being computed.

Whoever begins some work says how that is found out; the engine asks each time before it takes the
device. So what is no longer wanted ends at its next slice, however deep down it is, and no function
in between has to know of it.
"""

import contextvars
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotWanted(Exception):
    """Nobody waits for this any more. It says nothing to anybody: whoever began the work ends."""


def _always() -> None:
    """Work that nobody can lose interest in."""


_check: contextvars.ContextVar[Callable[[], None]] = contextvars.ContextVar(
    "check", default=_always)


def check() -> None:
    """To be called between two slices of work.

    Raises:
        NotWanted: nobody waits for it any more.
    """
    _check.get()()


def current() -> Callable[[], None]:
    """`check` as it is in this context, for whoever works on it in another."""
    return _check.get()


def while_wanted(still: Callable[[], bool]) -> contextvars.Context:
    """A context for work that ends when ``still()`` is no longer true: ``context.run(work)``. Work
    that began it in turn ends it, too."""
    before = _check.get()

    def ask() -> None:
        before()
        if not still():
            raise NotWanted

    context = contextvars.copy_context()
    context.run(_check.set, ask)
    return context


def for_a_thread(call: Callable[[], T]) -> Callable[[], T]:
    """The same call for another thread, where it is wanted as long as it is in this one."""
    context = contextvars.copy_context()
    return lambda: context.run(call)
