"""The process that reads picture files for the indexer: `vitdemo.retrieval.readers` starts it.

It reads requests from standard input, one line of JSON each, and answers each on standard output
with one line of JSON and, where that names "pixels", so many bytes. It ends with its input, that
is also when the process that started it was killed. It does not load the model's libraries.

Request: {"path", "name", "side", "language"}: where the file lies on the disk, what it is called,
and the language of what is said of it; side 0 wants no one size, -1 its content's hash alone, -2
which frames of a video there are. Answer: {"content", "width", "height", "size", "camera", "notes",
"pixels"}, {"content", "seconds"}, or {"error", "broken"}. Before it decodes it asks for memory with
{"wants": pixels, "name"}; {"busy"} is answered, "" or why not. Why not, and errors, are sentences
as `texts.as_json` gives them.
"""

import hashlib
import io
import json
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from typing import Any

from PIL import Image

from vitdemo.camera import ODD
from vitdemo.config import LIMITS
from vitdemo.errors import BusyError, PictureError
from vitdemo.pixel_budget import BUDGET, PixelBudget, Share
from vitdemo.preprocess import (
    SMALL,
    Budget,
    open_frame,
    open_shrunk,
    register_heic,
    to_square,
    within,
)
from vitdemo.reasons import reason
from vitdemo.texts import Message, as_json, from_json, speaking
from vitdemo.video import frame_seconds, in_video, is_video
from vitdemo.written import written_in

HASH_ONLY, FRAMES = -1, -2
_PART = 2**20  # bytes of a video that are in memory at once


class _Asked:
    """The memory of the process that asked for a picture: it gives shares, and counts until the
    answer is there."""

    def __init__(self, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._ask = ask

    def take(self, pixels: int, name: str) -> Share:
        """See `PixelBudget`."""
        busy = self._ask({"wants": pixels, "name": name})["busy"]
        if busy:
            raise BusyError(from_json(busy))
        return PixelBudget(pixels).take(pixels, name)


def read(path: str, side: int, name: str = "", budget: Budget = BUDGET
         ) -> tuple[dict[str, Any], bytes]:
    """One answer: its head, and the pixels as RGB bytes, row by row. ``name`` is what messages
    call the file where that is not its path; ``budget`` gives the memory.

    ``broken`` in the head tells a file that was read but is no good from one that could not be
    read for a reason outside of it, which may be different the next time.
    """
    name = name or path
    try:
        return _read(path, side, name, budget)
    except PictureError as error:
        if _for_want_of_memory(error):
            return _no(Message("reader.no_memory", name=name))
        return _no(error.message, broken=not isinstance(error, BusyError))
    except MemoryError:
        return _no(Message("reader.no_memory", name=name))
    except (OSError, ValueError) as error:
        return _no(Message("picture.unreadable", name=name, why=reason(error)))
    except Exception:  # a fault of ours, told as one: the files after it are read
        head, _ = _no(Message("reader.fault", name=name))
        return {**head, "fault": traceback.format_exc()}, b""


def _read(path: str, side: int, name: str, budget: Budget) -> tuple[dict[str, Any], bytes]:
    short = os.path.basename(name)
    if is_video(path):
        head: dict[str, Any] = {"content": _digest(path), "inside": "", "pixels": 0}
        return head if side == HASH_ONLY else {
            **head, "seconds": frame_seconds(path, short, budget.take)}, b""
    if in_video(path):
        head, opened = {"content": ""}, open_frame(path, short, LIMITS, budget)
    else:
        data = _bytes(path, name)
        head = {"content": hashlib.sha256(data).hexdigest()}
        if side == HASH_ONLY:
            return {**head, "inside": _written(data), "pixels": 0}, b""
        opened = open_shrunk(data, side or SMALL, short, LIMITS, budget)
    head |= {"camera": opened.camera, "notes": opened.notes}
    width, height = opened.size
    square = to_square(opened.image, side) if side else within(opened.image, SMALL)
    pixels = square.tobytes()
    return {**head, "width": width, "height": height, "size": square.size,
            "pixels": len(pixels)}, pixels


def _digest(path: str) -> str:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise PictureError("picture.not_plain", name=os.path.basename(path))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def _written(data: bytes) -> str:
    """What somebody wrote into a file whose picture the store knows."""
    register_heic()
    try:
        with Image.open(io.BytesIO(data)) as image:
            return written_in(image)
    except ODD:
        return ""


def _bytes(path: str, name: str) -> bytes:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block for ever
        raise PictureError("picture.not_plain", name=name)
    limit = LIMITS.max_file_megabytes * 2**20
    size = status.st_size
    if size <= limit:
        with open(path, "rb") as file:
            data = file.read(limit + 1)  # a file may be longer than its size says
        if len(data) <= limit:
            return data
        size = max(os.stat(path).st_size, len(data))
    raise PictureError("picture.large_file", name=os.path.basename(name),
                       size=f"{size / 2**20:.0f}", most=LIMITS.max_file_megabytes)


def _for_want_of_memory(error: BaseException | None) -> bool:
    """Whether that is what an error came from; Pillow and its libraries also say it in words."""
    while error is not None:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            return True
        error = error.__cause__
    return False


def _no(reason: str | Message, broken: bool = False) -> tuple[dict[str, Any], bytes]:
    return {"error": as_json(reason), "broken": broken}, b""


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    lines, out = sys.stdin.buffer, sys.stdout.buffer

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        out.write(json.dumps(question).encode() + b"\n")
        out.flush()
        answer: dict[str, Any] = json.loads(lines.readline())
        return answer

    for line in iter(lines.readline, b""):
        request = json.loads(line)
        with speaking(request["language"]):
            head, pixels = read(request["path"], request["side"], request["name"], _Asked(ask))
        out.write(json.dumps(head).encode() + b"\n")
        out.write(pixels)
        out.flush()


if __name__ == "__main__":
    main()
