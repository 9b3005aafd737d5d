"""What is written beside pictures: the sidecars of `vitdemo.sidecars`, and `metadata.jsonl`.

A mark tells, without reading a file, whether any of it changed.
"""

import hashlib
import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdemo.errors import DataError
from vitdemo.file_names import as_text, on_disk
from vitdemo.sidecars import MOST_BYTES, Row, parsed_row, read_sidecar
from vitdemo.video import file_of
from vitdemo.written import as_lines, xmp_texts

ROWS = "metadata.jsonl"
ENDINGS = ("txt", "json", "xmp")
NOTHING = "-"  # the mark of a picture beside which nothing is written


@dataclass
class Beside:
    """Sidecars and texts of rows by the path of their picture. What is said of a whole video is
    said of its frames, too."""

    _sidecars: dict[str, list[str]] = field(default_factory=dict)
    _rows: dict[str, str] = field(default_factory=dict)

    def look(self, folder: str, pictures: Sequence[str], names: set[str]) -> set[str]:
        """Take note of a folder's files by their ``names``; gives those that say something of
        ``pictures``, which are names, too."""
        used = {ROWS} & names
        if used:
            self._read_rows(folder)
        for picture in pictures:
            # photo.xmp is what cameras and most programs write, photo.jpg.xmp what some do.
            wanted = [*(f"{picture}.{ending}" for ending in ENDINGS),
                      f"{os.path.splitext(picture)[0]}.xmp"]
            if there := [name for name in wanted if name in names]:
                self._sidecars[os.path.join(folder, picture)] = [os.path.join(folder, name)
                                                                 for name in there]
                used |= set(there)
        known = set(pictures)
        for name in sorted(names):  # of frames, which have no files of their own
            path, ending = os.path.splitext(name)
            if ending[1:] in ENDINGS and path not in known and file_of(path) in known:
                self._sidecars.setdefault(os.path.join(folder, path), []).append(
                    os.path.join(folder, name))
                used.add(name)
        return used

    def mark(self, path: str) -> str:
        """What changes when a sidecar of the picture, or its row, does: 16 hexadecimal digits, or
        `NOTHING`."""
        states = self._texts_of(path)
        for name in self._files_of(path):
            try:
                status = os.stat(on_disk(name))
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(status.st_mode):  # a pipe would block for ever
                states.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        text = "\0".join(states)
        return hashlib.sha256(text.encode()).hexdigest()[:16] if text else NOTHING

    def told(self, path: str) -> dict[str, str]:
        """What the store keeps of it: the text ``beside`` the picture, and its mark."""
        mark = self.mark(path)
        texts = self._texts_of(path)
        for name in self._files_of(path) if mark != NOTHING else ():
            texts += _texts(Path(on_disk(name)))
        return {"beside": as_lines(line for text in texts for line in text.splitlines()),
                "beside_mark": mark}

    def _files_of(self, path: str) -> list[str]:
        """The sidecars of a picture."""
        return [name for one in dict.fromkeys((path, file_of(path)))
                for name in self._sidecars.get(one, ())]

    def _texts_of(self, path: str) -> list[str]:
        """What rows say of a picture."""
        return [self._rows[one] for one in dict.fromkeys((path, file_of(path)))
                if one in self._rows]

    def _read_rows(self, folder: str) -> None:
        file = on_disk(os.path.join(folder, ROWS))
        try:
            if not stat.S_ISREG(os.stat(file).st_mode):
                return
            with open(file, "rb") as stream:
                while line := stream.readline(MOST_BYTES):
                    if row := parsed_row(line.removeprefix(b"\xef\xbb\xbf")):
                        named = os.path.join(folder, as_text(row["file_name"]))
                        self._rows[os.path.normpath(named)] = "\n".join(row_texts(row))
        except OSError:
            return


def row_texts(row: Row) -> list[str]:
    """What a row says of its picture: a plain text, or captions, answers and names."""
    if "text" in row:
        return [str(row["text"])]
    answers = [" ".join(str(one.get(key, "")) for key in ("question", "answer"))
               for one in row.get("qa", [])]
    return [*row.get("captions", []), *row.get("captions_zh", []), *answers, *row.get("names", [])]


def _texts(file: Path) -> list[str]:
    """What a sidecar says; nothing where it cannot be understood."""
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return []
        if file.suffix == ".xmp":
            with file.open("rb") as stream:
                return xmp_texts(stream.read(MOST_BYTES))
        return row_texts(read_sidecar(file, file.suffix[1:]) or {})
    except (DataError, OSError, ValueError, ET.ParseError, LookupError):
        return []
