"""Hits to keep: a table as CSV or JSON, or copies of the pictures as a zip."""

import io
import json
import math
import os
import re
import stat
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from vitdemo.config import LIMITS
from vitdemo.disk import replacing
from vitdemo.errors import ConfigError, PictureError
from vitdemo.preprocess import open_picture
from vitdemo.reasons import reason
from vitdemo.records import Hit
from vitdemo.tables import write_table
from vitdemo.texts import phrase
from vitdemo.video import called, file_of, second_of

KINDS = ("csv", "json", "zip")
KEPT = ("day", "taken", "camera", "orientation", "bytes", "dated")  # of what the store knows
COLUMNS = ("place", "name", "path", "score", "match", "width", "height", *KEPT)
LEFT_OUT = "left out.txt"
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069'
                     r"\ud800-\udfff]")
MOST_NAME = 255  # bytes that the name of a file may have
FIRST, LAST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)  # that a zip can tell

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
            with open(part, "w", encoding="utf-8-sig", newline="") as stream:  # the mark is Excel's
                _write_csv(stream, hits, paths)
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


def _write_csv(stream: TextIO, hits: Sequence[Hit], paths: bool) -> None:
    columns = [name for name in COLUMNS if paths or name != "path"]
    rows = (_row(place, hit, paths) for place, hit in enumerate(hits, 1))
    write_table(stream, columns, ([row[name] for name in columns] for row in rows))


def _write_zip(file: Path, hits: Sequence[Hit], paths: bool, progress: Tell | None) -> list[str]:
    limit = LIMITS.max_zip_megabytes * 2**20
    missing: list[str] = []
    size = copied = 0
    digits = max(2, len(str(len(hits))))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # pictures shrink no more
        for place, hit in enumerate(hits, 1):
            if progress is not None:
                progress(place - 1, len(hits))
            try:
                data, changed = _read(hit.path, limit - size)
            except PictureError as error:
                missing.append(phrase("export.unusable", place=place, why=error))
                continue
            except (OSError, ValueError) as error:
                key = "export.gone" if isinstance(error, FileNotFoundError) else "export.unreadable"
                missing.append(phrase(key, place=place, name=os.path.basename(hit.path),
                                      why=reason(error)))
                continue
            size += len(data)
            if size > limit:
                raise PictureError("export.large", count=place, most=LIMITS.max_zip_megabytes)
            archive.writestr(zipfile.ZipInfo(zip_name(hit.path, place, digits), changed), data)
            copied += 1
        if not copied:
            raise PictureError("export.all_gone")
        table = io.StringIO(newline="")
        _write_csv(table, hits, paths)
        archive.writestr("table.csv", table.getvalue().encode("utf-8-sig"))
        if missing:
            archive.writestr(LEFT_OUT, "\n".join(missing) + "\n")
    return missing


def _read(path: str, room: int) -> tuple[bytes, tuple[int, int, int, int, int, int]]:
    """A file's bytes, or more than ``room`` of them, and when it was changed, in local time, as far
    as a zip can say so: from 1980 to 2107.

    Raises:
        OSError, ValueError: it cannot be read.
        PictureError: it is a pipe by now, which would block for ever; or no frame can be read.
    """
    if second_of(path) is not None:
        return _frame(path)
    with open(path, "rb", opener=lambda name, flags: os.open(
            name, flags | getattr(os, "O_NONBLOCK", 0))) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PictureError("picture.not_plain", name=os.path.basename(path))
        data = stream.read(max(0, room) + 1)
    return data, _changed(status)


def _frame(path: str) -> tuple[bytes, tuple[int, int, int, int, int, int]]:
    """The same of a video's frame, as a JPEG."""
    stream = io.BytesIO()
    open_picture(path, name=called(path)).image.save(stream, "JPEG", quality=92)
    return stream.getvalue(), _changed(os.stat(file_of(path)))


def _changed(status: os.stat_result) -> tuple[int, int, int, int, int, int]:
    try:
        changed = time.localtime(status.st_mtime)[:6]
    except (OverflowError, ValueError, OSError):
        changed = LAST if status.st_mtime > 0 else FIRST
    return min(max(changed, FIRST), LAST)


def zip_name(path: str, place: int, digits: int) -> str:
    """What a picture is called in a zip: its place and its name, which is shortened before its
    ending where both together have more bytes than a name may have."""
    name = os.path.basename(path) + ("" if second_of(path) is None else ".jpg")
    stem, ending = os.path.splitext(_UNSAFE.sub("_", name))
    start = f"{place:0{digits}d} "
    room = max(0, MOST_NAME - len(f"{start}{ending}".encode()))
    name = f"{start}{stem.encode()[:room].decode(errors='ignore')}{ending}"
    return name.encode()[:MOST_NAME].decode(errors="ignore")
