"""What is Milvus's own: addresses, filters, bounded staleness. The contract is tested with all
engines in test_index_contract.py; tests marked milvus need a server (milvus_server.py)."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitdemo.errors import StoreError
from vitdemo.retrieval.base import Condition, Entry, Stamp, open_index
from vitdemo.retrieval.milvus import Address, MilvusIndex
from vitdemo.retrieval.milvus_filter import NEVER, NOTHING, to_expression

STAMP = Stamp("model", "1", 8)


def test_the_parts_of_an_address() -> None:
    plain = Address.parse("milvus://localhost/pictures")
    assert (plain.server, plain.collection) == ("http://localhost:19530", "pictures")
    assert (plain.consistency, plain.user, plain.database) == ("bounded", "", "")
    full = Address.parse("milvus://ada:p%40ss%2Fw@db.example:1234/p_1"
                         "?consistency=Strong&database=home&tls=1")
    assert full.server == "https://db.example:1234" and full.collection == "p_1"
    assert (full.user, full.password) == ("ada", "p@ss/w")
    assert (full.consistency, full.database) == ("strong", "home")
    assert full.shown == "milvus://db.example:1234/p_1?database=home"  # no secret in messages
    assert Address.parse("milvus://[::1]:7/x").server == "http://[::1]:7"


@pytest.mark.parametrize("uri", [
    "milvus://", "milvus://host", "milvus://host/", "milvus:///name", "milvus://host/1name",
    "milvus://host/a-b", "milvus://host/a/b", "milvus://host:99999/a", "milvus://host:x/a",
    "milvus://host/a?consistency=some", "milvus://host/a?color=red", "milvus://host/a?x",
    "milvus://ada:secret@host/a-b"])
def test_a_wrong_address_is_refused(uri: str) -> None:
    with pytest.raises(StoreError, match=r"milvus://host:port/collection") as raised:
        open_index(uri, STAMP)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("field, operator, value, expected", [
    ("path", "=", 'a"b', r'path == "a\"b"'), ("width", ">", 3.5, "width >= 4"),
    ("width", "<", 3.5, "width <= 3"), ("width", "<=", 3.0, "width <= 3"),
    ("width", "!=", 3.5, "(width != "), ("width", "<", float("inf"), "(width != "),
    ("modified", ">=", 2, "modified >= 2.0"), ("bytes", "in", (1, 2.0, 2.5), "bytes in [1, 2]")])
def test_conditions_as_expressions(field: str, operator: str, value: object,
                                   expected: str) -> None:
    made = to_expression(Condition(field, operator, value))  # type: ignore[arg-type]
    assert expected in made and f"{field} != " in made  # an unknown value never fits


@pytest.mark.parametrize("field, operator, value", [
    ("width", "=", 3.5), ("width", ">", float("inf")), ("width", "in", (2.5,)),
    ("bytes", "in", ()), ("bytes", "=", 2 ** 70)])
def test_conditions_that_nothing_fits(field: str, operator: str, value: object) -> None:
    assert to_expression(Condition(field, operator, value)) == NEVER  # type: ignore[arg-type]


def test_without_pymilvus_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(StoreError, match="pip install -r requirements-milvus.txt"):
        open_index("milvus://localhost/x", STAMP)


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymilvus")
    monkeypatch.setattr("vitdemo.retrieval.milvus.TIMEOUT", 2.0)
    with pytest.raises(StoreError, match=r"127.0.0.1:9/x cannot be used.*server runs") as raised:
        open_index("milvus://ada:secret@127.0.0.1:9/x", STAMP)
    assert "secret" not in str(raised.value)


def unit(place: int) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[place]


@pytest.mark.milvus
def test_searches_are_bounded_stale_unless_asked(milvus_collection: str,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    index = MilvusIndex.open(milvus_collection, STAMP)
    asked: list[tuple[str, str]] = []
    client = index._client
    for name in ("search", "query"):
        def told(*given: object, name: str = name, real: Callable = getattr(client, name),
                 **named: object) -> object:
            asked.append((name, str(named["consistency_level"])))
            return real(*given, **named)
        monkeypatch.setattr(client, name, told)
    index.add([Entry("a", "/p/a", unit(0), 1, 1)])
    index.search(unit(0), 1)
    assert index.count() == 1 and [one.id for one in index.search(None, 9)] == ["a"]
    assert index.delete(["a"]) == 1 and index.count() == 0
    assert asked[0] == ("search", "Bounded")
    assert set(asked[1:]) == {("query", "Strong")}  # indexing never works with an old state
    index.close()
    with pytest.raises(StoreError, match="closed"):
        index.count()


@pytest.mark.milvus
def test_a_foreign_collection_is_left_alone(milvus_collection: str) -> None:
    from pymilvus import MilvusClient

    address = Address.parse(milvus_collection)
    client = MilvusClient(uri=address.server, timeout=30)
    client.create_collection(address.collection, dimension=8)
    client.close()
    with pytest.raises(StoreError, match="did not make"):
        open_index(milvus_collection, STAMP)


@pytest.mark.milvus
def test_more_hits_than_the_server_gives_at_once(milvus_collection: str,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitdemo.retrieval.milvus.MOST_HITS", 40)
    monkeypatch.setattr("vitdemo.retrieval.milvus.AT_ONCE", 30)
    index = open_index(f"{milvus_collection}?consistency=strong", STAMP)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(100, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index.add([Entry(f"{n:03}", f"/p/{n}", vectors[n], 1, 1, {"camera": "x" if n % 2 else "y"})
               for n in range(100)])
    right = [f"{n:03}" for n in np.argsort(-(vectors @ vectors[0]))]
    assert [one.id for one in index.search(vectors[0], 90)] == right[:90]
    odd = [Condition("camera", "contains", "x")]
    assert [one.id for one in index.search(vectors[0], 20, odd)] == \
        [one for one in right if int(one) % 2][:20]
    assert len(index.search(None, 95)) == 95
    assert index.delete([f"{n:03}" for n in range(100)]) == 100 and index.count() == 0


@pytest.mark.milvus
def test_folders_are_indexed_into_milvus(milvus_collection: str, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    from indexing import STAMP as COLOURS
    from indexing import Colours, paint

    from vitdemo.retrieval.gallery import Gallery
    from vitdemo.retrieval.indexer import index_folders

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(5):
        paint(tmp_path / "photos" / f"{number}.png", number + 1)
    (tmp_path / "photos" / "broken.png").write_text("no picture")
    embedder = Colours()
    gallery = Gallery(open_index(milvus_collection, COLOURS), embedder)
    assert index_folders(gallery, [tmp_path / "photos"], workers=1).added == 5
    (tmp_path / "photos" / "0.png").rename(tmp_path / "photos" / "moved.png")
    (tmp_path / "photos" / "1.png").unlink()
    report = index_folders(gallery, [tmp_path / "photos"], workers=1)
    assert (report.moved, report.deleted, report.unchanged, report.added) == (1, 1, 3, 0)
    assert len(report.skipped) == 1 and len(embedder.names) == 5 and gallery.count() == 4
    assert list((tmp_path / "cache" / "vitdemo").glob("*-unreadable.json"))


def test_what_stands_for_no_value_is_none_of_the_usual() -> None:
    assert {type(value) for value in NOTHING.values()} == {str, int, float}
    assert NOTHING[int] < 0 and NOTHING[float] < 0  # bytes, width and times are never negative
