"""What is known of a model before it is loaded, and how it is loaded then."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_hub import serve_hub
from tiny import noise
from tiny_blip import save_tiny_blip
from tiny_chat import save_tiny_chat
from tiny_clip import save_tiny_clip
from tiny_gated import save_tiny_mllama

from vitdemo import device
from vitdemo.backends import forecast, hub, source
from vitdemo.backends.forecast import count_parameters, count_text, need_of, size_text
from vitdemo.backends.hub_files import licence_of
from vitdemo.backends.offers import offers
from vitdemo.backends.registry import FAMILIES, load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.device import Placement, pick
from vitdemo.errors import CheckpointError, ConfigError
from vitdemo.records import ALL_TASKS, Request

ROOT = Path(__file__).parent.parent
CPU, GPU = (Placement(torch.device(name), torch.float32, "") for name in ("cpu", "cuda"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("forecast") / "tiny", "clip", 2)


def test_parameters_are_counted_without_weights(folder: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [folder, save_tiny_blip(tmp_path / "blip", "captioning", 1),
               save_tiny_chat(tmp_path / "chat", "smolvlm", 1)]
    for one in folders:
        backend: Any = load_backend(EngineConfig(model=str(one), device="cpu"))
        right = sum(parameter.numel() for parameter in backend.model.parameters())
        assert count_parameters(str(one)) == right, "by the heads of its files"
        with monkeypatch.context() as patched:
            patched.setattr(source, "weight_files", lambda _: [])
            assert count_parameters(str(one)) == right, "by its config"


def test_every_family_says_what_it_can_do() -> None:
    found = {one.type: one for one in offers()}
    assert list(found) == list(FAMILIES)
    assert found["native"].tasks == ALL_TASKS
    assert found["mllama"].tasks == ("caption", "ask", "explain")
    assert found["clip"].tasks == ("match", "embed", "explain")
    for one in found.values():
        assert one.methods
        assert one.tasks
    assert found["clip"].example.count("/") == 1
    assert {FAMILIES[one.type] for one in found.values() if one.example} == set(FAMILIES.values())


def choose(monkeypatch: pytest.MonkeyPatch, placement: Placement, parameters: int, *, gpu: int = 0,
           ram: int = 0, bits: bool = False, exact: bool = False) -> forecast.Need:
    """What is chosen with so many bytes free."""
    monkeypatch.setattr(forecast, "count_parameters", lambda _: parameters)
    for module in (forecast, device):
        monkeypatch.setattr(module, "has_bitsandbytes", lambda: bits)
    monkeypatch.setattr(forecast, "free_memory", lambda where: (
        gpu + ram if where.spread else gpu) if where.device.type == "cuda" else ram)
    return need_of("some/model", placement, exact)


def test_the_precision_is_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    billion, room = 10**9, 10**10
    assert choose(monkeypatch, CPU, billion, ram=room).placement.precision == "float32"
    assert choose(monkeypatch, CPU, 2 * billion, ram=room).placement.precision == "bfloat16"
    assert choose(monkeypatch, GPU, billion // 10, gpu=room).placement.precision == "float32"
    assert choose(monkeypatch, GPU, billion, gpu=room).placement.precision == "bfloat16"
    eight = choose(monkeypatch, GPU, 7 * billion, gpu=room, bits=True)
    assert (eight.placement.precision, eight.placement.spread) == ("int8", False)
    spread = choose(monkeypatch, GPU, 7 * billion, gpu=room, ram=room)
    assert (spread.placement.precision, spread.placement.spread) == ("bfloat16", True)
    exact = choose(monkeypatch, CPU, 2 * billion, ram=room, exact=True)
    assert exact.placement.precision == "float32"
    assert exact.refusal is not None
    refused = choose(monkeypatch, CPU, 7 * billion, ram=room)
    assert str(refused.refusal) == (
        "model needs about 18.2 GB of memory, and 10.0 GB are free here. Close other programs, "
        "choose a smaller model, or run pip install bitsandbytes, with which it needs about half "
        "of that.")
    assert choose(monkeypatch, CPU, 7 * billion, ram=room, bits=True).placement.precision == "int8"
    none = choose(monkeypatch, CPU, 70 * billion, ram=room, bits=True)
    assert "91.0 GB" in str(none.refusal)  # in 8 bits
    assert "bitsandbytes" not in str(none.refusal)


def test_a_model_that_has_no_room_is_refused(folder: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "free_memory", lambda _: 1000)
    with pytest.raises(CheckpointError, match="tiny needs about .* and 0 MB are free"):
        load_backend(EngineConfig(model=str(folder), device="cpu"))


def test_a_container_is_held_to_what_it_may_take(monkeypatch: pytest.MonkeyPatch,
                                                 tmp_path: Path) -> None:
    monkeypatch.setattr(forecast, "_CGROUP", tmp_path)
    whole = forecast.free_memory(CPU)
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert forecast.free_memory(CPU) == 2_000_000 < whole
    (tmp_path / "memory.max").write_text("max\n")
    assert forecast.free_memory(CPU) > 2_000_000


def test_half_precision_is_read_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = hub._precision
    monkeypatch.setattr(hub, "_precision", lambda one: asked.append(real(one)) or asked[-1])
    backend: Any = load_backend(EngineConfig(model=str(folder), device="cpu", dtype="bfloat16"))
    assert asked == [{"dtype": torch.bfloat16}]
    assert backend.model.dtype == torch.bfloat16


def test_a_precision_has_a_revision_of_its_own(folder: Path, tiny_checkpoint: Path) -> None:
    for name in (str(folder), str(tiny_checkpoint)):
        full, half = (load_backend(EngineConfig(model=name, device="cpu", dtype=dtype))
                      for dtype in ("float32", "bfloat16"))
        assert half.info.revision.endswith("-bfloat16")
        assert len(full.info.revision) == 12


def test_fewer_bits_take_a_package_and_a_device_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_bitsandbytes", lambda: False)
    with pytest.raises(ConfigError, match="int8 .* Run pip install bitsandbytes"):
        pick("cpu", "int8")
    monkeypatch.setattr(device, "has_bitsandbytes", lambda: True)
    placement = pick("cpu", "int8")
    assert (placement.precision, placement.revision("0f")) == ("int8", "0f-int8")
    with pytest.raises(ConfigError, match="int4 cannot be used on cpu: .* CUDA GPU"):
        pick("cpu", "int4")


def test_maps_of_weights_in_fewer_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    name = str(save_tiny_mllama(tmp_path))
    backend: Any = load_backend(EngineConfig(model=name, device="cpu", dtype="int8"))
    kinds = {type(module).__name__ for module in backend.model.modules()}
    assert "Linear8bitLt" in kinds
    assert backend.info.revision.endswith("-int8")
    (one,) = backend.encode_pictures([noise(90, 60)])
    *_, step = backend.generate(one, "", "en", Decoding("greedy", max_tokens=5, min_tokens=5))
    for method in backend.info.methods:
        (found,) = backend.explain(one, Request("", step.text, "en", "caption"), method)
        assert found.weights.sum() > 0


def test_parts_that_have_no_room_on_the_gpu(tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """As accelerate keeps them: weights are there only while their layer runs."""
    name, maps = str(save_tiny_mllama(tmp_path / "model")), []
    places = {"model.vision_model": "cpu", "model.multi_modal_projector": "cpu",
              "model.language_model.embed_tokens": "cpu", "model.language_model.norm": "cpu",
              "model.language_model.rotary_emb": "cpu", "model.language_model.layers": "disk",
              "lm_head": "disk"}
    for spread in (False, True):
        if spread:
            monkeypatch.setattr(forecast, "fitted", lambda _, one, __: replace(one, spread=True))
            monkeypatch.setattr(hub, "_precision", lambda one: {
                "dtype": one.dtype, "device_map": places, "offload_folder": tmp_path})
        backend: Any = load_backend(EngineConfig(model=name, device="cpu"))
        assert (backend.model.lm_head.weight.device.type == "meta") == spread
        (one,) = backend.encode_pictures([noise(90, 60)])
        (found,) = backend.explain(one, Request("", "a dog", "en", "caption"))
        maps.append((backend.info.revision, found.gates, found.weights.tolist()))
    assert maps[0] == maps[1]


def test_damaged_weights_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    for content in (b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]"):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model.safetensors is damaged"):
            count_parameters(str(tmp_path))


def test_licences(folder: Path, tmp_path: Path) -> None:
    assert licence_of(str(folder)) == ""
    for text, licence in {"---\nlicense: mit\n---\n": "mit", "# A model": "",
                          "---\nlicense: other\nlicense_name: gemma\n---\n": "gemma"}.items():
        (tmp_path / "README.md").write_text(text)
        assert licence_of(str(tmp_path)) == licence


def test_numbers_as_a_person_reads_them() -> None:
    assert [size_text(value) for value in (54e6, 1.24e9)] == ["54 MB", "1.2 GB"]
    assert [count_text(value) for value in (70, 42_400_000, 2_210_000_000)] == ["70", "42M",
                                                                                "2.2B"]


HUB = """
import json, sys
from vitdemo.backends import hub_files
from vitdemo.backends.registry import load_backend
from vitdemo.config import EngineConfig
from vitdemo.cli import main

