"""Many visitors of the app at once, a caption beside evidence, and texts in one batch.

    python -m benchmarks.visitors [--visitors 12] [--seconds 60] [--rounds 3] [--json FILE]
    python -m benchmarks.visitors --rounds 0 --beside 0 --batches 5

A real app, `python app.py` on this computer, with the demo's model. In each round every visitor
opens a page, and then describes a picture, has its maps checked as the page does by itself,
searches the examples, and so on, until the time is over; then all pages are closed. A visitor who
is told that the app is busy waits a second before the next try. A caption that is still in line
when the time is over counts with the time it has waited.

Then captions beside 0, 1, 2 and 5 jobs of evidence, of as many other visitors, as a ratio to
captions beside none in the same run. A caption that takes longer than ``--longest`` counts as that.

Last, 8 visitors at once against one by one, without the app (`benchmarks.batches`).
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks import batches
from benchmarks.page import Busy, Functions, Page, PageError, app_client
from benchmarks.start import ROOT, free_port, settings, stop, wait_for
from benchmarks.timing import machine, table, write_json

PICTURES = 24  # different ones, so that no visitor is spared the work by another
BESIDE = (0, 1, 2, 5)  # jobs of evidence
TOGETHER = 8  # visitors whose texts are one batch
SEARCHES = ("a dog on grass", "a cat", "people on a street", "something red")


@dataclass
class Round:
    """What came of one round; seconds of captions, megabytes of the app."""

    captions: list[float] = field(default_factory=list)
    waiting: int = 0  # captions, at the end
    counts: Counter[str] = field(default_factory=Counter)  # done, by kind; "refused", "failed"
    faults: list[str] = field(default_factory=list)
    before: float = 0.0
    most: float = 0.0
    after: float = 0.0

    def quantile(self, share: float) -> float:
        """Of the captions' seconds."""
        return float(np.quantile(self.captions, share)) if self.captions else float("nan")


