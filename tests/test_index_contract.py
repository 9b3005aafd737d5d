"""One contract for every index engine. Another engine joins by one line in `ENGINES`."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vitdemo.errors import ConfigError, StoreError
from vitdemo.retrieval.base import Condition, Entry, Index, Stamp, open_index, pages
from vitdemo.retrieval.lance import LanceIndex, quote, vector_indices
from vitdemo.retrieval.lance_faults import guarded

STAMP = Stamp("model", "revision-1", 8)

# engine -> the fixture that is the address of a fresh store
ENGINES = {"lance-folder": "store_folder", "lance-memory": "store_memory",
           "milvus": "store_milvus"}
MARKED = [pytest.param(name, marks=pytest.mark.milvus) if name == "milvus" else name
          for name in ENGINES]
KEEPING = [one for one in MARKED if one != "lance-memory"]  # those that outlive a process


@pytest.fixture
def store_folder(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def store_memory() -> str:
    return "memory://"


@pytest.fixture
def store_milvus(milvus_collection: str) -> str:
    return f"{milvus_collection}?consistency=strong"


@pytest.fixture(params=MARKED)
def index(request: pytest.FixtureRequest) -> Iterator[Index]:
    opened = open_index(request.getfixturevalue(ENGINES[request.param]), STAMP)
    yield opened
    opened.close()


@pytest.fixture(params=KEEPING)
def address(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(ENGINES[request.param])


def axis(number: int, lean: float = 0.0) -> np.ndarray:
    """A unit vector along one axis, leaning towards the next one."""
    vector = np.zeros(STAMP.dimension, np.float32)
    vector[number] = np.cos(lean)
    vector[(number + 1) % STAMP.dimension] = np.sin(lean)
    return vector


def entry(name: str, vector: np.ndarray, width: int = 4, height: int = 3,
          **metadata: str | int | float) -> Entry:
    return Entry(name, f"/pictures/{name}", vector, width, height, metadata)


def test_an_empty_index_finds_nothing(index: Index) -> None:
    assert index.count() == 0
    assert index.search(axis(0), 5) == []
    assert index.delete(["a"]) == 0
    index.add([])
    assert index.count() == 0


def test_what_was_added_is_found_best_first_with_its_cosine(index: Index) -> None:
    index.add([entry("far", -axis(0)), entry("near", axis(0, 0.3), 640, 480),
               entry("same", axis(0)), entry("side", axis(3))])
    found = index.search(axis(0), 3)
    assert [one.id for one in found] == ["same", "near", "side"]
    assert [one.score for one in found] == pytest.approx([1, np.cos(0.3), 0], abs=1e-5)
    assert (found[1].path, found[1].width, found[1].height) == ("/pictures/near", 640, 480)
    assert index.search(axis(0), 99)[-1].score == pytest.approx(-1, abs=1e-5)


def test_a_limit_above_the_count_gives_all(index: Index) -> None:
    index.add([entry(str(n), axis(n)) for n in range(5)])
    assert len(index.search(axis(0), 1000)) == 5
    assert len(index.search(axis(0), 5)) == 5
    assert len(index.search(axis(0), 1)) == 1
    for limit in (0, -3):
        with pytest.raises(StoreError, match="at least 1"):
            index.search(axis(0), limit)


def test_the_same_id_replaces(index: Index) -> None:
    index.add([entry("a", axis(0), camera="old", taken="2020-01-01T00:00:00"),
               entry("b", axis(1))])
    index.add([entry("a", axis(2), 9, 9, camera="new"), entry("c", axis(3))])
    assert index.count() == 3
    (found,) = index.search(axis(2), 1)
    assert (found.id, found.width, found.metadata) == ("a", 9, {"camera": "new"})
    assert index.search(axis(0), 1)[0].score == pytest.approx(0, abs=1e-6)


def test_of_one_id_given_twice_the_last_counts(index: Index) -> None:
    index.add([entry("a", axis(0)), entry("b", axis(1)), entry("a", axis(2))])
    assert index.count() == 2
    assert index.search(axis(2), 1)[0].id == "a"


def test_delete_takes_out_and_counts(index: Index) -> None:
    index.add([entry(str(n), axis(n)) for n in range(6)])
    assert index.delete(["1", "3", "3", "nowhere"]) == 2
    assert index.count() == 4
    assert {one.id for one in index.search(axis(1), 10)} == {"0", "2", "4", "5"}
    index.add([entry("1", axis(1))])
    assert index.search(axis(1), 1)[0].id == "1"
    assert index.delete([]) == 0


NAMES = ["it's.jpg", 'a "b".jpg', "'; DROP TABLE pictures; --", "100%_\\n.jpg", "猫 和 狗.jpg",
         "été.jpg", "صورة.jpg", "🐱.jpg", "`x` $(y)", "a\nb", "''", ""]


def test_names_in_any_script_and_with_quotes(index: Index) -> None:
    index.add([Entry(name, f"/p/{name}", axis(0), 1, 1, {"folder": name, "camera": name})
               for name in NAMES])
    assert index.count() == len(NAMES)
    for name in NAMES:
        for where in (Condition("id", "=", name), Condition("path", "=", f"/p/{name}"),
                      Condition("camera", "in", (name,)), Condition("folder", "=", name)):
            assert [one.id for one in index.search(axis(0), 99, [where])] == [name], (name, where)
    for name in NAMES:
        assert index.delete([name]) == 1, name
    assert index.count() == 0


def test_filters(index: Index) -> None:
    index.add([
        entry("a", axis(0, 0.1), 800, 600, folder="/x", taken="2023-05-01T10:00:00", bytes=10),
        entry("b", axis(0, 0.2), 600, 800, folder="/x/y", taken="2024-05-01T10:00:00", bytes=20),
        entry("c", axis(0, 0.3), 640, 480, folder="/z", taken="2025-05-01T10:00:00", bytes=30),
        entry("d", axis(0, 0.4), 100, 100)])

    def ids(*where: Condition) -> str:
        return "".join(one.id for one in index.search(axis(0), 10, where))

    assert ids() == "abcd"
    assert ids(Condition("folder", "=", "/x")) == "a"
    assert ids(Condition("folder", "!=", "/x")) == "bc"
    assert ids(Condition("folder", "starts_with", "/x")) == "ab"
    assert ids(Condition("path", "contains", "tures/d")) == "d"
    assert ids(Condition("path", "contains", "TURES/D")) == "d"
    assert ids(Condition("path", "starts_with", "/PICTURES")) == ""
    assert ids(Condition("path", "contains", "%")) == ""
    assert ids(Condition("taken", ">=", "2024")) == "bc"
    assert ids(Condition("taken", ">=", "2024"), Condition("taken", "<", "2025")) == "b"
    assert ids(Condition("width", ">", 600), Condition("height", "<=", 600)) == "ac"
    assert ids(Condition("bytes", "in", (10, 30))) == "ac"
    assert ids(Condition("bytes", "in", ())) == ""
    assert ids(Condition("bytes", "<", 20.5)) == "ab"
    assert ids(Condition("bytes", "in", (10.0, 30))) == "ac"
    assert ids(Condition("modified", ">", 1)) == ""


def test_a_filter_comes_before_the_limit(index: Index) -> None:
    index.add([entry(f"near{n:02}", axis(0), folder="/no") for n in range(30)]
              + [entry("far", axis(4), folder="/yes")])
    assert [one.id for one in index.search(axis(0), 2, [Condition("folder", "=", "/yes")])
            ] == ["far"]


@pytest.mark.parametrize("field, operator, value", [
    ("vector", "=", "x"), ("1=1; --", "=", "x"), ("path", "like", "x"), ("path", "=", 3),
    ("width", "=", "3"), ("width", "starts_with", "3"), ("path", "in", "x"),
    ("path", "=", ("x",)), ("width", "<", float("nan"))])
def test_a_bad_filter_is_refused(field: str, operator: str, value: object) -> None:
    with pytest.raises(StoreError):
        Condition(field, operator, value)  # type: ignore[arg-type]


def test_equal_scores_come_by_path(index: Index) -> None:
    index.add([entry(name, axis(0)) for name in "dbca"])
    assert [one.id for one in index.search(axis(0), 10)] == list("abcd")


@pytest.mark.parametrize("vector", [np.zeros(7, np.float32), np.zeros((1, 8), np.float32),
                                    np.zeros(8, np.float32), np.full(8, np.nan, np.float32),
                                    np.ones(8, np.float32)])
def test_a_vector_that_does_not_fit_is_refused(index: Index, vector: np.ndarray) -> None:
    index.add([entry("a", axis(0))])
    with pytest.raises(StoreError, match=r"shape|length"):
        index.add([entry("b", axis(1)), entry("c", vector)])
    with pytest.raises(StoreError, match=r"shape|length"):
        index.search(vector, 3)
    assert index.count() == 1  # b was not taken in either


def test_bad_metadata_and_names_are_refused(index: Index) -> None:
    with pytest.raises(StoreError, match="no metadata 'colour'"):
        index.add([entry("a", axis(0), colour="red")])
    with pytest.raises(StoreError, match="camera is 3"):
        index.add([entry("a", axis(0), camera=3)])
    with pytest.raises(StoreError, match="Rename"):
        index.add([entry("a\udcff", axis(0))])
    assert index.count() == 0


def test_two_stores_in_memory_are_apart() -> None:
    one, other = open_index("memory://", STAMP), open_index("memory://", STAMP)
    one.add([entry("a", axis(0))])
    assert (one.count(), other.count()) == (1, 0)


def test_what_was_added_is_there_after_reopening(address: str) -> None:
    first = open_index(address, STAMP)
    first.add([entry("a", axis(0), camera="x", bytes=5, modified=1.5), entry("b", axis(1))])
    first.delete(["b"])
    first.close()
    second = open_index(address, STAMP)
    (found,) = second.search(axis(0), 9)
    assert found.metadata == {"camera": "x", "bytes": 5, "modified": 1.5}


@pytest.mark.parametrize("stamp, named", [
    (Stamp("other", "revision-1", 8), "other"), (Stamp("model", "revision-2", 8), "revision-2"),
    (Stamp("model", "revision-1", 16), "16 numbers")])
def test_a_store_of_another_model_is_refused(address: str, stamp: Stamp, named: str) -> None:
    open_index(address, STAMP).add([entry("a", axis(0))])
    with pytest.raises(StoreError, match=f"revision-1, 8.*{named}.*[Ii]ndex the pictures again"):
        open_index(address, stamp)
    assert open_index(address, STAMP).count() == 1


def test_a_second_opener_sees_what_the_first_adds(address: str) -> None:
    first, second = open_index(address, STAMP), open_index(address, STAMP)
    first.add([entry("a", axis(0))])
    assert second.count() == 1
    second.add([entry("b", axis(1))])
    second.delete(["a"])
    assert [one.id for one in first.search(axis(0), 9)] == ["b"]


def test_without_a_vector_all_are_listed_by_their_ids(index: Index) -> None:
    names = ["b", "a", "猫", "", "it's", "Z"]
    index.add([entry(name, axis(n), folder="/x" if n < 3 else "/y")
               for n, name in enumerate(names)])
    assert [one.id for one in index.search(None, 99)] == sorted(names)
    assert [one.id for one in index.search(None, 2)] == sorted(names)[:2]
    where = [Condition("folder", "=", "/x")]
    assert [one.id for one in index.search(None, 9, where)] == ["a", "b", "猫"]
    for size in (1, 2, 6, 7):
        found = list(pages(index, size=size))
        assert [one.id for page in found for one in page] == sorted(names)
        assert max(map(len, found)) <= size
    assert [one.id for page in pages(index, where, 2) for one in page] == ["a", "b", "猫"]
    assert all(one.vector is None and one.score == 0 for one in index.search(None, 9))


def test_vectors_come_back_where_they_are_asked_for(index: Index) -> None:
    index.add([entry(str(n), axis(n, 0.4)) for n in range(4)])
    for found in (index.search(None, 9, vectors=True), index.search(axis(0), 9, vectors=True)):
        assert len(found) == 4
        for one in found:
            assert one.vector is not None and one.vector.dtype == np.float32
            assert one.vector == pytest.approx(axis(int(one.id), 0.4), abs=1e-6)
    assert index.search(axis(0), 1)[0].vector is None


def test_threads_may_add_and_search_at_once(index: Index) -> None:
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(4):
                index.add([entry(f"{number}-{step}", axis(number)), entry("same", axis(7))])
                assert index.search(axis(number), 1)[0].score > 0.99
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not faults, faults
    assert index.count() == 3 * 4 + 1


def test_two_processes_may_add_at_once_and_a_kill_leaves_a_whole_store(address: str) -> None:
    code = """
