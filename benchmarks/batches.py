"""Texts of several visitors in one batch, against the same texts one by one.

Part of `benchmarks.visitors`. No server and no page: threads that ask one engine, each for a
caption of a new picture and, when all have theirs, for one in the other language of the picture
that is known by then. Both ways take turns within a round, on the same pictures with nothing kept
from before, and have to give the same texts.
"""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks.timing import table
from vitdemo.backends.registry import load_backend
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.preprocess import Picture, open_picture

EACH = 2  # pictures of a visitor
ASKED = {"new pictures": "en", "known pictures": "zh"}


@dataclass
class Way:
    """What came of one way of asking: seconds and processor seconds in all, seconds until the
    first word and the texts by picture."""

    seconds: float = 0.0
    processor: float = 0.0
    first: dict[int, float] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


@dataclass
class Ratios:
    """Of the rounds of one kind; batches are texts in one, on average."""

    throughput: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    different: int = 0


def measure(model: str, photos: Sequence[Path], visitors: int, rounds: int) -> dict[str, Ratios]:
    """All rounds, by what is asked."""
    backend = load_backend(EngineConfig(model=model, device="cpu"))
    pictures = [_picture(photos, number) for number in range(EACH * visitors)]
    for _ in Engine(backend).stream(pictures[0]):  # warms up
        pass
    found = {kind: Ratios() for kind in ASKED}
    for _ in range(rounds):
        alone, crowd = Engine(backend), Engine(backend)
        for kind, language in ASKED.items():
            one = _ask(alone, pictures, 1, language)
            before = crowd.measures.values().get(("batch", "write"), (0, 0.0))
            many = _ask(crowd, pictures, visitors, language)
            count, total = crowd.measures.values()["batch", "write"]
            made, first = found[kind], statistics.median(one.first.values())
            made.throughput.append(one.seconds / many.seconds)
            made.processor.append(one.processor / many.processor)
            made.first.append(statistics.median(many.first.values()) / first)
            made.slowest.append(max(many.first.values()) / first)
            made.batch.append((total - before[1]) / (count - before[0]))
            made.different += sum(one.texts[n] != many.texts[n] for n in one.texts)
    return found


def show(found: dict[str, Ratios], visitors: int) -> None:
    """The table: medians of the rounds, with the least and the most."""
    def cell(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    rows = [[kind, cell(one.throughput), cell(one.processor), cell(one.first), cell(one.slowest),
             cell(one.batch), str(one.different)] for kind, one in found.items()]
    print(table([f"{visitors} visitors over one by one", "throughput", "per processor second",
                 "first word", "slowest first word", "texts in a batch", "other texts"], rows),
          end="\n\n")


def _picture(photos: Sequence[Path], number: int) -> Picture:
    """A different one for each number."""
    with Image.open(photos[number % len(photos)]) as photo:
        cut = number // len(photos) * 8
        return open_picture(photo.convert("RGB").crop(
            (cut, cut, photo.width - cut, photo.height - cut)))


def _ask(engine: Engine, pictures: Sequence[Picture], visitors: int, language: str) -> Way:
    """A caption of each picture; a visitor asks for the next when the last has come."""
    way = Way()

    def visit(visitor: int) -> None:
        for number in range(visitor, len(pictures), visitors):
            begun, caption = time.perf_counter(), None
            for caption in engine.stream(pictures[number], language=language):  # noqa: B007
                if number not in way.first:
                    way.first[number] = time.perf_counter() - begun
            way.texts[number] = caption.raw_text if caption else ""

    start, processor = time.perf_counter(), time.process_time()
    _all([lambda visitor=n: visit(visitor) for n in range(visitors)])  # type: ignore[misc]
    way.seconds = time.perf_counter() - start
    way.processor = time.process_time() - processor
    return way


def _all(calls: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
