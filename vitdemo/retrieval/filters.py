"""What a picture must be like to be found at all: folder, date, size, form, camera."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from vitdemo.disk import expanded
from vitdemo.errors import StoreError, shortened
from vitdemo.retrieval.base import Condition
from vitdemo.texts import phrase

ORIENTATIONS = ("landscape", "portrait", "square")
MOST_PIXELS = 1_000_000  # of a side: no picture has as many
# The parts of a date may stand apart by any dash, which keyboards exchange, a slash or a dot.
_DATE = re.compile(r"(\d{4})(?:[-‐‑‒–—−－/.](\d{1,2})(?:[-‐‑‒–—−－/.](\d{1,2}))?)?")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_SIZES = ("min_width", "max_width", "min_height", "max_height")


@dataclass(frozen=True)
class Filters:
    """All of them must fit; what is empty or 0 is not asked for.

    ``folder`` holds the picture or one of the folders above it. ``after`` and ``before`` are the
    first and the last day, "2024-05-31", or "2024-05" or "2024" for a month or a year as a whole;
    the day is that of the camera, or else of the file. Widths and heights are pixels of the
    upright picture. ``camera`` is a part of maker and model, in small or capital letters.

    Raises:
        StoreError: a value that makes no sense.
    """

    folder: str = ""
    after: str = ""
    before: str = ""
    min_width: int = 0
    max_width: int = 0
    min_height: int = 0
    max_height: int = 0
    orientation: str = ""
    camera: str = ""

    def __post_init__(self) -> None:
        for name in ("folder", "after", "before", "orientation", "camera"):
            value = getattr(self, name)
            if not isinstance(value, str) or _NO_TEXT.search(value):
                raise StoreError("filter.no_text", name=name, value=shortened(repr(value)))
            object.__setattr__(self, name, value.strip())
        if self.folder:
            _below(self.folder)
        first, last = day(self.after, first=True), day(self.before, first=False)
        if first and last and first > last:
            raise StoreError("filter.no_day", after=self.after, before=self.before)
        if self.orientation and self.orientation not in ORIENTATIONS:
            raise StoreError("filter.no_orientation", value=shortened(repr(self.orientation)),
                             known=", ".join(ORIENTATIONS))
        for name in _SIZES:
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MOST_PIXELS:
                raise StoreError("filter.no_size", name=name, value=shortened(repr(value)),
                                 most=MOST_PIXELS)
        for side in ("width", "height"):
            low, high = getattr(self, f"min_{side}"), getattr(self, f"max_{side}")
            if high and low > high:
                raise StoreError(f"filter.range.{side}", low=low, high=high)

    def __bool__(self) -> bool:
        return self != Filters()

    def within(self, date: str) -> "Filters":
        """These, and the day of the picture in a day, month or year, too; "" asks for nothing."""
        if not date:
            return self
        first, last = day(date, first=True), day(date, first=False)
        known = day(self.before, first=False) or last
        return replace(self, after=self.after if day(self.after, first=True) > first else date,
                       before=self.before if known < last else date)

    def conditions(self) -> tuple[Condition, ...]:
        """The same for an index."""
        found = []
        if self.folder:
            found.append(Condition("path", "starts_with", _below(self.folder)))
        if self.after:
            found.append(Condition("day", ">=", day(self.after, first=True)))
        if self.before:
            found.append(Condition("day", "<=", day(self.before, first=False)))
        for side in ("width", "height"):
            low, high = getattr(self, f"min_{side}"), getattr(self, f"max_{side}")
            found += [Condition(side, ">=", low)] if low else []
            found += [Condition(side, "<=", high)] if high else []
        if self.orientation:
            found.append(Condition("orientation", "=", self.orientation))
        if self.camera:
            found.append(Condition("camera", "contains", self.camera))
        return tuple(found)

    def against(self, path: str, width: int, height: int,
                metadata: Mapping[str, str | int | float]) -> list[str]:
        """Why a picture does not fit, in sentences; none where it does."""
        reasons = []
        if self.folder and not path.startswith(_below(self.folder)):
            reasons.append(phrase("filter.misfit.folder", folder=self.folder))
        known = str(metadata.get("day", ""))
        first, last = day(self.after, first=True), day(self.before, first=False)
        if (first or last) and not known:
            reasons.append(phrase("filter.misfit.no_date"))
        elif (first and known < first) or (last and known > last):
            reasons.append(phrase("filter.misfit.date", day=known))
        for side, value in (("width", width), ("height", height)):
            low, high = getattr(self, f"min_{side}"), getattr(self, f"max_{side}")
            if (low and value < low) or (high and value > high):
                reasons.append(phrase(f"filter.misfit.{side}", pixels=value))
        form = orientation_of(width, height)
        if self.orientation and form != self.orientation:
            reasons.append(phrase(f"filter.misfit.{form}"))
        if self.camera.lower() not in str(metadata.get("camera", "")).lower():
            reasons.append(
                phrase("filter.misfit.camera", camera=metadata["camera"])
                if metadata.get("camera") else phrase("filter.misfit.no_camera"))
        return reasons


def orientation_of(width: int, height: int) -> str:
    """One of `ORIENTATIONS`, of an upright picture."""
    return "square" if width == height else "landscape" if width > height else "portrait"


def day(text: str, first: bool) -> str:
    """A day, month or year as the ISO date of its first or last day; "" stays "".

    Raises:
        StoreError: there is no such date.
    """
    text = text.strip()
    if not text:
        return ""
    found = _DATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        year, month, number = (None if part is None else int(part) for part in found.groups())
        assert year is not None
        if number is not None and month is not None:
            return date(year, month, number).isoformat()
        if month is not None:
            return date(year, month, 1).isoformat()[:8] + ("01" if first else "31")
        return date(year, 1, 1).isoformat()[:5] + ("01-01" if first else "12-31")
    except ValueError as error:
        raise StoreError("filter.no_date", text=shortened(text)) from error


def _below(folder: str) -> str:
    """What the paths of all pictures in a folder begin with."""
    return os.path.join(os.path.abspath(expanded(folder)), "")
