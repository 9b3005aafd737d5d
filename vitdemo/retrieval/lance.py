"""The default index: LanceDB, a folder on disk, an object store, or memory.

Every change is a new version of the table that becomes visible in one step, so a process that is
killed leaves the last whole version, and several processes may read and write at once. Search
compares with every vector (exact) below `EXACT_BELOW` rows and uses an index above. The index (IVF:
the vectors in about as many groups as each has members, 8 bits a number) reads the eighth of the
groups nearest to the query, all of them where a filter leaves few in each, and compares the best
again in full.

Names, captions and keywords count by a full-text index beside the vectors: see `lance_texts`.
"""

import functools
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfSq
from lancedb.query import ColumnOrdering

from vitdemo.disk import expanded
from vitdemo.errors import StoreError, shortened
from vitdemo.file_names import is_text
from vitdemo.retrieval import lance_texts
from vitdemo.retrieval.base import (
    FIELDS,
    FORMAT_VERSION,
    METADATA,
    TEXT_WEIGHT,
    Condition,
    Entry,
    Found,
    Index,
    Stamp,
    check_entries,
    check_stamp,
)
from vitdemo.retrieval.lance_faults import guarded
from vitdemo.retrieval.lance_texts import WORDS, quote
from vitdemo.retrieval.text_words import AskedWord, words_of

TABLE = "pictures"
EXACT_BELOW = 100_000  # rows
TIDY_EVERY = 32  # changes after which small files are joined
REBUILD_AT = 4  # times the rows that the index was made with: its groups have become too large
LOOK_EVERY = 10.0  # seconds
GROUPS_READ = 8  # one of so many
UNINDEXED = 24  # the index is extended before one of so many rows is outside of it ...
UNINDEXED_LEAST = 20_000  # ... and so many are: they are compared one by one
UNREAD_MOST = 10_000  # rows whose texts are outside of their index: reading them takes longer
AGAIN = 3  # times the limit: hits of the index that are compared in full
FILTERED_AGAIN = 10  # likewise: where few fit a filter, all of them
DELETE_BATCH = 1000  # ids in one statement
_KEY = b"vitdemo"
_INDEX = "vector_of_"
TEXT_HITS = 200  # at least, that are asked for by words
# Marks the id as the table's key: without it, two processes that add one id at the same moment
# would both insert it.
_PRIMARY = {b"lance-schema:unenforced-primary-key:position": b"1"}
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


