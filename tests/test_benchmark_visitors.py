"""Visitors of a real server over a planted model: the benchmark, and the line end to end."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import PlantedBackend
from PIL import Image

from benchmarks import visitors
from benchmarks.page import Busy, Functions, Page, app_client
from vitdemo.engine import Engine
from vitdemo.ui import Settings, build_ui, launch_settings
from vitdemo.ui.components import MODEL
from vitdemo.ui.line import EACH


class Gated(PlantedBackend):
    """Begins no caption before the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def generate(self, *arguments: Any) -> Iterator[Any]:
        self.gate.wait()
        yield from super().generate(*arguments)


@pytest.fixture(scope="module")
def backend() -> Gated:
    return Gated()


@pytest.fixture(scope="module")
def blocks(backend: Gated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    examples = tmp_path_factory.mktemp("examples")
    for colour in ("red", "blue"):
        Image.new("RGB", (40, 30), colour).save(examples / f"{colour}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        made = build_ui(Engine(backend), Settings(examples))
        made.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, _frontend=False,
                    **launch_settings())
        yield made
        made.close(verbose=False)


def test_the_benchmark_counts_what_visitors_meet(blocks: Any, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert visitors.main(["--address", blocks.local_url, "--visitors", "2", "--seconds", "1",
                          "--rounds", "1", "--captions", "1", "--beside", "2", "--longest", "60",
                          "--batches", "0", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    (one,) = found["rounds"]
    # However slow the machine is: what did not come within the second counts as waiting.
    assert len(one["captions"]) == one["counts"].get("captions", 0) + one["waiting"] >= 1
    assert "failed" not in one["counts"], one["faults"]
    assert list(found["beside"]) == ["0", "1"]
    said = capsys.readouterr().out
    assert "p95" in said and "1 evidence jobs" in said


def test_a_batch_is_held_against_one_by_one(tiny_checkpoint: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert visitors.main(["--rounds", "0", "--beside", "0", "--batches", "1", "--checkpoint",
                          str(tiny_checkpoint), "--json", str(file)]) == 0
    found = json.loads(file.read_text())["batches"]
    assert list(found) == ["new pictures", "known pictures"]
    for one in found.values():
        assert one["different"] == 0 and one["batch"][0] > 1
        assert min(*one["throughput"], *one["processor"], *one["first"]) > 0
    assert "8 visitors over one by one" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--address", "http://example.org/"], ["--visitors", "0"],
                                   ["--seconds", "1e9"], ["--rounds", "-1"]])
def test_the_benchmark_stays_on_this_computer_and_ends(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        visitors.main(wrong)


def test_who_asks_too_much_is_told_so_and_who_goes_is_not_waited_for(blocks: Any, backend: Gated,
                                                                     tmp_path: Path) -> None:
    picture = tmp_path / "noise.png"
    Image.effect_noise((40, 30), 80).convert("RGB").save(picture)
    line = blocks._queue

    async def visit() -> None:
        async with app_client(blocks.local_url) as client:
            functions = Functions((await client.get("config")).json())
            greedy, other = Page(client), Page(client)
            file = await greedy.upload(picture)
            asked = [asyncio.create_task(visitors.caption(greedy, functions, file))
                     for _ in range(3 * EACH)]
            # All but those that run and those that wait are sent away, with a sentence.
            while sum(task.done() for task in asked) < 2 * EACH - MODEL["concurrency_limit"]:
                await asyncio.sleep(0.01)
            for task in asked:
                if task.done():
                    assert isinstance(task.exception(), Busy)
                    assert "in line already" in str(task.exception())
            waits = asyncio.create_task(visitors.caption(other, functions, file))
            while not other.places:
                await asyncio.sleep(0.01)
            assert other.places[-1] == 1  # before all that the greedy one still has there
            await greedy.close()
            while len(line) != 1:
                await asyncio.sleep(0.01)
            for task in asked:
                task.cancel()
            backend.gate.set()
            assert (await waits)["texts"]
            await other.close()

    backend.gate.clear()
    try:
        asyncio.run(asyncio.wait_for(visit(), 120))
    finally:
        backend.gate.set()
