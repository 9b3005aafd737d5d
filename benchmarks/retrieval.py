"""Searching and indexing: ours against NumPy, FAISS and what small tools do.

    python -m benchmarks.retrieval [--sizes 10000 100000 1000000] [--queries 100]
        [--hnsw-most 100000] [--milvus host:port] [--texts 20000] [--pictures 2000 20000]
        [--photos DIR] [--stand-in] [--json FILE]

**Queries.** Vectors of the model's width, clustered as those of photographs are (made on the spot),
queries from the same clusters. For each query all ways take turns, in turned order, and must give
the best 12 with their paths:

- *NumPy exact*: one matrix times the query, in memory. The limit is how fast memory is read.
- *FAISS flat*: the same by FAISS, where it is installed (`pip install faiss-cpu`).
- *SQLite and NumPy*: rclip's way: the vectors lie in an SQLite table and are read, put together and
  compared for each search; at most 100,000.
- *ours*: `LanceIndex.search`, the rows read from disk included; also with a filter that a tenth of
  the pictures fits.

clip-retrieval's way is an index of FAISS over all vectors: *FAISS HNSW* with its usual settings.

Wall time, and beside it the processor time of all threads, which tells more on a busy machine.

**Texts** (``--texts 20000``): a text of ten words beside each picture, one of them its own, the
others as frequent as words are. *Words* searches for one picture's own word and two others of its
text, by a vector that has nothing to do with it; how often it comes first stands beside the times.
*Vectors alone* is the same store, asked without words.

**Indexing** (`benchmarks/indexing.py`): see there. ``--sizes`` or ``--pictures`` with nothing
behind leaves that part out.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.indexing import measure_indexing
from benchmarks.timing import keep, machine, table
from vitdemo.retrieval.base import Condition, Entry, Index, Stamp, open_index
from vitdemo.retrieval.metadata import entry_id
from vitdemo.retrieval.query_text import parse_query
from vitdemo.retrieval.text_words import asked_words

DIMENSION = 384  # of the demo model's vectors
BEST = 12
PIECE = 20_000  # vectors made, and entries written, at once
SQLITE_MOST = 100_000  # rclip's way reads everything for each query
FOLDERS = 10

VOCABULARY = 3000  # made-up words, by Zipf's law
TEXT_WORDS = 9  # of these beside a picture

Way = Callable[[np.ndarray], list[str]]


def clustered(count: int, dimension: int = DIMENSION, seed: int = 0,
              clusters: int = 600) -> np.ndarray:
    """Unit vectors (count, dimension) round common middles: neighbours have a cosine of 0.55 to
    0.65, as those of photographs of one kind. The middles are the same for every seed."""
    middles = np.random.default_rng(1).standard_normal((clusters, dimension), np.float32)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    random = np.random.default_rng(seed + 2)
    made = np.empty((count, dimension), np.float32)
    for first in range(0, count, PIECE):
        size = min(PIECE, count - first)
        noise = random.standard_normal((size, dimension), np.float32)
        rows = middles[random.integers(0, clusters, size)] + noise * (0.9 / dimension ** 0.5)
        made[first:first + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def path_of(number: int) -> str:
    return f"/pictures/{number % FOLDERS}/{number:07}.jpg"


def fill(index: Index, vectors: np.ndarray, texts: Sequence[str] = ()) -> float:
    """Add every vector, and a text beside each where there are some; gives the seconds that it
    took, an index's making included."""
    start = time.perf_counter()
    for first in range(0, len(vectors), PIECE):
        index.add([Entry(entry_id(path_of(number)), path_of(number), vectors[number], 640, 480,
                         {"folder": f"/pictures/{number % FOLDERS}", "bytes": number,
                          **({"beside": texts[number]} if texts else {})})
                   for number in range(first, min(first + PIECE, len(vectors)))])
    return time.perf_counter() - start


def numpy_way(vectors: np.ndarray) -> Way:
    def search(query: np.ndarray) -> list[str]:
        scores = vectors @ query
        best = np.argpartition(-scores, BEST)[:BEST]
        return [path_of(int(number)) for number in best[np.argsort(-scores[best])]]

    return search


