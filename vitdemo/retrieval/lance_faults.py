"""LanceDB's faults as sentences about the store: not of its library's parts and source files."""

import errno
import logging
import os
import re
from collections.abc import Callable
from typing import TypeVar

from vitdemo.errors import StoreError, shortened
from vitdemo.reasons import FULL, reason
from vitdemo.texts import Message

log = logging.getLogger(__name__)
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
    if isinstance(code, int):
        why = reason(OSError(code, os.strerror(code)))
        if code in (errno.EROFS, errno.EACCES, errno.EPERM):
            return Message("store.not_written", store=store, why=why)
        if isinstance(error, OSError):
            return Message("store.unusable", store=store, why=why)
    log.warning("LanceDB: %s", shortened(said or type(error).__name__, 500))
    return Message("store.unreachable" if "://" in uri else "store.unreadable", store=store)
