"""Reads pictures with captions and questions, in the Hugging Face `imagefolder` layout.

A split is a folder of pictures and a `metadata.jsonl` with one JSON object a line:
`file_name` (relative to the folder), and any of `captions` (English sentences), `captions_zh`
(Chinese sentences) and `qa` (objects with `question`, `answer`, and where known `answers`,
`choices`, `type` and `source`). Other keys are ignored. A data set is a folder of splits: train,
validation, test. A text in the wrong language, with a control character, or without any word that
the model knows would be learnt from as it is: such a row is bad.
"""

import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError

from train.data.hub import as_folder, is_hub
from vitdemo.errors import DataError, PictureError
from vitdemo.preprocess import open_picture
from vitdemo.records import Unread
from vitdemo.words import mainly_chinese

METADATA = "metadata.jsonl"
SPLITS = ("train", "validation", "test")

Unreads = Callable[[str], Unread]  # what a model does not read of a text
_log = logging.getLogger(__name__)


def _text(value: str) -> str:
    """With single spaces."""
    text = " ".join(value.split())
    if not text:
        raise ValueError("it is empty")
    for letter in text:
        if unicodedata.category(letter) == "Cc":
            raise ValueError(f"it holds a control character (U+{ord(letter):04X})")
    return text


def _english(text: str) -> str:
    if mainly_chinese(text):
        raise ValueError(f"it is Chinese ({_start(text)}); it belongs under captions_zh")
    return text


def _chinese(text: str) -> str:
    if not mainly_chinese(text):
        raise ValueError(f"it is not Chinese ({_start(text)}); it belongs under captions")
    return text


def _inside(name: str) -> str:
    _text(name)
    path = os.path.normpath(name)
    if os.path.isabs(path) or path.split(os.sep)[0] in (".", ".."):
        raise ValueError(f"{name!r} must be a path inside the folder")
    return path


_null_is_none = BeforeValidator(lambda value: () if value is None else value)
_null_is_empty = BeforeValidator(lambda value: "" if value is None else value)
_Text = Annotated[str, AfterValidator(_text)]
_Texts = Annotated[tuple[_Text, ...], _null_is_none]
_Label = Annotated[str, _null_is_empty, AfterValidator(lambda text: " ".join(text.split()))]


@dataclass(frozen=True)
class Question:
    """A question with its one agreed answer; ``answers`` are those of several people (10 in
    VQA v2), else empty. ``type`` and ``source`` are empty where the row does not say; ``choices``
    are what may be answered, the right answer among them, where only some texts may."""

    question: _Text
    answer: _Text
    answers: _Texts = ()
    type: _Label = ""
    source: _Label = ""
    choices: _Texts = ()


@dataclass(frozen=True)
class _Line:
    """A line of the metadata file, as pydantic checks it."""

    file_name: Annotated[str, AfterValidator(_inside)]
    captions: Annotated[tuple[Annotated[_Text, AfterValidator(_english)], ...], _null_is_none] = ()
    captions_zh: Annotated[tuple[Annotated[_Text, AfterValidator(_chinese)], ...],
                           _null_is_none] = ()
    qa: Annotated[tuple[Question, ...], _null_is_none] = ()


_LINE = TypeAdapter(_Line)


@dataclass(frozen=True)
class Row:
    """One picture and what is known about it; at least one of the three is not empty. ``source``
    names the split that it is of: "flickr8k/train"."""

    path: Path
    captions: tuple[str, ...]
    captions_zh: tuple[str, ...]
    questions: tuple[Question, ...]
    source: str = ""

    def texts(self, language: str) -> tuple[str, ...]:
        """Its captions in a language, "en" or "zh"."""
        return self.captions if language == "en" else self.captions_zh


@dataclass(frozen=True)
class BadRow:
    """A row that was left out: the metadata file, its line (from 1), and what is wrong."""

    file: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass(frozen=True)
