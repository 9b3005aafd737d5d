"""Processes that read picture files and videos, beside the one that runs the model.

Plain subprocesses, not `multiprocessing`: its spawned workers import the program's main file first,
which for the app means Gradio and torch in each of them, and they outlive a parent that is killed.
"""

import functools
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from vitdemo.errors import BusyError
from vitdemo.file_names import on_disk
from vitdemo.pixel_budget import BUDGET, Share
from vitdemo.preprocess import Picture
from vitdemo.reasons import reason
from vitdemo.retrieval.reader import FRAMES, HASH_ONLY
from vitdemo.texts import Message, as_json, from_json, language
from vitdemo.video import file_of, frame_path, is_video
from vitdemo.wanted import for_a_thread

log = logging.getLogger(__name__)

AHEAD = 8  # files that each process may be ahead of what is asked for
AHEAD_WHOLE = 2  # the same where pictures are wanted whole: they may be large
PATIENCE = 300.0  # seconds for one file, until its process is taken for stuck
TRIES = 2  # processes that may end over one file: the first may have been killed for another's sake
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Reading:
    """What came of one file: its content's SHA-256, and its pixels for the model.

    ``pixels`` are RGB bytes of a picture of ``size`` (width, height); ``width`` and ``height`` are
    those of the upright original. Or ``error`` says why there are none, and ``broken`` whether that
    is certainly the file's own fault, so that it stays so until the file changes. ``made`` is what
    a model has made of it already, where it was read beside one: then there are no pixels.

    Of a video, ``seconds`` are those of the frames that stand for it. A frame has its video's
    content, and ``frames`` says how many there are, ``last`` whether none of them follows.
    """

    content: str = ""
    width: int = 0
    height: int = 0
    size: tuple[int, int] = (0, 0)
    camera: dict[str, str | int | float] | None = None
    pixels: bytes = b""
    error: str | Message = ""
    broken: bool = False
    notes: tuple[str, ...] = ()
    made: Any = None
    seconds: tuple[float, ...] = ()
    frames: int = 0
    last: bool = True

    def picture(self, path: str) -> Picture:
        """What the model is given, known by the file's content and its place in it."""
        return Picture(Image.frombytes("RGB", self.size, self.pixels),
                       self.content + path.removeprefix(file_of(path)), path)


class Readers:
    """Some reading processes, started when they are first needed; use in a `with` statement."""

    def __init__(self, count: int = 0) -> None:
        self.count = count or min(8, _cores())
        self._threads = ThreadPoolExecutor(self.count, "reader")
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for _ in range(self.count):
            self._idle.put(_Process())

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _ in range(self.count):
            self._idle.get().stop()

    def hashes(self, paths: Iterable[str]) -> Iterator[tuple[str, Reading]]:
        """The content's hash alone of each file, in order."""
        return self._each(paths, HASH_ONLY)

    def pictures(self, paths: Iterable[str], side: int) -> Iterator[tuple[str, Reading]]:
        """Each file's picture, in order: squeezed to side x side, or whole where that is 0. A
        video gives those of its frames, by their paths, or itself where it cannot be read."""
        return self._each(paths, side)

    def _each(self, paths: Iterable[str], side: int) -> Iterator[tuple[str, Reading]]:
        waiting: deque[tuple[str, Future[Reading]]] = deque()
        ahead = self.count * (AHEAD if side else AHEAD_WHOLE)
        for path in paths:
            videos = side != HASH_ONLY and is_video(path)
            read = for_a_thread(functools.partial(self._read, path, FRAMES if videos else side))
            waiting.append((path, self._threads.submit(read)))
            if len(waiting) >= ahead:
                yield from self._first(waiting, side)
        while waiting:
            yield from self._first(waiting, side)

    def _first(self, waiting: "deque[tuple[str, Future[Reading]]]", side: int
               ) -> Iterator[tuple[str, Reading]]:
        """What comes of the first that is waited for."""
        path, future = waiting.popleft()
        video = future.result()
        if not video.seconds:
            yield path, video
            return
        frames = [frame_path(path, second) for second in video.seconds]
        for place, (frame, one) in enumerate(self._each(frames, side), 1):
            yield frame, replace(one, content=video.content, frames=len(frames),
                                 last=place == len(frames))

    def _read(self, path: str, side: int) -> Reading:
        process = self._idle.get()
        try:
            return process.read(path, side)
        finally:
            self._idle.put(process)


