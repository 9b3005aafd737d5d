"""What ``python -m vitdemo index`` does, and how it tells how far it is."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import IndexReport, Progress, index_folders
from vitdemo.retrieval.readers import Readers
from vitdemo.retrieval.walk import Skipped, absolute, passed_over_lines
from vitdemo.terminal import plain, say
from vitdemo.texts import phrase

LIVE_EVERY = 0.1  # seconds between two states of the line on a terminal
LOG_EVERY = 30.0  # the same where the output is a file
NAME_WIDTH = 40  # characters of a file's name


def run(options: argparse.Namespace, opened: Callable[[], Gallery],
        print_json: Callable[[Any], None],
        readers: Callable[[Gallery], Readers] = lambda gallery: Readers()) -> int:
    """Index folders; files that cannot be read are listed and are no error.

    ``opened`` opens the store, which takes the model; bad folders are told before. ``readers``
    read the files, and may make the vectors, too.
    """
    absolute(options.folders, or_gone=options.prune)
    gallery = opened()
    line = ProgressLine()
    try:
        report = index_folders(gallery, options.folders, progress=line.tell,
                               readers=readers(gallery), prune=options.prune)
        count, reads_texts = gallery.count(), gallery.index.reads_texts
    except KeyboardInterrupt:
        line.clear()
        say(phrase("indexing.stopped", count=line.stored, store=options.store), sys.stderr)
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
        say(phrase("indexing.holds", store=options.store, count=count))
        if not reads_texts:
            say(phrase("indexing.no_texts", store=options.store))
    return 0


class ProgressLine:
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
        return phrase("indexing.looking", count=now.done)
    parts = [phrase("indexing.done", done=now.done, total=now.total)]
    if now.per_second:
        parts.append(phrase("indexing.speed", number=now.per_second))
    if now.seconds_left is not None and now.done < now.total:
        parts.append(phrase("indexing.left", time=duration(now.seconds_left)))
    return phrase("list.join").join(parts)


def duration(seconds: float) -> str:
    """A time for a person: "40 seconds", "2 minutes", "1 h 5 min"."""
    if seconds < 90:
        return phrase("indexing.seconds", count=max(1, round(seconds)))
    minutes = round(seconds / 60)
    return phrase("indexing.minutes", count=minutes) if minutes < 90 else \
        phrase("indexing.hours", hours=minutes // 60, minutes=minutes % 60)


def _print_report(report: IndexReport) -> None:
    for part in report.parts:
        say(phrase("indexing.read", folder=part.folder, count=part.added))
    kinds = {kind: getattr(report, kind)
             for kind in ("added", "changed", "moved", "deleted", "unchanged", "reworded")}
    print(phrase("indexing.totals", seconds=report.seconds, **kinds))
    print_files("indexing.skipped", report.skipped)
    print_files("indexing.noted", report.noted)
    for line in passed_over_lines(report.passed_over):
        say(line)
    if report.vanished:
        print(phrase("indexing.vanished", count=sum(one.gone for one in report.vanished)))
        for gone in report.vanished:
            say(f"  {gone.told()}")
        print(phrase("indexing.prune"))


def print_files(key: str, files: Sequence[Skipped]) -> None:
    """Files and what is to be said of them, under a sentence with how many there are."""
    if files:
        print(phrase(key, count=len(files)))
    for one in files:
        say(f"  {one.path}: {one.reason}")
