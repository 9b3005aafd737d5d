"""What a visitor leaves on the server, and its removal when they go."""

import logging
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.errors import PictureError
from vitdemo.ui.videos import Videos

log = logging.getLogger(__name__)

AWAY = 3600.0  # seconds: a page without a connection counts as closed when it asks for nothing more
SPARE = 500 * 2**20  # bytes of the disk that uploads leave free
UNUSED = 600.0  # seconds: an upload that no page has named by then is deleted


def uploads_root() -> Path:
    """The folder below which Gradio, and the app, keep what visitors give."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


@dataclass
class _Folder:
    """A folder with something of a visitor's: since when it waits for a page, and its bytes."""

    since: float
    size: int = 0


@dataclass
class _Page:
    """What one open page uses. ``open`` counts the connections that say it is there."""

    touched: float
    open: int = 0
    folders: set[Path] = field(default_factory=set)
    own: Path | None = None  # for what it is given to keep
    closers: list[Callable[[], None]] = field(default_factory=list)


class Sessions:
    """Knows every folder with something of a visitor's, and which open pages use it.

    Each upload lies in a folder of its own. It goes with the last page that uses it: when the page
    closes its connection, or where it never had one (a client over the API) `AWAY` seconds after
    its last request. What no page has named goes after `UNUSED` seconds. ``clock`` gives seconds.
    Safe to call from several threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pages: dict[str, _Page] = {}
        self._folders: dict[Path, _Folder] = {}
        self.videos = Videos()

    # Folders

    def begin_upload(self) -> Path:
        """A new folder that only this user can read, for one upload that is under way."""
        root = uploads_root()
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="upload-", dir=root))
        with self._lock:
            self._folders[folder] = _Folder(math.inf)
        return folder

    def room_for(self, folder: Path, size: int) -> bool:
        """Count as many bytes more of an upload; False where there is no room for them."""
        with self._lock:
            self._folders[folder].size += size
            held = sum(one.size for one in self._folders.values())
        return (held <= LIMITS.max_uploads_megabytes * 2**20
                and shutil.disk_usage(folder).free > SPARE)

    def end_upload(self, folder: Path, whole: bool) -> None:
        """The upload is here, or was broken off: then nothing of it stays."""
        with self._lock:
            self._folders[folder].since = self._clock()
        if not whole:
            self._delete([folder])

    def folder(self, request: gr.Request | None) -> Path:
        """The folder for what a page is given to keep, deleted when the page is closed.

        The server gives out what lies there to whoever knows its full name, which cannot be
        guessed.

        Raises:
            PictureError: there is no room on the disk.
        """
        with self._lock:
            held = self._page(_key(request))
            if held.own is None:
                root = uploads_root()
                try:
                    root.mkdir(parents=True, exist_ok=True)
                    held.own = Path(tempfile.mkdtemp(prefix="keep-", dir=root))
                except OSError as error:
                    raise PictureError("frame.not_written", why=error) from error
                held.folders.add(held.own)
                self._folders[held.own] = _Folder(self._clock())
            return held.own

    # Pages

    def keep(self, page: str, paths: Iterable[str]) -> None:
        """Note that a page uses these files, as far as they were uploaded."""
        with self._lock:
            folders = {folder for path in paths for folder in Path(path).parents
                       if folder in self._folders}
            if folders:
                self._page(page).folders |= folders
            elif page in self._pages:
                self._pages[page].touched = self._clock()

    def on_leave(self, request: gr.Request | None, close: Callable[[], None]) -> None:
        """Call ``close`` when the page is left."""
        with self._lock:
            closers = self._page(_key(request)).closers
            if close not in closers:
                closers.append(close)

    def enter(self, page: str) -> None:
        """A page has opened the connection that says it is there."""
        with self._lock:
            self._page(page).open += 1

    def exit(self, page: str) -> bool:
        """It has closed that connection; True where that was its last one, and so its end."""
        with self._lock:
            held = self._page(page)
            held.open -= 1
            last = held.open <= 0
        if last:
            self.leave(page)
        return last

    def leave(self, page: str) -> None:
        """The page was closed: delete its files and close what it held."""
        with self._lock:
            held = self._pages.pop(page, None)
            if held is None:
                return
            others = set().union(*(one.folders for one in self._pages.values()))
            unused = held.folders - others
        for close in held.closers:
            try:
                close()
            except Exception:  # the others' turn comes all the same
                log.exception("something that a page held could not be closed")
        self._delete(unused)

    def is_open(self, page: str) -> bool:
        """Whether something is kept for the page: it has a connection, or had one lately."""
        with self._lock:
            return page in self._pages

    def sweep(self) -> None:
        """Let go of the pages that are away for long, and of the uploads that nobody has named."""
        now = self._clock()
        with self._lock:
            away = [page for page, held in self._pages.items()
                    if held.open <= 0 and now - held.touched > AWAY]
        for page in away:
            self.leave(page)
        with self._lock:
            used = set().union(*(held.folders for held in self._pages.values()))
            unused = [folder for folder, one in self._folders.items()
                      if folder not in used and now - one.since > UNUSED]
        self._delete(unused)

    def _page(self, page: str) -> _Page:
        held = self._pages.setdefault(page, _Page(0.0))
        held.touched = self._clock()
        return held

    def _delete(self, folders: Iterable[Path]) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            with self._lock:
                if not folder.exists():  # else it is open somewhere (Windows): to be tried again
                    self._folders.pop(folder, None)


def _key(request: gr.Request | None) -> str:
    """The page's own id; requests without one share one."""
    return str(getattr(request, "session_hash", None) or "")
