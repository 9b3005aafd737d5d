# ruff: noqa: F811 - fixtures of another file are arguments here
"""What visitors give, and when it is gone again: uploads, their pieces, exports, and what Gradio
remembers; and that nothing but an upload is ever taken for a file."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fake_engine import planted_engine
from gradio import processing_utils
from gradio.state_holder import SessionState
from served import Served, file_data, pictures, served, until  # noqa: F401 - fixtures

from vitdemo.config import LIMITS
from vitdemo.ui import Settings, build_ui
from vitdemo.ui.components import FilesInput, PictureInput
from vitdemo.ui.launching import sweep
from vitdemo.ui.session import AWAY, UNUSED, Sessions


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


# Uploads on a server

def placed(served: Served, field: str) -> Any:
    """The event by which a page tells of a picture in a field."""
    return next(fn for fn in served.blocks.fns.values()
                if [getattr(one, "elem_id", "") for one in fn.inputs] == [field]
                and fn.targets and fn.targets[0][1] in ("input", "upload") and not fn.outputs)


FIELDS = ["describe-picture", "ask-picture", "compare-left", "compare-right", "fits-picture",
          "search-picture", "search-files"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_picture_that_only_lay_in_a_field_goes_with_its_page(served: Served, pictures: Path,
                                                               field: str) -> None:
    (path,) = served.upload(pictures / "red.png")
    value = [file_data(path)] if field == "search-files" else file_data(path)
    with served.page(field):
        answer = served.client.post(f"{served.api}/run/x", json={
            "data": [value], "fn_index": placed(served, field)._id, "session_hash": field})
        assert answer.status_code == 200, answer.text
        assert Path(path).exists()
    until(lambda: not served.kept(), "the picture stays")


def test_a_picture_whose_call_still_waits_goes_with_its_page(served: Served,
                                                             pictures: Path) -> None:
    compare = served.function("compare")
    (path,) = served.upload(pictures / "red.png")
    data = served.values(compare, file_data(path))
    queue = served.blocks._queue
    served.blocks._queue.active_jobs, jobs = [], queue.active_jobs  # nobody works on the queue
    try:
        with served.page("waiting"):
            assert served.join(compare, data, "waiting").status_code == 200
            assert Path(path).exists()
        until(lambda: not served.kept(), "the picture stays")
    finally:
        queue.active_jobs = jobs
    served.ended("waiting")


def test_two_visitors_with_the_same_picture_have_a_file_each(served: Served,
                                                             pictures: Path) -> None:
    (first,), (second,) = served.upload(pictures / "red.png"), served.upload(pictures / "red.png")
    assert first != second
    field = placed(served, "ask-picture")
    with served.page("stays"):
        served.client.post(f"{served.api}/run/x", json={
            "data": [file_data(second)], "fn_index": field._id, "session_hash": "stays"})
        with served.page("goes"):
            served.client.post(f"{served.api}/run/x", json={
                "data": [file_data(first)], "fn_index": field._id, "session_hash": "goes"})
        until(lambda: not Path(first).exists(), "the picture stays")
        assert Path(second).exists()
    until(lambda: not served.kept(), "the picture stays")


def test_nothing_stays_of_uploads_that_are_broken_off(served: Served) -> None:
    host, port = served.address.removeprefix("http://").split(":")
    for files in (1, 3):
        with socket.create_connection((host, int(port)), timeout=60) as plain:
            plain.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\n"
                          b"Content-Type: multipart/form-data; boundary=b\r\n"
                          b"Content-Length: 9000000\r\n\r\n")
            for number in range(files):
                plain.sendall(b'--b\r\nContent-Disposition: form-data; name="files"; filename="%d"'
                              b"\r\n\r\n" % number + bytes(10**6) + b"\r\n")
            until(lambda files=files: len(served.kept()) == files, "it never arrived")
    until(lambda: not served.kept(), "pieces stay")
    until(lambda: not list(served.root.glob("upload-*")), "a folder stays")


def test_uploads_that_are_refused_leave_nothing(served: Served, monkeypatch: pytest.MonkeyPatch,
                                                capfd: pytest.CaptureFixture[str]) -> None:
    post, url = served.client.post, f"{served.api}/upload"
    assert post(url, content=b"x").status_code == 400
    assert post(url, files={"other": ("a.png", b"x")}).json() == []
    assert post(url, files={"files": (None, b"x")}).status_code == 400
    assert post(f"{url}?upload_id=a", data={"files": "x"}).status_code == 400
    assert post(url, content=iter([b"x"])).status_code == 411
    for name in ("..", "../../evil.png", "/etc/evil.png", "\\..\\evil", "a" * 5000, "b" * 300,
                 "x\0y.png", "\u202egnp.exe", " ", "."):
        answer = post(url, files={"files": (name, b"x")})
        assert answer.status_code in (200, 400, 413), (name, answer.text)
        if answer.status_code == 200:
            (path,) = answer.json()
            assert Path(path).is_relative_to(served.root)
    outside = [path for path in served.kept() if path.relative_to(served.root).parts[0][:7]
               != "upload-"]
    assert not outside
    monkeypatch.setattr("vitdemo.ui.session.SPARE", 2**70)
    assert post(url, files={"files": ("a.png", b"x")}).status_code == 507
    monkeypatch.undo()
    large = type(LIMITS)(max_upload_megabytes=0, max_uploads_megabytes=0)
    monkeypatch.setattr("vitdemo.ui.uploads.LIMITS", large)
    assert post(url, files={"files": ("a.png", b"x")}).status_code == 413
    monkeypatch.undo()
    monkeypatch.setattr("vitdemo.ui.session.LIMITS", large)
    assert post(url, files={"files": ("a.png", b"x")}).status_code == 507
    assert "Traceback" not in capfd.readouterr().err
    served.blocks.sessions._clock, clock = (lambda: clock() + UNUSED + 1,
                                            served.blocks.sessions._clock)
    served.blocks.sessions.sweep()
    served.blocks.sessions._clock = clock
    assert not served.kept()


def test_gradio_forgets_a_page_when_it_is_closed(served: Served) -> None:
    with served.page("page"):
        served.join(served.function("answer"), served.values(served.function("answer")), "page")
        served.ended("page")
        assert "page" in served.blocks.state_holder
    until(lambda: "page" not in served.blocks.state_holder, "it is remembered")
    assert "page" not in served.blocks.state_holder.time_last_used


def test_gradio_forgets_a_caller_without_a_connection_after_a_while(served: Served) -> None:
    holder = served.blocks.state_holder
    served.join(served.function("answer"), served.values(served.function("answer")), "caller")
    served.ended("caller")
    sweep(served.blocks)
    assert "caller" in holder
    holder.time_last_used["caller"] = holder.time_last_used["caller"].replace(year=2000)
    sweep(served.blocks)
    assert "caller" not in holder


# The bookkeeping, with a clock of its own

class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def given(sessions: Sessions) -> str:
    """The path of a finished upload."""
    folder = sessions.begin_upload()
    path = folder / "sha" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"x")
    sessions.end_upload(folder, True)
    return str(path)


def test_an_upload_that_no_page_names_goes_after_a_while(uploads: Path) -> None:
    clock = Clock()
    sessions = Sessions(clock)
    path, under_way = given(sessions), sessions.begin_upload()
    clock.now = UNUSED
    sessions.sweep()
    assert os.path.exists(path)
    clock.now = UNUSED + 1
    sessions.sweep()
    assert not os.path.exists(path) and under_way.exists()


def test_a_page_without_a_connection_is_gone_after_a_while(uploads: Path) -> None:
    clock, closed = Clock(), []
    sessions = Sessions(clock)
    path, kept = given(sessions), given(sessions)
    sessions.keep("caller", [path])
    sessions.on_leave(gr.Request(session_hash="caller"), lambda: closed.append(1))
    sessions.keep("page", [kept])
    sessions.enter("page")
    clock.now = AWAY
    sessions.keep("caller", [])  # it has asked for something
    clock.now = 2 * AWAY
    sessions.sweep()
    assert os.path.exists(path) and not closed
    clock.now = 2 * AWAY + 1
    sessions.sweep()
    assert not os.path.exists(path) and closed == [1]
    assert os.path.exists(kept)
    assert sessions.exit("page") and not os.path.exists(kept)


def test_a_page_with_two_connections_is_left_with_the_last(uploads: Path) -> None:
    sessions = Sessions()
    path = given(sessions)
    sessions.keep("page", [path])
    sessions.enter("page")
    sessions.enter("page")
    assert not sessions.exit("page") and os.path.exists(path)
    assert sessions.exit("page") and not os.path.exists(path)
    assert not sessions.is_open("page")


def test_files_that_were_not_uploaded_are_never_deleted(uploads: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(b"x")
    sessions = Sessions()
    sessions.keep("page", [str(own), "", "relative", str(uploads)])
    sessions.leave("page")
    assert own.exists()


def test_one_page_cannot_hold_up_anothers_closing(uploads: Path) -> None:
    sessions, closed = Sessions(), []
    request = gr.Request(session_hash="page")
    sessions.on_leave(request, lambda: 1 / 0)
    sessions.on_leave(request, lambda: closed.append(1))
    folder = sessions.folder(request)
    assert sessions.folder(request) == folder and folder.stat().st_mode & 0o077 == 0
    assert sessions.folder(gr.Request(session_hash="other")) != folder
    sessions.leave("page")
    assert closed == [1] and not folder.exists()


# Files where none belong

@pytest.fixture
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Gradio fetched or copied."""
    touched: list[str] = []

    def note(path: Any, *rest: Any, **more: Any) -> str:
        touched.append(str(path))
        return str(path)

    async def note_later(path: Any, *rest: Any, **more: Any) -> str:
        return note(path)

    monkeypatch.setattr(processing_utils, "save_file_to_cache", note)
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", note_later)
    monkeypatch.setattr(processing_utils, "save_url_to_cache", note)
    return touched


