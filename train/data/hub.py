"""Data sets of the Hugging Face `datasets` library, of the hub or a local folder, as data folders.

The pictures are written once, as files with a `metadata.jsonl`, to a folder under `CACHE` that is
named by the library's fingerprint of the data; from there on they are rows like any others. The
library is needed only here: `pip install -r requirements-train.txt`.
"""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitdemo.disk import writing
from vitdemo.errors import DataError
from vitdemo.words import mainly_chinese

CACHE = Path("cache/hub")
PREFIX = "hub:"
# What a split is called by others.
_SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"),
           "test": ("test", "testing")}
PICTURES = ("image", "picture", "img", "photo", "jpg", "png")
CAPTIONS = ("captions", "caption", "captions_zh", "caption_zh", "sentences", "sentence", "text",
            "texts", "description")
ANSWERS = ("answer", "multiple_choice_answer", "label")
HELD = 10  # of a data set without a validation split, every tenth picture serves as one
_log = logging.getLogger(__name__)
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
_HINT = "Install the library with: pip install -r requirements-train.txt"


def is_hub(path: Path) -> bool:
    """Whether a `--data` argument is for this file: "hub:NAME", "OWNER/NAME" where there is no
    folder OWNER, or a local folder that the library saved or that holds parquet files."""
    text = path.as_posix()
    if text.startswith(PREFIX):
        return True
    if path.is_dir():
        return _saved_to_disk(path) or _has_parquet(path)
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?", text)
                and not path.exists() and not path.parent.exists())


