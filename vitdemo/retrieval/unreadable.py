"""Files that are no good pictures, remembered so that the next run need not read them again.

A cache and no more: it lies beside the pictures of a store on disk, else in the user's cache
folder, and where it is lost or cannot be written the files are read once more.
"""

import contextlib
import hashlib
import json
from pathlib import Path

import PIL

from vitdemo import __version__
from vitdemo.disk import cache_folder, replacing
from vitdemo.errors import DiskError
from vitdemo.file_names import missing
from vitdemo.preprocess import register_heic
from vitdemo.retrieval.walk import State
from vitdemo.texts import Message, as_json, from_json
from vitdemo.video import video_reader

FILE = "unreadable.json"


class Unreadable:
    """Paths, the states that the files were in, and the reasons. ``file`` None keeps nothing."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, tuple[State, str | Message]] = {}
        self._changed = False
        if file is not None:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError,
                                     OverflowError, RecursionError):
                found = json.loads(file.read_text("utf-8"))
                if found["reader"] == _reader():
                    self._known = {path: (State(int(size), float(modified)), from_json(reason))
                                   for path, (size, modified, reason) in found["files"].items()}

    @classmethod
    def of(cls, uri: str) -> "Unreadable":
        """What is remembered for the store at an address."""
        if uri.startswith("memory://"):
            return cls(None)
        if "://" not in uri:
            return cls(Path(uri) / FILE)
        return cls(cache_folder() / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}-{FILE}")

    def reason(self, path: str, state: State) -> str | Message:
        """Why the file is no good; "" where that is not known of this state of it."""
        known, reason = self._known.get(path, (None, ""))
        return reason if known == state else ""

    def add(self, path: str, state: State, reason: str | Message) -> None:
        """Remember a file."""
        self._known[path] = (state, reason)
        self._changed = True

    def save(self) -> None:
        """Write the file; one that cannot be written is done without."""
        if self._file is None or not self._changed:
            return
        files = {path: (state.size, state.modified, as_json(reason))
                 for path, (state, reason) in self._known.items() if not missing(path)}
        with contextlib.suppress(OSError, DiskError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing([self._file]) as (part,):
                part.write_text(json.dumps({"reader": _reader(), "files": files}), "utf-8")
        self._changed = False


def _reader() -> str:
    """What the verdict depends on besides the file."""
    others = ("HEIC" if register_heic() else "", video_reader())
    return ", ".join(filter(None, (f"vitdemo {__version__}", f"Pillow {PIL.__version__}", *others)))
