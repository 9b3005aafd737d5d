"""The interface of a picture index: five methods, whatever engine keeps the vectors.

An index knows the model that made its vectors (`Stamp`) and refuses those of another.
E embedding width. Vectors are float32 of length 1; a score is their cosine, -1..1.
"""

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from vitdemo.errors import StoreError
from vitdemo.retrieval.text_words import AskedWord

FORMAT_VERSION = 1
TEXT_WEIGHT = 0.6  # of `Found.told` beside a cosine

# What is kept with a picture, and can be filtered by, besides its id, path and size. A store of an
# older version that lacks one of these gets it, empty, when it is opened.
METADATA: dict[str, type] = {
    "folder": str,  # the folder the file lies in
    "digest": str,  # SHA-256 of the upright pixels, where they were read in full
    "content": str,  # SHA-256 of the file, as a file that was moved or copied keeps it
    "taken": str,  # when, from the camera: ISO 8601, local time, "2024-05-31T18:04:11"
    "day": str,  # of the camera's date or else the file's: "2024-05-31"
    "dated": str,  # which date that is: one of `vitdemo.camera.DATES`
    "camera": str,  # maker and model
    "orientation": str,  # landscape, portrait or square
    "bytes": int,  # of the file
    "modified": float,  # of the file, seconds since 1970
    "frames": int,  # of a frame: how many of its video are kept
    "inside": str,  # what somebody wrote into the file, a line each; see `vitdemo.written`
    "beside": str,  # what sidecars and metadata.jsonl say
    "beside_mark": str,  # of `Beside.mark`; none where texts were never looked for
}
FIELDS: dict[str, type] = {"id": str, "path": str, "width": int, "height": int, **METADATA}
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in", "starts_with", "contains")

# scheme of an address -> "module:Class"; an address without one of these is a folder for lance
INDEXES: dict[str, str] = {
    "lance": "vitdemo.retrieval.lance:LanceIndex",
    "milvus": "vitdemo.retrieval.milvus:MilvusIndex",
}


@dataclass(frozen=True)
class Stamp:
    """The model that vectors belong to; two models' vectors cannot be compared."""

    model: str
    revision: str
    dimension: int


@dataclass(frozen=True)
class Entry:
    """One picture in an index.

    ``id`` decides what is replaced; ``vector`` is float32 (E,), unit. ``width`` and ``height`` are
    pixels of the upright picture. ``metadata`` holds any of `METADATA`.
    """

    id: str
    path: str
    vector: np.ndarray
    width: int
    height: int
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """One entry that was found; ``score`` is the cosine, -1..1, or 0 where nothing was compared.
    ``told`` is how much its texts have of the words that were asked for, 0..1, or below 0 where
    they have words to keep away. ``vector`` is float32 (E,), None where the search did not ask for
    vectors."""

    id: str
    path: str
    score: float
    width: int
    height: int
    metadata: Mapping[str, str | int | float]
    vector: np.ndarray | None = field(default=None, compare=False, repr=False)
    told: float = 0.0


@dataclass(frozen=True)
class Condition:
    """One filter: ``field`` of `FIELDS`, ``operator`` of `OPERATORS`, and the value.

    "in" takes a tuple of values; "starts_with" compares text, case included, "contains" small and
    capital letters alike. An entry without a value for the field never fits, not even "!=".

    Raises:
        StoreError: no such field or operator, or a value of another type.
    """

    field: str
    operator: str
    value: str | int | float | tuple[str | int | float, ...]

    def __post_init__(self) -> None:
        if self.field not in FIELDS:
            raise StoreError(f"There is no field {self.field!r} to filter by; "
                             f"use one of {', '.join(FIELDS)}.")
        if self.operator not in OPERATORS:
            raise StoreError(f"There is no operator {self.operator!r}; "
                             f"use one of {', '.join(OPERATORS)}.")
        kind = FIELDS[self.field]
        if self.operator in ("starts_with", "contains") and kind is not str:
            raise StoreError(f"{self.field} is a number; {self.operator} is for text.")
        if isinstance(self.value, tuple) != (self.operator == "in"):
            raise StoreError("The operator in, and no other, takes a tuple of values.")
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        allowed = str if kind is str else (int, float)
        for value in values:
            if not isinstance(value, allowed) or value != value:
                raise StoreError(f"{value!r} cannot be compared with {self.field}, "
                                 f"which is a {'text' if kind is str else 'number'}.")


