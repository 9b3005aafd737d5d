"""What goes between a page and the model's machines: values as bytes, with no pickle in them.

A message is a safetensors file: its metadata hold the value as JSON, its tensors the arrays in it.
Whoever reads one gets plain values, arrays, and the records, settings, errors and pictures that are
listed here, and nothing else. An answer is a row of messages, each behind its length.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vitdemo import __version__, errors, records
from vitdemo.config import LIMITS, Decoding
from vitdemo.errors import VitDemoError
from vitdemo.preprocess import Picture, pixel_digest
from vitdemo.retrieval.readers import Reading
from vitdemo.texts import Message

LENGTH = 4  # bytes that tell the length of a message in a row
MOST_BYTES = 2**30  # of one message

_RECORDS: dict[str, Any] = {
    name: kind for name, kind in [*inspect.getmembers(records, inspect.isclass),
                                  ("Decoding", Decoding), ("Reading", Reading)]
    if is_dataclass(kind)}
_ERRORS: dict[str, type[VitDemoError]] = {
    name: kind for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, VitDemoError)}


class WireError(ValueError):
    """Bytes that are no message of this version."""


def fingerprint(info: records.ModelInfo) -> str:
    """What tells models and versions of the program apart: 16 hexadecimal digits. Only sides with
    the same one work together, so that vectors of two kinds of weights never mix."""
    return sha256(__version__.encode() + pack(info)).hexdigest()[:16]


def pack(value: Any, attach: Callable[[str], bool] = lambda digest: True) -> bytes:
    """A value as a message. A picture goes with its pixels where ``attach`` says so of its digest,
    else its digest alone; of a picture file's data nothing goes."""
    arrays: dict[str, np.ndarray] = {}

    def kept(array: np.ndarray) -> str:
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(array)
        return name

    def plain(one: Any) -> Any:
        if one is None or isinstance(one, bool | int | float | str):
            return one
        if isinstance(one, bytes):
            return {"bytes": kept(np.frombuffer(one, np.uint8))}
        if isinstance(one, np.generic):
            return one.item()
        if isinstance(one, list | tuple | frozenset):
            items = [plain(item) for item in (sorted(one) if isinstance(one, frozenset) else one)]
            return items if isinstance(one, list) else {type(one).__name__: items}
        if isinstance(one, np.ndarray):
            return {"array": kept(one)}
        if isinstance(one, Picture):
            pixels = kept(np.asarray(one.image)) if attach(one.digest) else None
            return {"picture": one.digest, "pixels": pixels}
        if isinstance(one, Mapping):
            return {"mapping": [[plain(key), plain(item)] for key, item in one.items()]}
        if isinstance(one, Message):
            return {"message": one.key, "values": plain({
                name: item if isinstance(item, Message | VitDemoError | int | float) else str(item)
                for name, item in one.values.items()})}
        if isinstance(one, VitDemoError):
            return {"error": type(one).__name__, "message": plain(one.message)}
        name = type(one).__name__
        if _RECORDS.get(name) is not type(one):
            raise TypeError(f"a {name} does not go over the network")
        return {"record": name, "values": plain({
            field.name: getattr(one, field.name) for field in fields(one)})}

    text = json.dumps(plain(value))
    return save(arrays, metadata={"value": text})


def unpack(data: bytes, known: Callable[[str], Picture] | None = None) -> Any:
    """The value of a message. ``known`` gives the pictures that came without their pixels.

    Raises:
        WireError: it is none.
        VitDemoError: a setting in it is out of its range.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        text = json.loads(data[8:8 + size])["__metadata__"]["value"]
        return _value(json.loads(text), load(data), known)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError,
            SafetensorError) as error:
        raise WireError(f"no message of this version ({type(error).__name__})") from error


def _value(one: Any, arrays: Mapping[str, np.ndarray],
           known: Callable[[str], Picture] | None) -> Any:
    def inside(item: Any) -> Any:
        return _value(item, arrays, known)

    if isinstance(one, list):
        return [inside(item) for item in one]
    if not isinstance(one, dict):
        return one
    match one:
        case {"tuple": items}:
            return tuple(inside(items))
        case {"frozenset": items}:
            return frozenset(inside(items))
        case {"array": name}:
            return arrays[name]
        case {"bytes": name}:
            return arrays[name].tobytes()
        case {"picture": digest, "pixels": None}:
            if known is None:
                raise WireError("a picture without its pixels")
            return known(digest)
        case {"picture": _, "pixels": name}:
            return _picture(arrays[name])
        case {"mapping": pairs}:
            return {inside(key): inside(item) for key, item in pairs}
        case {"message": key, "values": values}:
            return Message(key, **inside(values))
        case {"error": name, "message": message}:
            return _ERRORS[name](inside(message))
        case {"record": name, "values": values}:
            return _RECORDS[name](**inside(values))
    raise WireError("an unknown kind of value")


def _picture(pixels: np.ndarray) -> Picture:
    """A picture of pixels (height, width, 3), known by them, whatever it was called."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 \
            or not 0 < pixels[..., 0].size <= LIMITS.max_megapixels * 10**6:
        raise WireError("no picture")
    image = Image.fromarray(pixels)
    return Picture(image, pixel_digest(image))


def framed(message: bytes) -> bytes:
    """A message of a row."""
    return len(message).to_bytes(LENGTH, "big") + message


class Frames:
    """Takes a row of messages apart, however its bytes come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """The messages that are whole now.

        Raises:
            WireError: one is larger than any.
        """
        self._bytes += data
        found = []
        while len(self._bytes) >= LENGTH:
            size = int.from_bytes(self._bytes[:LENGTH], "big")
            if size > MOST_BYTES:
                raise WireError("too large")
            if len(self._bytes) < LENGTH + size:
                break
            found.append(bytes(self._bytes[LENGTH:LENGTH + size]))
            del self._bytes[:LENGTH + size]
        return found