import sys, numpy as np
from vitdemo.retrieval.base import Entry, Stamp, open_index
index = open_index(sys.argv[1], Stamp("model", "revision-1", 8))
vector = np.eye(8, dtype=np.float32)[0]
for step in range(int(sys.argv[3])):
    index.add([Entry(f"{sys.argv[2]}-{step}-{n}", "p", vector, 1, 1) for n in range(10)])
    print(step, flush=True)
"""
    def start(name: str, steps: int) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", code, address, name, str(steps)],
                                stdout=subprocess.PIPE, text=True,
                                cwd=Path(__file__).parent.parent)

    endless, short = start("endless", 10_000), start("short", 5)
    assert endless.stdout is not None and short.stdout is not None
    for _ in range(3):
        assert endless.stdout.readline()
    assert short.wait(timeout=60) == 0
    endless.kill()
    said = 3 + len(endless.stdout.read().split())
    endless.wait(timeout=10)
    short.stdout.close()
    endless.stdout.close()
    index = open_index(address, STAMP)
    found = index.search(axis(0), 100_000)
    batches = {one.id.rsplit("-", 1)[0] for one in found}
    assert len(found) == index.count() == 10 * len(batches)  # no half batch
    assert {f"short-{n}" for n in range(5)} <= batches
    assert {f"endless-{n}" for n in range(said)} <= batches
    index.add([entry("after", axis(1))])


def test_a_large_lance_store_uses_an_index_and_stays_good(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = LanceIndex.open(str(tmp_path / "store"), STAMP, exact_below=1000)

    def add(first: int, last: int) -> None:
        index.add([entry(str(n), vectors[n], folder="/even" if n % 2 == 0 else "/odd",
                         bytes=n) for n in range(first, last)])

    def made() -> list[str]:
        return vector_indices(index._table)

    def recall(right: np.ndarray, *where: Condition) -> float:
        hits = 0
        for query in random.choice(right, 40, replace=False):
            best = right[np.argsort(-(vectors[right] @ vectors[query]))[:10]]
            found = index.search(vectors[query], 10, where)
            assert len(found) == 10
            assert found[0].id == str(query) and found[0].score == pytest.approx(1, abs=1e-4)
            hits += len({str(n) for n in best} & {one.id for one in found})
        return hits / 400

    add(0, 900)
    assert made() == [] and recall(np.arange(900)) == 1  # exact
    add(900, 2400)
    assert made() == ["vector_of_2400"]
    add(2400, 3000)  # after the index was made
    assert made() == ["vector_of_2400"] and recall(np.arange(3000)) > 0.95
    evens = np.arange(0, 3000, 2)
    assert recall(evens, Condition("folder", "=", "/even")) > 0.95
    assert recall(np.arange(50), Condition("bytes", "<", 50)) == 1  # few fit: exact
    assert index.delete([str(n) for n in range(0, 3000, 3)]) == 1000
    left = np.array([n for n in range(3000) if n % 3])
    assert recall(left) > 0.95
    assert {int(one.id) % 3 for one in index.search(vectors[0], 500)} == {1, 2}
    assert len(index.search(vectors[0], 5000)) == 2000  # all of them
    add(0, 5000)  # replaces, and brings back
    assert index.count() == 5000 and recall(np.arange(5000)) > 0.95


def grown(index: LanceIndex, steps: int, count: int) -> Iterator[list[str]]:
    """Add so many pictures in each step, each of which is found at once, and give the names of the
    table's indices."""
    random = np.random.default_rng(0)
    for step in range(steps):
        vectors = random.normal(size=(count, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        index.add([entry(f"{step}-{n}", vectors[n]) for n in range(count)])
        assert index.search(vectors[7], 1)[0].id == f"{step}-7"
        yield vector_indices(index._table)


def test_an_index_is_made_anew_when_a_store_has_outgrown_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitdemo.retrieval.lance.TIDY_EVERY", 3)
    index = LanceIndex.open(str(tmp_path / "store"), STAMP, exact_below=300)
    names = list(grown(index, 6, 300))
    assert names == [["vector_of_300"]] * 3 + [["vector_of_1200"]] * 3


def test_an_index_is_extended_before_many_rows_are_outside_of_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitdemo.retrieval.lance.UNINDEXED_LEAST", 250)
    index = LanceIndex.open(str(tmp_path / "store"), STAMP, exact_below=1000)
    outside = [index._table.index_stats(name).num_unindexed_rows
               for names in grown(index, 20, 100) for name in names]
    assert outside == [0, 100, 200] * 3 + [0, 100]


def test_lance_refuses_what_is_no_store(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        open_index(str(file), STAMP)
    with pytest.raises(StoreError, match="cannot be used"):
        open_index(str(file / "below"), STAMP)
    with pytest.raises(StoreError, match="no name"):
        open_index(" ", STAMP)
    open_index(str(tmp_path / "store"), STAMP).add([entry("a", axis(0))])
    for part in (tmp_path / "store").rglob("*.lance"):
        if part.is_file():
            part.write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"store cannot be read\. .*damaged") as raised:
        open_index(str(tmp_path / "store"), STAMP).search(axis(0), 1)
    assert ".rs" not in str(raised.value) and "Lance" not in str(raised.value)


@pytest.mark.parametrize(("fault", "said"), [
    (RuntimeError("lance error: LanceError(IO): No space left on device (os error 28), "
                  "/build/.cargo/registry/src/lance-file-13.0.0/src/writer.rs:258:9"),
     "The store /a is full: there is no room on its disk."),
    (RuntimeError("lance error: LanceError(IO): Read-only file system (os error 30) at path "
                  '"/a/pictures.lance/data/.tmpN7", /build/lance-io-13.0.0/src/store.rs:1:3'),
     "The store /a cannot be written: the disk can only be read."),
    (OSError(13, "Permission denied", "/a"),
     "The store /a cannot be written: permission is denied."),
    (RuntimeError("lance error: LanceError(IO): Generic LocalFileSystem error: failed to fill whole"
                  " buffer, /rustc/2d8144b/library/core/src/ops/function.rs:250:5"),
     "The store /a cannot be read. It may be damaged"),
    (RuntimeError(""), "The store /a cannot be read."),
    (OSError(20, "Not a directory", "/a"),
     "The store /a cannot be used: a part of its path is no folder.")])
def test_a_fault_speaks_of_the_store_and_not_of_a_library(fault: Exception, said: str) -> None:
    def fails() -> None:
        raise fault

    with pytest.raises(StoreError) as raised:
        guarded("/a", fails)
    told = str(raised.value)
    assert told.startswith(said)
    assert not any(word in told for word in ("Lance", "lance", ".rs", "cargo", "os error"))


def test_a_store_that_was_begun_on_a_full_disk_is_made_later(tmp_path: Path) -> None:
    (tmp_path / "store" / "pictures.lance").mkdir(parents=True)  # all that is left of the attempt
    index = open_index(str(tmp_path / "store"), STAMP)
    index.add([entry("a", axis(0))])
    assert open_index(str(tmp_path / "store"), STAMP).count() == 1
    for part in (tmp_path / "store" / "pictures.lance" / "_versions").iterdir():
        part.unlink()
    with pytest.raises(StoreError, match="damaged"):  # and not taken for an empty one
        open_index(str(tmp_path / "store"), STAMP)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "a\udcffb"])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(StoreError) as raised:
        open_index(name, STAMP)
    assert len(str(raised.value)) < 400
    with pytest.raises(ConfigError, match="user that this computer does not know"):
        open_index("~nobody-of-this-name/x", STAMP)