class LanceIndex(Index):
    """See `Index`. ``exact_below`` is the number of rows from which an index is used."""

    reads_texts = True

    def __init__(self, table: Any, stamp: Stamp, uri: str, exact_below: int = EXACT_BELOW) -> None:
        self.stamp = stamp
        self.uri = uri
        self._table = table
        self._exact_below = exact_below
        self._changes = 0
        self._shape = (-math.inf, 0)  # when the store was asked, groups of its index

    @classmethod
    def open(cls, uri: str, stamp: Stamp, exact_below: int = EXACT_BELOW,
             read_only: bool = False) -> "LanceIndex":
        """Open the store at a folder, an object store's address or "memory://", or make it unless
        it is ``read_only``.

        Raises:
            StoreError: it cannot be opened or made, or belongs to another model.
        """
        if "://" not in uri:
            uri = str(expanded(uri))
            if os.path.exists(uri) and not os.path.isdir(uri):
                raise StoreError("store.file", store=uri)
            if read_only and not os.path.exists(uri):
                raise StoreError("store.none", store=uri)
        if "\0" in uri or not is_text(uri):
            raise StoreError("store.bad_name", store=shortened(repr(uri)))
        return guarded(uri, lambda: cls._open(uri.removeprefix("lance://"), stamp, exact_below,
                                              read_only))

    @classmethod
    def _open(cls, uri: str, stamp: Stamp, exact_below: int, read_only: bool) -> "LanceIndex":
        # Interval 0: a search sees what another process has just added.
        database = lancedb.connect(uri, read_consistency_interval=timedelta(0))
        table = _table(database, uri)
        if table is None:
            if read_only:
                raise StoreError("store.none", store=uri)
            table = _made(database, uri, stamp)
        check_stamp(_read_stamp(table.schema, uri), stamp, uri)
        kinds = {**METADATA, WORDS: str}
        lacking = [name for name in kinds if name not in table.schema.names]
        if read_only and (lacking or not lance_texts.is_made(table)):
            raise StoreError("store.older", store=uri)
        if lacking:
            table.add_columns([pa.field(name, _TYPES[kinds[name]]) for name in lacking])
        if not read_only:
            lance_texts.make_index(table)
        return cls(table, stamp, uri, exact_below)

    def add(self, entries: Sequence[Entry]) -> None:
        entries = check_entries(entries, self.stamp.dimension)
        if not entries:
            return
        rows = _rows(entries, self._open_table().schema)
        guarded(self.uri, lambda: self._open_table().merge_insert("id").when_matched_update_all()
               .when_not_matched_insert_all().execute(rows))
        self._changed()

    def delete(self, ids: Sequence[str]) -> int:
        wanted, gone = list(dict.fromkeys(ids)), 0
        for first in range(0, len(wanted), DELETE_BATCH):
            names = ", ".join(quote(one) for one in wanted[first:first + DELETE_BATCH])
            work = functools.partial(self._open_table().delete, f"id IN ({names})")
            gone += int(guarded(self.uri, work).num_deleted_rows)
        if gone:
            self._changed()
        return gone

    def _search(self, vector: np.ndarray | None, limit: int, where: Sequence[Condition],
                vectors: bool, words: Sequence[AskedWord]) -> list[Found]:
        columns = [*FIELDS, "vector"] if vectors else [*FIELDS]
        sql = " AND ".join(to_sql(one) for one in where)
        if vector is None:
            return guarded(self.uri, lambda: self._list(limit, sql, columns))
        if not words:
            return guarded(self.uri, lambda: _ranked(self._nearest(vector, limit, sql, columns)))
        return guarded(self.uri, lambda: self._with_words(vector, limit, sql, columns, words))

    def _list(self, limit: int, sql: str, columns: list[str]) -> list[Found]:
        query = self._open_table().search().select(columns).limit(limit)
        query = query.order_by([ColumnOrdering(column_name="id")])
        return [_found(row) for row in (query.where(sql) if sql else query).to_list()]

    def _with_words(self, vector: np.ndarray, limit: int, sql: str, columns: list[str],
                    words: Sequence[AskedWord]) -> list[Found]:
        """The best of those that are nearest and those whose texts have the words."""
        table = self._open_table()
        near = self._nearest(vector, limit, sql, columns)
        unwanted = [word for word in words if word.weight < 0]
        if unwanted and len(lance_texts.rows_with(table, unwanted, 1, sql, ["id"])):
            near += self._nearest(vector, limit, lance_texts.without(unwanted, sql), columns)
        found = {one.id: one for one in near}
        wanted = [word for word in words if word.weight > 0]
        told: dict[str, float] = {}
        if wanted and len(near):
            most = max(limit, TEXT_HITS)
            rows = lance_texts.rows_with(table, wanted, most, sql,
                                         [*dict.fromkeys([*columns, "vector", WORDS])])
            told = lance_texts.shares(table, wanted, rows, most, list(found))
            cosines = lance_texts.vectors_of(rows) @ vector  # (N,)
            ranks = cosines + TEXT_WEIGHT * np.array([told[one] for one in rows["id"].to_pylist()])
            best = np.argsort(-ranks, kind="stable")[:limit]
            for row, cosine in zip(rows.select(columns).take(best).to_pylist(), cosines[best],
                                   strict=True):
                found.setdefault(row["id"], _found({**row, "_distance": 1 - cosine}))
        return _ranked(replace(one, told=told.get(one.id, 0.0) - any(
            word.stands_in(one.path, one.metadata) for word in unwanted))
            for one in found.values())[:limit]

    def _nearest(self, vector: np.ndarray, limit: int, sql: str,
                 columns: list[str]) -> list[Found]:
        table = self._open_table()
        query = table.search(vector, vector_column_name="vector").distance_type("cosine")
        query = query.select([*columns, "_distance"]).limit(limit)
        if sql:
            query = query.where(sql, prefilter=True)
        groups = self._groups(table)
        if groups:
            read = groups if sql else groups // GROUPS_READ  # a filter leaves few in each
            query = query.minimum_nprobes(max(8, read)).maximum_nprobes(0)
            query = query.refine_factor(FILTERED_AGAIN if sql else AGAIN)
        else:
            query = query.bypass_vector_index()
        return [_found(row) for row in query.to_list()]

    def _groups(self, table: Any) -> int:
        """How many groups the index has; 0 where every vector is to be compared. Asked again after
        own changes and every `LOOK_EVERY` seconds, as asking takes longer than a small search."""
        asked, groups = self._shape
        if time.monotonic() - asked > LOOK_EVERY:
            large = table.count_rows() >= self._exact_below
            made = [_rows_of(name) for name in vector_indices(table)] if large else []
            groups = _groups_for(max(made)) if made else 0
            self._shape = (time.monotonic(), groups)
        return groups

    def count(self) -> int:
        return int(guarded(self.uri, lambda: self._open_table().count_rows()))

    def close(self) -> None:
        self._table = None

    def _open_table(self) -> Any:
        if self._table is None:
            raise StoreError("store.closed", store=self.uri)
        return self._table

    def _changed(self) -> None:
        """Now and then: join small files, and make, renew or extend the index of a large store."""
        self._changes += 1
        self._shape = (-math.inf, 0)
        table = self._open_table()
        rows, outside = table.count_rows(), 0
        if rows >= self._exact_below:
            old = guarded(self.uri, lambda: vector_indices(table))
            if rows >= REBUILD_AT * max(map(_rows_of, old), default=0):
                guarded(self.uri, lambda: self._make_index(rows, old))
            elif old:
                outside = guarded(self.uri, lambda: _outside(table, old[-1]))
        unread = guarded(self.uri, lambda: _outside(table, lance_texts.INDEX))
        if (self._changes % TIDY_EVERY == 0 or unread > UNREAD_MOST
                or outside > max(rows // UNINDEXED, UNINDEXED_LEAST)):
            guarded(self.uri, lambda: table.optimize(cleanup_older_than=timedelta(hours=1)))

    def _make_index(self, rows: int, old: list[str]) -> None:
        """Its name says how many rows it was made with. Few rounds over few rows find groups that
        are as good for searching as many, in a tenth of the time."""
        table = self._open_table()
        table.create_index("vector", name=f"{_INDEX}{rows}", config=IvfSq(
            distance_type="cosine", num_partitions=_groups_for(rows), max_iterations=12,
            sample_rate=64))
        for name in old:
            table.drop_index(name)
        self._shape = (-math.inf, 0)


def _ranked(rows: Iterable[Found]) -> list[Found]:
    return sorted(rows, key=lambda one: (-one.score - TEXT_WEIGHT * one.told, one.path))


def vector_indices(table: Any) -> list[str]:
    """The names of the indices of vectors."""
    return [one.name for one in table.list_indices() if one.index_type != "FTS"]


def _outside(table: Any, index: str) -> int:
    """How many rows the index does not hold yet."""
    stats = table.index_stats(index)
    return 0 if stats is None else int(stats.num_unindexed_rows)


def _groups_for(rows: int) -> int:
    return max(1, round(rows ** 0.5))


def _rows_of(index: str) -> int:
    """How many rows an index was made with; 1 for one of an older version, to be made anew."""
    number = index.removeprefix(_INDEX)
    return int(number) if number.isdigit() else 1


def to_sql(condition: Condition) -> str:
    """A condition in the SQL of LanceDB (DataFusion)."""
    name, value = condition.field, condition.value
    values = value if isinstance(value, tuple) else (value,)
    if any(isinstance(one, float) for one in values):
        name = f"CAST({name} AS DOUBLE)"  # LanceDB compares whole numbers only with whole numbers
    literals = ", ".join(_literal(one) for one in values)
    if condition.operator == "in":
        return f"{name} IN ({literals})" if values else "FALSE"
    if condition.operator == "starts_with":
        return f"starts_with({name}, {literals})"
    if condition.operator == "contains":
        return f"contains(lower({name}), {quote(str(value).lower())})"
    return f"{name} {condition.operator} {literals}"


def _literal(value: object) -> str:
    return quote(value) if isinstance(value, str) else repr(value)


def _schema(stamp: Stamp) -> pa.Schema:
    about = {"format": FORMAT_VERSION, "model": stamp.model, "revision": stamp.revision,
             "dimension": stamp.dimension}
    fields = [pa.field("id", pa.string(), nullable=False, metadata=_PRIMARY),
              pa.field("vector", pa.list_(pa.float32(), stamp.dimension), nullable=False)]
    fields += [pa.field(name, _TYPES[kind]) for name, kind in {**FIELDS, WORDS: str}.items()
               if name != "id"]
    return pa.schema(fields, metadata={_KEY: json.dumps(about).encode()})


def _read_stamp(schema: pa.Schema, uri: str) -> Stamp:
    try:
        about = json.loads((schema.metadata or {})[_KEY])
        if about["format"] != FORMAT_VERSION:
            raise StoreError("store.format", store=uri, format=about["format"],
                             known=FORMAT_VERSION)
        return Stamp(about["model"], about["revision"], about["dimension"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError("store.foreign", store=uri, table=TABLE) from error


def _rows(entries: Sequence[Entry], schema: pa.Schema) -> pa.Table:
    columns: dict[str, Any] = {"id": [entry.id for entry in entries],
                               "path": [entry.path for entry in entries],
                               "width": [entry.width for entry in entries],
                               "height": [entry.height for entry in entries]}
    for name, kind in METADATA.items():
        values = [entry.metadata.get(name) for entry in entries]
        columns[name] = [None if value is None else kind(value) for value in values]
    columns[WORDS] = [words_of(entry.path, entry.metadata) for entry in entries]
    flat = pa.array(np.concatenate([np.asarray(e.vector, np.float32) for e in entries]))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, len(flat) // len(entries))
    arrays = [columns[one.name] if one.name == "vector" else
              pa.array(columns.get(one.name, [None] * len(entries)), one.type) for one in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _found(row: dict[str, Any]) -> Found:
    metadata = {name: row[name] for name in METADATA if row.get(name) is not None}
    score = min(1.0, max(-1.0, 1.0 - float(row["_distance"]))) if "_distance" in row else 0.0
    vector = np.asarray(row["vector"], np.float32) if "vector" in row else None
    return Found(row["id"], row["path"], score, row["width"], row["height"], metadata, vector)


def _table(database: Any, uri: str) -> Any:
    """The table; None where there is none, or only the empty folder that is left of the attempt to
    make one on a full disk."""
    try:
        return database.open_table(TABLE)
    except ValueError as error:
        if "not found" not in str(error):
            raise
    if any(Path(uri).glob(f"{TABLE}.lance/data/*")):
        raise StoreError("store.damaged", store=uri)
    return None


def _made(database: Any, uri: str, stamp: Stamp) -> Any:
    try:
        database.create_table(TABLE, schema=_schema(stamp))
    except (ValueError, OSError, RuntimeError):
        table = _table(database, uri)
        if table is None:
            raise
        return table  # another process was faster
    return database.open_table(TABLE)
