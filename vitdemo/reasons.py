"""Why a file, a folder or an address could not be used, in the catalogue's words.

What the system or a library says of it is English, and often of its own parts: that goes to the
log, without the names of files. `VitDemoError` does this with every foreign error among its values.
"""

import errno
import json
import logging
import socket
import xml.etree.ElementTree as ET

from vitdemo.texts import Message

log = logging.getLogger(__name__)

FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}
_BY_NAME = {
    "permission": ("EACCES", "EPERM"), "read_only": ("EROFS",), "gone": ("ENOENT",),
    "folder": ("EISDIR",), "no_folder": ("ENOTDIR",), "long_name": ("ENAMETOOLONG",),
    "loop": ("ELOOP",), "drive": ("EIO",), "in_use": ("EBUSY", "ETXTBSY", "EADDRINUSE"),
    "many_open": ("EMFILE", "ENFILE"), "memory": ("ENOMEM",), "address": ("EADDRNOTAVAIL",),
    "network": ("ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH",
                "ECONNREFUSED", "ECONNRESET")}
_BY_NUMBER = {getattr(errno, name): key for key, names in _BY_NAME.items() for name in names
              if hasattr(errno, name)} | dict.fromkeys(FULL, "full")


def reason(error: BaseException) -> Message:
    """A clause for "{name} cannot be read: {why}."; ``error`` is the system's or a library's."""
    said = getattr(error, "strerror", None) or error
    log.info("%s: %s", type(error).__name__, said)
    if isinstance(error, json.JSONDecodeError):
        return Message("reason.json", line=error.lineno)
    if isinstance(error, ET.ParseError):
        return Message("reason.xml", line=error.position[0])
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        key = _BY_NUMBER.get(error.errno)
        return Message(f"reason.{key}") if key else Message(
            "reason.system", code=errno.errorcode.get(error.errno, error.errno))
    return Message(f"reason.{_by_kind(error, str(said))}")


def _by_kind(error: BaseException, said: str) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, socket.gaierror):
        return "address"
    if isinstance(error, UnicodeDecodeError):
        return "text"
    if isinstance(error, LookupError):  # there is no such decoder, or no such encoding
        return "format"
    if isinstance(error, ValueError) and "null" in said:  # a zero byte in a path
        return "bad_name"
    # Pillow and PyAV: files that end before what they promised has come.
    cut = isinstance(error, EOFError) or "truncated" in said.lower()
    return "cut" if cut else "contents"