class Crowd:
    """Visitors of the app at an address."""

    def __init__(self, address: str, pictures: Sequence[Path], process: int) -> None:
        self.address, self.pictures, self.process = address, pictures, process

    async def round(self, visitors: int, seconds: float) -> Round:
        """One round."""
        made = Round(before=megabytes(self.process))
        async with app_client(self.address) as client:
            functions = Functions((await client.get("config")).json())
            tasks = [asyncio.create_task(self._visit(Page(client), functions, number, made))
                     for number in range(visitors)]
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                await asyncio.sleep(min(1.0, left))
                made.most = max(made.most, megabytes(self.process))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(min(5.0, seconds))  # what is under way ends, and is given back
        made.after = megabytes(self.process)
        return made

    async def _visit(self, page: Page, functions: Functions, number: int, made: Round) -> None:
        checks: set[asyncio.Task[None]] = set()
        try:
            file = await page.upload(self.pictures[number % len(self.pictures)])
            turn = number
            while True:
                start = time.monotonic()
                try:
                    if turn % 3 < 2:
                        await self._caption(page, functions, file, made)
                        checks.add(asyncio.create_task(self._evidence(page, functions, file, made)))
                    else:
                        search = functions.named("search_words")
                        await page.call(search, functions.inputs(
                            search, search_words=SEARCHES[turn % len(SEARCHES)]))
                        made.counts["searches"] += 1
                except Busy:
                    made.counts["refused"] += 1
                    await asyncio.sleep(1.0)
                except PageError as error:
                    made.counts["failed"] += 1
                    made.faults.append(str(error))
                    await asyncio.sleep(max(0.0, start + 1 - time.monotonic()))
                turn += 1
        finally:
            for task in checks:
                task.cancel()
            await page.close()

    async def _caption(self, page: Page, functions: Functions, file: dict[str, Any],
                       made: Round) -> None:
        start = time.monotonic()
        try:
            await caption(page, functions, file)
            made.captions.append(time.monotonic() - start)
            made.counts["captions"] += 1
        except asyncio.CancelledError:
            made.captions.append(time.monotonic() - start)
            made.waiting += 1
            raise

    @staticmethod
    async def _evidence(page: Page, functions: Functions, file: dict[str, Any],
                        made: Round) -> None:
        """What a page asks for by itself when a caption is there."""
        check = functions.of("describe-view", "ask")
        try:
            await page.call(check, functions.inputs(check, describe_picture=file),
                            {"name": "check", "word": 0})
            made.counts["evidence"] += 1
        except Busy:
            made.counts["refused"] += 1
        except PageError as error:  # another caption is on screen by now
            if "no longer on the screen" not in str(error):
                made.counts["failed"] += 1
                made.faults.append(str(error))

    async def beside(self, jobs: Sequence[int], captions: int,
                     longest: float) -> dict[int, list[float]]:
        """Seconds of captions beside so many jobs of evidence, which are added one by one."""
        found: dict[int, list[float]] = {}
        tasks: list[asyncio.Task[None]] = []
        async with app_client(self.address) as client:
            functions = Functions((await client.get("config")).json())
            page = Page(client)
            files = [await page.upload(picture) for picture in self.pictures]
            await caption(page, functions, files[0])  # warms up
            for count in jobs:
                while len(tasks) < count:
                    begun = asyncio.Event()
                    tasks.append(asyncio.create_task(self._check_on(
                        Page(client), functions, files[-1 - len(tasks)], begun)))
                    await begun.wait()
                found[count] = []
                for turn in range(captions):
                    start = time.monotonic()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(caption(page, functions, files[turn % 8]), longest)
                    found[count].append(time.monotonic() - start)
            await page.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    @staticmethod
    async def _check_on(page: Page, functions: Functions, file: dict[str, Any],
                        begun: asyncio.Event) -> None:
        """Evidence without end: every method, of one language's caption after the other's."""
        check = functions.of("describe-view", "ask")
        language = 0
        try:
            while True:
                shown = await caption(page, functions, file, ("en", "zh")[language % 2])
                language += 1
                words = range(len(shown["texts"][0]["words"]))
                for (method, _), word in itertools.product(shown["methods"], words):
                    work = asyncio.create_task(page.call(
                        check, functions.inputs(check, describe_picture=file),
                        {"name": "check", "word": word, "method": method}))
                    begun.set()
                    await work
        finally:
            begun.set()
            await page.close()


async def caption(page: Page, functions: Functions, file: dict[str, Any],
                  language: str = "en") -> dict[str, Any]:
    """Have a picture described: what is then on the screen."""
    describe = functions.named("describe")
    shown = (await page.call(describe, functions.inputs(
        describe, describe_picture=file, describe_language=language)))[0]
    if not isinstance(shown, dict) or not (shown.get("texts") or shown.get("written")):
        raise PageError(f"no caption, but {str(shown)[:200]}")
    return shown


