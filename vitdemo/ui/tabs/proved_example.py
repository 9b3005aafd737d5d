"""Which example's map was found to be the word's own, kept for the next start of the app.

A cache and no more: where it is lost or cannot be written, the example is looked for again.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vitdemo import __version__
from vitdemo.disk import cache_folder, replacing
from vitdemo.errors import DiskError
from vitdemo.records import ModelInfo


class ProvedExample:
    """By the code of a language, the place of the example in the list; for one model's weights,
    and for examples with these contents in this order."""

    def __init__(self, info: ModelInfo, examples: Sequence[Path]) -> None:
        known = hashlib.sha256(f"{__version__} {info.name} {info.revision}".encode())
        for path in examples:
            known.update(hashlib.sha256(path.read_bytes()).digest())
        self._file = cache_folder() / f"opening-{known.hexdigest()[:16]}.json"
        self._count = len(examples)
        self._places: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads(self._file.read_text("utf-8"))
            if isinstance(found, dict):
                self._places = {code: place for code, place in found.items()
                                if type(place) is int and 0 <= place < self._count}

    def get(self, code: str) -> int | None:
        """The place; None where none is known."""
        return self._places.get(code)

    def put(self, code: str, place: int | None) -> None:
        """Keep it, or that there is none."""
        if self._places.get(code) == place:
            return
        self._places.pop(code, None)
        if place is not None:
            self._places[code] = place
        with contextlib.suppress(OSError, DiskError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing([self._file]) as (part,):
                part.write_text(json.dumps(self._places), "utf-8")
