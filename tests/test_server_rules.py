# ruff: noqa: F811 - fixtures of another file are arguments here
"""What the server refuses, asked of a real one: foreign names and pages, routes that it does not
need, files of others, and requests that no page makes."""

import json
import random
import socket
from pathlib import Path
from typing import Any

import pytest
from served import Served, file_data, pictures, served  # noqa: F401 - fixtures

import app
from vitdemo.config import LIMITS
from vitdemo.ui import ServerRules
from vitdemo.ui.gate import DEPTH, Refused, read_json

PATHS = [("GET", "/"), ("GET", "/config"), ("GET", "/assets/x.js"), ("GET", "/gradio_api/info"),
         ("GET", "/gradio_api/queue/data?session_hash=x"), ("GET", "/gradio_api/heartbeat/x"),
         ("GET", "/gradio_api/file=/etc/passwd"), ("POST", "/gradio_api/upload"),
         ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/call/describe"),
         ("POST", "/gradio_api/run/describe"), ("OPTIONS", "/gradio_api/queue/join")]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io",
                                  "192.168.1.5", "evil.example@localhost", "localhost/evil", "",
                                  "[::1", "localhost:x"])
def test_a_foreign_name_gets_no_answer(served: Served, host: str) -> None:
    port = served.address.rpartition(":")[2]
    for method, path in PATHS:
        for name in (host, f"{host}:{port}"):
            answer = served.client.request(method, served.address + path, headers={
                "Host": name, "Origin": f"http://{name}"})
            assert answer.status_code in (400, 403), (method, path, name)
            assert "access-control-allow-origin" not in answer.headers
            assert "--allow-host" in answer.text or not host, answer.text


def test_its_own_names_are_answered(served: Served) -> None:
    port = served.address.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        answer = served.client.get(served.address + "/config", headers={
            "Host": host, "Origin": f"http://{host}"})
        assert answer.status_code == 200, host


def test_two_names_or_none_are_refused(served: Served) -> None:
    host, port = served.address.removeprefix("http://").split(":")
    for names in ("", "Host: localhost\r\nHost: evil.example\r\n"):
        with socket.create_connection((host, int(port)), timeout=60) as plain:
            plain.sendall(f"GET / HTTP/1.0\r\n{names}\r\n".encode())
            assert plain.makefile("rb").readline().split()[1] == b"400", names


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil.example",
                                    "http://localhost:1", "file://", "http://", "chrome://x", "x",
                                    "http://[::1"])
def test_a_page_of_others_changes_nothing_and_reads_nothing(served: Served, origin: str) -> None:
    for method, path in PATHS:
        answer = served.client.request(method, served.address + path, headers={
            "Origin": origin, "Access-Control-Request-Method": "POST"})
        assert answer.status_code == 403, (method, path)
        assert "access-control-allow-origin" not in answer.headers


def test_which_names_an_app_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACE_ID", "SPACE_HOST", "VITDEMO_ALLOW_HOST"):
        monkeypatch.delenv(name, raising=False)
    alone = app.server_rules(app.parse([]))
    assert alone.answers_to("localhost:7860") and alone.answers_to("[::1]:7860")
    assert not alone.answers_to("10.0.0.1:7860") and not alone.answers_to("evil.example")

    proxied = app.server_rules(app.parse(["--allow-host", "photos.example"]))
    assert proxied.answers_to("photos.example") and not proxied.answers_to("a.photos.example")
    assert proxied.own_page("https://photos.example", "localhost:7860")
    assert not proxied.own_page("https://evil.example", "photos.example")

    lan = app.server_rules(app.parse(["--host", "0.0.0.0"]))
    assert lan.answers_to("192.168.1.5:7860") and lan.answers_to("[fe80::1]:7860")
    assert lan.answers_to(f"{socket.gethostname()}:7860") and not lan.answers_to("evil.example")
    one = app.server_rules(app.parse(["--host", "192.168.1.5"]))
    assert one.answers_to("192.168.1.5:7860") and not one.answers_to("192.168.1.6:7860")

    monkeypatch.setenv("SPACE_ID", "somebody/vitdemo")
    monkeypatch.setenv("SPACE_HOST", "somebody-vitdemo.hf.space")
    space = app.server_rules(app.parse([]))
    assert space.answers_to("somebody-vitdemo.hf.space") and space.answers_to("10.1.2.3:7860")
    assert not space.answers_to("evil.example") and not space.answers_to("evilhf.space")
    assert space.own_page("https://somebody-vitdemo.hf.space", "somebody-vitdemo.hf.space")
    assert not space.own_page("https://other.hf.space", "somebody-vitdemo.hf.space")


