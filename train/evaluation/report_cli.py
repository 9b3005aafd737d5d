"""The end that the evaluation commands share: run, print a table, write the figures as JSON."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitdemo.errors import DataError, VitDemoError

Figures = dict[str, Any]


def finish(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], Figures],
           table: Callable[[Figures], str]) -> int:
    """Print what ``run`` finds and write it to ``arguments.json``, if that is given.

    Exit code 0, or 2 with one line on standard error where the input cannot be used.
    """
    try:
        if arguments.json is not None and arguments.json.is_dir():
            raise DataError(f"--json {arguments.json} is a folder; give a file name.")
        figures = run(arguments)
        print(table(figures))
        if arguments.json is not None:
            _write_json(arguments.json, figures)
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write_json(file: Path, figures: Figures) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}. "
                        "The figures stand above.") from error
