"""A process that indexes is killed again and again, or read from meanwhile: nothing is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from indexing import entries, open_gallery, paint

from vitdemo.retrieval.base import pages
from vitdemo.retrieval.indexer import index_folders
from vitdemo.retrieval.metadata import entry_id

ROOT = Path(__file__).parent.parent
PICTURES = 600
KILLS = 20
GREY = np.full(3, 3 ** -0.5, np.float32)
# Indexes a folder and says each id once it is acknowledged, as `add` has returned.
CODE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, it is off
sys.path[:0] = [{tests!r}]
from indexing import open_gallery
from vitdemo.retrieval import indexer
indexer.STORE_EVERY = 4
gallery, _ = open_gallery(sys.argv[1])
add = gallery.index.add
def told(entries):
    add(entries)
    os.write(1, "".join(entry.id + "\\n" for entry in entries).encode())
gallery.index.add = told
os.write(1, b"begins\\n")
indexer.index_folders(gallery, sys.argv[2:], workers=1)
os.write(1, b"finished\\n")
""".format(tests=str(ROOT / "tests"))


def start(store: Path, *folders: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", CODE, store, *folders], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crash")
    for number in range(PICTURES):
        paint(folder / f"{number % 7}" / f"{number:03}.png", number)
    return folder


@pytest.mark.slow
def test_kill_at_random_moments_loses_nothing_and_doubles_nothing(photos: Path,
                                                                  tmp_path: Path) -> None:
    drawn = random.Random(5)
    with start(tmp_path / "whole", photos) as process:  # how long it takes on this machine
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        began = time.monotonic()
        process.stdout.read()
        whole = time.monotonic() - began
    acknowledged: set[str] = set()
    store, finished, moments = tmp_path / "store0", 0, []
    for kill in range(KILLS):
        with start(store, photos) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            moments.append(drawn.uniform(0, 0.8 * whole))
            time.sleep(moments[-1])
            process.kill()
            said = process.stdout.read().splitlines()
        finished += "finished" in said
        acknowledged |= {line for line in said if len(line) == 32}  # the last may be cut off
        gallery, _ = open_gallery(store)
        there = {one.id for one in entries(gallery).values()}
        gallery.close()
        assert acknowledged <= there, f"kill {kill}, after {moments[-1]:.3f} s: lost"
        if len(there) == PICTURES:  # all is there: the next ones begin anew
            store, acknowledged = tmp_path / f"store{kill + 1}", set()
    assert finished < KILLS / 2, "too few of the kills came while it worked"
    gallery, embedder = open_gallery(store)
    report = index_folders(gallery, [photos], workers=1)
    assert len(entries(gallery)) == PICTURES == report.added + report.unchanged
    assert len(set(embedder.names)) == len(embedder.names) == report.added


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_readers_end_with_a_process_that_is_killed(photos: Path, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    with start(tmp_path / "store", photos) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        assert len(process.stdout.readline()) == 33
        children = psutil.Process(process.pid).children()
        process.kill()
    assert children
    assert not psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_keeps_what_was_read(photos: Path, tmp_path: Path) -> None:
    with start(tmp_path / "store", photos) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        assert len(process.stdout.readline()) == 33
        os.kill(process.pid, signal.SIGINT)
        said = 1 + sum(len(line) == 32 for line in process.stdout.read().splitlines())
    gallery, _ = open_gallery(tmp_path / "store")
    assert len(entries(gallery)) == said < PICTURES


def test_one_process_writes_while_others_read(photos: Path, tmp_path: Path) -> None:
    reading, _ = open_gallery(tmp_path / "store")
    lengths = [0]
    with start(tmp_path / "store", photos) as process:
        while process.poll() is None:
            found = [one for page in pages(reading.index, size=100) for one in page]
            assert len({one.id for one in found}) == len(found) >= lengths[-1]
            assert all(one.id == entry_id(one.path) for one in found)
            hits = reading.index.search(GREY, 50)
            assert len({one.id for one in hits}) == len(hits) >= min(50, lengths[-1])
            lengths.append(len(found))
    assert process.returncode == 0 and len(entries(reading)) == PICTURES
    assert len(set(lengths)) > 3, "it was not read while it was written"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """Three more folders of the same kind take no more memory than the first two."""
    psutil = pytest.importorskip("psutil")
    gallery, _ = open_gallery(tmp_path / "store")
    used = []
    for step in range(5):
        for number in range(400):
            paint(tmp_path / f"photos{step}" / f"{number:03}.png", step * 400 + number, (400, 300))
        index_folders(gallery, [tmp_path / f"photos{step}"], workers=1)
        used.append(psutil.Process().memory_info().rss / 2**20)
    assert used[-1] - used[1] < 60, used  # MB; one folder's pictures take 140
