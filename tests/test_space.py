"""What a Hugging Face Space needs, and the engine on a GPU that is lent by the real `spaces`."""

import ast
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spaces
from click.testing import CliRunner
from fake_engine import CAPTION, planted_engine
from huggingface_hub import SpaceHardware
from packaging.requirements import Requirement
from PIL import Image

import app
from vitdemo.borrowed import LONGEST, PASS, BorrowedEngine, needs_gpu, passes
from vitdemo.config import Decoding
from vitdemo.device import without_gpu
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.preprocess import Picture, open_picture

ROOT = Path(__file__).parent.parent
OFFERED = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")  # of torch, by ZeroGPU, as the Hub's docs say


@pytest.fixture
def photo() -> Picture:
    return open_picture(Image.new("RGB", (32, 32), "red"))


class Lender:
    """A decorator as `spaces.GPU`; ``asked`` are the seconds that calls asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, duration: Callable[..., int]) -> Callable[..., Callable[..., Any]]:
        def lend(work: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **settings: Any) -> Any:
                self.asked.append(duration(*args, **settings))
                return work(*args, **settings)
            return run
        return lend


def test_every_use_of_the_model_is_lent_a_gpu_for_its_time(photo: Picture) -> None:
    lender = Lender()
    engine = BorrowedEngine(planted_engine(), lender)

    def asked(call: Callable[[], Any]) -> int:
        lender.asked.clear()
        call()
        assert lender.asked, "the model was used without a GPU"
        return lender.asked[0]

    short = asked(lambda: engine.ask(photo, "what?"))
    assert asked(lambda: list(engine.stream(photo))) > short
    long = asked(lambda: list(engine.stream(photo, decoding=Decoding(max_tokens=100))))
    assert asked(lambda: engine.caption(photo)) < long
    one = asked(lambda: engine.evidence(photo, "red left", words=[0]))
    assert short < one < asked(lambda: engine.evidence(photo, "red left right top")) <= LONGEST
    assert passes("evidence", photo, "一只红色的狗") > passes("evidence", photo, "red")
    assert asked(lambda: engine.match(photo, ["red"])) <= asked(
        lambda: engine.match(photo, ["red"] * 50))
    asked(lambda: engine.explain(photo, "red", "occlusion"))
    asked(lambda: engine.what_if(photo, "left", 0))
    asked(lambda: engine.picture_share(photo, "red"))
    gallery = engine.gallery()
    asked(lambda: gallery.add([("red.png", photo)]))
    asked(lambda: gallery.search_text("red"))
    gallery.close()
    lender.asked.clear()
    assert not engine.unread("red").nothing and engine.info.name == "planted"
    assert not lender.asked, "what needs no GPU borrows none"


def test_a_time_is_learnt(photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = BorrowedEngine(planted_engine(), Lender())
    first = engine.seconds("evidence", photo, "red left right")
    engine.pace["evidence"] = 1e-6
    assert engine.seconds("evidence", photo, "red left right") < first
    ticks = iter((0.0, 0.0, 0.0, 3.0))
    monkeypatch.setattr("vitdemo.borrowed.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    engine.match(photo, ["red"])
    assert engine.pace["match"] == pytest.approx(0.8 * PASS), "it took no time"
    engine.match(photo, ["red", "green"])
    assert engine.pace["match"] == pytest.approx(1.5), "two sentences took three seconds"


def test_a_new_method_borrows_by_itself(photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    def count_colours(self: Engine, pictures: list[Picture]) -> int:
        return len(pictures)

    def name(self: Engine) -> str:
        return self.info.name

    monkeypatch.setattr(Engine, "count_colours", count_colours, raising=False)
    monkeypatch.setattr(Engine, "model_name", without_gpu(name), raising=False)
    lender = Lender()
    engine: Any = BorrowedEngine(planted_engine(), lender)
    assert engine.count_colours([photo] * 3) == 3 and len(lender.asked) == 1
    assert engine.model_name() == "planted" and len(lender.asked) == 1
    assert needs_gpu(Engine.ask) and not needs_gpu(Engine.gallery) and not needs_gpu(Engine._stream)


@pytest.fixture
def zero_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """ZeroGPU's own package, as in a Space that has a GPU: all but the GPU itself, and the server
    that gives it out. The seconds that were asked for."""
    monkeypatch.setattr(spaces.config.Config, "zero_gpu", True)
    from spaces.zero import wrappers

    asked: list[float] = []

    def schedule(duration: Any, **_: Any) -> Any:
        asked.append(duration.total_seconds())
        return SimpleNamespace(idle=True, nvidiaIndex=0, nvidiaUUID="x", allowToken="x")

    monkeypatch.setattr(wrappers.client, "schedule", schedule)
    monkeypatch.setattr(wrappers.client, "release", lambda *_, **__: None)
    monkeypatch.setattr(wrappers.client, "get_duration_seconds",
                        lambda duration, _: duration.total_seconds())
    monkeypatch.setattr(wrappers.torch, "enter_mode", lambda: None)
    monkeypatch.setattr(wrappers, "worker_init", lambda **_: None)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    yield asked
    for worker in multiprocessing.active_children():
        worker.terminate()


@pytest.mark.skipif(sys.platform != "linux", reason="a Space is a Linux machine")
def test_the_real_package_lends(zero_gpu: list[float], photo: Picture) -> None:
    lend = app.zero_gpu()
    assert lend is spaces.GPU
    engine = BorrowedEngine(planted_engine(), lend)
    assert engine.ask(photo, "what?").text == "left"
    assert list(engine.stream(photo))[-1].raw_text == CAPTION["en"]
    assert len(zero_gpu) == 2 and all(5 <= one <= 20 for one in zero_gpu)
    for call in (lambda: engine.ask(photo, ""), lambda: list(engine.stream(photo, "a\0b"))):
        with pytest.raises(TextError):  # and not "ZeroGPU worker error"
            call()


def test_the_real_package_does_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert app.zero_gpu() is None
    assert spaces.GPU(duration=lambda: 3)(len) is len


def test_spaces_comes_before_gradio_and_torch() -> None:
    """Importing app.py imports neither, and it asks for `spaces` before its own modules."""
    code = ("import sys, app; "
            "assert not {'gradio', 'torch', 'spaces'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    main = next(node for node in ast.parse((ROOT / "app.py").read_text()).body
                if isinstance(node, ast.FunctionDef) and node.name == "main")
    lines = [ast.unparse(node) for node in main.body]
    lent = next(place for place, line in enumerate(lines) if "zero_gpu()" in line)
    before = [line for line in lines[:lent] if "import" in line]
    assert before == ["from vitdemo.terminal import PlainFormatter, say"]


# Files

def front_matter() -> dict[str, str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1]
    return dict(line.split(": ", 1) for line in text.splitlines())


def test_the_front_matter_has_what_the_hub_lists() -> None:
    values = front_matter()
    assert values["python_version"].strip('"') in ("3.10", "3.12"), "what ZeroGPU offers"
    assert values["suggested_hardware"] in {one.value for one in SpaceHardware}
    assert re.fullmatch(r"\d+[mh]", values["startup_duration_timeout"])
    assert values["header"] in ("mini", "default")
    for name in ("tags", "models"):
        assert len(re.fullmatch(r"\[(.+)\]", values[name]).group(1).split(", ")) > 1
    where = values["thumbnail"].partition("/resolve/main/")
    assert where[0].startswith("https://huggingface.co/spaces/") and (ROOT / where[2]).is_file()


def test_a_space_gets_a_torch_that_zero_gpu_offers() -> None:
    wanted = {}
    for file in ("pre-requirements.txt", "requirements.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line.startswith("torch>"):
                wanted[file] = Requirement(line).specifier
    for version in OFFERED:
        assert all(version in one for one in wanted.values()), version
    assert "2.12.0" not in wanted["pre-requirements.txt"]
    assert "2.7.1" not in wanted["requirements.txt"]


def test_the_commands_exist() -> None:
    """Every line of docs/space.md names a command and options that `hf` has."""
    from huggingface_hub.cli.hf import app as hf

    blocks = re.findall(r"```\n(.*?)```", (ROOT / "docs/space.md").read_text(), re.DOTALL)
    assert all(len(block.splitlines()) <= 10 for block in blocks)
    lines = [line for block in blocks for line in block.splitlines()]
    checked = 0
    for line in lines:
        words = line.split()
        if words[0] != "hf":
            continue
        plain = [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)]
        names = plain[:1 if plain[0] == "upload" else
                      3 if plain[1] in ("variables", "volumes") else 2]
        told = CliRunner().invoke(hf, [*names, "--help"])
        assert told.exit_code == 0 and f"hf {' '.join(names)}" in told.output, line
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", told.output), (line, option)
        checked += 1
    assert checked >= 9