def test_any_name_can_be_allowed_but_not_any_page() -> None:
    rules = ServerRules(proxied=("*",))
    assert rules.answers_to("anything.example")
    assert rules.own_page("https://a.example", "a.example")
    assert not rules.own_page("https://evil.example", "a.example")


def test_every_answer_says_how_it_may_be_used(served: Served) -> None:
    for path in ("/", "/config", "/gradio_api/nothing", "/gradio_api/file=/etc/passwd"):
        headers = served.client.get(served.address + path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"  # links hold what was typed
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["content-security-policy"] == "frame-ancestors 'self'"


def test_a_space_is_shown_in_its_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "somebody/vitdemo")
    headers = app.server_rules(app.parse([])).headers()
    assert "X-Frame-Options" not in headers
    assert "https://huggingface.co" in headers["Content-Security-Policy"]


# Routes and files

OFF = [("GET", "/gradio_api/deep_link?session_hash=x"),
       ("GET", "/gradio_api/proxy=https://a.hf.space/"),
       ("GET", "/gradio_api/file=http://example.org/a.png"), ("GET", "/gradio_api/file/etc/passwd"),
       ("GET", "/monitoring"), ("GET", "/monitoring/summary"), ("GET", "/monitoring/x"),
       ("GET", "/gradio_api/vibe-code"), ("POST", "/gradio_api/vibe-edit"),
       ("POST", "/gradio_api/undo-vibe-edit"), ("POST", "/gradio_api/vibe-starter-queries"),
       ("POST", "/gradio_api/process_recording"), ("POST", "/gradio_api/component_server"),
       ("GET", "/gradio_api/custom_component/a/client/b/c"), ("GET", "/gradio_api/dev/reload"),
       ("POST", "/gradio_api/stream/x"), ("GET", "/gradio_api/stream/a/b/1/playlist.m3u8"),
       ("GET", "/gradio_api/runs"), ("POST", "/gradio_api/run-history/connect"),
       ("POST", "/login"), ("GET", "/logout"), ("GET", "/openapi.json"), ("GET", "/docs"),
       ("POST", "/gradio_api/api/describe"), ("PUT", "/"), ("DELETE", "/config"), ("POST", "/")]


@pytest.mark.parametrize("method, path", OFF)
def test_what_the_app_does_not_use_is_off(served: Served, method: str, path: str) -> None:
    before = served.kept()
    answer = served.client.request(method, served.address + path)
    assert answer.status_code in (403, 404), answer.status_code
    assert served.kept() == before


def test_no_route_is_open_that_nobody_has_looked_at(served: Served) -> None:
    """A newer Gradio may bring others: they stay off until they are looked at."""
    open_now = set()
    for route in served.blocks.app.routes:
        path = getattr(route, "path", "").split("{")[0]
        for method in getattr(route, "methods", None) or ():
            if method in ("GET", "POST") and served.client.request(
                    method, served.address + path, headers={"Host": "localhost"},
                    content=b"{").status_code != 404:
                open_now.add(f"{method} {path.removeprefix('/gradio_api')}")
    assert open_now <= {
        "GET /", "GET /config", "GET /config/", "GET /theme.css", "GET /favicon.ico",
        "GET /manifest.json", "GET /robots.txt", "GET /static/", "GET /assets/", "GET /svelte/",
        "GET /info", "GET /info/", "GET /openapi.json", "GET /startup-events", "GET /app_id",
        "GET /app_id/", "GET /video/", "GET /healthz", "GET /metrics", "GET /queue/data",
        "GET /queue/status",
        "GET /upload_progress", "GET /heartbeat/", "GET /call/", "GET /call/v2/", "GET /file=",
        "POST /upload", "POST /queue/join", "POST /cancel", "POST /reset", "POST /reset/",
        "POST /call/", "POST /call/v2/", "POST /run/"}, open_now


