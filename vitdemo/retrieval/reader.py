"""The process that reads picture files for the indexer: `vitdemo.retrieval.readers` starts it.

It reads requests from standard input, one line of JSON each, and answers each on standard output
with one line of JSON and, where that names "pixels", so many bytes. It ends with its input, that
is also when the process that started it was killed. It does not load the model's libraries.

Request: {"path", "side"}; side 0 wants the picture whole, -1 its content's hash alone. Answer:
{"content", "width", "height", "size", "camera", "pixels"}, or {"error", "broken"}.
"""

import hashlib
import json
import signal
import stat
import sys
from pathlib import Path
from typing import Any

from vitdemo.config import LIMITS
from vitdemo.errors import PictureError
from vitdemo.preprocess import open_shrunk, to_square
from vitdemo.retrieval.metadata import from_camera

HASH_ONLY = -1
WHOLE = 100_000  # a side that no picture reaches twice: nothing is shrunk


def read(path: str, side: int) -> tuple[dict[str, Any], bytes]:
    """One answer: its head, and the pixels as RGB bytes, row by row.

    ``broken`` in the head tells a file that was read but is no good from one that could not be
    read, which may be different the next time.
    """
    try:
        data = _bytes(Path(path))
    except PictureError as error:
        return {"error": str(error), "broken": True}, b""
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return {"error": f"{path} cannot be read: {why}.", "broken": False}, b""
    head: dict[str, Any] = {"content": hashlib.sha256(data).hexdigest()}
    if side == HASH_ONLY:
        return {**head, "pixels": 0}, b""
    try:
        image, (width, height) = open_shrunk(data, side or WHOLE, Path(path).name)
    except PictureError as error:
        return {"error": str(error), "broken": True}, b""
    head["camera"] = from_camera(image)
    square = to_square(image, side) if side else image
    pixels = square.tobytes()
    return {**head, "width": width, "height": height, "size": square.size,
            "pixels": len(pixels)}, pixels


def _bytes(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block for ever
        raise PictureError(f"{path} is not a plain file; a picture file is wanted.")
    if status.st_size > LIMITS.max_file_megabytes * 2**20:
        raise PictureError(f"{path.name} has {status.st_size / 2**20:.0f} MB; the limit is "
                           f"{LIMITS.max_file_megabytes} MB. Save it smaller.")
    return path.read_bytes()


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        head, pixels = read(request["path"], request["side"])
        out.write(json.dumps(head).encode() + b"\n")
        out.write(pixels)
        out.flush()


if __name__ == "__main__":
    main()