class _Process:
    """One process of `vitdemo.retrieval.reader`."""

    def __init__(self) -> None:
        self._running: subprocess.Popen[bytes] | None = None

    def read(self, path: str, side: int) -> Reading:
        """Ask for one file. A process that ends over it is replaced; why it ended cannot be told
        from here (want of memory, say), so that this is not held against the file."""
        asked = {"path": on_disk(path), "name": path, "side": side, "language": language()}
        stuck = threading.Event()
        for _ in range(TRIES):
            try:
                head, pixels = self._ask(asked, stuck)
                break
            except (OSError, ValueError, EOFError, MemoryError) as error:
                started = self._running is not None
                self.stop()
                if not started:
                    return Reading(error=Message("reader.not_started", name=path,
                                                 why=reason(error)))
                if stuck.is_set():
                    return Reading(error=Message("reader.stuck", name=path,
                                                 seconds=f"{PATIENCE:.0f}"))
        else:
            return Reading(error=Message("reader.ended", name=path))
        if "fault" in head:
            log.error("a fault in reading a picture:\n%s", head["fault"])
        if "error" in head:
            return Reading(error=from_json(head["error"]), broken=head["broken"])
        if side == HASH_ONLY:
            return Reading(content=head["content"], camera={"inside": head["inside"]})
        if side == FRAMES:
            return Reading(content=head["content"], seconds=tuple(head["seconds"]))
        return Reading(head["content"], head["width"], head["height"], tuple(head["size"]),
                       head["camera"], pixels, notes=tuple(head["notes"]))

    def _ask(self, asked: dict[str, Any], stuck: threading.Event) -> tuple[dict[str, Any], bytes]:
        """The answer, from a process that is started where there is none."""
        running = self._running = self._running or _start()
        assert running.stdin is not None and running.stdout is not None

        def end() -> None:
            stuck.set()
            running.kill()

        shares: list[Share] = []  # of the memory that it decodes in
        alarm = threading.Timer(PATIENCE, end)
        alarm.start()
        try:
            running.stdin.write(json.dumps(asked).encode() + b"\n")
            running.stdin.flush()
            head: dict[str, Any] = json.loads(running.stdout.readline())
            while "wants" in head:
                while shares:  # of an earlier try with the same file
                    shares.pop().keep(0)
                try:
                    share, busy = BUDGET.take(head["wants"], head["name"]), ""
                    shares.append(share)
                except BusyError as error:
                    busy = as_json(error.message)
                running.stdin.write(json.dumps({"busy": busy}).encode() + b"\n")
                running.stdin.flush()
                head = json.loads(running.stdout.readline())
            pixels = running.stdout.read(head["pixels"]) if "pixels" in head else b""
        finally:
            alarm.cancel()
            for share in shares:
                share.keep(0)
        if len(pixels) != head.get("pixels", 0):
            raise EOFError
        return head, pixels

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._running is None:
            return
        self._running.kill()
        self._running.communicate()
        self._running = None


def _start() -> "subprocess.Popen[bytes]":
    paths = [str(_PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8",
                "OMP_NUM_THREADS": "1",
                "PYTHONUTF8": str(sys.flags.utf8_mode)}  # it calls files as this process does
    # The start-up folder of -c comes first on the path: the project's own, not the user's.
    return subprocess.Popen([sys.executable, "-c",
                             "from vitdemo.retrieval.reader import main; main()"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, cwd=_PROJECT, env=settings)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