def test_files_are_given_out_from_the_uploads_alone(served: Served, pictures: Path,
                                                    tmp_path: Path) -> None:
    (path,) = served.upload(pictures / "red.png")
    assert served.client.get(f"{served.api}/file={path}").content == (
        pictures / "red.png").read_bytes()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    inside = served.root / "link"
    inside.symlink_to(tmp_path)
    for wrong in (secret, inside / "secret.txt", f"{served.root}/../{secret}", "app.py",
                  "~/.bashrc",
                  f"{served.root}/..%2f..%2fetc/passwd", "../app.py", "/proc/self/environ",
                  f"file://{secret}", f"//{secret}", f"{path}/../../../../../../../etc/passwd",
                  "/etc/passwd%00.png", served.root, pictures / "red.png"):
        answer = served.client.get(f"{served.api}/file={wrong}")
        assert answer.status_code in (400, 403, 404) and answer.text != "secret", wrong
    inside.unlink()


def test_no_header_makes_it_tell_others_of_another_address(served: Served) -> None:
    for header in ("X-Forwarded-Host", "X-Gradio-Server", "X-Forwarded-Server"):
        for path in ("/config", "/gradio_api/info", "/gradio_api/openapi.json", "/"):
            answer = served.client.get(served.address + path, headers={header: "evil.example"})
            assert answer.status_code == 200 and "evil.example" not in answer.text, (header, path)


def test_parts_of_files_are_not_a_fault(served: Served, pictures: Path) -> None:
    (path,) = served.upload(pictures / "red.png")
    for part in ("bytes=1-2-3", "bytes=9-1", "bytes=-", "bytes=0-99999999", "x"):
        answer = served.client.get(f"{served.api}/file={path}", headers={"Range": part})
        assert answer.status_code == 200, part


def test_a_video_is_given_out_by_its_name_alone_and_in_parts(served: Served,
                                                            tmp_path: Path) -> None:
    file = tmp_path / "clip.webm"
    file.write_bytes(bytes(range(256)) * 9)
    player = served.blocks.sessions.videos.player(f"{file}#t=1.5")
    assert str(tmp_path) not in player
    address = served.address + player.split('src="')[1].split("#t=1.5")[0]
    whole = served.client.get(address)
    assert whole.content == file.read_bytes() and whole.headers["content-type"] == "video/webm"
    part = served.client.get(address, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == bytes(range(10, 20))
    for wrong in ("x", "", "../app.py", "%2e%2e/app.py", str(file), f"file={file}"):
        answer = served.client.get(f"{served.address}/video/{wrong}")
        assert answer.status_code == 404 and answer.content != file.read_bytes(), wrong
    file.unlink()
    assert served.client.get(address).status_code == 404


# Requests

def test_a_request_that_is_too_large_is_not_read_to_its_end(served: Served) -> None:
    head = {"fn_index": 0, "session_hash": "a",
            "data": ["x" * LIMITS.max_request_megabytes * 2**20]}
    for path in ("/queue/join", "/call/describe", "/run/describe", "/cancel", "/reset"):
        answer = served.client.post(served.api + path, json=head)
        assert answer.status_code == 413 and "4 MB" in answer.json()["detail"], path


@pytest.mark.parametrize("body, sentence", [
    (b"{", "no JSON"), (b"[1]", "JSON object"), (b'{"data": [NaN]}', "no JSON"),
    (b'{"data": [1e999999]}', ""), (b"\xff", "no JSON"), (b"", "no JSON"),
    (b'{"data": ' + b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1) + b"}", "nested"),
    (b"[" * 100_000, "no JSON"), (b'{"a":' * 100_000, "no JSON"),
    (b'{"data": [], "fn_index": 100000, "session_hash": "a"}', "no such function"),
    (b'{"data": [], "fn_index": -1, "session_hash": "a"}', "no such function"),
    (b'{"data": [], "session_hash": "a"}', "no such function"),
    (b'{"data": [], "fn_index": "x", "session_hash": "a"}', "no such function"),
    (b'{"data": [], "fn_index": 0, "session_hash": ""}', "session_hash"),
    (b'{"data": [], "fn_index": 0, "session_hash": ["a"]}', "session_hash"),
    (b'{"data": [], "fn_index": 0, "session_hash": "' + b"a" * 200 + b'"}', "session_hash")])
