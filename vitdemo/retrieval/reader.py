"""The process that reads picture files for the indexer: `vitdemo.retrieval.readers` starts it.

It reads requests from standard input, one line of JSON each, and answers each on standard output
with one line of JSON and, where that names "pixels", so many bytes. It ends with its input, that
is also when the process that started it was killed. It does not load the model's libraries.

Request: {"path", "name", "side"}: where the file lies on the disk, and what it is called; side 0
wants the picture whole, -1 its content's hash alone. Answer: {"content", "width", "height", "size",
"camera", "pixels"}, or {"error", "broken"}.
"""

import hashlib
import json
import os
import signal
import stat
import sys
from typing import Any

from vitdemo.config import LIMITS
from vitdemo.errors import PictureError
from vitdemo.preprocess import open_shrunk, to_square
from vitdemo.retrieval.metadata import from_camera
from vitdemo.retrieval.walk import why

HASH_ONLY = -1
WHOLE = 100_000  # a side that no picture reaches twice: nothing is shrunk


def read(path: str, side: int, name: str = "") -> tuple[dict[str, Any], bytes]:
    """One answer: its head, and the pixels as RGB bytes, row by row. ``name`` is what messages
    call the file where that is not its path.

    ``broken`` in the head tells a file that was read but is no good from one that could not be
    read for a reason outside of it, which may be different the next time.
    """
    name = name or path
    try:
        return _read(path, side, name)
    except PictureError as error:
        if _for_want_of_memory(error):
            return _no_memory(name)
        return {"error": str(error), "broken": True}, b""
    except MemoryError:
        return _no_memory(name)
    except (OSError, ValueError) as error:
        return {"error": f"{name} cannot be read: {why(error)}.", "broken": False}, b""
    except Exception as error:  # a fault of ours, told as one: the files after it are read
        return {"error": f"{name} met a fault of this program ({type(error).__name__}: {error}). "
                         "Save it anew with another program, or leave it out.",
                "broken": False}, b""


def _read(path: str, side: int, name: str) -> tuple[dict[str, Any], bytes]:
    data = _bytes(path, name)
    head: dict[str, Any] = {"content": hashlib.sha256(data).hexdigest()}
    if side == HASH_ONLY:
        return {**head, "pixels": 0}, b""
    image, (width, height) = open_shrunk(data, side or WHOLE, os.path.basename(name))
    head["camera"] = from_camera(image)
    square = to_square(image, side) if side else image
    pixels = square.tobytes()
    return {**head, "width": width, "height": height, "size": square.size,
            "pixels": len(pixels)}, pixels


def _bytes(path: str, name: str) -> bytes:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block for ever
        raise PictureError(f"{name} is not a plain file; a picture file is wanted.")
    limit = LIMITS.max_file_megabytes * 2**20
    size = status.st_size
    if size <= limit:
        with open(path, "rb") as file:
            data = file.read(limit + 1)  # a file may be longer than its size says
        if len(data) <= limit:
            return data
        size = max(os.stat(path).st_size, len(data))
    raise PictureError(f"{os.path.basename(name)} has {size / 2**20:.0f} MB; the limit is "
                       f"{LIMITS.max_file_megabytes} MB. Save it smaller.")


def _for_want_of_memory(error: BaseException | None) -> bool:
    """Whether that is what an error came from; Pillow and its libraries also say it in words."""
    while error is not None:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            return True
        error = error.__cause__
    return False


def _no_memory(name: str) -> tuple[dict[str, Any], bytes]:
    return {"error": f"There was not enough memory to read {name}. It is tried again the next "
                     "time; close other programs first.", "broken": False}, b""


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        head, pixels = read(request["path"], request["side"], request["name"])
        out.write(json.dumps(head).encode() + b"\n")
        out.write(pixels)
        out.flush()


if __name__ == "__main__":
    main()