class Split:
    """The good rows of one folder, in the file's order, and the bad ones that were left out."""

    name: str
    folder: Path
    rows: tuple[Row, ...]
    skipped: tuple[BadRow, ...]


class _Wrong(Exception):
    """Inside this file: what is wrong with one row."""


def read_split(folder: Path, *, skip_bad: bool = False, check_pictures: bool = True,
               unread: Unreads | None = None) -> Split:
    """Read one split and check every row, every picture included.

    ``check_pictures`` False only looks whether the files are there; it does not decode them.
    ``unread`` tells what a model does not read of a text; with it a text without any word that
    the model knows is bad.

    Raises:
        DataError: there is no `metadata.jsonl`, it has no row, or a row is bad: a missing or
            unreadable picture, an empty or wrongly typed text, one in the other language or with
            control characters, broken JSON, a path out of the folder, a picture named twice, no
            content. With ``skip_bad`` bad rows go to
            ``skipped`` instead, and it is an error only if no good row is left.
    """
    folder = Path(folder)
    file = folder / METADATA
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}). A data folder holds pictures "
                        f"and a {METADATA} with one row a picture.") from error
    good: dict[int, Row] = {}
    bad: dict[int, str] = {}
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            good[number] = _parse_row(line, folder, number, first_line)
            if unread is not None:
                _check_words(good[number], unread)
        except _Wrong as wrong:
            bad[number] = str(wrong)
            good.pop(number, None)
    if check_pictures:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            reasons = pool.map(_picture_fault, [row.path for row in good.values()])
            bad.update({n: reason for n, reason in zip(list(good), reasons, strict=True)
                        if reason})
    if not good and not bad:
        raise DataError(f"{file} is empty; it should hold one row a picture.")
    skipped = tuple(BadRow(file, number, bad[number]) for number in sorted(bad))
    if skipped and not skip_bad:
        raise DataError(_complaint(skipped))
    rows = tuple(row for number, row in good.items() if number not in bad)
    if not rows:
        raise DataError(f"{file} has no good row left: all {len(skipped)} were skipped. "
                        f"The first one: {skipped[0]}.")
    return Split(data_set_name(folder), folder, rows, skipped)


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


def rows_of(sources: Sequence[Path], split: str, skip_bad: bool = False,
            check_pictures: bool = True) -> list[Row]:
    """All rows of one split of these; what was read is said on standard error.

    Raises:
        DataError: there are none, or one is bad.
    """
    return [row for source in sources for _, folder in find_splits(source, split)
            for row in _read(folder, skip_bad, check_pictures=check_pictures)]


def _read(folder: Path, skip_bad: bool, unread: Unreads | None = None,
          check_pictures: bool = True) -> list[Row]:
    split = read_split(folder, skip_bad=skip_bad, check_pictures=check_pictures, unread=unread)
    for bad in split.skipped:
        print(f"skipped: {bad}", file=sys.stderr)
    print(f"{folder}: {len(split.rows)} pictures, {len(split.skipped)} skipped", file=sys.stderr)
    return list(split.rows)


def find_splits(path: Path, split: str) -> list[tuple[str, Path]]:
    """What a `--data` argument means: (data set name, folder with a `metadata.jsonl`) pairs.

    ``path`` may be such a folder itself (``split`` then plays no part), a data set with splits
    inside, a data set of the `datasets` library (see `hub`), or a folder of data sets, of which
    those without this split are left out with a warning in the log and anything else in it is
    passed over.

    Raises:
        DataError: nothing was found.
    """
    path = Path(path)
    if (path / METADATA).is_file():
        return [(data_set_name(path), path)]
    inside = _splits_inside(path)
    if not inside and is_hub(path):
        return [as_folder(path, split, METADATA)]
    if not path.is_dir():
        raise DataError(f"{path} is not a folder. Give one with a {METADATA}, or a data set with "
                        f"{', '.join(f'{name}/' for name in SPLITS)} inside.")
    if split in inside:
        return [(_name(path), path / split)]
    if inside:
        raise DataError(f"{path} has no {split} split, only {', '.join(inside)}. "
                        f"Choose one of them, or add {path / split / METADATA}.")
    splits = []
    for child in sorted(p for p in path.iterdir() if p.is_dir()):
        child_splits = _splits_inside(child)
        if (child / METADATA).is_file():
            splits.append((data_set_name(child), child))
        elif split in child_splits:
            splits.append((_name(child), child / split))
        elif child_splits:
            _log.warning("%s has no %s split (only %s); it is left out.", child, split,
                         ", ".join(child_splits))
    if not splits:
        raise DataError(f"{path} holds no data for the {split} split: no {METADATA} in it, in "
                        f"{split}/, or in a data set inside. See train/README.md for the layout.")
    return splits