def _saved_to_disk(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _has_parquet(path: Path) -> bool:
    """In the folder itself, or where such data sets have theirs; not in any folder inside, since
    this may be a folder of data sets."""
    inside = ("data", *(name for names in _SPLITS.values() for name in names))
    return any(any((path / name).glob("*.parquet")) for name in ("", *inside))


def as_folder(path: Path, split: str, metadata: str) -> tuple[str, Path]:
    """One split as (data set name, folder with the ``metadata`` file), written if it is not there.

    Where the data set has no validation split, every tenth picture serves as one and no longer
    belongs to train; the log says so. Of one without any splits, "all" is the whole.
    Several processes may ask at once: each writes a folder of its own, and the first one stays.

    Raises:
        DataError: the library is missing, the data set or the split is not there, it has no
            column of pictures or of texts.
        DiskError: there is no room to write.
    """
    name = _title(path)
    data, held = _part(_load(path), path, split)
    folder = CACHE / f"{name}-{data._fingerprint}{'.held' if held else ''}" / split
    if not (folder / metadata).is_file():
        _write_folder(folder, metadata, data, path, split if held else "")
    if held and split == "validation":
        _log.warning("%s has no validation split: every tenth picture is held out of train for it.",
                     path)
    return name, folder


def _part(data: Any, path: Path, split: str) -> tuple[Any, bool]:
    """The rows among which the split's are, and whether a part of them is held out."""
    if not isinstance(data, dict):
        if split not in ("train", "validation", "all"):
            raise DataError(f"{path} has no splits, so there is no {split} split: ask for train or "
                            "validation (every tenth picture is held out), or for all.")
        return data, split != "all"
    known, train, validation = (
        next((own for own in _SPLITS.get(name, (name,)) if own in data), None)
        for name in (split, "train", "validation"))
    if train is not None and validation is None and split in ("train", "validation"):
        return data[train], True
    if known is None:
        raise DataError(f"{path} has no {split} split, only {', '.join(data)}.")
    return data[known], False


def _write_folder(folder: Path, metadata: str, data: Any, path: Path, split: str) -> None:
    """Write the rows; of every ten pictures those that belong to ``split``, where it is given."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(suffix=".part", dir=folder.parent) as made:
            part = Path(made, "rows")
            part.mkdir()
            lines = [json.dumps(row, ensure_ascii=False) + "\n"
                     for row in _rows(data, path, part, split)]
            if not lines:
                raise DataError(f"{path} has no {split} split, and too few pictures to hold out "
                                f"every tenth: it takes {HELD} or more.")
            (part / metadata).write_text("".join(lines), encoding="utf-8")
            if not (folder / metadata).is_file():  # another process may have been faster
                os.replace(part, folder)


def _title(path: Path) -> str:
    """The data set's own name: "hub:owner/birds:large" is birds."""
    text = path.as_posix().removeprefix(PREFIX) if not path.is_dir() else os.path.abspath(path)
    return text.rsplit("/", 1)[-1].split(":")[0]


def _load(path: Path) -> Any:
    """A `Dataset`, or a dictionary of them by split."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{path} is for the datasets library, which is not installed. "
                        f"{_HINT}") from error
    try:
        if path.is_dir():
            return (datasets.load_from_disk(path) if _saved_to_disk(path)
                    else datasets.load_dataset(str(path)))
        name = path.as_posix().removeprefix(PREFIX)
        if not _NAME.fullmatch(name):
            raise DataError(f"{path} is no name of a data set: it must be {PREFIX}OWNER/NAME, with "
                            ":CONFIGURATION behind it where the data set has several.")
        name, _, configuration = name.partition(":")
        return datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().split("\n")[0][:300].rstrip(".")
        where = "" if path.is_dir() else " There is no folder of this name here either."
        raise DataError(f"the datasets library cannot load {path}: {reason}.{where}") from error


def _rows(data: Any, path: Path, folder: Path, split: str = "") -> Iterable[dict[str, Any]]:
    """Rows of the metadata file, one a picture; the pictures go into ``folder``.

    Rows of one picture (a question each, say) become one. With ``split`` "train" every tenth
    picture is left out, with "validation" all others.
    """
    import datasets

    typed = [name for name, kind in data.features.items() if isinstance(kind, datasets.Image)]
    column = typed[0] if len(typed) == 1 else _column(data, path, "pictures", PICTURES, typed)
    _column(data, path, "captions or questions", (*CAPTIONS, "question", "qa"))
    rows: dict[str, dict[str, Any]] = {}
    places: dict[str, int] = {}  # of every picture, in the order of the data
    for number, row in enumerate(data.cast_column(column, datasets.Image(decode=False))):
        given = row[column] or {}
        content = given.get("bytes") or (given.get("path") and Path(given["path"]).read_bytes())
        if not content:
            raise DataError(f"{path}, row {number}: there is no picture.")
        name = hashlib.sha256(content).hexdigest()[:24]
        place = places.setdefault(name, len(places))
        if split and (place % HELD == HELD - 1) != (split == "validation"):
            continue
        if name not in rows:
            (folder / name).write_bytes(content)
        kept = rows.setdefault(name, {"file_name": name, "captions": [], "captions_zh": [],
                                      "qa": []})
        for text in _captions(row):
            language = "captions_zh" if mainly_chinese(text) else "captions"
            if text not in kept[language]:
                kept[language].append(text)
        kept["qa"] += [*(row.get("qa") or []), *_questions(row)]
    return rows.values()


def _column(data: Any, path: Path, what: str, names: Sequence[str],
            among: Sequence[str] = ()) -> str:
    """The first column of one of these names."""
    for name in names:
        if name in (among or data.column_names):
            return name
    columns = ", ".join(f"{name} ({getattr(kind, 'dtype', None) or type(kind).__name__})"
                        for name, kind in data.features.items())
    raise DataError(f"{path} has no column of {what}: it would be called {', '.join(names)}; "
                    f"the columns are {columns}. Rename one with the datasets library.")


def _captions(row: Mapping[str, Any]) -> Iterable[str]:
    for name in CAPTIONS:
        value = row.get(name) or []
        for text in [value] if isinstance(value, str) else value:
            if isinstance(text, Mapping):  # {"raw": ..., "tokens": ...}
                text = text.get("raw") or text.get("text")
            if isinstance(text, str) and text.strip():
                yield " ".join(text.split())


def _questions(row: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """A row's question, with the commonest of people's answers where none is given."""
    if row.get("question"):
        people = [str(given["answer"] if isinstance(given, Mapping) else given)
                  for given in row.get("answers") or []]
        answer = next((row[name] for name in ANSWERS if row.get(name)),
                      max(people, key=people.count, default=""))
        yield {"question": row["question"], "answer": answer, "answers": people,
               "type": row.get("type")}
