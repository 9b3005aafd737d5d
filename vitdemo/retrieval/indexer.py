"""Brings a store up to date with folders: only what is new, changed, moved or gone costs anything.

A file is taken for unchanged where its size and time are those that the store knows. Where they
are not, or the path is new, and the store knows a file of that size, the content decides: a file
that was moved or copied takes over the vector that is there. Only the rest is read as a picture, by
other processes, and goes through the model; of a video, the frames that stand for it, and it counts
as read where all of them are in the store. Where only the texts beside a picture changed, its
vector stays, too.

Where all or most of a folder's pictures are gone at once, they stay in the store unless the caller
says that they are to go: a drive that is not mounted looks the same.

At any moment the process may be stopped or killed: what `Progress.stored` counts is in the store,
nothing is there twice, and the next run carries on.
"""

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdemo.errors import PictureError
from vitdemo.file_names import on_disk
from vitdemo.retrieval.base import Entry
from vitdemo.retrieval.changes import Changes, Twin, compare, reworded, without_twins
from vitdemo.retrieval.gallery import BATCH, STORE_EVERY, FolderReport, Gallery
from vitdemo.retrieval.metadata import derived, entry_id
from vitdemo.retrieval.readers import Readers, Reading
from vitdemo.retrieval.unreadable import Unreadable
from vitdemo.retrieval.vanished import Vanished, hold
from vitdemo.retrieval.walk import Skipped, Tree, absolute, look_through
from vitdemo.texts import Message
from vitdemo.video import file_of

