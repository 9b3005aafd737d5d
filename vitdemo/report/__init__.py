"""What a person keeps of a result: a report in HTML, and the weights as JSON and CSV."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitdemo.disk import replacing
from vitdemo.errors import DiskError
from vitdemo.preprocess import Picture
from vitdemo.records import Candidate, Evidence, Explanation, ModelInfo, PictureShare
from vitdemo.report.caveats import CAN, CANNOT
from vitdemo.report.numbers import to_csv, to_json
from vitdemo.report.page import Report, page

__all__ = ["CAN", "CANNOT", "Report", "page", "to_csv", "to_json", "write_csv", "write_html",
           "write_json"]


def write_html(path: Path | str, picture: Picture, explanations: Sequence[Explanation],
               info: ModelInfo, *, others: Sequence[Explanation] = (),
               evidence: Sequence[Evidence] = (), shares: Sequence[PictureShare] = (),
               settings: Mapping[str, str] | None = None, answers: Sequence[Candidate] = (),
               name: str = "", probability: float | None = None) -> None:
    """Write a report as one HTML file that opens with no server and no network.

    ``others`` are explanations of the same texts by other methods, ``answers`` the next best
    answers, ``probability`` that of the answer itself, ``name`` the picture file's name. What is
    there already is replaced.

    Raises:
        DiskError: the file cannot be written.
    """
    report = Report(picture, tuple(explanations), info, tuple(others), tuple(evidence),
                    tuple(shares), dict(settings or {}), tuple(answers), name,
                    probability=probability)
    write_text(path, page(report))


def write_json(path: Path | str, explanations: Sequence[Explanation],
               info: ModelInfo | None = None, **more: Any) -> None:
    """Write `to_json`, which takes the same arguments.

    Raises:
        DiskError: the file cannot be written.
    """
    found = to_json(explanations, info, **more)
    write_text(path, json.dumps(found, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path | str, explanations: Sequence[Explanation],
              others: Sequence[Explanation] = ()) -> None:
    """Write `to_csv`, in UTF-8 with a byte order mark, by which Excel knows it.

    Raises:
        DiskError: the file cannot be written.
    """
    write_text(path, to_csv(explanations, others), encoding="utf-8-sig")


def write_text(path: Path | str, text: str, encoding: str = "utf-8") -> None:
    """Write a file; what is there already is replaced once the new one is whole.

    Raises:
        DiskError: the file cannot be written; an old one is as it was.
    """
    file = Path(path)
    try:
        with replacing([file]) as (part,):
            with open(part, "w", encoding=encoding, newline="", errors="backslashreplace") as out:
                out.write(text)
    except ValueError as error:  # a name with a null character
        raise DiskError("disk.bad_name", file=file) from error
