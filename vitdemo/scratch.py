"""A private folder for uploads that goes with the process, however the process ends."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_PREFIX = "vitdemo-uploads-"


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder that only this user can read, deleted at the end.

    What processes that were killed left behind is deleted at the start: a living one holds a lock
    on its folder.
    """
    parent = Path(parent or tempfile.gettempdir())
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    held = _lock(folder)
    try:
        yield folder
    finally:
        if held is not None:
            held.close()
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> IO[bytes] | None:
    """The folder's lock file, open and locked; None where another process holds it."""
    handle = open(folder / ".lock", "ab")  # noqa: SIM115 - stays open as long as the lock is held
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # Windows does not delete an open file, which serves as the lock
    except OSError:
        handle.close()
        return None
    return handle


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # A folder without its lock file is only just being made.
        if folder.is_symlink() or not (folder / ".lock").is_file():
            continue
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            continue
        try:
            held = _lock(folder)
        except OSError:
            continue
        if held is not None:
            held.close()
            if os.name != "nt" or _gone(folder / ".lock"):
                shutil.rmtree(folder, ignore_errors=True)


def _gone(lock: Path) -> bool:
    """Delete a lock file; False where a living process holds it open (Windows)."""
    try:
        lock.unlink()
    except OSError:
        return False
    return True