BATCH_MEGAPIXELS = 100  # at most, of the pictures of one batch together: they lie in memory
STORE_SECONDS = 20.0  # at most, until what was read is in the store


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    ``done`` of ``total`` files are dealt with, unchanged ones included; ``total`` is 0
    while the folders are still looked through, and ``done`` is then what was found so far.
    ``per_second`` counts the files that were read or looked up, 0 at first; ``seconds_left`` is
    None where it is not known. ``name`` is that of the file, or of the folder that is looked
    through. ``stored`` pictures of this run are safe in the store.
    """

    done: int
    total: int
    per_second: float
    seconds_left: float | None
    name: str
    stored: int


@dataclass(frozen=True)
class IndexReport:
    """What a run did, in pictures, frames of videos included. ``moved`` had the content of one that
    is gone from its old place. ``skipped`` are the files and folders that could not be read, and
    why; ``ignored`` counts files that are no pictures by their ending, ``passed_over`` by their
    kind: the ending, or "other". ``cancelled``: ``cancelled()`` ended it early. ``parts`` tells of
    each folder; what lies in two of them counts for the first. ``vanished`` are folders whose
    pictures are gone and were kept in the store. ``noted`` are pictures that were read though
    something of them is damaged, and what. ``reworded`` are unchanged pictures beside which other
    texts stand now."""

    folders: tuple[str, ...]
    added: int
    changed: int
    moved: int
    deleted: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    ignored: int
    seconds: float
    cancelled: bool
    noted: tuple[Skipped, ...] = ()
    parts: tuple[FolderReport, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    vanished: tuple[Vanished, ...] = ()
    reworded: int = 0


def index_folders(gallery: Gallery, folders: Sequence[str | Path], *,
                  progress: Callable[[Progress], None] = lambda now: None,
                  cancelled: Callable[[], bool] = lambda: False,
                  workers: int = 0, inside: Sequence[Path] = (), prune: bool = False,
                  readers: Readers | None = None) -> IndexReport:
    """Make a gallery hold the pictures of folders and of the folders in them, as they are now.

    ``progress`` is called after every file, ``cancelled`` before; both by this thread. ``workers``
    processes read files; 0 takes as many as there are processor cores, 8 at most; ``readers`` are
    others in their place, which may also make the vectors. Links that
    lead out of the folders ``inside``, where some are given, are skipped. What lies in the
    store from other places is left alone, and so is what lies in a folder that cannot be opened.
    Where all or most of a folder's pictures are gone at once, they are kept and told in
    ``vanished``; with ``prune`` they go, and a folder that the store knows may be gone as a whole.
    An error, Ctrl-C, or an exception of ``progress`` leaves in the store what was read before.

    Raises:
        PictureError: one of the folders is none.
        StoreError: the store cannot be read or written.
    """
    start = time.perf_counter()
    places = absolute(folders, or_gone=prune)
    run = _Run(gallery, progress, cancelled, inside, prune)
    try:
        finished = run.work(places, readers or Readers(workers))
    finally:
        run.save()
    seconds = time.perf_counter() - start
    parts = run.parts(places, seconds)
    kinds: Counter[str] = Counter()
    for part in parts:
        kinds.update(part.passed_over)
    return IndexReport(tuple(map(str, places)), **run.counts, skipped=tuple(run.tree.skipped),
                       ignored=kinds.total(), seconds=seconds, cancelled=not finished,
                       noted=tuple(run.noted), parts=parts,
                       passed_over=dict(kinds.most_common()), vanished=run.vanished)


class _Run:
    """One run: the counts so far, and what was read and is not yet in the store."""

    def __init__(self, gallery: Gallery, progress: Callable[[Progress], None],
                 cancelled: Callable[[], bool], inside: Sequence[Path], prune: bool) -> None:
        self.counts = dict.fromkeys(("added", "changed", "moved", "deleted", "unchanged",
                                     "reworded"), 0)
        self.tree = Tree()
        self.vanished: tuple[Vanished, ...] = ()
        self.noted: list[Skipped] = []
        self._index, self._embedder = gallery.index, gallery.embedder
        self._progress, self._cancelled = progress, cancelled
        self._inside, self._prune = inside, prune
        self._unreadable = Unreadable.of(self._index.uri)
        self._changes = Changes()
        self._batch: list[tuple[str, Reading]] = []
        self._waiting: list[Entry] = []
        self._replaced: list[str] = []  # ids that go once what waits is in the store
        self._renewed: set[str] = set()  # files of which the store had an older state
        self._faults: dict[str, str | Message] = {}  # of videos with frames that cannot be read
        self._places: Sequence[Path] = ()
        self._read: Counter[Path] = Counter()
        self._stored = self._done = self._worked = 0
        self._start = self._stored_at = time.perf_counter()

    def work(self, places: Sequence[Path], readers: Readers) -> bool:
        """Everything; False where it was cancelled."""
        self._places = places
        self.tree = look_through(places, self._looking, self._inside)
        self._changes = compare(self._index, self.tree, places)
        self._refuse_unknown(places)
        self.counts["unchanged"] = self._changes.unchanged
        todo = [path for path in self._changes.todo if not self._known_unreadable(path)]
        self._done = len(self.tree.files) - len(todo)
        self._start = self._stored_at = time.perf_counter()
        self._reword()
        if not todo:
            self._tell("")
        with readers:
            if self._index.count():
                todo = list(without_twins(self._index, self.tree, self._until_cancelled(todo),
                                          self._changes.gone, readers, self._take_twin))
                self._store()
            if self._cancelled():
                return False
            if not self._prune:
                self.vanished = tuple(hold(self._changes.gone, self._changes.left, places))
            self.counts["deleted"] += self._index.delete(list(self._changes.gone.values()))
            self._index.delete(self._changes.stale)
            for path, reading in readers.pictures(self._until_cancelled(todo),
                                                  self._embedder.picture_side):
                self._take(path, reading)
                if self._cancelled():
                    break
            self._embed()
            self._store()
        if self._cancelled():
            return False
        self._index.delete([one for file in self._renewed
                            for one in self._changes.known.get(file, ())])
        return True

    def _reword(self) -> None:
        for entries in reworded(self._index, self.tree, self._changes.reworded):
            if self._cancelled():
                return
            self._index.add(entries)
            self.counts["reworded"] += len(entries)
            self._stored += len(entries)

    def _refuse_unknown(self, places: Sequence[Path]) -> None:
        """What is no folder is only worth a run where the store knows pictures of it."""
        for place in places:
            inside = os.path.join(place, "")
            if not os.path.isdir(on_disk(str(place))) and not any(
                    path.startswith(inside) for path in self._changes.gone):
                raise PictureError("folder.unknown", name=place)

    def parts(self, places: Sequence[Path], seconds: float) -> tuple[FolderReport, ...]:
        """What came of each folder."""
        skipped: dict[Path, list[Skipped]] = {place: [] for place in places}
        for one in self.tree.skipped:
            skipped[_place_of(one.path, places)].append(one)
        vanished: dict[Path, list[Vanished]] = {place: [] for place in places}
        for gone in self.vanished:
            vanished[_place_of(os.path.join(gone.folder, ""), places)].append(gone)
        kinds = {place: self.tree.passed_over.get(place, Counter()) for place in places}
        return tuple(FolderReport(str(place), self._read[place], tuple(skipped[place]),
                                  kinds[place].total(), seconds, dict(kinds[place].most_common()),
                                  tuple(vanished[place])) for place in places)

    def save(self) -> None:
        """Keep what was read, however the run ended."""
        try:
            self._store()
        finally:
            self._unreadable.save()

    def _until_cancelled(self, paths: Sequence[str]) -> Iterator[str]:
        return itertools.takewhile(lambda path: not self._cancelled(), paths)

    def _known_unreadable(self, path: str) -> bool:
        reason = self._unreadable.reason(path, self.tree.files[path])
        if reason:
            self.tree.skipped.append(Skipped(path, str(reason)))
        return bool(reason)

    def _take_twin(self, twin: Twin) -> None:
        for entry in twin.entries:
            self._wait(entry, twin.path, "unchanged" if twin.same else "moved" if twin.old else "")
        self._replaced += twin.old
        self._finished(twin.path)

    def _wait(self, entry: Entry, file: str, kind: str = "") -> None:
        """An entry that is to be stored, in place of an older one of that id."""
        known = self._changes.known.get(file)
        if known is not None:
            known.discard(entry.id)
            self._renewed.add(file)
        self._waiting.append(entry)
        self._count(kind or ("added" if known is None else "changed"), file)

    def _take(self, path: str, reading: Reading) -> None:
        """One picture that was read: into the batch, or among those that are no good."""
        file = file_of(path)
        if reading.error:
            self.tree.skipped.append(Skipped(path, str(reading.error)))
            if reading.broken:
                self._faults.setdefault(file, reading.error)
            if reading.broken and not reading.frames:
                # What the store has is of an older content.
                old = self._changes.known.pop(file, set())
                self.counts["deleted"] += self._index.delete(list(old))
        else:
            pixels = sum(len(one.pixels) for _, one in self._batch) + len(reading.pixels)
            if self._batch and pixels > 3_000_000 * BATCH_MEGAPIXELS:
                self._embed()
            self._batch.append((path, reading))
            self.noted += [Skipped(path, note) for note in reading.notes]
            if len(self._batch) == BATCH:
                self._embed()
        if reading.last:
            if file in self._faults:
                self._unreadable.add(file, self.tree.files[file], self._faults.pop(file))
            self._finished(path)

    def _embed(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        vectors = [one.made for _, one in batch] if batch[0][1].made is not None else \
            self._embedder.embed_pictures([one.picture(path) for path, one in batch])
        for (path, one), vector in zip(batch, vectors, strict=True):
            file = file_of(path)
            state = self.tree.files[file]
            metadata = {**(one.camera or {}), "folder": os.path.dirname(path), "bytes": state.size,
                        "modified": state.modified, "content": one.content,
                        **self.tree.beside.told(path)}
            metadata |= derived(one.width, one.height, metadata)
            if one.frames:
                metadata["frames"] = one.frames
            self._wait(Entry(entry_id(path), path, vector, one.width, one.height, metadata), file)

    def _store(self) -> None:
        """Write what waits; only then the old places of moved files go. What Ctrl-C kept from being
        written waits on, for `save`."""
        if self._waiting:
            self._index.add(self._waiting)
            self._stored += len(self._waiting)
            self._waiting = []
        if self._replaced:
            self._index.delete(self._replaced)
            self._replaced = []
        self._stored_at = time.perf_counter()

    def _count(self, kind: str, path: str) -> None:
        self.counts[kind] += 1
        if kind != "unchanged":
            self._read[_place_of(path, self._places)] += 1

    def _finished(self, path: str) -> None:
        """One file is dealt with: now and then into the store, and tell."""
        late = time.perf_counter() - self._stored_at > STORE_SECONDS
        if len(self._waiting) >= STORE_EVERY or (self._waiting and late):
            self._store()
        self._done += 1
        self._worked += 1
        self._tell(os.path.basename(path))

    def _looking(self, count: int, folder: str) -> None:
        self._progress(Progress(count, 0, 0.0, None, folder, 0))

    def _tell(self, name: str) -> None:
        seconds = time.perf_counter() - self._start
        rate = self._worked / seconds if seconds > 0 else 0.0
        total = len(self.tree.files)
        left = (total - self._done) / rate if rate else 0.0 if self._done == total else None
        self._progress(Progress(self._done, total, rate, left, name, self._stored))


def _place_of(path: str, places: Sequence[Path]) -> Path:
    """The folder, of those given, that a path lies in."""
    return next((place for place in places if path.startswith(os.path.join(place, ""))), places[0])
