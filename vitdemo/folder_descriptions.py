"""Descriptions of every picture of folders, and of frames of videos, written as they are made; only
what changed."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from vitdemo.config import Decoding
from vitdemo.description_files import Output
from vitdemo.engine import BATCH, Engine
from vitdemo.records import Description, Wishes
from vitdemo.retrieval.indexer import Progress
from vitdemo.retrieval.readers import Readers, Reading
from vitdemo.retrieval.walk import Skipped, absolute, look_through
from vitdemo.sidecars import Row
from vitdemo.video import file_of, is_video
from vitdemo.words import mainly_chinese

BATCH_MEGAPIXELS = 64  # of the pictures of one batch, where the model wants them whole


@dataclass(frozen=True)
class DescribeReport:
    """What came of a run: pictures described, those left as they had not changed, pictures that
    could not be read, notes on those that were, and outputs that were left as they are."""

    described: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    noted: tuple[Skipped, ...]
    left: tuple[Skipped, ...]
    seconds: float


def describe_folders(engine: Engine, outputs: Sequence[tuple[str, Output]],
                     wishes: Wishes, decoding: Decoding = Decoding(),
                     progress: Callable[[Progress], None] = lambda now: None,
                     workers: int = 0, inside: Sequence[Path] = (),
                     readers: Readers | None = None) -> DescribeReport:
    """Describe the pictures of folders. ``outputs`` are pairs of a folder and where the
    descriptions of its pictures go; a folder may have several. They are closed at the end, however
    it comes: what ``progress`` raises ends the work, too. Links that lead out of the folders
    ``inside``, where some are given, are skipped. ``readers`` may make the descriptions, too.

    Raises:
        PictureError: one of the folders is none.
        DiskError: an output cannot be written; what was written before is kept.
        TaskError, TextError: the model cannot do what is wished.
    """
    run = _Run(engine, outputs, wishes, decoding, progress, inside)
    with ExitStack() as stack:
        for _, output in outputs:
            stack.callback(output.close)
        engine.describe([], wishes, decoding)  # what it cannot do is told before anything is read
        run.work(readers or Readers(workers))
    return run.report()


def settings_key(model: str, wishes: Wishes, decoding: Decoding) -> str:
    """What tells descriptions with other settings, or by another model, apart: 12 hexadecimal
    digits."""
    text = json.dumps([model, asdict(wishes), asdict(decoding)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _Run:
    def __init__(self, engine: Engine, outputs: Sequence[tuple[str, Output]], wishes: Wishes,
                 decoding: Decoding, progress: Callable[[Progress], None],
                 inside: Sequence[Path]) -> None:
        self._engine, self._wishes, self._decoding = engine, wishes, decoding
        self._outputs = [(str(absolute([folder])[0]), output) for folder, output in outputs]
        self._progress = progress
        self._key = settings_key(f"{engine.info.name} {engine.info.revision}", wishes, decoding)
        self._start = time.perf_counter()
        self._described = self._unchanged = self._done = self._worked = 0
        self._noted: list[Skipped] = []
        self._left: list[Skipped] = []
        self._batch: list[tuple[str, Reading, list[Output]]] = []
        folders = absolute([folder for folder, _ in self._outputs])
        self._tree = look_through(folders, lambda count, name: progress(
            Progress(count, 0, 0.0, None, name, 0)), inside)

    def work(self, readers: Readers) -> None:
        """Everything."""
        todo = [path for path in self._tree.files if self._wanting(path)]
        self._unchanged = self._done = len(self._tree.files) - len(todo)
        self._start = time.perf_counter()
        self._tell("")
        if not todo:
            return
        with readers:
            for path, reading in readers.pictures(todo, self._engine.picture_side):
                self._take(path, reading)
            self._describe()

    def report(self) -> DescribeReport:
        """What came of it."""
        return DescribeReport(self._described, self._unchanged, tuple(self._tree.skipped),
                              tuple(self._noted), tuple(self._left),
                              time.perf_counter() - self._start)

    def _wanting(self, path: str) -> list[Output]:
        """The outputs that lack a picture in its present state; of a whole video, those in which
        a frame of it is lacking."""
        state = self._tree.files[file_of(path)]
        found = []
        for folder, output in self._outputs:
            frames = output.frames(path) if is_video(path) else [path]
            whole = not is_video(path) or (frames and len(frames) >= (
                output.row(frames[0]) or {}).get("frames", 0))
            if path.startswith(os.path.join(folder, "")) and not (whole and not any(
                    output.wants(one, state.size, state.modified, self._key) for one in frames)):
                found.append(output)
        return found

    def _take(self, path: str, reading: Reading) -> None:
        self._noted += [Skipped(path, note) for note in reading.notes]
        if reading.error:
            self._tree.skipped.append(Skipped(path, str(reading.error)))
            self._finished(path, reading)
            return
        outputs = [one for one in self._wanting(path)
                   if not one.knows(path, reading.content, self._key)]
        if not outputs:
            self._unchanged += 1
            self._finished(path, reading)
            return
        pixels = sum(len(one.pixels) for _, one, _ in self._batch) + len(reading.pixels)
        if self._batch and pixels > 3_000_000 * BATCH_MEGAPIXELS:
            self._describe()
        self._batch.append((path, reading, outputs))
        if len(self._batch) == BATCH:
            self._describe()

    def _describe(self) -> None:
        """Describe the batch and write it, an output at a time."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        said = [one.made for _, one, _ in batch] if batch[0][1].made is not None else \
            self._engine.describe([one.picture(path) for path, one, _ in batch], self._wishes,
                                  self._decoding)
        rows: dict[int, list[tuple[str, Row]]] = {}
        for (path, reading, outputs), one in zip(batch, said, strict=True):
            for output in outputs:
                rows.setdefault(id(output), []).append((path, self._row(path, reading, one)))
        for output in dict.fromkeys(output for _, output in self._outputs):
            for file, reason in output.write(rows.get(id(output), [])):
                self._left.append(Skipped(file, reason))
        for path, reading, _ in batch:
            self._described += 1
            self._finished(path, reading)

    def _row(self, path: str, reading: Reading, said: Description) -> Row:
        """A description as it is written; each text stands under the language that it is in."""
        state = self._tree.files[file_of(path)]
        frames = {"frames": reading.frames} if reading.frames else {}
        captions = [text for text in said.captions if text]
        chinese = [text for text in captions if mainly_chinese(text)]
        qa = [{"question": question, "answer": answer, "source": "vitdemo"} for question, answer
              in zip(self._wishes.questions, said.answers, strict=True) if answer]
        return {"captions": [text for text in captions if text not in chinese],
                "captions_zh": chinese, "qa": qa, "names": list(said.names),
                "content": reading.content, "bytes": state.size, "modified": state.modified,
                "made": [self._key], **frames}

    def _finished(self, path: str, reading: Reading) -> None:
        self._done += reading.last
        self._worked += reading.last
        self._tell(os.path.basename(path))

    def _tell(self, name: str) -> None:
        seconds = time.perf_counter() - self._start
        rate = self._worked / seconds if seconds > 0 else 0.0
        total = len(self._tree.files)
        left = (total - self._done) / rate if rate else 0.0 if self._done == total else None
        self._progress(Progress(self._done, total, rate, left, name, self._described))
