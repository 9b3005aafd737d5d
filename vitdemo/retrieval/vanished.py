"""Pictures that vanished all at once: rather a drive that is not mounted than a person's wish."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitdemo.file_names import on_disk
from vitdemo.reasons import reason
from vitdemo.texts import phrase
from vitdemo.video import file_of


@dataclass(frozen=True)
class Vanished:
    """A folder where ``gone`` of the ``known`` pictures that the store has of it and the folders
    in it are no longer there: all or most. ``reason`` is what can be seen of why, or ""."""

    folder: str
    gone: int
    known: int
    reason: str

    def told(self) -> str:
        """A line for a person: "/photos: 6 of 6 pictures (/photos is empty)"."""
        return phrase("vanished.why" if self.reason else "vanished.told", folder=self.folder,
                      gone=self.gone, count=self.known, why=self.reason)


def hold(gone: dict[str, str], left: Counter[str], places: Sequence[Path]) -> list[Vanished]:
    """Take out of ``gone`` (ids by path) what vanished with all or most of a folder, and tell of
    it: of the topmost such folder each. ``left`` counts the pictures that are there, by the
    folder they lie in."""
    roots = set(map(str, places))
    above = {folder: _upwards(folder, roots)
             for folder in {*left, *map(os.path.dirname, gone)}}  # each once
    missing, there = Counter[str](), Counter[str]()
    for file in {file_of(path) for path in gone}:
        missing.update(above[os.path.dirname(file)])
    for folder, count in left.items():
        there.update(dict.fromkeys(above[folder], count))
    held: dict[str, list[str]] = {}
    for path in gone:
        most = [one for one in above[os.path.dirname(path)] if missing[one] > there[one]]
        if most:
            held.setdefault(most[-1], []).append(path)
    for path in [path for paths in held.values() for path in paths]:
        del gone[path]
    return [Vanished(folder, len(set(map(file_of, paths))), missing[folder] + there[folder],
                     _reason(folder, paths)) for folder, paths in sorted(held.items())]


def _upwards(folder: str, roots: set[str]) -> list[str]:
    """A folder and those around it, up to the topmost that is to be indexed."""
    around = [folder]
    while around[-1] != os.path.dirname(around[-1]):
        around.append(os.path.dirname(around[-1]))
    top = max((place for place, one in enumerate(around) if one in roots), default=-1)
    return around[:top + 1]


def _reason(folder: str, paths: Sequence[str]) -> str:
    """What can be seen from the folder down to the deepest that all of these files lay in."""
    deepest = os.path.commonpath([os.path.dirname(path) for path in paths])
    inside = [] if deepest == folder else os.path.relpath(deepest, folder).split(os.sep)
    for depth in range(len(inside) + 1):
        place = os.path.join(folder, *inside[:depth])
        real = on_disk(place)
        try:
            with os.scandir(real) as entries:
                if next(entries, None) is None:
                    return phrase("vanished.empty", place=place)
        except (FileNotFoundError, NotADirectoryError):
            key = ("dead_link" if os.path.islink(real) else
                   "no_folder" if os.path.lexists(real) else "gone")
            return phrase(f"vanished.{key}", place=place)
        except OSError as error:
            return phrase("vanished.closed", place=place, why=reason(error))
    return ""
