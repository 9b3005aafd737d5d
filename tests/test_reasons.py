"""Why something could not be used is told in the reader's language: no words of a library."""

import ast
import errno
import io
import json
import logging
import os
import pickle
import re
import socket
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from odd_pictures import corners, encoded, png

from vitdemo.errors import DataError, DiskError, PictureError
from vitdemo.preprocess import open_picture
from vitdemo.reasons import reason
from vitdemo.retrieval import reader, readers
from vitdemo.sidecars import read_sidecar
from vitdemo.texts import speaking

ROOT = Path(__file__).parent.parent
JPEG = encoded(corners(), "JPEG")
FOREIGN = re.compile(r"[A-Za-z]{2,}")


def caught(work: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as raised:
        work()
    return raised.value


@pytest.mark.parametrize(("error", "said"), [
    (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "permission is denied"),
    (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    (OSError(errno.ENAMETOOLONG, "File name too long"), "its name is too long"),
    (OSError(errno.ESTALE, "Stale file handle"), "the network or another computer does not answer"),
    (OSError(errno.ENODEV, "No such device"), "the system reports the error ENODEV"),
    (OSError("image file is truncated (3 bytes not processed)"), "it ends too early"),
    (OSError("broken data stream when reading image file"),
     "its contents are not as they should be"),
    (SyntaxError("broken PNG file"), "its contents are not as they should be"),
    (EOFError("no more images"), "it ends too early"),
    (MemoryError(), "there is not enough memory"),
    (LookupError("unknown encoding: x"), "its format is not supported"),
    (socket.gaierror(-2, "Name or service not known"), "this computer has no such address"),
    (caught(lambda: os.stat("a\0b")), "its name is none that a file can have"),
    (caught(lambda: b"\xff".decode()), "it is no text in UTF-8"),
    (caught(lambda: json.loads("{\n1")), "it is no valid JSON, from line 2 on"),
    (caught(lambda: ET.fromstring("<a>\n<b")), "it is no valid XML, from line 2 on")])
def test_what_a_library_says_goes_to_the_log_and_a_reason_to_the_reader(
        error: Exception, said: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert str(reason(error)) == said
    told = getattr(error, "strerror", None) or str(error)
    assert told in caplog.text and "/a/b" not in caplog.text
    with speaking("zh"):
        shown = re.sub("UTF-8|JSON|XML|ENODEV", "", str(reason(error)))
        assert shown and not FOREIGN.search(shown)


def test_an_error_of_a_library_among_the_values_becomes_a_reason() -> None:
    error = PictureError("picture.unreadable", name="1", why=OSError(errno.EIO, "I/O error"))
    assert str(pickle.loads(pickle.dumps(error))) == "1 cannot be read: the drive reports an error."
    with speaking("zh"):
        assert str(error) == "1 无法读取：磁盘读写出错。"


@pytest.mark.parametrize("data", [
    JPEG[:len(JPEG) // 2], JPEG[:30], encoded(corners())[:60], encoded(corners(), "WEBP")[:50],
    encoded(corners(), "TIFF")[:-40], encoded(corners(), "GIF")[:40],
    encoded(corners(), "BMP")[:99], png(9, 9, b"\0" * 9, bits=8), png(9, 9, b"", kind=7),
    b"\x89PNG\r\n\x1a\n" + bytes(99), b"GIF89a" + bytes(9), b"II*\0" + bytes(50), b"no picture"])
def test_a_picture_that_is_no_good_is_told_in_chinese_alone(data: bytes) -> None:
    with speaking("zh"):
        said = str(caught(lambda: open_picture(data, name="1")))
    assert not FOREIGN.search(re.sub("JPEG|PNG|WebP|GIF|BMP|TIFF", "", said)), said


def test_so_is_a_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "1.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99))
    with speaking("zh"):
        said = str(caught(lambda: open_picture(f"{tmp_path / '1.mp4'}#t=0", name="1")))
    assert not FOREIGN.search(said.replace("MP4", "")), said


@pytest.mark.parametrize(("ending", "data", "said"), [
    ("json", b"{", "不是有效的 JSON"), ("json", b"[1]", "不含 JSON 对象"),
    ("txt", b"\xff\xfe\xff", "不是 UTF-8 文字"), ("xmp", b"<a>", "不是有效的 XML"),
    ("json", b" " * (2**24 + 1), "大于 16 MB")])
def test_so_is_a_sidecar(ending: str, data: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / f"1.{ending}"
    file.write_bytes(data)
    with speaking("zh"), pytest.raises(DataError, match=said):
        read_sidecar(file, ending)


def test_so_is_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitdemo.report import write_text

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(io, "open", closed)
    monkeypatch.setattr("builtins.open", closed)
    with speaking("zh"), pytest.raises(DiskError) as raised:
        write_text(tmp_path / "1", "")
    with speaking("zh"):
        said = str(raised.value).replace(str(tmp_path / "1"), "")
    assert "没有权限" in said and not FOREIGN.search(said.replace("MB", "")), said


def test_a_fault_of_this_program_goes_to_the_log(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> None:
        raise AttributeError("of our own")

    (tmp_path / "1.png").write_bytes(encoded(corners()))
    monkeypatch.setattr(reader, "open_shrunk", fails)
    answer = reader.read(str(tmp_path / "1.png"), 8)
    process = readers._Process()
    monkeypatch.setattr(process, "_ask", lambda *_: answer)
    told = process.read(str(tmp_path / "1.png"), 8)
    assert not told.broken and "of our own" not in str(told.error)
    assert "AttributeError: of our own" in caplog.text


def test_no_sentence_is_given_what_the_system_or_a_library_said() -> None:
    """``strerror`` is English; ``why=str(error)`` would be."""
    for path in (ROOT / "vitdemo").rglob("*.py"):
        if path.name == "reasons.py" or path.parent.name == "backends":
            continue
        for one in ast.walk(ast.parse(path.read_text("utf-8"))):
            raw = isinstance(one, ast.Attribute) and one.attr == "strerror" and not (
                isinstance(one.value, ast.Name) and one.value.id == "os")
            given = isinstance(one, ast.keyword) and one.arg == "why" and isinstance(
                one.value, ast.Call) and "str(error)" in ast.unparse(one.value)
            assert not raw and not given, f"{path}:{one.lineno}"


