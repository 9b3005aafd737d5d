"""Hits to keep: a table as CSV or JSON, or copies of the pictures as a zip."""

import csv
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vitdemo.config import LIMITS
from vitdemo.disk import replacing
from vitdemo.errors import ConfigError, PictureError
from vitdemo.records import Hit

KINDS = ("csv", "json", "zip")
KEPT = ("day", "taken", "camera", "orientation", "bytes", "dated")  # of what the store knows
COLUMNS = ("place", "name", "path", "score", "match", "width", "height", *KEPT)
LEFT_OUT = "left out.txt"
_FORMULA = re.compile(r"[=+\-@\t\r]")  # at the start of a cell a spreadsheet would run it
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')

Tell = Callable[[int, int], None]


def write_hits(file: Path, hits: Sequence[Hit], query: str = "", paths: bool = True,
               progress: Tell | None = None) -> list[str]:
    """Write hits, best first, as the file's ending says: .csv, .json or .zip.

    ``query`` is how the search was understood. Without ``paths`` only the names of the files are
    told. A zip holds copies, their place before the name, and `table.csv`; gives a sentence on each
    picture that could not be put into it, which also stand in `LEFT_OUT` there. The file appears
    whole or not at all. ``progress(done, total)`` is called for a zip; what it raises ends it.

    Raises:
        DiskError: the file cannot be written.
        PictureError: the pictures are too large together, or none is there any more.
        ConfigError: another ending.
    """
    kind = file.suffix.lower().lstrip(".")
    if kind not in KINDS:
        raise ConfigError(f"{file.name} ends in {file.suffix or 'nothing'}; hits are written as "
                          f"{', '.join(f'.{one}' for one in KINDS)}.")
    missing: list[str] = []
    with replacing([file]) as (part,):
        if kind == "csv":
            _write_csv(part, hits, paths)
        elif kind == "json":
            part.write_text(json.dumps(to_json(hits, query, paths), ensure_ascii=False, indent=2)
                            + "\n", encoding="utf-8")
        else:
            missing = _write_zip(part, hits, paths, progress)
    return missing


def to_json(hits: Sequence[Hit], query: str = "", paths: bool = True) -> dict[str, Any]:
    """Hits as plain values; "match" is null where the match head was not asked."""
    return {"query": query, "hits": [_row(place, hit, paths) for place, hit in enumerate(hits, 1)]}


def _row(place: int, hit: Hit, paths: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "place": place, "name": os.path.basename(hit.path), "path": hit.path,
        "score": round(hit.score, 6),
        "match": None if math.isnan(hit.match) else round(hit.match, 6),
        "width": hit.width, "height": hit.height,
        **{name: hit.metadata.get(name) for name in KEPT}}
    if not paths:
        del row["path"]
    return row


def _write_csv(file: Path, hits: Sequence[Hit], paths: bool) -> None:
    columns = [name for name in COLUMNS if paths or name != "path"]
    with open(file, "w", encoding="utf-8-sig", newline="") as stream:  # the mark is for Excel
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for place, hit in enumerate(hits, 1):
            writer.writerow({name: _cell(value) for name, value in
                             _row(place, hit, paths).items()})


def _cell(value: Any) -> Any:
    if isinstance(value, str) and _FORMULA.match(value):
        return "'" + value
    return value


def _write_zip(file: Path, hits: Sequence[Hit], paths: bool, progress: Tell | None) -> list[str]:
    limit = LIMITS.max_zip_megabytes * 2**20
    missing: list[str] = []
    size = copied = 0
    digits = max(2, len(str(len(hits))))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # pictures shrink no more
        for place, hit in enumerate(hits, 1):
            if progress is not None:
                progress(place - 1, len(hits))
            name = os.path.basename(hit.path)
            try:
                size += os.path.getsize(hit.path)
                if size > limit:
                    raise PictureError(
                        f"The first {place} pictures have over {LIMITS.max_zip_megabytes} MB "
                        "together, the most that is put into one file. Ask for fewer.")
                archive.write(hit.path, f"{place:0{digits}d} {_UNSAFE.sub('_', name)}")
                copied += 1
            except FileNotFoundError:
                missing.append(f"{place}: {name} is no longer there.")
            except (OSError, ValueError) as error:
                if getattr(error, "filename", None) != hit.path:
                    raise  # it is the zip that cannot be written
                why = getattr(error, "strerror", None) or error
                missing.append(f"{place}: {name} cannot be read: {why}.")
        if not copied:
            raise PictureError("None of these pictures is there any more. Index the folder again.")
        table = file.with_name(file.name + ".csv")
        try:
            _write_csv(table, hits, paths)
            archive.write(table, "table.csv")
        finally:
            table.unlink(missing_ok=True)
        if missing:
            archive.writestr(LEFT_OUT, "\n".join(missing) + "\n")
    return missing
