"""LanceDB's full-text index of what is written in, at and beside pictures.

The words lie in a column of their own, as `text_words` cuts them. A row's share of the words that
are asked for is its BM25, in which rare words count for more, by that of the best row, or by half
of that of the rarest word there can be where that is more: a word that stands nearly everywhere
counts for nearly nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.index import FTS
from lancedb.query import BooleanQuery, FullTextOperator, MatchQuery, Occur

from vitdemo.retrieval.text_words import AskedWord

WORDS = "words"  # the column
INDEX = "words_of_all"


def make_index(table: Any) -> None:
    """Make the index where there is none."""
    if is_made(table):
        return
    try:
        table.create_index(WORDS, name=INDEX, config=FTS(
            base_tokenizer="whitespace", lower_case=False, stem=False, remove_stop_words=False,
            ascii_folding=False))
    except (ValueError, OSError, RuntimeError):
        if not is_made(table):
            raise  # else another process was faster


def is_made(table: Any) -> bool:
    """Whether there is one."""
    return any(one.index_type == "FTS" for one in table.list_indices())


def rows_with(table: Any, words: Sequence[AskedWord], limit: int, sql: str,
              columns: Sequence[str]) -> pa.Table:
    """The best rows that have at least one of the words and fit ``sql``, with their "_score"."""
    query = BooleanQuery([(Occur.SHOULD, _match(word)) for word in words])
    asked = table.search(query, query_type="fts").select([*columns, "_score"]).limit(limit)
    return (asked.where(sql, prefilter=True) if sql else asked).to_arrow()


def _match(word: AskedWord) -> MatchQuery:
    return MatchQuery(" ".join(word.pieces), WORDS, boost=abs(word.weight), fuzziness=0,
                      max_expansions=50, operator=FullTextOperator.AND, prefix_length=0,
                      document_granularity=None)


def shares(table: Any, words: Sequence[AskedWord], rows: pa.Table, limit: int,
           others: Sequence[str]) -> dict[str, float]:
    """How much of the words each row has, by its id: 0..0.5, and twice that where it has all of
    them. That of ``rows``, which are the best ``limit``, and of those ids among ``others`` that
    have any."""
    scores = _scores(rows, words)
    most = max([math.log(1 + table.count_rows()) / 2, *(score for score, _ in scores.values())])
    if len(rows) == limit and (rest := [one for one in others if one not in scores]):
        within = f"id IN ({', '.join(map(quote, rest))})"
        scores |= _scores(rows_with(table, words, len(rest), within, ["id", WORDS]), words)
    return {id_: score / most / (1 if whole else 2) for id_, (score, whole) in scores.items()}


def _scores(rows: pa.Table, words: Sequence[AskedWord]) -> dict[str, tuple[float, bool]]:
    """BM25 by the ids of rows, and whether all of the words stand there."""
    pieces = {piece for word in words for piece in word.pieces}
    columns = (rows[name].to_pylist() for name in ("id", "_score", WORDS))
    return {id_: (score, pieces.issubset(held.split()))
            for id_, score, held in zip(*columns, strict=True)}


def vectors_of(rows: pa.Table) -> np.ndarray:
    """The vectors of some rows: float32 (N, E)."""
    vectors = rows["vector"].combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(rows), vectors.type.list_size), np.float32)


def without(words: Sequence[AskedWord], sql: str) -> str:
    """The condition ``sql``, and that none of the words stands there."""
    none = [f"NOT contains_tokens({WORDS}, {quote(' '.join(word.pieces))})" for word in words]
    here = f"({WORDS} IS NULL OR {' AND '.join(none)})"
    return f"{sql} AND {here}" if sql else here


def quote(text: str) -> str:
    """A text as a string of SQL: a quote inside is doubled, nothing else has a meaning."""
    return "'" + text.replace("'", "''") + "'"
