"""A server that answers as the Hugging Face hub does, for models in folders of this computer."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """``asked`` are the paths that were requested, ``tokens`` what came as authorisation."""

    address: str
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@contextmanager
def serve_hub(models: dict[str, Path], card: dict[str, Any] | None = None) -> Iterator[Hub]:
    """Serve these models by their names as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            hub.asked.append(path)
            hub.tokens.add(self.headers.get("Authorization", ""))
            head: dict[str, str] = {"X-Repo-Commit": COMMIT}
            if path.startswith("api/models/"):
                name = "/".join(path.split("/")[2:4])
                data = self.described(name, "/tree/" in path) if name in models else None
                kind = "application/json"
            else:
                owner, name, *rest = [*path.split("/"), ""]
                file = models.get(f"{owner}/{name}", Path("/none")) / "/".join(rest[2:-1])
                data = file.read_bytes() if file.is_file() else None
                kind = "application/octet-stream"
            if data is None:
                head["X-Error-Code"] = "EntryNotFound" if path.count("/") > 3 else "RepoNotFound"
            self.send_response(200 if data is not None else 404)
            data = data or b""
            head |= {"Content-Length": str(len(data)), "Content-Type": kind,
                     "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            for key, value in head.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def described(self, name: str, tree: bool) -> bytes:
            files = [(path.name, path.stat().st_size) for path in sorted(models[name].iterdir())]
            if tree:
                return json.dumps([{"type": "file", "path": file, "size": size, "oid": "0" * 40}
                                   for file, size in files]).encode()
            return json.dumps({"id": name, "modelId": name, "sha": COMMIT, "private": False,
                               "tags": [], "downloads": 0, "likes": 0, "cardData": card or {},
                               "siblings": [{"rfilename": file, "size": size}
                                            for file, size in files]}).encode()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