def faiss_ways(vectors: np.ndarray, hnsw_most: int) -> dict[str, Way]:
    """None where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        print("FAISS is not installed, so it is left out (pip install faiss-cpu)", file=sys.stderr)
        return {}
    made: dict[str, Any] = {"FAISS flat": faiss.IndexFlatIP(vectors.shape[1])}
    if len(vectors) <= hnsw_most:
        made["FAISS HNSW"] = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        made["FAISS HNSW"].hnsw.efSearch = 128
    for index in made.values():
        index.add(vectors)

    def way(index: Any) -> Way:
        return lambda query: [path_of(int(one)) for one in index.search(query[None], BEST)[1][0]]

    return {name: way(index) for name, index in made.items()}


def sqlite_way(vectors: np.ndarray, file: Path) -> Way:
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE images (filepath TEXT PRIMARY KEY, vector BLOB)")
    database.executemany("INSERT INTO images VALUES (?, ?)",
                         ((path_of(n), one.tobytes()) for n, one in enumerate(vectors)))
    database.commit()

    def search(query: np.ndarray) -> list[str]:
        rows = database.execute("SELECT filepath, vector FROM images").fetchall()
        features = np.stack([np.frombuffer(row[1], np.float32) for row in rows])
        scores = features @ query
        return [rows[number][0] for number in np.argsort(-scores)[:BEST]]

    return search


def index_ways(name: str, index: Index) -> dict[str, Way]:
    tenth = [Condition("folder", "=", "/pictures/3")]
    return {name: lambda query: [one.path for one in index.search(query, BEST)],
            f"{name}, a tenth filtered": lambda query: [one.path for one in
                                                        index.search(query, BEST, tenth)]}


def right_answers(vectors: np.ndarray, queries: np.ndarray, way: str) -> list[set[str]]:
    """The paths of the true best of each query, for a filtered way those of its tenth."""
    filtered = "filtered" in way
    chosen = np.arange(3, len(vectors), FOLDERS) if filtered else np.arange(len(vectors))
    some = vectors[3::FOLDERS] if filtered else vectors
    found = []
    for query in queries:
        scores = some @ query
        found.append({path_of(int(chosen[n])) for n in np.argpartition(-scores, BEST)[:BEST]})
    return found


def take_turns(ways: dict[str, Way], vectors: np.ndarray,
               queries: np.ndarray) -> dict[str, dict[str, float]]:
    """p50 and p95 in milliseconds, ratio of p50 to NumPy's, recall, and the same of processor
    time."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    worked: dict[str, list[float]] = {name: [] for name in ways}
    hits = dict.fromkeys(ways, 0)
    right = {name: right_answers(vectors, queries, name) for name in ways}
    for way in ways.values():
        way(queries[0])
    for number, query in enumerate(queries):
        for name in ways if number % 2 == 0 else reversed(list(ways)):
            start, used = time.perf_counter(), time.process_time()
            found = ways[name](query)
            seconds[name].append(time.perf_counter() - start)
            worked[name].append(time.process_time() - used)
            hits[name] += len(right[name][number] & set(found))
    return {name: {"p50": float(np.percentile(times, 50)) * 1e3,
                   "p95": float(np.percentile(times, 95)) * 1e3,
                   "ratio": float(np.median(times) / np.median(seconds["NumPy exact"])),
                   "work": float(np.median(worked[name])) * 1e3,
                   "work_ratio": float(np.median(worked[name])
                                       / np.median(worked["NumPy exact"])),
                   "recall": hits[name] / len(queries) / BEST}
            for name, times in seconds.items()}


