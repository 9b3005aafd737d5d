"""What a picture's EXIF data says of when, with what and which way up it was taken.

The data comes from outside, so nothing here raises: a tag of an odd type, a pointer that leads
nowhere or a date that is none is passed over, and the next best tag counts.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

FIRST_YEAR = 1826  # of the oldest photograph there is: a year before it is no date
# Which date a picture is known by, the best first; "file" is that of the file itself.
DATES = ("original", "digitized", "gps", "modified", "file")
# What Pillow raises on EXIF data of odd types and with pointers that lead nowhere.
ODD = (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError,
        AttributeError, AssertionError, EOFError, MemoryError)
_DATE = re.compile(r"(\d{4})\s?[:/.-]\s?(\d{1,2})\s?[:/.-]\s?(\d{1,2})(?!\d)"
                   r"(?:[T\s]\s*(\d{1,2})\s?:\s?(\d{1,2})(?:\s?:\s?(\d{1,2}))?(?!\d))?")
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
          4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
          6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}
SIDEWAYS = (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90)  # what swaps width and height


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What turns a picture upright; None where it is, or nothing usable is said of it."""
    value = _value(_exif(image), Base.Orientation)
    return _TURNS.get(value) if isinstance(value, int) else None


def from_camera(image: Image.Image) -> dict[str, str | int | float]:
    """When a picture was ``taken``, by which of `DATES` that is known (``dated``), and with which
    ``camera``; what is not known is left out. To be asked before the picture is converted: that
    loses the data."""
    exif = _exif(image)
    known: dict[str, str | int | float] = {}
    detail = _ifd(exif, IFD.Exif)
    for dated, text in (("original", _first_text(Base.DateTimeOriginal, detail, exif)),
                        ("digitized", _first_text(Base.DateTimeDigitized, detail, exif)),
                        ("gps", _gps_time(_ifd(exif, IFD.GPSInfo))),
                        ("modified", _first_text(Base.DateTime, exif, detail))):
        if taken := read_date(text):
            known |= {"taken": taken, "dated": dated}
            break
    maker, model = (_text(_value(exif, tag)).strip("\0 ") for tag in (Base.Make, Base.Model))
    camera = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
    if camera.isprintable() and camera:
        known["camera"] = camera[:200]
    return known


def read_date(text: str) -> str:
    """A date as cameras and programs write it, as ISO 8601 by the clock it was written by:
    "2024-05-31T18:04:11", or the day alone where no time is told; "" where it is no date.

    Fractions of a second and time zones are passed over, and so is what stands behind a NUL. An
    hour 24 is the first of the same day: some phones count 1 to 24.
    """
    found = _DATE.match(text.lstrip("\0 \t\r\n").split("\0")[0])
    if found is None:
        return ""
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        written = datetime(year, month, day)
        if year < FIRST_YEAR:
            return ""
        if found[4] is None:
            return written.date().isoformat()
        return written.replace(hour=hour % 24 if hour == 24 else hour, minute=minute,
                               second=min(second, 59) if second == 60 else second).isoformat()
    except ValueError:  # no such day, or no such time of a day that there is
        try:
            return datetime(year, month, day).date().isoformat()
        except ValueError:
            return ""


def _gps_time(gps: Mapping[int, Any]) -> str:
    """The satellites' date and time of day (UTC) as one text."""
    try:
        clock = ":".join(f"{int(part):02}" for part in _value(gps, GPS.GPSTimeStamp))
    except ODD:
        clock = ""
    return f"{_text(_value(gps, GPS.GPSDateStamp))[:10]} {clock}"


def _exif(image: Image.Image) -> Mapping[int, Any]:
    try:
        return image.getexif()
    except ODD:
        return {}


def _ifd(exif: Mapping[int, Any], tag: int) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(tag) if isinstance(exif, Image.Exif) else {}
    except ODD:
        return {}


def _value(tags: Mapping[int, Any], tag: int) -> Any:
    try:
        return tags.get(tag)
    except ODD:
        return None


def _first_text(tag: int, *places: Mapping[int, Any]) -> str:
    """A date tag of the first place that has a date there: some programs put them in another."""
    texts = [_text(_value(place, tag)) for place in places]
    return next((text for text in texts if read_date(text)), "")


def _text(value: Any) -> str:
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
