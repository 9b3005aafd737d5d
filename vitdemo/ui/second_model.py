"""The second models that Compare was asked for, loaded once and kept for a while."""

import threading
from collections.abc import Callable

from vitdemo.disk import expanded
from vitdemo.engine import Engine
from vitdemo.errors import CheckpointError

KEPT = 2  # models beside the app's own: each takes memory


class Models:
    """Loads models by name and keeps those used last. Safe to call from several threads."""

    def __init__(self, load: Callable[[str], Engine]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] = {}

    def holds(self, name: str) -> bool:
        """Whether `get` gives it at once."""
        return tidy_name(name) in self._engines

    def get(self, name: str) -> Engine:
        """The model of this name: see `vitdemo.backends.registry`.

        Raises:
            CheckpointError: no name, there is no such model, or it cannot be used.
        """
        name = tidy_name(name)
        if not name:
            raise CheckpointError("compare.no_model")
        with self._lock:
            engine = self._engines.pop(name, None)
            if engine is None:
                engine = self._load(name)
            self._engines[name] = engine  # the last one is the one used last
            while len(self._engines) > KEPT:
                self._engines.pop(next(iter(self._engines)))
            return engine


def tidy_name(name: str | None) -> str:
    """A name as typed or pasted, without spaces and quotes around it; "~" is the home folder."""
    name = (name or "").strip().strip("\"'").strip()
    return str(expanded(name)) if name.startswith("~") else name
