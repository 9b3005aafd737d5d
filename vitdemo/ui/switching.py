"""Another model for the whole server, while it runs: it is loaded beside the old one, its pages are
laid out and served in the place of the old ones, and then the old one gives its memory back."""

import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any

from gradio.utils import BaseReloader

from vitdemo.backends.registry import is_hub_name, names, resolve
from vitdemo.disk import expanded
from vitdemo.engine import Engine
from vitdemo.errors import CheckpointError, TaskError

# What is told of how far it is: what is done ("downloading", "loading"), of which name, and bytes.
Far = tuple[str, str, int, int]
Tell = Callable[[Far], None]


class Switch:
    """``load`` makes the engine of a name, ``build`` its pages. ``serving`` are the pages that are
    served; `build_ui` sets it. Safe to call from several threads."""

    def __init__(self, load: Callable[[str], Engine],
                 build: Callable[[Engine, str], Any]) -> None:
        self._load, self._build = load, build
        self._changing = threading.Lock()
        self.serving: Any = None
        self._fresh: dict[str, Any] = {}

    def serve(self, blocks: Any) -> None:
        """These pages will be launched."""
        self.serving, self._fresh = blocks, dict(vars(blocks))

    def change(self, old: Engine, name: str, tell: Tell) -> None:
        """Let the model of this name take the place of ``old``. ``tell`` hears how far that is, and
        may raise to stop it. Where it fails, all stays as it is.

        Raises:
            CheckpointError: there is no such model, or it cannot be loaded.
            TaskError: somebody else is changing it.
        """
        if not self._changing.acquire(blocking=False):
            raise TaskError("chooser.busy")
        try:
            _fetch(name, tell)
            loading = ("loading", name, 0, 0)
            tell(loading)
            engine = self._load(name)
            try:
                tell(loading)  # it may have been stopped meanwhile
                # Not within the event that asks for it: its parts would be none of a page's.
                blocks = contextvars.Context().run(self._build, engine, name)
                self._take_over(blocks)
            except BaseException:
                engine.close()
                raise
            old.close()
        finally:
            self._changing.release()

    def _take_over(self, blocks: Any) -> None:
        """Serve these pages, on the same address, with all that launching gave to the old ones."""
        old, fresh = self.serving, dict(vars(blocks))
        for name, value in vars(old).items():
            if name not in self._fresh or (self._fresh[name] is not value
                                           and name not in ("_config", "default_config")):
                setattr(blocks, name, value)
        _Served(old.app).swap_blocks(blocks)
        blocks._queue.blocks = blocks
        for function in blocks.fns.values():
            blocks._queue.create_event_queue_for_fn(function)
        blocks.config = blocks.get_config_file()
        self.serving, self._fresh = blocks, fresh


class _Served(BaseReloader):
    """Gradio's own way to put other pages into a running server."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def running_app(self) -> Any:
        """The server's app."""
        return self._app


def check_name(name: str, folders: bool) -> str:
    """A name as a person typed it, tidied. ``folders`` says whether folders may be given.

    Raises:
        CheckpointError: it is empty, or a folder that may not be given.
    """
    name = name.strip().strip("\"'").strip()
    if not name:
        raise CheckpointError("chooser.no_name")
    if not folders and any(not is_hub_name(one) or os.path.exists(expanded(one)) or ":" in one
                           for one in names(name)):
        raise CheckpointError("chooser.no_folder")
    return name


def _fetch(name: str, tell: Tell) -> None:
    """Download what is not here yet of the models of this name."""
    for one in names(name):
        family, source = resolve(one)
        if family == "native":
            continue
        from vitdemo.backends.hub_files import download
        from vitdemo.backends.source import locate

        where, here = locate(source)
        if not here and where == source:
            download(source, lambda done, whole, of=source: tell(  # type: ignore[misc]
                ("downloading", of, done, whole)))
