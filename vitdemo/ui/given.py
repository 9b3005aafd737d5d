"""Pictures as programs give them: an uploaded file, its bytes in base64, or an address."""

import base64
import binascii
import os
from pathlib import Path
from typing import Any

from vitdemo.errors import PictureError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.texts import phrase
from vitdemo.ui.addresses import fetch
from vitdemo.ui.components import uploaded
from vitdemo.ui.gate import paths_in
from vitdemo.ui.session import uploads_root


def read_given(given: str, addresses: bool) -> Picture:
    """Open a picture that a program names by the path of its upload, by a data URL or plain base64,
    or, where ``addresses`` allows it, by an address.

    Raises:
        PictureError: it is none of these, or cannot be used.
    """
    given = given.strip()
    if not given:
        raise PictureError("given.none")
    if is_upload(given):
        return open_picture(uploaded(given))
    if "://" in given[:12]:
        if not addresses:
            raise PictureError("given.no_addresses")
        return open_picture(fetch(given), name=phrase("given.at_address"))
    head, comma, data = given.partition(",")
    if head.startswith("data:"):
        if not comma or not head.endswith(";base64"):
            raise PictureError("given.data_url")
        given = data
    try:
        return open_picture(base64.b64decode("".join(given.split()), validate=True))
    except (binascii.Error, ValueError):
        raise PictureError("given.neither") from None


def is_upload(path: str) -> bool:
    """Whether a path leads, links followed, to where uploads are kept."""
    if "\0" in path or len(path) > 4096 or not os.path.isabs(path):
        return False
    return Path(os.path.realpath(uploads_root())) in Path(os.path.realpath(path)).parents


def is_uploaded_file(value: Any) -> bool:
    """Whether a file of Gradio's was uploaded, or put there by Gradio (an example)."""
    return (_is_file(value) and is_upload(value["path"])
            and not any(paths_in(one) for one in value.values()))


def plain_value(value: Any, default: Any = None) -> Any:
    """What a program sent: ``default`` for null, and in the place of a file of Gradio's its path,
    or its address."""
    if value is None:
        return default
    if is_uploaded_file(value) or (_is_file(value) and value["path"].startswith("https://")):
        return value["path"]
    return value


def _is_file(value: Any) -> bool:
    return (isinstance(value, dict) and isinstance(value.get("path"), str)
            and value.get("meta") == {"_type": "gradio.FileData"})
