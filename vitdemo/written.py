"""What people wrote into a picture's file: titles, captions and keywords of IPTC, XMP and Exif.

The data comes from outside, so nothing here raises: what cannot be understood is passed over. XMP
is read with Python's own XML, as Pillow's reader of it needs one more package.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image, IptcImagePlugin
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile

from vitdemo.camera import ODD

MOST_TEXT = 4000  # characters that are kept of a picture
_IPTC = ((2, 5), (2, 105), (2, 120), (2, 25))  # title, headline, caption, keywords
_EXIF = (Base.ImageDescription, Base.XPTitle, Base.XPSubject, Base.XPComment, Base.XPKeywords)
_XMP = ("title", "description", "subject")
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"


def written_in(image: Image.Image) -> str:
    """The texts of an opened picture, a line each and each once; "" where there are none."""
    texts: list[str] = []
    for read in (_iptc, _xmp, _exif):
        try:
            texts += read(image)
        except ODD:
            continue
    return as_lines(texts)


def as_lines(texts: Iterable[str]) -> str:
    """Texts that say something, each once and on a line of its own, `MOST_TEXT` characters."""
    lines = dict.fromkeys(" ".join(text.replace("\0", " ").split()) for text in texts)
    text = "\n".join(filter(None, lines))[:MOST_TEXT]
    return text.encode(errors="ignore").decode()  # halves of characters cannot be stored


def xmp_texts(data: bytes) -> list[str]:
    """Titles, descriptions and keywords of an XMP packet.

    Raises:
        ValueError, ET.ParseError: it is none.
    """
    root = parsed_xmp(data.strip(b"\0 \t\r\n"))
    return [item.text or "" for name in _XMP for element in root.iter(_DUBLIN_CORE + name)
            for item in element.iter(_ITEM)]


def parsed_xmp(data: bytes) -> ET.Element:
    """The root of an XMP packet.

    Raises:
        ValueError, ET.ParseError: it is none.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # XMP has none; entities could be endless
        raise ValueError("DOCTYPE")
    return ET.fromstring(data)


def _iptc(image: Image.Image) -> list[str]:
    found: Mapping[tuple[int, int], Any] = {}
    if isinstance(image, ImageFile):
        found = IptcImagePlugin.getiptcinfo(image) or {}
    values = [found[key] for key in _IPTC if key in found]
    return [_decoded(one) for value in values
            for one in (value if isinstance(value, list) else [value])]


def _xmp(image: Image.Image) -> list[str]:
    data = image.info.get("xmp", b"")
    return xmp_texts(data) if isinstance(data, bytes) and data.strip(b"\0 \t\r\n") else []


def _exif(image: Image.Image) -> list[str]:
    exif = image.getexif()
    return [_decoded(exif[tag], wide=tag != Base.ImageDescription) for tag in _EXIF if tag in exif]


def _decoded(value: Any, wide: bool = False) -> str:
    """A text as programs store it; ``wide`` is what Windows writes, in UTF-16."""
    if isinstance(value, tuple):
        value = bytes(value)
    if not isinstance(value, bytes):
        # Pillow reads Exif as Latin-1, while most programs write UTF-8.
        value = str(value).encode("latin-1") if isinstance(value, str) else b""
    if wide:
        return str(value.decode("utf-16-le", errors="ignore"))
    try:
        return str(value.decode())
    except UnicodeDecodeError:
        return str(value.decode("latin-1"))