def measure_queries(size: int, options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """All ways at one size; the store is made below ``place``."""
    vectors, queries = clustered(size), clustered(options.queries, seed=1000)
    stamp = Stamp("benchmark", "1", DIMENSION)
    ways: dict[str, Way] = {"NumPy exact": numpy_way(vectors),
                            **faiss_ways(vectors, options.hnsw_most)}
    if size <= SQLITE_MOST:
        ways["SQLite and NumPy"] = sqlite_way(vectors, place / f"{size}.sqlite")
    stores = {"ours": str(place / str(size))}
    if options.milvus:
        address = f"milvus://{options.milvus}/benchmark_{size}"
        stores["ours, Milvus"] = f"{address}?consistency=eventually"
    filled = {}
    for name, address in stores.items():
        index = open_index(address, stamp)
        if index.count() != size:
            filled[name] = fill(index, vectors)
        ways |= index_ways(name, index)
    return {"vectors": size, "filled": filled, "ways": take_turns(ways, vectors, queries)}


def texts_of(count: int) -> list[str]:
    """A text for each of so many pictures, the first word of each its own."""
    random = np.random.default_rng(3)
    often = 1 / np.arange(1, VOCABULARY + 1)
    drawn = random.choice(VOCABULARY, (count, TEXT_WORDS), p=often / often.sum())
    return [" ".join([f"own{spelled(number)}", *(f"word{spelled(int(one))}" for one in row)])
            for number, row in enumerate(drawn)]


def spelled(number: int) -> str:
    """A number in letters, as a word is cut between letters and digits."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def measure_texts(size: int, queries: np.ndarray, place: Path) -> dict[str, Any]:
    """Searching with and without words in a store with texts, in turn. Vectors of names that a
    model does not know lie no nearer to any picture: half of a query's vector is at random."""
    vectors, texts = clustered(size), texts_of(size)
    random = np.random.default_rng(4)
    queries = queries / 2 + random.standard_normal(queries.shape) / (2 * DIMENSION) ** 0.5
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    index = open_index(str(place / f"texts-{size}"), Stamp("benchmark", "1", DIMENSION))
    filled = fill(index, vectors, texts)
    seconds: dict[str, list[float]] = {"vectors alone": [], "words": []}
    worked: dict[str, list[float]] = {"vectors alone": [], "words": []}
    first = 0
    for turn, query in enumerate([queries[0], *queries]):
        wanted = int(random.integers(size))
        own, *others = texts[wanted].split()
        words = asked_words(parse_query(" ".join([own, *others[:2]])))
        for name in ("vectors alone", "words") if turn % 2 else ("words", "vectors alone"):
            start, used = time.perf_counter(), time.process_time()
            found = index.search(query, BEST, words=words if name == "words" else ())
            if turn:
                seconds[name].append(time.perf_counter() - start)
                worked[name].append(time.process_time() - used)
                first += name == "words" and found[0].path == path_of(wanted)
    return {"vectors": size, "filled": filled, "first": first / len(queries), **{
        name: {"p50": float(np.percentile(times, 50)) * 1e3,
               "p95": float(np.percentile(times, 95)) * 1e3,
               "work": float(np.median(worked[name])) * 1e3} for name, times in seconds.items()}}


def show_texts(result: dict[str, Any]) -> None:
    print(f"\n{result['vectors']:,} pictures with texts, filled in {result['filled']:.1f} s; "
          f"what only a text names came first in {result['first']:.0%} of the searches")
    print(table(("way", "p50 ms", "p95 ms", "work ms"), [
        (name, *(f"{result[name][kind]:.1f}" for kind in ("p50", "p95", "work")))
        for name in ("vectors alone", "words")]))


def show_queries(result: dict[str, Any]) -> None:
    rows = [(name, f"{one['p50']:.1f}", f"{one['p95']:.1f}", f"{one['ratio']:.2f}",
             f"{one['work']:.1f}", f"{one['work_ratio']:.2f}", f"{one['recall']:.3f}")
            for name, one in result["ways"].items()]
    print(f"\n{result['vectors']:,} vectors of {DIMENSION} numbers")
    print(table(("way", "p50 ms", "p95 ms", "p50 / NumPy", "work ms",
                 "work / NumPy", f"recall@{BEST}"), rows))
    for name, seconds in result["filled"].items():
        print(f"{name}: filled in {seconds:.1f} s")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--texts", type=int, nargs="*", default=[20_000])
    parser.add_argument("--hnsw-most", type=int, default=100_000,
                        help="no FAISS HNSW above so many vectors: making it takes minutes")
    parser.add_argument("--pictures", type=int, nargs="*", default=[2_000, 20_000])
    parser.add_argument("--photos", type=Path, default=Path("examples"))
    parser.add_argument("--model", default="checkpoints/vitdemo-small")
    parser.add_argument("--stand-in", action="store_true",
                        help="no model: a picture's vector is made of its colours")
    parser.add_argument("--milvus", default="", metavar="HOST:PORT")
    parser.add_argument("--json", default="", metavar="FILE")
    options = parser.parse_args(argv)
    result: dict[str, Any] = {"machine": machine(), "queries": [], "texts": [], "indexing": {}}
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            found = measure_queries(size, options, Path(folder))
            result["queries"].append(found)
            show_queries(found)
        for size in options.texts:
            found = measure_texts(size, clustered(options.queries, seed=1000), Path(folder))
            result["texts"].append(found)
            show_texts(found)
        if options.pictures:
            result["indexing"] = measure_indexing(
                options.pictures, options.photos, options.model if not options.stand_in else "",
                Path(folder))
    keep(result, options.json)


if __name__ == "__main__":
    main()
