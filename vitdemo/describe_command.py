"""What ``python -m vitdemo describe`` does, and how it tells how far it is."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitdemo.config import Decoding
from vitdemo.description_files import JsonLines, Output, Rows, Sidecars, Table
from vitdemo.disk import expanded
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError
from vitdemo.file_names import on_disk
from vitdemo.folder_descriptions import DescribeReport, describe_folders
from vitdemo.index_command import ProgressLine, print_files
from vitdemo.records import Wishes
from vitdemo.retrieval.readers import Readers
from vitdemo.retrieval.walk import absolute
from vitdemo.terminal import say
from vitdemo.texts import phrase

FILES: dict[str, type[Rows]] = {"jsonl": JsonLines, "csv": Table}
SIDECARS = ("json", "txt", "xmp")


def run(options: argparse.Namespace, decoding: Decoding, opened: Callable[[], Engine],
        print_json: Callable[[Any], None],
        readers: Callable[[Engine, Wishes], Readers] = lambda engine, wishes: Readers()) -> int:
    """Describe folders; pictures that cannot be read are listed and are no error.

    ``opened`` loads the model; bad folders and files are told before. ``readers`` read the
    pictures, and may describe them, too.
    """
    folders = [str(folder) for folder in absolute(options.folders)]
    targets = outputs(folders, options.write or ["json"], options.out, options.existing)
    wishes = Wishes(tuple(dict.fromkeys(options.language)) or ("en",),
                    tuple(dict.fromkeys(options.question)), options.instruction)
    line = ProgressLine()
    try:
        engine = opened()
        report = describe_folders(engine, targets, wishes, decoding, line.tell,
                                  readers=readers(engine, wishes))
    except KeyboardInterrupt:
        line.clear()
        say(phrase("describing.stopped", count=line.stored), sys.stderr)
        raise
    finally:
        line.clear()
    if options.json:
        print_json(asdict(report))
    else:
        _print_report(report)
    return 0


def outputs(folders: Sequence[str], forms: Sequence[str], out: str,
            existing: str) -> list[tuple[str, Output]]:
    """Pairs of a folder and where the descriptions of its pictures go.

    Raises:
        ConfigError: the forms do not go with ``out``, or its folder is not there.
        DiskError: a file cannot be opened.
    """
    chosen = [form for form in FILES if form in forms]
    if out and len(chosen) != 1:
        raise ConfigError("describing.one_file" if chosen else "describing.out_without_file")
    targets: list[Output] = []
    for form in chosen:
        file = expanded(out) if out else Path(on_disk(folders[0])) / f"descriptions.{form}"
        if not os.path.isdir(file.absolute().parent):
            raise ConfigError("describing.no_folder", file=file)
        targets.append(FILES[form](file, existing))
    beside = [form for form in SIDECARS if form in forms]
    if beside:
        targets.append(Sidecars(beside, existing))
    pairs = [(folder, target) for target in targets for folder in folders]
    if "metadata" in forms:
        pairs += [(folder, JsonLines(Path(on_disk(folder)) / "metadata.jsonl", existing))
                  for folder in folders]
    return pairs


def _print_report(report: DescribeReport) -> None:
    print(phrase("describing.totals", described=report.described, unchanged=report.unchanged,
                 seconds=report.seconds))
    print_files("indexing.skipped", report.skipped)
    print_files("indexing.noted", report.noted)
    print_files("describing.left", report.left)
