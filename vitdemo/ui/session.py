"""What a visitor leaves on the server, and its removal when they go."""

import logging
import os
import threading
from collections.abc import Callable, Iterable

import gradio as gr

log = logging.getLogger(__name__)


class Sessions:
    """Remembers, for each open page, which uploaded files it uses and what to close with it.

    Gradio names an uploaded file after its content, so two visitors with the same picture share
    one file: it goes with the last of them. Safe to call from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, set[str]] = {}
        self._closers: dict[str, list[Callable[[], None]]] = {}

    def keep(self, request: gr.Request | None, paths: Iterable[str | None]) -> None:
        """Note that a page uses these uploaded files."""
        with self._lock:
            known = self._files.setdefault(_key(request), set())
            known.update(path for path in paths if path)

    def on_leave(self, request: gr.Request | None, close: Callable[[], None]) -> None:
        """Call ``close`` when the page is left."""
        with self._lock:
            self._closers.setdefault(_key(request), []).append(close)

    def leave(self, request: gr.Request) -> None:
        """The page was closed or reloaded: delete its files and close what it held."""
        with self._lock:
            files = self._files.pop(_key(request), set())
            closers = self._closers.pop(_key(request), [])
            unused = files.difference(*self._files.values())
        for close in closers:
            close()
        for path in unused:
            try:
                os.remove(path)
            except FileNotFoundError:
                continue
            except OSError as error:  # the cleaning of the cache tries again later
                log.warning("could not delete an uploaded file: %s", error)


def _key(request: gr.Request | None) -> str:
    """The page's own id; requests without one (a client over the API) share one."""
    return str(getattr(request, "session_hash", None) or "")
