"""The engine on a GPU that is lent for one call at a time, as Hugging Face's ZeroGPU does.

Such a call runs in a process of its own, so the cut is where only plain records go in and out: the
engine's public methods. A method that needs no GPU says so (`device.without_gpu`); every other one,
a new one included, borrows by itself.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_origin

from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.errors import VitDemoError
from vitdemo.words import split_words

START = 5.0  # seconds until the model is on the GPU
PASS = 0.05  # seconds of one pass through the model, until it is known of a method
LONGEST = 120  # seconds that are asked for at most
MASKED, EACH_WORD = 100, 14  # masked pictures for the evidence of a text, and of each of its words
REGIONS = 400  # masked pictures that occlusion takes, about

Lend = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


@dataclass(frozen=True)
class Done:
    """What came of a call: a value, or what was wrong with it, and its seconds on the GPU."""

    value: Any = None
    error: VitDemoError | None = None
    seconds: float = 0.0

    def result(self) -> Any:
        """The value.

        Raises:
            VitDemoError: what was wrong.
        """
        if self.error is not None:
            raise self.error
        return self.value


class BorrowedEngine(Engine):
    """An engine whose methods run on a GPU that ``lend`` lends: a decorator that takes how many
    seconds a call wants (``duration``, a function of its values), as `spaces.GPU` is."""

    def __init__(self, engine: Engine, lend: Lend) -> None:
        self.__dict__.update(vars(engine))
        self.pace: dict[str, float] = {}  # seconds of a pass, by method
        for name, method in inspect.getmembers(Engine, needs_gpu):
            setattr(self, name, self._lent(name, method, lend))

    def seconds(self, name: str, *args: Any, **settings: Any) -> int:
        """For how long a call of a method asks for the GPU."""
        wanted = START + 2 * passes(name, *args, **settings) * self.pace.get(name, PASS)
        return min(LONGEST, math.ceil(wanted))

    def _lent(self, name: str, method: Callable[..., Any], lend: Lend) -> Callable[..., Any]:
        def duration(*args: Any, **settings: Any) -> int:
            return self.seconds(name, *args, **settings)

        def run(*args: Any, **settings: Any) -> Done:
            start = time.perf_counter()
            try:
                value = method(self, *args, **settings)
            except VitDemoError as error:  # another would reach nobody as the sentence that it is
                return Done(error=error)
            return Done(value, seconds=time.perf_counter() - start)

        def steps(*args: Any, **settings: Any) -> Iterator[Done]:
            try:
                for value in method(self, *args, **settings):
                    yield Done(value)
            except VitDemoError as error:
                yield Done(error=error)

        if streams(method):
            lent_steps = lend(duration=duration)(steps)

            def stream(*args: Any, **settings: Any) -> Iterator[Any]:
                for one in lent_steps(*args, **_plain(settings)):
                    yield one.result()

            return stream
        lent = lend(duration=duration)(run)

        def call(*args: Any, **settings: Any) -> Any:
            settings = _plain(settings)
            done = lent(*args, **settings)
            if done.error is None:
                measured = done.seconds / passes(name, *args, **settings)
                self.pace[name] = max(measured, 0.8 * self.pace.get(name, PASS))
            return done.result()

        return call


def needs_gpu(member: object) -> bool:
    """Whether it is a public method that asks something of the model."""
    return (inspect.isfunction(member) and not member.__name__.startswith("_")
            and not vars(member).get("without_gpu"))


def streams(method: Callable[..., Any]) -> bool:
    """Whether it gives one value after the other."""
    return get_origin(inspect.signature(method).return_annotation) is Iterator


def passes(name: str, *args: Any, **settings: Any) -> int:
    """About how many passes through the model a call of a method takes."""
    bound = inspect.signature(getattr(Engine, name)).bind(None, *args, **settings)
    bound.apply_defaults()
    given = bound.arguments
    count = 1
    for many in ("pictures", "texts"):
        count *= max(1, len(given.get(many, ())))
    if isinstance(given.get("decoding"), Decoding):
        count += given["decoding"].max_tokens
    if "words" in given:
        text = given["result"] if isinstance(given["result"], str) else given["result"].text
        words = len(split_words(text)) if given["words"] is None else len(given["words"])
        count += MASKED + EACH_WORD * words
    if name == "smallest_part":
        count += 2 * MASKED
    return count + REGIONS * (given.get("method") == "occlusion")


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Without callbacks: nobody can be told of progress across processes."""
    return {name: value for name, value in settings.items() if not callable(value)}
