"""Names of files as text, whatever encoding the terminal has.

Python exchanges names with the system in the encoding of the locale. With LC_ALL=C that may be
ASCII: the name "Käse.jpg" comes as bytes in disguise, and by its text it cannot be asked for. As a
store must mean the same on every terminal, a name is kept as the text that its bytes are in UTF-8.
"""

import os


def as_text(name: str) -> str:
    """A name that the system or a command line gave, as text to store and to show. A name that is
    no text comes back as it is: `is_text` tells."""
    try:
        return os.fsencode(name).decode()
    except UnicodeError:
        return name  # text already; in the locale's own encoding; or none


def is_text(name: str) -> bool:
    """Whether every byte of a name belongs to a character."""
    return shown(name) == name


def shown(name: str) -> str:
    """A name as text that can be printed and stored, bytes that are none as ``\\udcff``."""
    return name.encode(errors="backslashreplace").decode()


def on_disk(name: str) -> str:
    """What to call a file by in `open` and the like: the way back from `as_text`."""
    try:
        utf8 = os.fsdecode(name.encode())
    except UnicodeError:
        return name
    local = utf8 != name and os.path.lexists(name) and not os.path.lexists(utf8)
    return name if local else utf8


def missing(name: str) -> bool:
    """Whether a file, named as text, certainly does not exist. One that cannot be looked at, for
    want of permission, say, or as its drive has a fault, may be there; so may a dangling link."""
    try:
        os.lstat(on_disk(name))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False

