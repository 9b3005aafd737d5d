"""Which files of a folder are pictures to index, or videos whose frames are."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdemo.errors import PictureError
from vitdemo.file_names import as_text, is_text, on_disk, shown
from vitdemo.reasons import reason
from vitdemo.retrieval.beside import Beside
from vitdemo.texts import phrase
from vitdemo.video import SUFFIXES as VIDEOS
from vitdemo.video import video_reader

# Endings of files that are taken for pictures; the rest of a folder is left alone. HEIC cannot be
# read everywhere, but its owner should be told so.
SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib",
                      ".tif", ".tiff", ".mpo", ".avif", ".jp2", ".ppm", ".pgm", ".heic", ".heif"))
# Endings of pictures that are not read here: their owner may wonder where they are.
OTHER_PICTURES = frozenset((
    "3fr arw bay cap cin cr2 cr3 crw cur dcr dng dpx emf eps erf exr fff fits g3 hdr icns ico iiq "
    "j2c j2k jng jp2k jpf jpm jpx jxl jxr k25 kdc kra mdc mef mos mrw nef nrw ora orf pam pbm pcd "
    "pcx pef pic pict pnm ptx psb psd raf raw rw2 rwl rwz sgi sr2 srf srw svg svgz tga vtf wbmp "
    "wdp wmf x3f xbm xcf xpm").split())
OTHER = "other"  # the kind of a file without an ending, or with one that is hardly an ending
KINDS_TOLD = 12  # kinds of files that are named to a person
_ENDING = 8  # characters of an ending, at most


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
    """The pictures and videos of some folders, by path in the order of their names, and what else
    was there.

    ``beside`` knows what is written beside them. ``closed`` are folders that could not be opened:
    nothing is known of what lies in them.
    ``passed_over`` counts files that are no pictures to index, by the folder that was given and
    by their kind: the ending in small letters, or `OTHER`.
    """

    files: dict[str, State] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    passed_over: dict[Path, Counter[str]] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    beside: Beside = field(default_factory=Beside)

    def leads_out(self, path: str) -> bool:
        """Whether a path is none of those ``inside``, links followed; noted where it is so."""
        if not self.inside:
            return False
        real = os.path.realpath(on_disk(path))
        out = not any(real == one or real.startswith(os.path.join(one, ""))
                      for one in self.inside)
        if out:
            self.skip(path, phrase("folder.leads_out"))
        return out

    def hides(self, path: str) -> bool:
        """Whether a path lies in a folder that could not be opened."""
        return any(path.startswith(os.path.join(place, "")) for place in self.closed)

    def skip(self, path: str, reason: str) -> None:
        """Note a file or folder that cannot be used."""
        self.skipped.append(Skipped(shown(path), reason))

    def close(self, place: str, error: Exception) -> None:
        """Note a folder that cannot be opened."""
        self.closed.append(place)
        self.skip(place, phrase("folder.closed", why=reason(error)))


def absolute(folders: Sequence[str | Path], or_gone: bool = False) -> list[Path]:
    """The folders by their whole paths, each once. ``or_gone`` lets pass what is none (any more).

    Raises:
        PictureError: one of them is no folder.
    """
    found = []
    for folder in folders:
        given = os.path.expanduser(on_disk(as_text(os.fspath(folder))))
        place = as_text(os.path.abspath(given))
        problem = _no_folder(place, or_gone)
        if problem:
            raise PictureError(problem)
        found.append(Path(place))
    return list(dict.fromkeys(found))


def _no_folder(place: str, or_gone: bool) -> str:
    """What keeps a path from being indexed as a folder; "" where nothing does."""
    if not is_text(place):
        return phrase("folder.bad_name", name=shown(place))
    real = on_disk(place)
    try:
        if stat.S_ISDIR(os.stat(real).st_mode):
            return ""
        return "" if or_gone else phrase("folder.none", name=place)
    except (FileNotFoundError, NotADirectoryError):
        key = "folder.dead_link" if os.path.islink(real) else "folder.gone"
        return "" if or_gone else phrase(key, name=place)
    except (OSError, ValueError) as error:
        return phrase("folder.shut", name=shown(place), why=reason(error))


def look_through(folders: Sequence[Path],
                 tell: Callable[[int, str], None] = lambda count, name: None,
                 inside: Sequence[Path] = ()) -> Tree:
    """The picture files of folders and the folders in them and, where they can be read, the videos;
    hidden ones are left out.

    Links are followed; a folder that was seen already (a link that leads back, or one folder
    within another) is not entered again. Where folders ``inside`` are given, links that lead out
    of them are skipped. ``tell(pictures so far, folder)`` is called for each.
    """
    kinds = SUFFIXES | VIDEOS if video_reader() else SUFFIXES
    tree = Tree(inside=tuple(os.path.realpath(on_disk(str(one))) for one in inside))
    seen: set[object] = set()
    for folder in folders:
        passed_over = tree.passed_over.setdefault(folder, Counter())
        places = [str(folder)]  # not `os.walk`, which takes a place on the stack for each folder
        while places:
            place = places.pop()
            if _is_new(place, tree, seen):
                inner = _look(place, tree, kinds, passed_over)
                places += reversed(inner)
                tell(len(tree.files), shown(place))
    return tree


def _is_new(place: str, tree: Tree, seen: set[object]) -> bool:
    """Whether a folder is to be looked into."""
    if not is_text(place):
        tree.skip(place, phrase("folder.bad_name_inside"))
        return False
    try:
        status = os.stat(on_disk(place))
    except (FileNotFoundError, NotADirectoryError):
        return False  # gone since its name was read
    except (OSError, ValueError) as error:
        tree.close(place, error)
        return False
    # Some network drives number nothing.
    key = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(on_disk(place))
    if key in seen:
        return False
    seen.add(key)
    return not tree.leads_out(place)


def _look(place: str, tree: Tree, kinds: frozenset[str], passed_over: Counter[str]
          ) -> list[str]:
    """Note the files of one folder; gives the folders in it."""
    try:
        with os.scandir(on_disk(place)) as entries:
            listed = sorted(((as_text(entry.name), entry) for entry in entries),
                            key=lambda one: one[0])
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        tree.close(place, error)
        return []
    folders, others, pictures = [], {}, []
    for name, entry in listed:
        path = os.path.join(place, name)
        if name.startswith("."):
            continue
        try:
            is_folder = entry.is_dir()
        except OSError as error:  # a link, as to a network drive that does not answer
            tree.closed.append(path)
            tree.skip(path, phrase("folder.not_looked_at", why=reason(error)))
            continue
        if is_folder:
            folders.append(path)
        elif os.path.splitext(name)[1].lower() in kinds:
            if _take(path, entry.is_symlink(), tree):
                pictures.append(name)
        elif entry.is_symlink() and not os.path.exists(on_disk(path)):
            tree.skip(path, phrase("folder.file_dead_link", path=path))
        elif is_text(path):
            others[name] = entry
        else:
            passed_over[_kind(name)] += 1
    told = tree.beside.look(place, pictures, {name for name, entry in others.items() if not (
        entry.is_symlink() and tree.leads_out(os.path.join(place, name)))})
    passed_over.update(_kind(name) for name in others if name not in told)
    return folders


def _kind(name: str) -> str:
    ending = os.path.splitext(name)[1][1:].lower()
    usual = ending.isascii() and ending.isalnum() and len(ending) <= _ENDING
    return ending if usual else OTHER


def passed_over_lines(kinds: Mapping[str, int]) -> list[str]:
    """Which files were left alone, in sentences: first pictures of formats that are not read here,
    then what is no picture by its name."""
    pictures = {kind: count for kind, count in kinds.items() if kind in OTHER_PICTURES}
    videos = {kind: count for kind, count in kinds.items() if f".{kind}" in VIDEOS}
    others = {kind: count for kind, count in kinds.items()
              if kind not in pictures and kind not in videos}
    return [phrase(f"folder.passed_over.{key}", files=_listed(counts)) for key, counts in (
        ("pictures", pictures), ("videos", videos), ("others", others)) if counts]


def _listed(counts: Mapping[str, int]) -> str:
    """"12 DNG, 3 NEF"; the commonest first."""
    told = sorted(counts.items(), key=lambda one: (one[0] == OTHER, -one[1], one[0]))
    parts = [phrase("folder.passed_over.without" if kind == OTHER else "folder.passed_over.kind",
                    number=f"{count:,}", kind=kind.upper()) for kind, count in told[:KINDS_TOLD]]
    if rest := sum(count for _, count in told[KINDS_TOLD:]):
        parts.append(phrase("folder.passed_over.more", number=f"{rest:,}"))
    return phrase("list.join").join(parts)


def _take(path: str, link: bool, tree: Tree) -> bool:
    """Note one file's state, or why it cannot be used; says whether it can."""
    if not is_text(path):
        tree.skip(path, phrase("folder.bad_file_name"))
        return False
    if link and tree.leads_out(path):
        return False
    try:
        status = os.stat(on_disk(path))
    except FileNotFoundError:
        tree.skip(path, phrase("folder.file_dead_link", path=path))
    except (OSError, ValueError) as error:
        tree.skip(path, phrase("folder.file_shut", path=path, why=reason(error)))
    else:
        tree.files[path] = State(status.st_size, status.st_mtime)
        return True
    return False
