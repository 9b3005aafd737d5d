"""The index for a gallery that outgrows one machine: a Milvus server or cluster.

An address is ``milvus://host:port/collection``, with ``user:password@`` before the host where the
server asks for it, or a token in the environment variable MILVUS_TOKEN. After a ``?`` may follow
``consistency=``, ``database=`` and ``tls=1``, joined by ``&``.

Searches are bounded-stale by default: what another process, or this one, wrote in the last few
seconds may be missing. ``consistency=strong`` sees all, and costs a search some tenths of a second;
``eventually`` waits for nothing. Reading the store through, counting and deleting see all in any
case, so that indexing never works with an old state.
"""

import importlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np

from vitdemo.errors import StoreError, shortened
from vitdemo.retrieval.base import (
    FIELDS,
    FORMAT_VERSION,
    METADATA,
    Condition,
    Entry,
    Found,
    Index,
    Stamp,
    check_entries,
    check_stamp,
)
from vitdemo.retrieval.milvus_filter import NOTHING, WHOLE_NUMBERS, to_expression
from vitdemo.retrieval.text_words import AskedWord

PORT = 19530
TIMEOUT = 30.0  # seconds for one call
MOST_HITS = 16_384  # that the server gives at once
AT_ONCE = 10_000  # entries in one write, which happens whole or not at all; ids in one filter
TEXT_BYTES = 65_535  # of one text, the server's limit
LEVELS = {"strong": "Strong", "bounded": "Bounded", "session": "Session",
          "eventually": "Eventually"}
_ABOUT = "vitdemo"

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Address:
    """The parts of an address; ``shown`` is the address without what is secret."""

    server: str
    collection: str
    shown: str
    user: str = ""
    password: str = ""
    database: str = ""
    consistency: str = "bounded"

    @classmethod
    def parse(cls, uri: str) -> "Address":
        """Read an address.

        Raises:
            StoreError: it is none, or has an option that there is not.
        """
        try:
            parts = urlsplit(uri)
            port = parts.port or PORT
            options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
        except ValueError as error:
            raise StoreError(_wrong(uri, "its port or its options cannot be read")) from error
        name = parts.path.strip("/")
        if not parts.hostname:
            raise StoreError(_wrong(uri, "it names no server"))
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
            raise StoreError(_wrong(uri, "a collection's name is made of letters, digits and _, "
                                         "with no digit first"))
        level, tls = options.pop("consistency", "bounded").lower(), options.pop("tls", "0")
        database = options.pop("database", "")
        if options or level not in LEVELS or tls not in ("0", "1"):
            raise StoreError(_wrong(uri, "after the ? may stand consistency= with strong, bounded, "
                                         "session or eventually, database=, and tls=1"))
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        shown = f"milvus://{host}:{port}/{name}"
        return cls(f"{'https' if tls == '1' else 'http'}://{host}:{port}", name,
                   f"{shown}?database={database}" if database else shown,
                   unquote(parts.username or ""), unquote(parts.password or ""), database, level)


def _wrong(uri: str, why: str) -> str:
    shown = re.sub(r"//[^/@]*@", "//", uri)
    return (f"{shown} is not the address of a Milvus collection: {why}. "
            "Write milvus://host:port/collection.")