def test_lance_refuses_a_foreign_table_and_a_later_format(tmp_path: Path) -> None:
    import lancedb
    import pyarrow as pa

    lancedb.connect(str(tmp_path / "foreign")).create_table("pictures", pa.table({"id": ["a"]}))
    with pytest.raises(StoreError, match="did not make"):
        open_index(str(tmp_path / "foreign"), STAMP)
    about = json.dumps({"format": 99, "model": "model", "revision": "revision-1", "dimension": 8})
    schema = pa.schema([pa.field("id", pa.string())], metadata={b"vitdemo": about.encode()})
    lancedb.connect(str(tmp_path / "later")).create_table("pictures", schema=schema)
    with pytest.raises(StoreError, match="format 99"):
        open_index(str(tmp_path / "later"), STAMP)


def test_lance_gives_an_older_store_the_fields_it_lacks(tmp_path: Path) -> None:
    import lancedb

    address = str(tmp_path / "store")
    open_index(address, STAMP).add([entry("a", axis(0), folder="/x")])
    lancedb.connect(address).open_table("pictures").drop_columns(["camera"])
    index = open_index(address, STAMP)
    index.add([entry("b", axis(1), camera="new")])
    assert [one.id for one in index.search(axis(0), 9, [Condition("camera", "=", "new")])] == ["b"]
    assert index.search(axis(0), 1)[0].metadata == {"folder": "/x"}


def test_a_closed_lance_store_says_so(tmp_path: Path) -> None:
    index = open_index(str(tmp_path / "store"), STAMP)
    index.close()
    index.close()
    with pytest.raises(StoreError, match="closed"):
        index.count()


def test_quote() -> None:
    assert quote("it's") == "'it''s'"
