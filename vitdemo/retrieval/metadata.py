"""What a store keeps of a picture beside its vector."""

import contextlib
import struct
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from PIL.ExifTags import IFD, Base
from PIL.Image import Image

from vitdemo.preprocess import Picture
from vitdemo.retrieval.filters import orientation_of


def entry_id(path: str) -> str:
    """The id of a path: 32 hexadecimal digits, the same on every machine."""
    return sha256(path.encode(errors="surrogateescape")).hexdigest()[:32]


def metadata_of(path: str, picture: Picture) -> dict[str, str | int | float]:
    """What a store keeps of a picture that was read in full: see `METADATA`. What is not known, or
    damaged in the file, is left out."""
    known: dict[str, str | int | float] = {"digest": picture.digest}
    place = Path(path)
    if place.is_absolute():
        known["folder"] = str(place.parent)
        try:
            status = place.stat()
            known["bytes"], known["modified"] = status.st_size, status.st_mtime
        except OSError:
            pass  # a name that only looks like a path: nothing to add
    known.update(from_camera(picture.image))
    return {**known, **derived(*picture.image.size, known)}


def derived(width: int, height: int,
            known: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    """What follows from the upright size and the rest of the metadata: the day, that of the camera
    or else of the file, and the orientation."""
    found: dict[str, str | int | float] = {"orientation": orientation_of(width, height)}
    if "taken" in known:
        found["day"] = str(known["taken"])[:10]
    elif "modified" in known:
        # Some file systems keep times that no calendar has.
        with contextlib.suppress(ValueError, OverflowError, OSError):
            found["day"] = datetime.fromtimestamp(float(known["modified"])).date().isoformat()
    return found


def from_camera(image: Image) -> dict[str, str | int | float]:
    """When and with what a picture was taken, as far as its EXIF data says."""
    known: dict[str, str | int | float] = {}
    try:
        exif = image.getexif()
        detail = exif.get_ifd(IFD.Exif)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error):
        return known  # damaged EXIF data in a sound picture
    try:
        taken = str(detail.get(Base.DateTimeOriginal) or exif.get(Base.DateTime) or "")
        known["taken"] = datetime.strptime(taken.strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        pass  # no date, or not one
    maker, model = (str(exif.get(tag) or "").strip("\0 ") for tag in (Base.Make, Base.Model))
    camera = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
    if camera.isprintable() and camera:
        known["camera"] = camera[:200]
    return known
