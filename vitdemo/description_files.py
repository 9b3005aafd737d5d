"""Where the descriptions of many pictures are written: sidecars, or one file of rows.

What was written is never lost: a sidecar is replaced whole, and rows are added at the end and
brought to the disk. A last line that is torn, as after a loss of power, is taken away when the file
is opened again; its picture is then described once more.
"""

import contextlib
import csv
import io
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vitdemo.disk import cannot_write, replacing
from vitdemo.errors import ConfigError, DataError
from vitdemo.file_names import as_text, on_disk
from vitdemo.sidecars import Row, joined, parsed_row, read_sidecar, sidecar, write_sidecar
from vitdemo.tables import cell
from vitdemo.video import file_of, second_of

EXISTING = ("skip", "overwrite", "append")


class Output(ABC):
    """A place for rows (see `sidecars`), by the path of their picture. ``existing`` says what
    becomes of texts that are there: one of `EXISTING`."""

    existing: str

    @abstractmethod
    def row(self, path: str) -> Row | None:
        """What is there of a picture; None where nothing is, or not all that was asked for."""

    def frames(self, video: str) -> list[str]:
        """The paths of a video's frames of which there are rows."""
        return []

    @abstractmethod
    def write(self, rows: Sequence[tuple[str, Row]]) -> list[tuple[str, str]]:
        """Write new rows; gives the files that were left as they are, and why.

        Raises:
            DiskError: there is no room, or no permission; what was written before is kept.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish the file. Raises `DiskError` as `write` does."""

    def wants(self, path: str, size: int, modified: float, key: str) -> bool:
        """Whether a picture in this state is to be described with the settings of ``key``."""
        row = self.row(path)
        if row is None or self.existing == "overwrite":
            return True
        same = row.get("bytes") == size and row.get("modified") == modified
        if self.existing == "append":
            return not same or key not in row.get("made", [])
        return "bytes" in row and not same  # what somebody else wrote is left alone

    def knows(self, path: str, content: str, key: str) -> bool:
        """Whether exactly this content was described: the file has only a new date."""
        row = self.row(path) or {}
        return (self.existing != "overwrite" and row.get("content") == content
                and (self.existing == "skip" or key in row.get("made", [])))


def in_order(frames: Iterable[str]) -> list[str]:
    """Paths of a video's frames in the order of their seconds."""
    return sorted(frames, key=lambda path: second_of(path) or 0.0)


def by_video(paths: Iterable[str]) -> dict[str, list[str]]:
    """Those that are frames, by the paths of their videos."""
    frames: dict[str, list[str]] = {}
    for path in paths:
        if second_of(path) is not None:
            frames.setdefault(file_of(path), []).append(path)
    return frames


class Sidecars(Output):
    """Files beside each picture, with these endings."""

    def __init__(self, endings: Sequence[str], existing: str) -> None:
        self.existing = existing
        self._endings = sorted(set(endings))  # json first: it has the record that txt lacks
        # The frames that are described in the folder that was asked for last, by their videos.
        self._listed: tuple[str, dict[str, list[str]]] | None = None

    def row(self, path: str) -> Row | None:
        rows = [self._read(path, ending) for ending in self._endings]
        if any(row is None for row in rows):
            return None
        return next((row for row in rows if row and "bytes" in row), rows[0])

    def frames(self, video: str) -> list[str]:
        folder = os.path.dirname(video)
        if self._listed is None or self._listed[0] != folder:
            self._listed = folder, by_video(self._described_in(folder))
        return in_order(self._listed[1].get(video, []))

    def _described_in(self, folder: str) -> list[str]:
        """The paths of pictures in a folder that have a sidecar of the first ending."""
        ending = f".{self._endings[0]}"
        try:
            names = os.listdir(on_disk(folder))
        except OSError:
            return []
        return [os.path.join(folder, as_text(name).removesuffix(ending))
                for name in names if name.endswith(ending)]

    def write(self, rows: Sequence[tuple[str, Row]]) -> list[tuple[str, str]]:
        self._listed = None
        faults = []
        for path, new in rows:
            ours = any("bytes" in (self._read(path, ending) or {}) for ending in self._endings)
            for ending in self._endings:
                file = sidecar(Path(on_disk(path)), ending)
                try:
                    old = read_sidecar(file, ending)
                    if old is not None and self.existing == "skip" and not (
                            ours if ending == "txt" else "bytes" in old):
                        continue
                    self._write(file, ending, old, new)
                except DataError as error:
                    faults.append((str(file), str(error)))
        return faults

    def _write(self, file: Path, ending: str, old: Row | None, new: Row) -> None:
        if ending == "txt" and old is not None and self.existing == "append":
            lines = old["text"].splitlines()
            texts = [*new.get("captions", []), *new.get("captions_zh", [])]
            new = {**new, "captions": [*lines, *(one for one in texts if one not in lines)],
                   "captions_zh": [], "qa": [one for one in new.get("qa", [])
                                             if f"{one['question']} {one['answer']}" not in lines],
                   "names": []}
            old = None
        write_sidecar(file, ending, joined(None if ending == "txt" else old, new,
                                           self.existing == "append"))

    def _read(self, path: str, ending: str) -> Row | None:
        try:
            return read_sidecar(sidecar(Path(on_disk(path)), ending), ending)
        except DataError:
            return {}  # there, and somebody else's

    def close(self) -> None:
        """Nothing is left to be done."""