def test_a_request_that_makes_no_sense_is_a_sentence(served: Served, body: bytes, sentence: str,
                                                     capfd: pytest.CaptureFixture[str]) -> None:
    answer = served.client.post(f"{served.api}/queue/join", content=body,
                                headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert sentence in str(answer.json()["detail"])
    assert "Traceback" not in capfd.readouterr().err


def test_json_is_read_as_far_as_it_is_json() -> None:
    assert read_json(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    for wrong in (b"null", b'{"a": Infinity}', b"{'a': 1}"):
        with pytest.raises(Refused):
            read_json(wrong)


def test_too_few_or_too_many_values_are_a_sentence(served: Served,
                                                   capfd: pytest.CaptureFixture[str]) -> None:
    ask = served.function("ask")
    count = len(ask.inputs)
    for data in ([], [None], [None] * (count + 1), [1] * 50_000):
        assert served.join(ask, data, "few").status_code == 200
        told = served.ended("few")
        assert not told["success"] and told["output"]["error"] == (
            f"This takes {count} values, and {len(data)} came.")
    assert "Traceback" not in capfd.readouterr().err


def test_values_by_name_are_checked(served: Served) -> None:
    url = f"{served.api}/call/v2/ask"
    assert "no such function" in served.client.post(f"{url}x", json={}).json()["detail"]
    assert "takes no value called 'x'" in served.client.post(
        url, json={"x": 1}).json()["detail"]
    assert "needs a value for" in served.client.post(url, json={}).json()["detail"]


def test_only_the_page_that_began_something_ends_or_sees_it(
        served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    describe = served.function("describe")
    started = served.join(describe, served.values(describe), "mine").json()["event_id"]
    answer = served.client.post(f"{served.api}/cancel", json={
        "session_hash": "theirs", "fn_index": describe._id, "event_id": started})
    gone = started not in served.blocks._queue.event_ids_to_events
    assert gone or answer.status_code == 403
    for path in ("queue/data?session_hash=theirs", "call/describe/theirs", "call/v2/ask/x"):
        seen = served.client.get(f"{served.api}/{path}")
        assert seen.status_code == 200 and "no longer known" in seen.text
        assert started not in seen.text
    assert served.ended("mine")["event_id"] == started
    assert "Traceback" not in capfd.readouterr().err


def test_random_requests_never_end_in_a_fault(served: Served,
                                              capfd: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    odd: list[Any] = [None, True, -1, 0.5, 1e300, 2**70, "", "\0", "x" * 3000, "=1+1", [], {}, [[]],
                      {"path": "/etc/passwd"}, file_data("/etc/passwd"),
                      file_data("http://127.0.0.1:1/a"), {"index": 10**9}, {"__type__": "update"}]
    functions = [one for one in served.blocks.fns.values() if one.fn is not None]
    for turn in range(120):
        function = draw.choice(functions)
        values = [draw.choice(odd) for _ in function.inputs][:draw.choice((99, 99, 99, 2))]
        body: dict[str, Any] = {
            "data": values, "fn_index": function._id, "session_hash": f"fuzz-{turn}",
            "event_data": draw.choice(odd), "trigger_id": draw.choice((None, 3, -1, 10**9)),
            draw.choice(("event_id", "batched", "x")): draw.choice(odd)}
        path = draw.choice(("/queue/join", "/run/x", "/cancel", "/reset"))
        answer = served.client.post(served.api + path, json=body)
        text = answer.text
        if path == "/queue/join" and answer.status_code == 200:
            text += json.dumps(served.ended(f"fuzz-{turn}"))
        elif answer.status_code >= 500:
            assert "error" in answer.json(), (path, body, text)
        assert "Traceback" not in text and "site-packages" not in text, (body, text)
    assert "Traceback" not in capfd.readouterr().err
