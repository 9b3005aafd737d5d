"""Which files of a folder are pictures to index."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdemo.errors import PictureError

# Endings of files that are taken for pictures; the rest of a folder is left alone. HEIC cannot be
# read everywhere, but its owner should be told so.
SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib",
                      ".tif", ".tiff", ".mpo", ".avif", ".jp2", ".ppm", ".pgm", ".heic", ".heif"))


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read, and why, in a sentence."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """What tells, without reading a file, that it is still the same: bytes, and seconds since
    1970."""

    size: int
    modified: float


@dataclass
class Tree:
    """The pictures of some folders, by path in the order of their names, and what else was there.

    ``closed`` are folders that could not be opened: nothing is known of what lies in them.
    """

    files: dict[str, State] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    ignored: dict[Path, int] = field(default_factory=dict)  # by the folder that was given
    inside: tuple[str, ...] = ()

    def leads_out(self, path: str) -> bool:
        """Whether a path is none of those ``inside``, links followed; noted where it is so."""
        real = os.path.realpath(path)
        out = bool(self.inside) and not any(
            real == one or real.startswith(os.path.join(one, "")) for one in self.inside)
        if out:
            self.skipped.append(Skipped(shown(path), "It leads out of the folders that may be "
                                                     "searched."))
        return out

    def hides(self, path: str) -> bool:
        """Whether a path lies in a folder that could not be opened."""
        return any(path.startswith(os.path.join(place, "")) for place in self.closed)


def absolute(folders: Sequence[str | Path]) -> list[Path]:
    """The folders by their whole paths, each once.

    Raises:
        PictureError: one of them is no folder.
    """
    found = []
    for folder in folders:
        place = Path(os.path.abspath(Path(folder).expanduser()))
        if not place.is_dir():
            raise PictureError(f"{place} is not a folder. Give a folder of pictures.")
        found.append(place)
    return list(dict.fromkeys(found))


def look_through(folders: Sequence[Path],
                 tell: Callable[[int, str], None] = lambda count, name: None,
                 inside: Sequence[Path] = ()) -> Tree:
    """The picture files of folders and the folders in them, hidden ones left out.

    Links are followed; a folder that was seen already (a link that leads back, or one folder
    within another) is not entered again. Where folders ``inside`` are given, links that lead out
    of them are skipped. ``tell(pictures so far, folder)`` is called for each.
    """
    tree = Tree(inside=tuple(os.path.realpath(one) for one in inside))
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        _look(folder, tree, seen, tell)
    return tree


def _look(folder: Path, tree: Tree, seen: set[tuple[int, int]],
          tell: Callable[[int, str], None]) -> None:
    def unreadable(error: OSError) -> None:
        tree.closed.append(str(error.filename))
        tree.skipped.append(Skipped(shown(str(error.filename)),
                                    f"The folder cannot be opened: {error.strerror}."))

    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        try:
            status = os.stat(place)
        except OSError as error:
            unreadable(error)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if tree.leads_out(place):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        chosen = [name for name in sorted(names) if not name.startswith(".")]
        pictures = [name for name in chosen if os.path.splitext(name)[1].lower() in SUFFIXES]
        tree.ignored[folder] = tree.ignored.get(folder, 0) + len(chosen) - len(pictures)
        for name in pictures:
            _take(os.path.join(place, name), tree)
        tell(len(tree.files), shown(place))


def _take(path: str, tree: Tree) -> None:
    """Note one file's state, or why it cannot be used."""
    if os.path.islink(path) and tree.leads_out(path):
        return
    if shown(path) != path:
        tree.skipped.append(Skipped(shown(path),
                                    "Its name is not valid text (UTF-8). Rename the file."))
        return
    try:
        status = os.stat(path)
    except FileNotFoundError:
        tree.skipped.append(Skipped(path, f"{path} does not exist: the link leads nowhere."))
    except OSError as error:
        tree.skipped.append(Skipped(path, f"{path} cannot be read: {error.strerror}."))
    else:
        tree.files[path] = State(status.st_size, status.st_mtime)


def shown(name: str) -> str:
    """A file's name as text that can be printed and stored."""
    return name.encode(errors="backslashreplace").decode()
