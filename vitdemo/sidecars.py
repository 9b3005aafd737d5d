"""Files beside a picture that say what it shows: photo.jpg.json, photo.jpg.txt and photo.jpg.xmp.

All that is said of a picture is a *row*, which is also a row of the `metadata.jsonl` that training
reads: ``captions``, ``captions_zh``, ``qa`` (objects with ``question`` and ``answer``) and
``names``. ``bytes``, ``modified`` and ``content`` (SHA-256) tell which state of the picture was
described, and ``made`` with which settings; a row without ``bytes`` was written by somebody else.

XMP is written with the standard library: what knows the format in full (Exempi, Exiv2, ExifTool)
comes as a binary, and two properties of Dublin Core need none.
"""

import contextlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

from vitdemo.disk import replacing
from vitdemo.errors import DataError
from vitdemo.texts import Message, phrase
from vitdemo.written import parsed_xmp

Row: TypeAlias = dict[str, Any]

LISTS = ("captions", "captions_zh", "names")
MOST_BYTES = 2**24  # of a sidecar that is read: no description is as long
_SPACES = {"x": "adobe:ns:meta/", "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
           "dc": "http://purl.org/dc/elements/1.1/", "vitdemo": "urn:vitdemo:description:1"}
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def sidecar(picture: Path, ending: str) -> Path:
    """The sidecar of a picture: the whole name with the ending, as a.jpg and a.png may both be
    there."""
    return picture.with_name(f"{picture.name}.{ending}")


def joined(old: Row | None, new: Row, append: bool) -> Row:
    """What stands in the output afterwards. Keys that are not ours stay; with ``append`` so do all
    texts, and those that are new come after them."""
    if old is None:
        return dict(new)
    if not append:
        return {**old, **{key: [] for key in (*LISTS, "qa") if key in old}, **new}
    both = {key: [*old.get(key, []), *(one for one in new.get(key, [])
                                       if one not in old.get(key, []))]
            for key in (*LISTS, "made") if key in old or key in new}
    known = {(one.get("question"), one.get("answer")) for one in old.get("qa", [])}
    more = [one for one in new.get("qa", []) if (one["question"], one["answer"]) not in known]
    both["qa"] = [*old.get("qa", []), *more]
    return {**old, **new, **both}


def read_sidecar(file: Path, ending: str) -> Row | None:
    """The row of a sidecar; None where there is none.

    Raises:
        DataError: the file is there and cannot be understood.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError("describing.unreadable", file=file, why=error) from error
    if len(data) > MOST_BYTES:
        raise DataError("describing.unreadable", file=file,
                        why=Message("reason.large", most=MOST_BYTES // 2**20))
    try:
        return {"json": _from_json, "txt": _from_text, "xmp": _from_xmp}[ending](data)
    except (DataError, ValueError, ET.ParseError, RecursionError, LookupError) as error:
        raise DataError("describing.unreadable", file=file, why=error) from error


def write_sidecar(file: Path, ending: str, row: Row) -> None:
    """Write a sidecar in place of what is there; of an XMP, all that is not ours stays.

    Raises:
        DataError: there is an XMP that cannot be understood.
        DiskError: there is no room, or no permission.
    """
    if ending == "json":
        data = json.dumps(row, ensure_ascii=False, indent=2).encode() + b"\n"
    elif ending == "txt":
        data = _as_text(row).encode()
    else:
        data = _as_xmp(file, row)
    with replacing([file], len(data)) as (part,):
        part.write_bytes(data)


def _from_json(data: bytes) -> Row:
    row = json.loads(data.decode("utf-8-sig"))
    if not isinstance(row, dict):
        raise DataError("reason.no_object")
    return usable(row)


def parsed_row(line: bytes) -> Row | None:
    """A line of `metadata.jsonl`; None where it is no row."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return usable(row) if isinstance(row, dict) and isinstance(
        row.get("file_name"), str) and "\0" not in row["file_name"] else None


def usable(row: Mapping[str, Any]) -> Row:
    """A row in which the keys that are ours hold what they should; others are as they were."""
    checked: Row = dict(row)
    for key in (*LISTS, "made"):
        if key in row:
            value = [row[key]] if isinstance(row[key], str) else row[key]
            checked[key] = [one for one in value if isinstance(one, str)] if isinstance(
                value, list) else []
    if "qa" in row:
        checked["qa"] = [one for one in row["qa"] if isinstance(one, dict)] if isinstance(
            row["qa"], list) else []
    return checked