def test_no_input_of_any_event_takes_a_file_that_was_not_uploaded(
        uploads: Path, tmp_path: Path, pictures: Path, nothing_is_fetched: list[str]) -> None:
    blocks = build_ui(planted_engine(), Settings(pictures, folders=(tmp_path,), store=str(tmp_path),
                                                 load_model=lambda name: planted_engine()))
    (uploads / "there").mkdir(parents=True)
    uploaded, own = uploads / "there" / "a.png", tmp_path / "own.png"
    for path in (uploaded, own):
        path.write_bytes(b"x")
    (uploads / "link.png").symlink_to(own)
    address = "http://127.0.0.1:1/a.png"
    files: list[Any] = [
        file_data(str(own)), file_data(address), file_data("/etc/passwd", url=address),
        file_data(f"{uploads}/../own.png"), file_data(str(uploads / "link.png")),
        file_data("a.png"), file_data("\0"), {"path": str(uploaded)}, {"url": address},
        {"path": None, "url": address, "meta": {"_type": "gradio.FileData"}},
        file_data(str(uploaded), url=file_data(str(own))), [[file_data(str(own))]], str(own),
        {"value": file_data(str(own))}, file_data(["x"])]  # type: ignore[arg-type]
    texts: list[Any] = [*files[:-3], {"a": [file_data(address)]}, [file_data(str(uploaded))], {}]
    asked, state, loop = 0, SessionState(blocks), asyncio.new_event_loop()
    for function in list(blocks.fns.values()):
        for place, field in enumerate(function.inputs):
            if field.stateful:
                continue
            takes = isinstance(field, PictureInput | FilesInput)
            for value in files if takes else texts:
                values: list[Any] = [None] * len(function.inputs)
                values[place] = [value] if isinstance(field, FilesInput) else value
                with pytest.raises(gr.Error) as refused:
                    loop.run_until_complete(blocks.process_api(function, values, state))
                assert refused.value.message.endswith("something else came.")
                assert not refused.value.print_exception
                asked += 1
    loop.close()
    assert asked > 1000 and not nothing_is_fetched


def test_an_address_beside_an_upload_is_not_fetched(uploads: Path, pictures: Path,
                                                    nothing_is_fetched: list[str]) -> None:
    blocks = build_ui(planted_engine(), Settings(pictures))
    path = given(blocks.sessions)
    field = next(fn for fn in blocks.fns.values() if len(fn.inputs) == 1
                 and isinstance(fn.inputs[0], PictureInput))
    value = file_data(path, url="http://127.0.0.1:1/a.png", orig_name="a.png")
    asyncio.run(blocks.process_api(field, [value], SessionState(blocks)))
    assert not nothing_is_fetched


def test_a_fault_in_any_event_is_a_sentence_and_is_logged(
        uploads: Path, pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocks = build_ui(planted_engine(), Settings(pictures))

    def fails(*given: Any) -> None:
        raise ZeroDivisionError("secret")

    function = next(fn for fn in blocks.fns.values() if fn.fn is not None
                    and not fn.collects_event_data)
    function.fn = fails
    with pytest.raises(gr.Error, match="Something went wrong") as shown:
        asyncio.run(blocks.process_api(function, Served.values(function), SessionState(blocks)))
    assert "secret" not in str(shown.value) and "ZeroDivisionError" in caplog.text
