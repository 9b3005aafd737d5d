"""What a person reads on a terminal: names can do it no harm, and an output that is closed, full or
gone ends in a sentence.
"""

import atexit
import contextlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TextIO

from vitdemo.errors import DiskError
from vitdemo.texts import DEFAULT, best_language, phrase, speaking

# Control characters (with the one-byte CSI), line and paragraph ends, and the marks that turn the
# direction of what follows: a file may be named with any of them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Stopped(KeyboardInterrupt):
    """The process was asked to end by a signal, whose number is its argument."""


def plain(text: str) -> str:
    """A text as one line with nothing in it that a terminal obeys: such characters are written as
    \\x1b or \\n."""
    return _UNSAFE.sub(lambda one: one.group().encode("unicode_escape").decode(), text)


def plain_json(text: str) -> str:
    """JSON, which escapes most of them itself, without the others."""
    return _UNSAFE_IN_JSON.sub(lambda one: f"\\u{ord(one.group()):04x}", text)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one line for a person, on standard output if no other is given, at once."""
    print(plain(text), file=stream or sys.stdout, flush=True)


def say_error(error: Exception) -> None:
    """Print an error as one line on standard error; of a very long one, its beginning and its
    end."""
    text = str(error)
    shown = text if len(text) <= 600 else f"{text[:300]} … {text[-300:]}"
    say(phrase("terminal.error", text=shown), sys.stderr)


class PlainFormatter(logging.Formatter):
    """A log in English, of which no line is made by what is told in it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record; errors in it are worded here."""
        with speaking(DEFAULT):
            return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line."""
        return plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """The lines of a traceback."""
        return "\n".join(map(plain, super().formatException(ei).split("\n")))


class _Results:
    """Standard output: what cannot be written is a `DiskError`. That the reader is gone stays a
    BrokenPipeError."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As that of the stream."""
        return self._tried(lambda: self._stream.write(text))

    def flush(self) -> None:
        """As that of the stream."""
        self._tried(self._stream.flush)

    def _tried(self, work: Any) -> Any:
        try:
            return work()
        except BrokenPipeError:
            raise
        except OSError as error:
            drain(self._stream)
            raise DiskError("terminal.not_written", why=error) from error


class _Remarks(_Results):
    """Standard error: what cannot be written there is done without, as the results count."""

    def _tried(self, work: Any) -> Any:
        try:
            return work()
        except OSError:
            drain(self._stream)
            return 0


def drain(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere, so that nothing fails at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def standard_streams() -> Iterator[bool]:
    """A block whose standard streams can be relied on, and whose sentences are in the terminal's
    language; gives whether results can be seen at all, which they cannot where standard output is
    closed. A signal to end raises `Stopped` in it."""
    before = sys.stdout, sys.stderr
    if None in before or sys.stdin is None:
        while os.open(os.devnull, os.O_RDWR) < 2:
            pass  # else a file that is opened later would take the place of a closed one
    nowhere = open(os.devnull, "w", encoding="utf-8") if None in before else None  # noqa: SIM115
    out, err = (stream or nowhere for stream in before)
    assert out is not None and err is not None
    for stream in (out, err):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = _Results(out), _Remarks(err)  # type: ignore[assignment]
    handlers = _watch_signals()
    try:
        with speaking(best_language(_locale())):
            yield before[0] is not None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.stdout, sys.stderr = out, err


def _locale() -> str:
    """The language of the terminal's messages, as in "zh_CN.UTF-8"."""
    return next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")


def _watch_signals() -> dict[int, Any]:
    """Let SIGTERM and SIGHUP raise `Stopped`; gives what they did before. What the parent process
    chose to be deaf to (nohup) stays so."""
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    return before


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run a program, and end the process with its exit code.

    Python's own end takes the ground from under threads that are still within the model, which
    aborts the process (exit code 134).
    """
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