class MilvusIndex(Index):
    """See `Index`; names, captions and keywords do not count here. A call of `add` with more than
    `AT_ONCE` entries is several writes."""

    def __init__(self, client: Any, stamp: Stamp, address: Address) -> None:
        self.stamp = stamp
        self.uri = address.shown
        self._client: Any = client
        self._name = address.collection
        self._level = LEVELS[address.consistency]
        self._columns = list(FIELDS)  # that the collection has

    @classmethod
    def open(cls, uri: str, stamp: Stamp, token: str = "", read_only: bool = False
             ) -> "MilvusIndex":
        """Open a collection, or make it unless it is ``read_only``; ``token`` is used in place of
        user and password.

        Raises:
            StoreError: pymilvus is not installed, the server does not answer or lets nobody in, or
                the collection belongs to another model.
        """
        address = Address.parse(uri)
        try:
            pymilvus = importlib.import_module("pymilvus")
        except ImportError as error:
            raise StoreError("store.no_pymilvus") from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # errors are told once, by us
        secret = {"token": token or os.environ.get("MILVUS_TOKEN", "")}
        if address.user:
            secret = {"user": address.user, "password": address.password}
        client = _guard(address.shown, lambda: pymilvus.MilvusClient(
            uri=address.server, db_name=address.database, timeout=TIMEOUT, **secret))
        index = cls(client, stamp, address)
        try:
            _guard(index.uri, lambda: index._prepare(pymilvus, read_only))
        except BaseException:
            index.close()
            raise
        return index

    def _prepare(self, pymilvus: Any, read_only: bool) -> None:
        client = self._client
        if not client.has_collection(self._name, timeout=TIMEOUT):
            if read_only:
                raise StoreError("store.none", store=self.uri)
            try:
                self._create(pymilvus)
            except pymilvus.MilvusException:
                if not client.has_collection(self._name, timeout=TIMEOUT):
                    raise  # else another process was faster
        about = client.describe_collection(self._name, timeout=TIMEOUT)
        check_stamp(_read_stamp(about.get("description", ""), self.uri), self.stamp, self.uri)
        # A collection of an older version may lack some: no server adds them to all.
        known = {one["name"] for one in about.get("fields", [])} or set(FIELDS)
        self._columns = [name for name in FIELDS if name in known]
        client.load_collection(self._name, timeout=TIMEOUT)

    def _create(self, pymilvus: Any) -> None:
        about = {_ABOUT: FORMAT_VERSION, "model": self.stamp.model,
                 "revision": self.stamp.revision, "dimension": self.stamp.dimension}
        kinds = {str: pymilvus.DataType.VARCHAR, int: pymilvus.DataType.INT64,
                 float: pymilvus.DataType.DOUBLE}
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False,
                                            description=json.dumps(about))
        for name, kind in FIELDS.items():
            room = {"max_length": TEXT_BYTES} if kind is str else {}
            schema.add_field(name, kinds[kind], is_primary=name == "id", **room)
        schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=self.stamp.dimension)
        by = self._client.prepare_index_params()
        by.add_index("vector", index_type="HNSW", metric_type="COSINE",
                     params={"M": 24, "efConstruction": 200})
        self._client.create_collection(self._name, schema=schema, index_params=by, num_shards=1,
                                       consistency_level="Bounded", timeout=TIMEOUT)

    def add(self, entries: Sequence[Entry]) -> None:
        lacking = set(FIELDS).difference(self._columns)
        rows = [{name: value for name, value in _row(entry).items() if name not in lacking}
                for entry in check_entries(entries, self.stamp.dimension)]
        for first in range(0, len(rows), AT_ONCE):
            self._call("upsert", rows[first:first + AT_ONCE])

    def delete(self, ids: Sequence[str]) -> int:
        wanted, gone = list(dict.fromkeys(ids)), 0
        for first in range(0, len(wanted), AT_ONCE):
            expression = f"id in {json.dumps(wanted[first:first + AT_ONCE], ensure_ascii=False)}"
            there = sum(1 for _ in self._rows(expression, ["id"], AT_ONCE))
            if there:
                self._call("delete", filter=expression)
            gone += there
        return gone

    def _search(self, vector: np.ndarray | None, limit: int, where: Sequence[Condition],
                vectors: bool, words: Sequence[AskedWord]) -> list[Found]:
        columns = [*self._columns, "vector"] if vectors else self._columns
        if vector is None:
            found = [_found(row, 0.0) for some in self._filters(where)
                     for row in self._rows(some, columns, limit)]
            return sorted(found, key=lambda one: one.id)[:limit]
        found = [one for some in self._filters(where)
                 for one in self._nearest(vector, limit, some, columns)]
        return sorted(found, key=lambda one: (-one.score, one.path))[:limit]

    def count(self) -> int:
        rows = self._call("query", filter="", output_fields=["count(*)"],
                          consistency_level="Strong")
        return int(rows[0]["count(*)"])

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _nearest(self, vector: np.ndarray, limit: int, expression: str,
                 columns: list[str]) -> Iterator[Found]:
        if limit > MOST_HITS:  # more than the server gives: read them all and compare here
            for row in self._rows(expression, [*self._columns, "vector"], limit=None):
                yield _found(row, float(np.asarray(row["vector"], np.float32) @ vector))
            return
        effort = {"params": {"ef": min(32_768, max(200, 2 * limit))}}
        (hits,) = self._call("search", [vector.tolist()], filter=expression, limit=limit,
                             output_fields=columns, search_params=effort,
                             consistency_level=self._level)
        yield from (_found(hit["entity"], float(hit["distance"])) for hit in hits)

    def _rows(self, expression: str, columns: list[str],
              limit: int | None) -> Iterator[dict[str, Any]]:
        """Rows that fit, in the order of their ids, the newest state of the store."""
        last = ""
        while limit is None or limit > 0:
            some = min(MOST_HITS, limit or MOST_HITS)
            parts = [f"({one})" for one in (expression, last) if one]
            page = self._call("query", filter=" and ".join(parts), output_fields=columns,
                              limit=some, consistency_level="Strong")
            page = sorted(page, key=lambda row: row["id"])
            yield from page
            if len(page) < some:
                return
            limit = None if limit is None else limit - len(page)
            last = f"id > {json.dumps(page[-1]['id'], ensure_ascii=False)}"

    def _filters(self, where: Sequence[Condition]) -> list[str]:
        """The conditions as expressions whose results add up. "contains", which not every server
        knows, is worked out here, from ids and texts alone."""
        within = [one for one in where if one.operator == "contains"]
        expression = " and ".join(to_expression(one) for one in where if one not in within)
        if not within:
            return [expression]
        columns = ["id", *{one.field for one in within}]
        ids = [row["id"] for row in self._rows(expression, columns, limit=None)
               if all(row[one.field] != NOTHING[str]
                      and str(one.value).lower() in row[one.field].lower() for one in within)]
        return [f"id in {json.dumps(ids[first:first + AT_ONCE], ensure_ascii=False)}"
                for first in range(0, len(ids), AT_ONCE)]

    def _call(self, name: str, *given: Any, **named: Any) -> Any:
        """A method of the client, for this collection."""
        if self._client is None:
            raise StoreError("store.closed", store=self.uri)
        method = getattr(self._client, name)
        return _guard(self.uri, lambda: method(self._name, *given, timeout=TIMEOUT, **named))


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"id": entry.id, "path": entry.path, "width": entry.width,
                           "height": entry.height, "vector": np.asarray(entry.vector, np.float32)}
    for name, kind in METADATA.items():
        value = entry.metadata.get(name)
        row[name] = NOTHING[kind] if value is None else kind(value)
    for name, value in row.items():
        if isinstance(value, str) and len(value.encode()) > TEXT_BYTES:
            raise StoreError("store.long", what=name, name=entry.path[:100], most=TEXT_BYTES)
        if isinstance(value, int) and abs(value) > WHOLE_NUMBERS:
            raise StoreError("store.number", what=name, name=entry.path[:100], value=value)
    return row


def _found(row: dict[str, Any], score: float) -> Found:
    metadata = {name: row[name] for name, kind in METADATA.items()
                if row.get(name, NOTHING[kind]) != NOTHING[kind]}
    vector = np.asarray(row["vector"], np.float32) if "vector" in row else None
    return Found(row["id"], row["path"], min(1.0, max(-1.0, score)), row["width"], row["height"],
                 metadata, vector)


def _read_stamp(description: str, uri: str) -> Stamp:
    try:
        about = json.loads(description)
        if about[_ABOUT] != FORMAT_VERSION:
            raise StoreError("store.format", store=uri, format=about[_ABOUT], known=FORMAT_VERSION)
        return Stamp(about["model"], about["revision"], about["dimension"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError("store.foreign_collection", store=uri) from error


def _guard(uri: str, work: Callable[[], Result]) -> Result:
    """Run a call of the library; its faults become a `StoreError` that names the store."""
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException

    try:
        return work()
    except (MilvusException, RpcError, OSError, ValueError) as error:
        log.warning("Milvus: %s", shortened(getattr(error, "message", "") or error, 300))
        raise StoreError("store.no_server", store=uri) from error
