"""LanceDB's faults as sentences about the store: not of its library's parts and source files."""

import errno
import os
import re
from collections.abc import Callable
from typing import TypeVar

from vitdemo.disk import FULL
from vitdemo.errors import StoreError, shortened
from vitdemo.texts import Message

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


def told(uri: str, error: Exception) -> Message:
    """What the library's fault means for the store, and what to do: a sentence or two."""
    said = str(error).strip()
    code = getattr(error, "errno", None)
    if found := re.search(r"\(os error (\d+)\)", said):
        code = int(found.group(1))
    store = shortened(uri, 200)
    if code in FULL:
        return Message("store.full", store=store)
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Message("store.not_written", store=store, why=os.strerror(code))
    if isinstance(error, OSError) and code:
        return Message("store.unusable", store=store, why=os.strerror(code))
    reason = _INSIDES.sub("", (said.splitlines() or [type(error).__name__])[0])
    reason = shortened(reason.strip(" .,") or type(error).__name__, 200)
    return Message("store.unreachable" if "://" in uri else "store.unreadable", store=store,
                   why=reason)