print(main(["models", "Some/tiny", "--json", "--device", "cpu"]), flush=True)
class Stop(Exception): pass
def stop(here, whole): raise Stop
try:
    hub_files.download("Some/tiny", stop)
except Stop:
    print("stopped")
told = []
hub_files.download("Some/tiny", lambda *step: told.append(step))
print(json.dumps(told[-1]))
print(load_backend(EngineConfig(model="Some/tiny", device="cpu")).info.name)
"""


def test_a_name_on_the_hub_by_mirror_and_token_and_then_without_a_network(
        folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_secret",
                   "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)

    def run(code: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True,
                              env={**environment, **more}, capture_output=True, timeout=300)

    with serve_hub({"Some/tiny": folder}, {"license": "mit", "language": "en"}) as server:
        done = run(HUB, HF_ENDPOINT=server.address)
    assert done.returncode == 0, done.stderr
    text, _, rest = done.stdout.partition("\n0\n")
    (told,) = json.loads(text)["models"]
    assert told["name"] == "Some/tiny"
    assert told["licence"] == "mit"
    assert told["parameters"] == count_parameters(str(folder))
    whole = sum(file.stat().st_size for file in folder.iterdir())
    assert told["download_bytes"] == whole
    assert rest.split("\n")[:3] == ["stopped", f"[{whole}, {whole}]", "tiny"]
    assert "Bearer hf_secret" in server.tokens
    code = HUB.split("class Stop")[0] + HUB.split("\n")[-2]
    again = run(code, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert again.stdout.endswith("0\ntiny\n"), again.stderr
