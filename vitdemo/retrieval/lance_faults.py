"""LanceDB's faults as sentences about the store: not of its library's parts and source files."""

import errno
import os
import re
from collections.abc import Callable
from typing import TypeVar

from vitdemo.disk import FULL
from vitdemo.errors import StoreError, shortened

# Of the library's messages: which of its parts speaks, and the place in its source.
_INSIDES = re.compile(r"lance error: |LanceError\(\w+\): |Generic \w+ error: |,? ?\S+\.rs:\d+:\d+")

Result = TypeVar("Result")


def guarded(uri: str, work: Callable[[], Result]) -> Result:
    """Run a call of the library; its faults become a `StoreError` that names the store."""
    try:
        return work()
    except StoreError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(told(uri, error)) from error


def told(uri: str, error: Exception) -> str:
    """What the library's fault means for the store, and what to do: a sentence or two."""
    said = str(error).strip()
    code = getattr(error, "errno", None)
    if found := re.search(r"\(os error (\d+)\)", said):
        code = int(found.group(1))
    store = f"The store {shortened(uri, 200)}"
    if code in FULL:
        return (f"{store} is full: there is no room on its disk. What it holds is still there. "
                "Make room and start the same again.")
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (f"{store} cannot be written: {os.strerror(code)}. See that you may write there; to "
                "search it is enough that you may read.")
    if isinstance(error, OSError) and code:
        return f"{store} cannot be used: {os.strerror(code)}. Give another folder."
    reason = _INSIDES.sub("", (said.splitlines() or [type(error).__name__])[0])
    reason = shortened(reason.strip(" .,") or "it cannot be read", 200)
    if "://" in uri:
        return (f"{store} cannot be used: {reason}. Check that the place is there, that you may "
                "write to it, and that it has room.")
    return (f"{store} cannot be read: {reason}. It may be damaged: index the pictures again into "
            "another folder.")
