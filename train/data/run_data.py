"""The rows of a run, and whether they are still those that it began with."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from train.data.reading import Row, find_splits, read_split
from vitdemo.config import ModelConfig
from vitdemo.errors import DataError
from vitdemo.records import Unread
from vitdemo.tokens import TextTokenizer

Unreads = Callable[[str], Unread]
Digest = dict[str, list[str]]  # "size:texts" of each picture, in order, by split


def reader_of(start: Path) -> Unreads | None:
    """How the model to start from reads texts; None where it is not there yet."""
    file = start / "tokenizer.json"
    return TextTokenizer.load(file, ModelConfig().max_text_tokens).unread \
        if file.is_file() else None


def read_rows(sources: Sequence[Path], skip_bad: bool,
              unread: Unreads | None = None) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those to validate on; what was read is said on standard error.
    ``unread`` is as in `read_split`.

    A folder that is no data set with splits, only pictures and a metadata.jsonl, gives every tenth
    row to validation.

    Raises:
        DataError: there is nothing to train on, or a row is bad.
    """
    train: list[Row] = []
    validation: list[Row] = []
    for source in sources:
        folders = [folder for _, folder in find_splits(source, "train")]
        for folder in folders:
            rows = _read(folder, skip_bad, unread)
            if folder == source:
                validation += rows[9::10]
                rows = [row for i, row in enumerate(rows) if i % 10 != 9]
            train += rows
        try:
            held_out = find_splits(source, "validation")
        except DataError:
            print(f"{source} has no validation split", file=sys.stderr)
            continue
        validation += [row for _, folder in held_out if folder not in folders
                       for row in _read(folder, skip_bad, unread)]
    return train, validation


def read_also(source: Path, skip_bad: bool) -> list[Row]:
    """The validation rows of another data set, to compare on.

    Raises:
        DataError: there are none, or one is bad.
    """
    return [row for _, folder in find_splits(source, "validation")
            for row in _read(folder, skip_bad)]


def _read(folder: Path, skip_bad: bool, unread: Unreads | None = None) -> list[Row]:
    split = read_split(folder, skip_bad=skip_bad, unread=unread)
    for bad in split.skipped:
        print(f"skipped: {bad}", file=sys.stderr)
    print(f"{folder}: {len(split.rows)} pictures, {len(split.skipped)} skipped", file=sys.stderr)
    return list(split.rows)


def digest(train: Sequence[Row], validation: Sequence[Row], sources: Sequence[Path]) -> Digest:
    """What the rows are: for each a picture's place under its source, the file's size and a hash of
    the texts. Where the sources lie and when the files were written does not count, nor does the
    fingerprint in the folder of a data set that `hub` wrote."""
    return {"train": [_of_row(row, sources) for row in train],
            "validation": [_of_row(row, sources) for row in validation]}


def _of_row(row: Row, sources: Sequence[Path]) -> str:
    name = next((f"{i}/{row.path.relative_to(source).as_posix()}"
                 for i, source in enumerate(sources) if row.path.is_relative_to(source)), "")
    if not name:
        folder, split, file = row.path.parts[-3:]
        name = f"hub/{folder.rpartition('-')[0]}/{split}/{file}"
    texts = repr((row.captions, row.captions_zh, row.questions))
    return "\t".join((name, str(row.path.stat().st_size),
                      hashlib.sha256(texts.encode()).hexdigest()[:16]))


def changes(before: Digest, now: Digest) -> str:
    """What differs between two digests, in words: "in train 2 pictures (a/3.jpg, a/7.jpg)"; ""
    where nothing does."""
    differences = []
    for split in ("train", "validation"):
        old, new = before.get(split, []), now.get(split, [])
        names = sorted({row.split("\t")[0].split("/", 1)[1] for row in {*old} ^ {*new}})
        if names:
            differences.append(f"in {split} {len(names)} pictures ({', '.join(names[:3])}"
                               f"{', ...' * (len(names) > 3)})")
        elif old != new:
            differences.append(f"in {split} the order of the pictures")
    return "; ".join(differences)
