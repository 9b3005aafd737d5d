"""The app on a real server on this computer, on a model whose maps are known, and a client of it
that speaks as a page does."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import planted_engine
from PIL import Image

from vitdemo.ui import ServerRules, Settings, build_ui, launch_settings
from vitdemo.ui.components import PictureInput

WAIT = 60.0  # seconds until a test gives up


class Served:
    """A running app: ``root`` is where it keeps what visitors give, beside what it put there of
    its own when it started."""

    def __init__(self, blocks: Any, address: str, root: Path) -> None:
        self.blocks, self.address, self.root = blocks, address.rstrip("/"), root
        self._own: set[Path] = set()
        self._own.update(self.kept())
        self.api = self.address + "/gradio_api"
        self.client = httpx.Client(timeout=WAIT)

    def function(self, name: str) -> Any:
        return next(one for one in self.blocks.fns.values() if one.api_name == name)

    @staticmethod
    def values(function: Any, picture: Any = None) -> list[Any]:
        """What a page sends: nothing, but for a picture in the first field for one."""
        found: list[Any] = [None] * len(function.inputs)
        if picture is not None:
            found[next(place for place, field in enumerate(function.inputs)
                       if isinstance(field, PictureInput))] = picture
        return found

    def upload(self, *files: Path) -> list[str]:
        """The paths on the server."""
        form = [("files", (file.name, file.read_bytes(), "image/png")) for file in files]
        answer = self.client.post(f"{self.api}/upload", files=form)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def join(self, function: Any, data: list[Any], page: str, **more: Any) -> httpx.Response:
        """Put a call into the queue."""
        return self.client.post(f"{self.api}/queue/join", json={
            "data": data, "fn_index": function._id, "session_hash": page, **more})

    def ended(self, page: str) -> dict[str, Any]:
        """The last message about what a page put into the queue."""
        with self.client.stream("GET", f"{self.api}/queue/data",
                                params={"session_hash": page}) as stream:
            for line in stream.iter_lines():
                if "process_completed" in line:
                    return dict(json.loads(line.removeprefix("data: ")))
        raise AssertionError("it never ended")

    @contextmanager
    def page(self, name: str) -> Iterator[None]:
        """An open page: the connection that says so."""
        with self.client.stream("GET", f"{self.api}/heartbeat/{name}") as stream:
            lines = stream.iter_lines()
            next(lines)
            yield
            lines.close()

    def kept(self) -> list[Path]:
        """All files of visitors below ``root``; some may go meanwhile."""
        found = [Path(folder) / name for folder, _, names in os.walk(self.root) for name in names]
        return [path for path in found if path not in self._own]


def file_data(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def until(true: Callable[[], Any], what: str) -> None:
    """Wait for something that the server does on its own."""
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@contextmanager
def serve(root: Path, settings: Settings, rules: ServerRules = ServerRules(), mcp: bool = False
          ) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root))
        blocks = build_ui(planted_engine(), settings)
        _, local, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True,
                                    share=False, **launch_settings(rules, mcp))
        yield Served(blocks, local, root)
        blocks.close(verbose=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("red", "green"):
        Image.new("RGB", (40, 30), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def served(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("uploads"), Settings(pictures)) as running:
        yield running