def megabytes(process: int) -> float:
    """What a process holds in memory; nan where that cannot be told."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return float("nan")
    line = next((one for one in status.splitlines() if one.startswith("VmRSS:")), "")
    return int(line.split()[1]) / 1024 if line else float("nan")


def make_pictures(folder: Path) -> list[Path]:
    """Photograph-like pictures, each another one."""
    made = []
    for number in range(PICTURES):
        rough = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        made.append(folder / f"{number:02}.jpg")
        Image.fromarray(rough).resize((800, 600), Image.Resampling.BICUBIC).save(made[-1])
    return made


def measure(address: str, process: int, args: argparse.Namespace) -> dict[str, Any]:
    """All rounds, and the captions beside evidence."""
    with tempfile.TemporaryDirectory(prefix="vitdemo-visitors-") as name:
        crowd = Crowd(address, make_pictures(Path(name)), process)
        rounds = [asyncio.run(crowd.round(args.visitors, args.seconds))
                  for _ in range(args.rounds)]
        beside = asyncio.run(crowd.beside(BESIDE[:args.beside], args.captions, args.longest)) \
            if args.beside else {}
    return {"rounds": rounds, "beside": beside}


def show(found: dict[str, Any], visitors: int) -> None:
    """The two tables."""
    rows = []
    for number, one in enumerate(found["rounds"], 1):
        rows.append([f"round {number}", f"{one.counts['captions']}", f"{one.quantile(0.5):.1f} s",
                     f"{one.quantile(0.95):.1f} s", f"{one.waiting}", f"{one.counts['searches']}",
                     f"{one.counts['evidence']}", f"{one.counts['refused']}",
                     f"{one.counts['failed']}", f"{one.before:.0f}", f"{one.most:.0f}",
                     f"{one.after:.0f}"])
        for fault, count in Counter(one.faults).most_common(3):
            print(f"round {number}: failed {count} times: {fault}", file=sys.stderr)
    if rows:
        print(table([f"{visitors} visitors", "captions", "p50", "p95", "still waiting", "searches",
                     "evidence", "refused politely", "failed", "MB before", "at most", "after"],
                    rows), end="\n\n")
    if not found["beside"]:
        return
    alone = statistics.median(found["beside"][0])
    print(table(["a caption beside", "ratio", "median", "slowest"],
                [[f"{count} evidence jobs", f"{statistics.median(times) / alone:.2f}",
                  f"{statistics.median(times):.2f} s", f"{max(times):.2f} s"]
                 for count, times in found["beside"].items()]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print two tables; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visitors", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=12, help="at once (default: 12)")
    parser.add_argument("--seconds", type=float, default=60, help="of a round (default: 60)")
    parser.add_argument("--rounds", type=int, default=3, help="0: none (default: 3)")
    parser.add_argument("--captions", type=int, default=5, help="beside evidence (default: 5)")
    parser.add_argument("--beside", type=int, default=len(BESIDE), metavar="N",
                        help=f"only the first N of {BESIDE} evidence jobs (default: all)")
    parser.add_argument("--longest", type=float, default=120, help="seconds that a caption beside "
                        "evidence is waited for (default: 120)")
    parser.add_argument("--batches", type=int, default=3, help="rounds of texts in one batch "
                        "against one by one, 0: none (default: 3)")
    parser.add_argument("--address", default="", help="of an app on this computer that runs "
                        "already (default: one is started)")
    parser.add_argument("--process", type=int, default=0, help="its process's number")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "vitdemo-small")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(argv)
    for flag, least, most in (("visitors", 1, 500), ("seconds", 0.1, 600), ("rounds", 0, 20),
                              ("captions", 1, 100), ("beside", 0, len(BESIDE)),
                              ("longest", 0.1, 600), ("batches", 0, 100)):
        if not least <= getattr(args, flag) <= most:
            parser.error(f"--{flag} is {getattr(args, flag)}; it must be from {least} to {most}.")
    if args.address and urlsplit(args.address).hostname not in ("127.0.0.1", "localhost", "::1"):
        parser.error("--address must be on this computer: http://127.0.0.1:PORT/")
    app = None
    try:
        if not args.address and (args.rounds or args.beside):
            port = free_port()
            args.address = f"http://127.0.0.1:{port}/"
            app = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--model",
                                    str(args.checkpoint.resolve()), "--device", "cpu"], cwd=ROOT,
                                   env=settings(), stdin=subprocess.DEVNULL)
            wait_for(args.address, app, time.perf_counter())
            args.process = app.pid
        found = measure(args.address, args.process, args) if args.address else {
            "rounds": [], "beside": {}}
    finally:
        if app is not None:
            stop(app)
    show(found, args.visitors)
    if args.batches:
        photos = sorted((ROOT / "examples").glob("*.jpg"))
        found["batches"] = batches.measure(str(args.checkpoint), photos, TOGETHER, args.batches)
        batches.show(found["batches"], TOGETHER)
    info = machine()
    if info["load"] > 1:
        print(f"\nThe machine was busy (load {info['load']}): compare ratios only.")
    if args.json:
        write_json(args.json, {"machine": info, "visitors": args.visitors,
                               "seconds": args.seconds, "beside": found["beside"],
                               "rounds": [vars(one) for one in found["rounds"]],
                               "batches": {kind: vars(one) for kind, one
                                           in found.get("batches", {}).items()}})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
