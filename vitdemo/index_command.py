"""What ``python -m vitdemo index`` does, and how it tells how far it is."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import IndexReport, Progress, index_folders
from vitdemo.retrieval.walk import absolute, passed_over_lines
from vitdemo.terminal import plain, say

LIVE_EVERY = 0.1  # seconds between two states of the line on a terminal
LOG_EVERY = 30.0  # the same where the output is a file
NAME_WIDTH = 40  # characters of a file's name


def run(options: argparse.Namespace, opened: Callable[[], Gallery],
        print_json: Callable[[Any], None]) -> int:
    """Index folders; files that cannot be read are listed and are no error.

    ``opened`` opens the store, which takes the model; bad folders are told before.
    """
    absolute(options.folders, or_gone=options.prune)
    gallery = opened()
    line = _Line()
    try:
        report = index_folders(gallery, options.folders, progress=line.tell,
                               workers=options.workers, prune=options.prune)
        count = gallery.count()
    except KeyboardInterrupt:
        line.clear()
        say(f"{_number(line.stored, 'picture')} of this run are in the store {options.store}. "
            "The same command carries on from there.", sys.stderr)
        raise
    finally:
        line.clear()
        gallery.close()
    if options.json:
        totals = {name: value for name, value in asdict(report).items() if name != "folders"}
        print_json({"store": options.store, "count": count, "folders": totals.pop("parts"),
                    **totals})
    else:
        _print_report(report)
        say(f"The store {options.store} now holds {_number(count, 'picture')}.")
    return 0


class _Line:
    """One line on a terminal that is written over, or now and then one in a log."""

    def __init__(self) -> None:
        self.stored = 0
        self._live = sys.stderr.isatty()
        self._next = 0.0 if self._live else time.monotonic() + LOG_EVERY
        self._shown = False

    def tell(self, now: Progress) -> None:
        """Show how far the work is, if it is time to."""
        self.stored = now.stored
        last = self._live and now.total and now.done == now.total
        if time.monotonic() < self._next and not last:
            return
        self._next = time.monotonic() + (LIVE_EVERY if self._live else LOG_EVERY)
        if self._live:
            name = now.name if len(now.name) <= NAME_WIDTH else now.name[:NAME_WIDTH - 3] + "..."
            print(f"\r\x1b[K{describe(now)}  {plain(name)}", end="", file=sys.stderr, flush=True)
            self._shown = True
        else:
            print(describe(now), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


def describe(now: Progress) -> str:
    """How far the work is: "120 of 2,000, 25.3 pictures a second, 2 minutes left"."""
    if not now.total:
        return f"Looking through the folders: {_number(now.done, 'picture')} so far"
    parts = [f"{now.done:,} of {now.total:,}"]
    if now.per_second:
        parts.append(f"{now.per_second:,.1f} pictures a second")
    if now.seconds_left is not None and now.done < now.total:
        parts.append(f"{duration(now.seconds_left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time for a person: "40 seconds", "2 minutes", "1 h 5 min"."""
    if seconds < 90:
        return _number(max(1, round(seconds)), "second")
    minutes = round(seconds / 60)
    return _number(minutes, "minute") if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _print_report(report: IndexReport) -> None:
    for part in report.parts:
        say(f"{part.folder}: {_number(part.added, 'picture')} read")
    told = [f"{getattr(report, kind):,} {word}" for kind, word in (
        ("added", "new"), ("changed", "changed"), ("moved", "moved"), ("deleted", "gone"),
        ("unchanged", "unchanged"))]
    print(f"{', '.join(told)}, in {report.seconds:.1f} s")
    if report.skipped:
        print(f"{_number(len(report.skipped), 'file')} could not be read:")
        for one in report.skipped:
            say(f"  {one.path}: {one.reason}")
    if report.noted:
        print(f"{_number(len(report.noted), 'note')} on what was read:")
        for one in report.noted:
            say(f"  {one.path}: {one.reason}")
    for line in passed_over_lines(report.passed_over):
        say(line)
    if report.vanished:
        print(f"{_number(sum(one.gone for one in report.vanished), 'picture')} of the store are "
              "not there any more. As so many vanished at once, they were kept:")
        for gone in report.vanished:
            say(f"  {gone.told()}")
        print("Where a drive is not mounted, mount it. If they are gone for good, the same command "
              "with --prune\ntakes them out of the store.")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
