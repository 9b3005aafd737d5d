"""A process that indexes is killed again and again, or read from meanwhile: nothing is lost."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from indexing import entries, open_gallery, paint

from vitdemo.retrieval.base import pages
from vitdemo.retrieval.indexer import index_folders
from vitdemo.retrieval.metadata import entry_id

ROOT = Path(__file__).parent.parent
EVERY = 4  # pictures in one write
WRITES = 30
PICTURES = EVERY * WRITES
KILLS = 6
GREY = np.full(3, 3 ** -0.5, np.float32)
# Indexes a folder. Says "writing" before each write and afterwards each id, which is then
# acknowledged, as `add` has returned. After ``free`` writes it waits before each for a byte of its
# standard input, so that what happens when depends on no clock. ``end`` is a number of writes after
# which it ends at once, before that is acknowledged.
CODE = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, it is off
settings = json.loads(sys.argv[1])
sys.path[:0] = [{tests!r}]
from indexing import open_gallery
from vitdemo.retrieval import indexer, reader, readers
indexer.STORE_EVERY = indexer.BATCH = {every}
indexer.STORE_SECONDS = 1e9
gallery, _ = open_gallery(settings["store"])
add, writes = gallery.index.add, 0
def told(entries):
    global writes
    os.write(1, b"writing\\n")
    if writes >= settings["free"]:
        os.read(0, 1)
    add(entries)
    writes += 1
    if writes == settings["end"]:
        os._exit(9)
    os.write(1, "".join(entry.id + "\\n" for entry in entries).encode())
def read(self, path, side):
    head, pixels = reader.read(path, side)
    return readers.Reading(head["content"]) if side < 0 else readers.Reading(
        head["content"], head["width"], head["height"], head["size"], head["camera"], pixels)
if not settings["readers"]:
    readers._Process.read = read  # in this process: quicker to start
gallery.index.add = told
indexer.index_folders(gallery, sys.argv[2:], workers=1)
os.write(1, b"finished\\n")
""".format(tests=str(ROOT / "tests"), every=EVERY)


def start(store: Path, *folders: Path, free: int = WRITES, end: int = 0,
          readers: bool = False) -> "subprocess.Popen[str]":
    settings = {"store": str(store), "free": free, "end": end, "readers": readers}
    return subprocess.Popen([sys.executable, "-c", CODE, json.dumps(settings), *folders], cwd=ROOT,
                            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def said_until(process: "subprocess.Popen[str]", word: str, count: int = 1) -> list[str]:
    """What a process says, up to a word that it says so many times."""
    assert process.stdout is not None
    said: list[str] = []
    while said.count(word) < count:
        said.append(process.stdout.readline().rstrip("\n"))
        assert said[-1], f"it ended after {said}"
    return said


def ids_in(said: list[str]) -> set[str]:
    return {line for line in said if len(line) == 32}  # the last may be cut off


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crash")
    for number in range(PICTURES):
        paint(folder / f"{number % 7}" / f"{number:03}.png", number)
    return folder


def test_kill_at_any_moment_loses_nothing_and_doubles_nothing(photos: Path,
                                                              tmp_path: Path) -> None:
    """Each time it is killed while a write is under way, the one that it had come to; or, as if
    killed just then, it ends when a write is done and nobody was told."""
    drawn = random.Random(5)
    acknowledged: set[str] = set()
    store = tmp_path / "store"
    for kill in range(KILLS):
        number = drawn.choice((1, 2, 3))
        ends = kill % 3 == 2
        with start(store, photos, free=number, end=number if ends else 0) as process:
            assert process.stdout is not None
            said = said_until(process, "writing", number)
            if not ends:
                process.kill()
            said += process.stdout.read().splitlines()
        assert "finished" not in said
        acknowledged |= ids_in(said)
        gallery, _ = open_gallery(store)
        there = {one.id for one in entries(gallery).values()}
        gallery.close()
        assert acknowledged <= there, f"kill {kill}, in write {number}: lost"
        assert len(there) % EVERY == 0, f"kill {kill}, in write {number}: half a write"
    assert 0 < len(acknowledged) < len(there) < PICTURES
    gallery, embedder = open_gallery(store)
    report = index_folders(gallery, [photos], workers=1)
    assert len(entries(gallery)) == PICTURES == report.added + report.unchanged
    assert len(set(embedder.names)) == len(embedder.names) == report.added


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_readers_end_with_a_process_that_is_killed(photos: Path, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    with start(tmp_path / "store", photos, free=0, readers=True) as process:
        said_until(process, "writing")
        children = psutil.Process(process.pid).children()
        process.kill()
    assert children
    assert not psutil.wait_procs(children, timeout=200)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_keeps_what_was_read(photos: Path, tmp_path: Path) -> None:
    with start(tmp_path / "store", photos, free=1) as process:
        assert process.stdin is not None and process.stdout is not None
        said = said_until(process, "writing", 2)
        os.kill(process.pid, signal.SIGINT)
        said += said_until(process, "writing")  # what waited is written before it ends
        process.stdin.write("\n")
        process.stdin.flush()
        said += process.stdout.read().splitlines()
    gallery, _ = open_gallery(tmp_path / "store")
    assert len(entries(gallery)) == len(ids_in(said)) == 2 * EVERY


def test_one_process_writes_while_others_read(photos: Path, tmp_path: Path) -> None:
    """Each time, it is read while one write is under way."""
    reading, _ = open_gallery(tmp_path / "store")
    lengths = [0]
    with start(tmp_path / "store", photos, free=0) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(WRITES):
            said_until(process, "writing")
            process.stdin.write("\n")
            process.stdin.flush()
            found = [one for page in pages(reading.index, size=50) for one in page]
            assert len({one.id for one in found}) == len(found) >= lengths[-1]
            assert all(one.id == entry_id(one.path) for one in found)
            hits = reading.index.search(GREY, 50)
            assert len({one.id for one in hits}) == len(hits) >= min(50, lengths[-1])
            lengths.append(len(found))
        process.stdout.read()
    assert process.returncode == 0 and len(entries(reading)) == PICTURES
    assert len(set(lengths)) >= WRITES // 2, "it was not read while it was written"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """Two more folders of the same kind take no more memory than the first two."""
    psutil = pytest.importorskip("psutil")
    gallery, _ = open_gallery(tmp_path / "store")
    used = []
    for step in range(4):
        for number in range(300):
            paint(tmp_path / f"photos{step}" / f"{number:03}.png", step * 300 + number, (400, 300))
        index_folders(gallery, [tmp_path / f"photos{step}"], workers=1)
        used.append(psutil.Process().memory_info().rss / 2**20)
    assert used[-1] - used[1] < 60, used  # MB; one folder's pictures take 105