class Rows(Output):
    """One file with a line for each picture. A row that replaces another is added at the end, and
    the older one is taken out when the file is closed, or opened again."""

    def __init__(self, file: Path, existing: str) -> None:
        self.existing = existing
        self._file = file
        self._folder = Path(os.path.abspath(file)).parent
        self._rows: dict[str, Row] = {}
        self._others: list[bytes] = []  # lines that cannot be understood stay as they are
        self._doubled = False
        self._videos: dict[str, list[str]] | None = None  # their frames, by their paths
        with contextlib.suppress(FileNotFoundError):
            try:
                self._mend()
            except FileNotFoundError:
                raise
            except OSError as error:
                raise cannot_write(file, error) from error
        self.close()

    head = b""

    @abstractmethod
    def line(self, row: Row) -> bytes:
        """A row as a line, its end included."""

    @abstractmethod
    def parsed(self, line: bytes) -> Row | None:
        """The way back; None for a line that is no row."""

    def row(self, path: str) -> Row | None:
        return self._rows.get(os.path.abspath(path))

    def frames(self, video: str) -> list[str]:
        if self._videos is None:
            self._videos = by_video(self._rows)
        return in_order(self._videos.get(os.path.abspath(video), []))

    def write(self, rows: Sequence[tuple[str, Row]]) -> list[tuple[str, str]]:
        lines, joint = [], {}
        for path, new in rows:
            key = os.path.abspath(path)
            old = self._rows.get(key)
            row = joined(old, {"file_name": self._named(key), **new}, self.existing == "append")
            joint[key] = row
            lines.append(self.line(row))
            self._doubled |= old is not None
        self._append(b"".join(lines))
        self._rows |= joint
        self._videos = None
        return []

    def _append(self, data: bytes) -> None:
        before: int | None = None
        try:
            with open(self._file, "ab", buffering=0) as stream:
                before = stream.seek(0, os.SEEK_END)
                rest = memoryview(data if before else self.head + data)
                while rest:
                    rest = rest[stream.write(rest):]
                os.fsync(stream.fileno())
        except OSError as error:
            if before is not None:  # a line of which only a part had room
                with contextlib.suppress(OSError):
                    os.truncate(self._file, before)
            raise cannot_write(self._file, error, len(data)) from error

    def close(self) -> None:
        if self._doubled:
            data = self.head + b"".join([*self._others, *map(self.line, self._rows.values())])
            with replacing([self._file], len(data)) as (part,):
                part.write_bytes(data)
            self._doubled = False

    def _mend(self) -> None:
        """Read what is there, and mend its last line."""
        data = self._file.read_bytes()
        end = data.rfind(b"\n") + 1
        if data[end:]:
            if self.parsed(data[end:]) is None:
                os.truncate(self._file, end)
                data = data[:end]
            else:
                with open(self._file, "ab") as stream:
                    stream.write(b"\n")
        for line in self.lines(data.removeprefix(b"\xef\xbb\xbf")):
            row = self.parsed(line)
            if row is None:
                self._others += [line.rstrip(b"\r\n") + b"\n"] if line.strip() else []
                continue
            key = os.path.abspath(self._folder / on_disk(row["file_name"]))
            self._doubled |= key in self._rows
            self._rows[key] = row

    def lines(self, data: bytes) -> list[bytes]:
        """The lines that hold rows."""
        return data.split(b"\n")

    def _named(self, path: str) -> str:
        """The picture as the file calls it: relative where it lies beneath the file."""
        inside = os.path.relpath(path, self._folder) if path.startswith(
            os.path.join(str(self._folder), "")) else path
        return Path(inside).as_posix()


class JsonLines(Rows):
    """A JSON object a line, as training reads it."""

    def line(self, row: Row) -> bytes:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"

    def parsed(self, line: bytes) -> Row | None:
        return parsed_row(line)


class Table(Rows):
    """CSV for spreadsheets, one row a line; several texts of a cell stand on either side of " | ".

    Raises (when it is opened):
        ConfigError: the file is another table.
    """

    COLUMNS = ("file_name", "captions", "captions_zh", "qa", "names", "content", "bytes",
               "modified", "made")

    def __init__(self, file: Path, existing: str) -> None:
        # The mark at the beginning is for Excel.
        self.head = b"\xef\xbb\xbf" + self._csv(self.COLUMNS)
        super().__init__(file, existing)

    def line(self, row: Row) -> bytes:
        texts = {**row, "qa": [f"{one['question']} = {one['answer']}" for one in row["qa"]]}
        return self._csv([" | ".join(value) if isinstance(value := texts.get(name, ""), list)
                          else value for name in self.COLUMNS])

    @staticmethod
    def _csv(cells: Sequence[Any]) -> bytes:
        stream = io.StringIO()
        csv.writer(stream).writerow([cell(re.sub(r"[\r\n]+", " ", one) if isinstance(one, str)
                                          else one) for one in cells])
        return stream.getvalue().encode()

    def parsed(self, line: bytes) -> Row | None:
        try:
            cells = next(csv.reader([line.decode().rstrip("\r\n")], strict=True))
        except (ValueError, csv.Error, StopIteration):
            return None
        if len(cells) != len(self.COLUMNS) or not re.fullmatch(r"[0-9a-f |]{12,}", cells[-1]):
            return None
        plain = [one[1:] if one.startswith("'") and cell(one[1:]) == one else one
                 for one in cells]
        row: Row = dict(zip(self.COLUMNS, plain, strict=True))
        for name in ("captions", "captions_zh", "qa", "names", "made"):
            row[name] = row[name].split(" | ") if row[name] else []
        row["qa"] = [dict(zip(("question", "answer"), one.rsplit(" = ", 1), strict=False))
                     for one in row["qa"] if " = " in one]
        try:
            row |= {"bytes": int(row["bytes"]), "modified": float(row["modified"])}
        except ValueError:
            return None
        return row

    def lines(self, data: bytes) -> list[bytes]:
        head, *rows = data.split(b"\n")
        if head.strip() != self._csv(self.COLUMNS).strip() and data:
            raise ConfigError("describing.other_table", file=self._file)
        return rows
