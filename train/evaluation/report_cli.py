"""What the evaluation commands share: data at the start, and at the end a printed table and the
figures as JSON."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.data.reading import Split, find_splits, read_split
from vitdemo.errors import ConfigError, DataError, VitDemoError

Figures = dict[str, Any]
_COLUMNS = 6  # of a table


def finish(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], Figures],
           table: Callable[[Figures], str]) -> int:
    """Print what ``run`` finds and write it to ``arguments.json``, if that is given.

    Exit code as `command`.
    """
    def work() -> None:
        if arguments.json is not None and arguments.json.is_dir():
            raise DataError(f"--json {arguments.json} is a folder; give a file name.")
        figures = run(arguments)
        print(table(figures))
        if arguments.json is not None:
            write_json(arguments.json, figures)
    return command(work)


def command(work: Callable[[], None]) -> int:
    """Exit code 0, or 2 with one line on standard error where the input cannot be used."""
    try:
        work()
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_json(file: Path, figures: Figures) -> None:
    """Write figures to a file, in a folder that need not be there.

    Raises:
        DataError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}. "
                        "The figures stand above.") from error


def check(arguments: argparse.Namespace, **least: int) -> None:
    """Refuse options below their least value, by name; one that was not given is fine."""
    for name, low in least.items():
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise ConfigError(f"--{name} is {value}; it must be {low} or more.")


def read_splits(arguments: argparse.Namespace) -> Iterator[Split]:
    """The splits of all ``arguments.data``, each with a name of its own, cut to the limit."""
    for name, folder in _unique(arguments.data, arguments.split):
        split = read_split(folder, skip_bad=arguments.skip_bad)
        if split.skipped:
            print(f"{name}: {len(split.skipped)} bad row(s) left out, the first: "
                  f"{split.skipped[0]}", file=sys.stderr)
        yield replace(split, name=name, rows=split.rows[:arguments.limit])


def _unique(paths: Sequence[Path], split: str) -> Iterator[tuple[str, Path]]:
    """All data folders once, each with a name of its own."""
    folders: dict[str, tuple[str, Path]] = {}
    for name, folder in (found for path in paths for found in find_splits(path, split)):
        folders.setdefault(os.path.realpath(folder), (name, folder))
    seen: Counter[str] = Counter()
    for name, folder in folders.values():
        seen[name] += 1
        yield name + f" ({seen[name]})" * (seen[name] > 1), folder


def rounded(value: Any, digits: int = 2) -> Any:
    """The same figures with so many digits after the point."""
    if isinstance(value, dict):
        return {key: rounded(of, digits) for key, of in value.items()}
    return round(value, digits) if isinstance(value, float) else value


def table(figures: dict[str, Any], digits: int = 1) -> str:
    """The figures of all data sets and what the checkpoint costs: by data set, and by part of it
    what has the same figures together, each with half the width of its 95% interval."""
    lines: list[str] = []
    for name, parts in figures.items():
        if name.startswith("_"):
            name, parts = "", {key: of for key, of in parts.items() if key == "cost"}
        lines += ["", name] if name else []
        for part, of in parts.items():
            alike: dict[tuple[str, ...], list[tuple[str, Figures]]] = {}
            for title, row in _rows(part, of):
                alike.setdefault(tuple(row), []).append((title, row))
            for keys, rows in alike.items():
                for start in range(0, len(keys), _COLUMNS):
                    some = keys[start:start + _COLUMNS]
                    lines.append(_line("", {key: key for key in some}, digits))
                    lines += [_line(title, {key: row[key] for key in some}, digits)
                              for title, row in rows]
    return "\n".join(lines)


def _rows(title: str, of: Figures) -> Iterator[tuple[str, Figures]]:
    """What stands in a dictionary and in those inside it, each with where it stands."""
    own = {key: value for key, value in of.items() if not isinstance(value, (dict, list))}
    ends = of.get("ci", {})
    for key, value in own.items():
        if isinstance(value, float) and ends.get(key):
            own[key] = (value, (ends[key][1] - ends[key][0]) / 2)
    if own:
        yield title, own
    for key, value in of.items():
        if isinstance(value, dict) and key != "ci":
            yield from _rows(f"{title} {key.replace('_', ' ')}".strip(), value)


def _line(title: str, row: Figures, digits: int) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, tuple):
            return "±".join(map(cell, value))
        return f"{value:.{digits}f}" if isinstance(value, float) else \
            "-" if value is None else str(value)
    return f"{title:<42}" + "".join(f" {cell(value):>{max(9, len(key))}}"
                                    for key, value in row.items())
