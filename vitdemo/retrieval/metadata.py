"""What a store keeps of a picture beside its vector."""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from vitdemo.camera import DATES
from vitdemo.preprocess import Picture
from vitdemo.retrieval.beside import NOTHING
from vitdemo.retrieval.filters import orientation_of
from vitdemo.texts import phrase
from vitdemo.video import file_of


def entry_id(path: str) -> str:
    """The id of a path: 32 hexadecimal digits, the same on every machine."""
    return sha256(path.encode(errors="surrogateescape")).hexdigest()[:32]


def metadata_of(path: str, picture: Picture) -> dict[str, str | int | float]:
    """What a store keeps of a picture that was read in full: see `METADATA`. What is not known, or
    damaged in the file, is left out."""
    known = {"digest": picture.digest, **picture.camera, **file_metadata(path)}
    return {**known, **derived(*picture.image.size, known)}


def file_metadata(path: str) -> dict[str, str | int | float]:
    """The part of it that the file system tells; of a frame, of its video."""
    known: dict[str, str | int | float] = {"beside_mark": NOTHING}
    place = Path(file_of(path))
    if place.is_absolute():
        known["folder"] = str(place.parent)
        try:
            status = place.stat()
            known["bytes"], known["modified"] = status.st_size, status.st_mtime
        except (OSError, ValueError):
            pass  # a name that only looks like a path: nothing to add
    return known


def derived(width: int, height: int,
            known: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    """What follows from the upright size and the rest of the metadata: the orientation, and the
    day, that of the camera or else of the file."""
    found: dict[str, str | int | float] = {"orientation": orientation_of(width, height)}
    if "taken" in known:
        found["day"] = str(known["taken"])[:10]
    elif "modified" in known:
        # Some file systems keep times that no calendar has.
        with contextlib.suppress(ValueError, OverflowError, OSError):
            day = datetime.fromtimestamp(float(known["modified"])).date()
            found["day"], found["dated"] = day.isoformat(), "file"
    return found


def told_day(known: Mapping[str, str | int | float]) -> str:
    """The day of a picture and which day that is: "2024-05-31 (taken)"; "" where none is known."""
    day, dated = str(known.get("day", "")), str(known.get("dated", ""))
    return phrase(f"dated.{dated}", day=day) if day and dated in DATES else day
