"""Tables for spreadsheets: CSV in which no text of a file name or a model is run as a formula."""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

# What a spreadsheet would run or strip to get at what it would run, also in the wide forms that
# some of them read as the plain ones.
_FORMULA = re.compile(r"[\s\x00-\x1f\u200b\ufeff]*[=+\-@＝＋－＠]|[\t\r\n]")


def cell(value: Any) -> Any:
    """A value as a cell: a text that could be a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def write_table(stream: TextIO, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV; every text in it goes through `cell`."""
    writer = csv.writer(stream)
    writer.writerow(head)
    writer.writerows([cell(value) for value in row] for row in rows)
