"""What differs between the files of some folders and what a store knows of them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitdemo.file_names import missing
from vitdemo.retrieval.base import Condition, Entry, Found, Index, pages
from vitdemo.retrieval.metadata import derived, entry_id
from vitdemo.retrieval.readers import Readers, Reading
from vitdemo.retrieval.walk import State, Tree
from vitdemo.video import file_of, is_video

PAGE = 10_000  # entries of the store in memory at once
CHUNK = 256  # files that are looked up in the store together


@dataclass
class Changes:
    """``todo`` are files that are new, or known to the store in another state; of the latter
    ``known`` has the ids. ``reworded`` are ids by the paths of pictures that are the same while
    other texts stand beside them, ``gone`` ids by the paths that the store knows and that are no
    more; ``left`` counts the other files by the folder they lie in. ``stale`` are ids of frames
    that a video had before it changed."""

    todo: list[str] = field(default_factory=list)
    known: dict[str, set[str]] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    reworded: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0


class Twin(NamedTuple):
    """A file whose content the store knows. ``entries`` are what is to be stored for it, of a video
    one for each frame, with the vectors that are there; ``old`` are the ids of the entries that
    they replace, none where it is a copy; ``same`` tells that only the time of the file changed."""

    path: str
    entries: list[Entry]
    old: list[str]
    same: bool


def compare(index: Index, tree: Tree, places: Sequence[Path]) -> Changes:
    """Read from the store what it knows of the folders, and from no file.

    What lies in a folder that could not be opened, or cannot be looked at, or is left out though
    it is there, is not gone.
    """
    found = Changes()
    same: Counter[str] = Counter()  # pictures by their file
    whole: dict[str, int] = {}
    left: set[str] = set()
    for place in places:
        if any(other in place.parents for other in places):
            continue  # read with the other
        for page in pages(index, [Condition("path", "starts_with", os.path.join(place, ""))], PAGE):
            for one in page:
                file = file_of(one.path)
                state = tree.files.get(file)
                if state is None and not tree.hides(file) and missing(file):
                    found.gone[one.path] = one.id
                    continue
                left.add(file)
                if state is None:
                    pass  # neither looked through nor gone
                elif state != state_of(one) or "orientation" not in one.metadata or (
                        index.reads_texts and "beside_mark" not in one.metadata):  # old store
                    found.known.setdefault(file, set()).add(one.id)
                else:
                    same[file] += 1
                    whole[file] = int(one.metadata.get("frames", 1))
                    if index.reads_texts and (tree.beside.mark(one.path)
                                              != one.metadata["beside_mark"]):
                        found.reworded[one.path] = one.id
    for file in [file for file, count in same.items() if count < whole[file]]:
        del same[file]  # a run ended within it
    found.reworded = {path: one for path, one in found.reworded.items() if file_of(path) in same}
    found.left.update(map(os.path.dirname, left))
    found.stale = [one for file in same for one in found.known.pop(file, ())]
    found.todo = [path for path in tree.files if path not in same]
    found.unchanged = same.total() - len(found.reworded)
    return found


def state_of(one: Found) -> State:
    """The state in which the store knows a file; -1 where it does not say."""
    size, modified = one.metadata.get("bytes", -1), one.metadata.get("modified", -1)
    return State(int(size), float(modified))


def reworded(index: Index, tree: Tree, ids: dict[str, str]) -> Iterator[list[Entry]]:
    """New entries for files beside which other texts stand, some at a time, with the vectors that
    are there."""
    wanted = iter(ids.values())
    while chunk := tuple(islice(wanted, CHUNK)):
        yield [Entry(one.id, one.path, _vector(one), one.width, one.height,
                     {**one.metadata, **tree.beside.told(one.path)})
               for page in pages(index, [Condition("id", "in", chunk)], PAGE, vectors=True)
               for one in page]


def _vector(one: Found) -> np.ndarray:
    assert one.vector is not None
    return one.vector


def without_twins(index: Index, tree: Tree, todo: Iterable[str], gone: dict[str, str],
                  readers: Readers, take: Callable[[Twin], None]) -> Iterator[str]:
    """The files that have to be read as pictures; ``take`` gets those that the store has the
    content of. Only files of a size that the store knows are read for that. What turns out to be
    the old place of a moved file leaves ``gone``.
    """
    paths = iter(todo)
    while chunk := list(islice(paths, CHUNK)):
        contents = _contents(index, {tree.files[path].size for path in chunk})
        likely = [path for path in chunk if tree.files[path].size in contents]
        twins: dict[str, list[str]] = {}  # path -> ids
        read: dict[str, Reading] = {}
        for path, reading in readers.hashes(likely):
            ids = contents[tree.files[path].size].get(reading.content)
            if ids:
                twins[path], read[path] = ids, reading
        wanted = tuple({one for ids in twins.values() for one in ids})
        found = {one.id: one for page in pages(index, [Condition("id", "in", wanted)], PAGE,
                                               vectors=True) for one in page} if wanted else {}
        for path in chunk:
            rows = [found[one] for one in twins.get(path, ()) if one in found]
            if twin := _twin(path, tree, read[path], rows, gone) if rows else None:
                take(twin)
            else:
                yield path


def _contents(index: Index, sizes: set[int]) -> dict[int, dict[str, list[str]]]:
    """What the store holds of these sizes: size -> content -> ids."""
    known: dict[int, dict[str, list[str]]] = {}
    for page in pages(index, [Condition("bytes", "in", tuple(sorted(sizes)))], PAGE):
        for one in page:
            content = str(one.metadata.get("content", ""))
            if content:
                ids = known.setdefault(state_of(one).size, {}).setdefault(content, [])
                most = CHUNK * int(one.metadata.get("frames", 1))
                if len(ids) < most:  # of a thousand copies of one file some will do
                    ids.append(one.id)
    return known


def _twin(path: str, tree: Tree, reading: Reading, rows: list[Found],
          gone: dict[str, str]) -> Twin | None:
    """What becomes of a file of the same content as ``rows``; None where these are not all frames
    of a video."""
    files: dict[str, list[Found]] = {}
    for row in rows:
        files.setdefault(file_of(row.path), []).append(row)
    whole = {file: some for file, some in files.items()
             if len(some) >= int(some[0].metadata.get("frames", 1))
             and is_video(file) == is_video(path)}
    if not whole:
        return None
    old = None if path in whole else next((file for file in whole if _left(file, gone)), None)
    chosen = whole[path if path in whole else old or next(iter(whole))]
    ids = [row.id for row in chosen] if old is not None else []
    for row in chosen if old is not None else ():
        gone.pop(row.path, None)
    state = tree.files[path]
    entries = []
    for row in chosen:
        own = path + row.path.removeprefix(file_of(row.path))
        metadata = {**row.metadata, **(reading.camera or {}), "folder": os.path.dirname(path),
                    "content": reading.content, "bytes": state.size, "modified": state.modified,
                    **tree.beside.told(own)}
        metadata |= derived(row.width, row.height, metadata)
        entries.append(Entry(entry_id(own), own, _vector(row), row.width, row.height, metadata))
    return Twin(path, entries, ids, path in whole)


def _left(path: str, gone: dict[str, str]) -> bool:
    """Whether a file is no more at its place; one in other folders than those of this run, too."""
    return path in gone or missing(path)