class Index(ABC):
    """Vectors of pictures on one store, whose address is ``uri``. Safe to call from several
    threads."""

    stamp: Stamp
    uri: str
    reads_texts = False  # whether names, captions and keywords count in a search
    read_only = False  # whether it can only be searched

    @abstractmethod
    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries; one with the id of an older one replaces it. All or nothing: where the
        process dies half-way, the store is as before. Of several with one id the last counts.

        Raises:
            StoreError: a vector of another dimension, or metadata of an unknown name.
        """

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> int:
        """Take entries out; returns how many were there."""

    def search(self, vector: np.ndarray | None, limit: int = 12,
               where: Sequence[Condition] = (), vectors: bool = False,
               words: Sequence[AskedWord] = ()) -> list[Found]:
        """The entries nearest to a unit vector (E,) that fit all conditions, best first; fewer
        than ``limit`` only where fewer fit. Equal scores come in the order of their paths.

        With ``words`` the order is that of score + `TEXT_WEIGHT` * ``told``, in an index that
        ``reads_texts``; another one passes them over.

        Without a vector nothing is compared, and they come in the order of their ids: `pages`
        reads a whole store that way. ``vectors`` asks for the vectors of what is found.

        Raises:
            StoreError: a vector of another dimension, or a limit below 1.
        """
        if limit < 1:
            raise StoreError(f"The limit is {limit}; ask for at least 1 hit.")
        wanted = None if vector is None else check_vector(vector, self.stamp.dimension)
        return self._search(wanted, limit, where, vectors, words)

    @abstractmethod
    def _search(self, vector: np.ndarray | None, limit: int, where: Sequence[Condition],
                vectors: bool, words: Sequence[AskedWord]) -> list[Found]:
        """`search`, with a vector and a limit that are right."""

    @abstractmethod
    def count(self) -> int:
        """How many entries there are."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the store; nothing may be called afterwards but `close`."""


def pages(index: Index, where: Sequence[Condition] = (), size: int = 20_000,
          vectors: bool = False) -> Iterator[list[Found]]:
    """All entries that fit, in the order of their ids, at most ``size`` at a time.

    Raises:
        StoreError: the store cannot be read.
    """
    last: tuple[Condition, ...] = ()
    while True:
        found = index.search(None, size, [*where, *last], vectors)
        if found:
            yield found
        if len(found) < size:
            return
        last = (Condition("id", ">", found[-1].id),)


def check_entries(entries: Sequence[Entry], dimension: int) -> list[Entry]:
    """The entries without repeated ids, the last of each; refuses what no index may take in.

    Raises:
        StoreError: a vector or metadata that does not fit.
    """
    for entry in entries:
        check_vector(entry.vector, dimension)
        for name, value in entry.metadata.items():
            if name not in METADATA:
                raise StoreError(f"There is no metadata {name!r}; use one of "
                                 f"{', '.join(METADATA)}.")
            fits = str if METADATA[name] is str else (int, float)
            if not isinstance(value, fits):
                raise StoreError(f"The metadata {name} is {value!r}; it must be "
                                 f"{'text' if METADATA[name] is str else 'a number'}.")
        try:
            for text in (entry.id, entry.path, *entry.metadata.values()):
                str(text).encode()
        except UnicodeEncodeError as error:
            shown = entry.path.encode(errors="backslashreplace").decode()
            raise StoreError("store.bad_file_name", name=shown) from error
    return list({entry.id: entry for entry in entries}.values())


def check_vector(vector: np.ndarray, dimension: int) -> np.ndarray:
    """The vector as float32 (E,).

    Raises:
        StoreError: another dimension, a number that is none, or not of length 1.
    """
    vector = np.asarray(vector, dtype=np.float32)
    if vector.shape != (dimension,):
        raise StoreError(f"The vector has the shape {vector.shape}; this store keeps vectors of "
                         f"{dimension} numbers. Use the model that the store was made with.")
    length = float(np.linalg.norm(vector))
    if not 0.99 < length < 1.01:
        raise StoreError(f"The vector has the length {length:.3f}; it must be 1.")
    return vector


def check_stamp(found: Stamp, wanted: Stamp, uri: str) -> None:
    """Raise `StoreError` where a store was made by another model than the one that is loaded."""
    if found == wanted:
        return
    was = f"{found.model} (revision {found.revision}, {found.dimension} numbers per picture)"
    now = f"{wanted.model} (revision {wanted.revision}, {wanted.dimension} numbers per picture)"
    raise StoreError("store.other_model", store=uri, was=was, now=now)


def open_index(uri: str, stamp: Stamp, only: Sequence[str] = ()) -> Index:
    """Open the store at an address, or make an empty one there; where ``only`` names folders, it is
    only read, and of its pictures those in them are found alone.

    Raises:
        StoreError: the address leads nowhere, or the store was made by another model.
    """
    if not uri.strip():
        raise StoreError("store.nameless")
    scheme = re.match(r"([a-z0-9+]+)://", uri)
    name = scheme.group(1) if scheme and scheme.group(1) in INDEXES else "lance"
    module, kind = INDEXES[name].split(":")
    index_class = getattr(importlib.import_module(module), kind)
    if not only:
        return cast(Index, index_class.open(uri, stamp))
    from vitdemo.retrieval.read_only import ReadOnlyIndex

    return ReadOnlyIndex(index_class.open(uri, stamp, read_only=True), only)
