"""Shared by the benchmarks: interleaved timing, ratios, a table, and what machine it was.

Times of different runs, or of one way after the other, do not compare: clocks, caches and other
processes change. So all ways take turns within one run, and what is reported first is the ratio.
"""

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

Way = TypeVar("Way")

_LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@dataclass(frozen=True)
class Timing:
    """Seconds of every turn of one way."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """In seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, over the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


def interleaved(ways: Mapping[str, Callable[[], object]], repeats: int, warmups: int = 1,
                progress: bool = True,
                clock: Callable[[], float] = time.perf_counter) -> dict[str, Timing]:
    """Run every way once per turn, ``repeats`` turns after ``warmups`` that do not count; ``clock``
    may be `time.process_time`, which a busy machine disturbs less.

    The order is turned round on every other turn, so that no way always follows the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warmups, repeats):
        for name in ways if turn % 2 == 0 else reversed(list(ways)):
            seconds[name] += [once(ways[name], clock)] if turn >= 0 else []
            if turn < 0:
                once(ways[name])
        if progress:
            print(f"\rturn {max(0, turn + 1)} of {repeats}", end="", file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def once(way: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, a GPU's work included, with no garbage collection in it."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        _wait_for_gpu()
        start = clock()
        way()
        _wait_for_gpu()
        return clock() - start
    finally:
        if was_on:
            gc.enable()


def run_all(each: Callable[..., Iterable[object]], work: Callable[[Any], object],
            items: Iterable[Any]) -> None:
    """``work`` of every item by ``each``, which is `map` or works as it does."""
    for _ in each(work, items):
        pass


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(times: Mapping[Way, Timing], way: Way, base: Way) -> float:
    """Median over turns of ``way``'s time over ``base``'s in the same turn."""
    return statistics.median(a / b for a, b in zip(times[way].seconds, times[base].seconds,
                                                   strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":")
                          for i, width in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def machine() -> dict[str, Any]:
    """What it ran on: processor, cores, threads, load when the program began (later, its own is
    in it), versions."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines
                     if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"processor": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "load": round(_LOAD, 2), "gpu": gpu, "torch": torch.__version__,
            "python": platform.python_version()}


def write_json(path: str | Path, result: Mapping[str, Any]) -> None:
    """Save a benchmark's result."""
    Path(path).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def print_tables(result: dict[str, Any]) -> None:
    """The ratios, then the seconds with their spread, of a result."""
    print(table(("ratio", "x"), [(name, f"{value:.3f}")
                                 for name, value in result["ratios"].items()]), end="\n\n")
    print(table(("way", "seconds", "spread"),
                [(name, f"{value['median']:.3f}", f"{value['spread']:.0%}")
                 for name, value in result["seconds"].items()]))


def keep(result: dict[str, Any], file: str) -> None:
    """Warn of a busy machine, and write the result where ``file`` names one."""
    if result["machine"]["load"] > 1:
        print("\nThe machine was busy: do not keep these numbers.")
    if file:
        write_json(file, result)
