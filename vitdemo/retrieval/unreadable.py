"""Files that are no good pictures, remembered so that the next run need not read them again.

A cache and no more: it lies beside the pictures of a store on disk, else in the user's cache
folder, and where it is lost or cannot be written the files are read once more.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import PIL

from vitdemo.disk import replacing
from vitdemo.errors import DiskError
from vitdemo.preprocess import register_heic
from vitdemo.retrieval.walk import State

FILE = "unreadable.json"


class Unreadable:
    """Paths, the states that the files were in, and the reasons. ``file`` None keeps nothing."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, tuple[float, float, str]] = {}
        self._changed = False
        if file is not None:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                found = json.loads(file.read_text("utf-8"))
                if found["reader"] == _reader():
                    self._known = {path: (size, modified, str(reason)) for path,
                                   (size, modified, reason) in found["files"].items()}

    @classmethod
    def of(cls, uri: str) -> "Unreadable":
        """What is remembered for the store at an address."""
        if uri.startswith("memory://"):
            return cls(None)
        if "://" not in uri:
            return cls(Path(uri) / FILE)
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        return cls(cache / "vitdemo" / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}-{FILE}")

    def reason(self, path: str, state: State) -> str:
        """Why the file is no good; "" where that is not known of this state of it."""
        size, modified, reason = self._known.get(path, (-1, -1, ""))
        return reason if State(int(size), modified) == state else ""

    def add(self, path: str, state: State, reason: str) -> None:
        """Remember a file."""
        self._known[path] = (state.size, state.modified, reason)
        self._changed = True

    def save(self) -> None:
        """Write the file; one that cannot be written is done without."""
        if self._file is None or not self._changed:
            return
        for path in [path for path in self._known if not os.path.lexists(path)]:
            del self._known[path]
        with contextlib.suppress(OSError, DiskError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing([self._file]) as (part,):
                part.write_text(json.dumps({"reader": _reader(), "files": self._known}), "utf-8")
        self._changed = False


def _reader() -> str:
    """What the verdict depends on besides the file."""
    return f"Pillow {PIL.__version__}{', HEIC' if register_heic() else ''}"