def data_set_name(folder: Path) -> str:
    """The name of a data set by the folder of one of its splits: "a/flickr8k/test" is flickr8k."""
    name = _name(folder)
    return _name(Path(os.path.abspath(folder)).parent) if name in SPLITS else name


def split_name(folder: Path) -> str:
    """The name of a split's folder with its data set's: "a/flickr8k/test" is flickr8k/test."""
    name, data_set = _name(folder), data_set_name(folder)
    return f"{data_set}/{name}" if name in SPLITS else name


def _name(folder: Path) -> str:
    return Path(os.path.abspath(folder)).name or "data"


def _splits_inside(folder: Path) -> list[str]:
    return [name for name in SPLITS if (folder / name / METADATA).is_file()]


def _complaint(bad: Sequence[BadRow]) -> str:
    others = ", ".join(str(row.line) for row in bad[1:11]) + (", ..." if len(bad) > 11 else "")
    more = f" {len(bad) - 1} more bad row(s), line {others}." if len(bad) > 1 else ""
    return f"{bad[0]}.{more} Correct it, or leave bad rows out with --skip-bad."


def _parse_row(line: bytes, folder: Path, number: int, first_line: dict[str, int]) -> Row:
    try:
        row = _LINE.validate_json(line)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}"
                        for part in wrong["loc"])[1:]
        reason = wrong["msg"].removeprefix("Value error, ")
        raise _Wrong(f"{where}: {reason}" if where else reason) from error
    name = Path(row.file_name).as_posix()
    if name in first_line:
        raise _Wrong(f"picture {name} was named before, in line {first_line[name]}")
    for i, question in enumerate(row.qa):
        if question.choices and question.answer not in question.choices:
            raise _Wrong(f"qa[{i}].answer is none of its choices")
    if not (row.captions or row.captions_zh or row.qa):
        raise _Wrong("there is nothing about the picture: none of captions, captions_zh, qa has "
                     "content")
    if not os.path.isfile(folder / name):  # False, not an error, for a name too long
        raise _Wrong(f"picture {name} is missing")
    first_line[name] = number
    return Row(folder / name, row.captions, row.captions_zh, row.qa, split_name(folder))


def _check_words(row: Row, unread: Unreads) -> None:
    """Raise where the model knows no word of a text: it would learn to write a sign for it."""
    texts = {f"{key}[{i}]": text for key in ("captions", "captions_zh")
             for i, text in enumerate(getattr(row, key))}
    for i, question in enumerate(row.questions):
        texts |= {f"qa[{i}].question": question.question, f"qa[{i}].answer": question.answer}
    for where, text in texts.items():
        if unread(text).nothing:
            raise _Wrong(f"{where} holds no word that the model knows ({_start(text)})")


def _start(text: str) -> str:
    return f"“{text[:30]}{'…' if len(text) > 30 else ''}”"


def _picture_fault(path: Path) -> str:
    """What is wrong with a picture file, or "". The whole file is read: a cut-off one shows."""
    try:
        open_picture(path)
    except PictureError as error:
        return f"picture {path.name}: {str(error).rstrip('.')}"
    return ""
