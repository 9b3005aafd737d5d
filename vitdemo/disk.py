"""Files that appear whole or not at all, also when the disk is full or the power fails."""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitdemo.errors import ConfigError, DiskError, shortened
from vitdemo.reasons import FULL
from vitdemo.texts import Message


def cannot_write(file: Path, error: Exception, needed: int = 0) -> DiskError:
    """The sentences for a file that could not be written; ``needed`` bytes, 0 where unknown."""
    free = free_bytes(file.parent)
    known = ("needed" if needed else "") + ("free" if free is not None else "")
    room = Message(f"disk.room.{known or 'unknown'}", needed=megabytes(needed),
                   free=megabytes(free or 0))
    name = shortened(file, 300)
    if getattr(error, "errno", None) in FULL or (free is not None and needed > free):
        return DiskError("disk.full", file=name, room=room)
    return DiskError("disk.closed", file=name, why=error, room=room)


def megabytes(count: int) -> str:
    """Bytes for a person: "1.5 MB"."""
    return f"{count / 1e6:.1f} MB"


def free_bytes(folder: Path) -> int | None:
    """How much a user may still write there, or would if it were made; None where the system does
    not say."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


@contextlib.contextmanager
def writing(file: Path, needed: int = 0) -> Iterator[None]:
    """A block that writes ``file``, which is deleted if there is an error.

    Raises:
        DiskError: it cannot be written. ``needed`` bytes are named in its message.
    """
    try:
        yield
    except OSError as error:
        drop([file])
        raise cannot_write(file, error, needed) from error


@contextlib.contextmanager
def replacing(files: Sequence[Path], needed: int = 0) -> Iterator[list[Path]]:
    """Paths to write in place of ``files``. After the block all of them are on the disk, and only
    then take the names of the old ones; after an error the old ones are as they were.

    Links are followed, and who may read a file stays as it is. What is no file, such as a pipe or
    /dev/stdout, is written itself.

    Raises:
        DiskError: one cannot be written. ``needed`` bytes are named in its message.
    """
    places = [_real(file) for file in files]
    parts = [file if place is None else _part(place)
             for file, place in zip(files, places, strict=True)]
    made = [(part, place) for part, place in zip(parts, places, strict=True) if place is not None]
    try:
        yield parts
        for part, place in made:
            sync(part)
            with contextlib.suppress(OSError):
                os.chmod(part, stat.S_IMODE(os.stat(place).st_mode))
        for part, place in made:
            os.replace(part, place)
        if made:
            sync(made[0][1].parent)
    except OSError as error:
        drop([part for part, _ in made])
        whole = files[0] if len(files) == 1 else files[0].parent
        raise cannot_write(whole, error, needed) from error
    except BaseException:
        drop([part for part, _ in made])
        raise


def _real(file: Path) -> Path | None:
    """The file that a path leads to, there or not; None where it is a device, a pipe or a folder,
    which cannot be replaced."""
    try:
        replaceable = stat.S_ISREG(os.stat(file).st_mode)
    except (OSError, ValueError):
        replaceable = True
    if not replaceable or str(file).startswith(("/dev/", "/proc/")):
        return None
    return Path(os.path.realpath(file))


def _part(file: Path) -> Path:
    """Where a file is written first; a name that is too long for the ending is cut."""
    name = os.fsencode(file.name)[:250].decode(errors="ignore")
    return file.with_name(f"{name}.part")


def expanded(path: str | Path) -> Path:
    """A path with the home folders that ~ and ~NAME stand for.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError("disk.no_user", path=shortened(path)) from error


def cache_folder() -> Path:
    """Where the user's programs keep what they can make again: there this one's folder, which may
    be missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return cache / "vitdemo"


def drop(parts: Sequence[Path]) -> None:
    """Delete what is left of these files, if anything."""
    for part in parts:
        with contextlib.suppress(OSError):
            part.unlink()


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no such call for folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reserve(file: Path) -> None:
    """Take the room on the disk that a file of holes will need: a memory map that meets a full disk
    only while it is filled ends the whole process.

    Raises:
        OSError: there is no room.
    """
    size = file.stat().st_size
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
    elif (free_bytes(file.parent) or size) < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