def _as_text(row: Row) -> str:
    """Captions, a line each; then answers after their questions; then names."""
    parts = [[*row.get("captions", []), *row.get("captions_zh", [])],
             [f"{one['question']} {one['answer']}" for one in row.get("qa", [])],
             [phrase("list.join").join(row["names"])] if row.get("names") else []]
    return "\n".join("".join(f"{line}\n" for line in part) for part in parts if part)


def _from_text(data: bytes) -> Row:
    text = data.decode("utf-8-sig")
    first = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]
    return {"captions": [line.strip() for line in first.splitlines() if line.strip()],
            "text": text}


def _name(short: str) -> str:
    space, name = short.split(":")
    return f"{{{_SPACES[space]}}}{name}"


def _items(about: ET.Element, name: str) -> list[ET.Element]:
    return about.findall(f"{_name(name)}/*/{_name('rdf:li')}")


def _from_xmp(data: bytes) -> Row:
    return xmp_row(parsed_xmp(data))


def xmp_row(root: ET.Element) -> Row:
    """The caption and the keywords of an XMP packet, and what we noted in it."""
    row: Row = {}
    for about in root.iter(_name("rdf:Description")):
        with contextlib.suppress(ValueError):
            noted = json.loads(about.findtext(_name("vitdemo:row"), "null"))
            row |= usable(noted) if isinstance(noted, dict) else {}
        captions: dict[str, list[str]] = {"captions": [], "captions_zh": []}
        for one in _items(about, "dc:description"):
            key = "captions_zh" if one.get(_LANGUAGE, "").startswith("zh") else "captions"
            if (one.text or "").strip():
                captions[key].append(str(one.text).strip())
        row |= {key: texts for key, texts in captions.items()  # several stand there as one
                if texts and " ".join(row.get(key, [])) != " ".join(texts)}
        names = [str(one.text).strip() for one in _items(about, "dc:subject") if one.text]
        row |= {"names": names} if names else {}
    return row


def _as_xmp(file: Path, row: Row) -> bytes:
    root = _existing(file)
    about = root.find(f".//{_name('rdf:Description')}")
    if about is None:
        rdf = root if root.tag == _name("rdf:RDF") else root.find(_name("rdf:RDF"))
        rdf = ET.SubElement(root, _name("rdf:RDF")) if rdf is None else rdf
        about = ET.SubElement(rdf, _name("rdf:Description"), {_name("rdf:about"): ""})
    texts = {language: " ".join(row.get(key, [])) for language, key in
             (("en", "captions"), ("zh", "captions_zh"))}
    said = {language: text for language, text in texts.items() if text}
    first = next(iter(said.values()), "")
    _put(about, "dc:description", "rdf:Alt",
         [("x-default", first), *(one for one in said.items() if one[1] != first)] if first else [])
    _put(about, "dc:subject", "rdf:Bag", [("", name) for name in row.get("names", [])])
    for old in about.findall(_name("vitdemo:row")):
        about.remove(old)
    noted = {key: value for key, value in row.items() if key not in LISTS}
    noted |= {"captions_zh": row["captions_zh"]} if row.get("captions_zh") else {}
    noted |= {"captions": row["captions"]} if row.get("captions") else {}
    ET.SubElement(about, _name("vitdemo:row")).text = json.dumps(noted)
    ET.indent(root, " ")
    return (b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
            + ET.tostring(root, encoding="utf-8") + b'\n<?xpacket end="w"?>\n')


def _existing(file: Path) -> ET.Element:
    """The XMP that is there, with its own prefixes, or an empty one."""
    for prefix, space in _SPACES.items():
        ET.register_namespace(prefix, space)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return ET.Element(_name("x:xmpmeta"))
    except OSError as error:
        raise DataError("describing.unreadable", file=file, why=error) from error
    try:
        root = parsed_xmp(data)
        for _, (prefix, space) in ET.iterparse(BytesIO(data), ["start-ns"]):
            with contextlib.suppress(ValueError):  # ns0 and the like are made anew
                ET.register_namespace(prefix, space)
    except (ValueError, ET.ParseError) as error:
        raise DataError("describing.unreadable", file=file, why=error) from error
    return root


def _put(about: ET.Element, name: str, kind: str, items: list[tuple[str, str]]) -> None:
    """One property of XMP, in place of what it was; without items it stays as it is."""
    if not items:
        return
    for old in about.findall(_name(name)):
        about.remove(old)
    inner = ET.SubElement(ET.SubElement(about, _name(name)), _name(kind))
    for language, text in items:
        one = ET.SubElement(inner, _name("rdf:li"), {_LANGUAGE: language} if language else {})
        one.text = _NOT_XML.sub("", text)
