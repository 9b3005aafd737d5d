"""Where a model runs, and that a device that is not there is named with what to do."""

import importlib.util

import pytest
import torch

from vitdemo.device import pick
from vitdemo.errors import ConfigError


def plant(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize("cuda, mps, right", [(0, False, "cpu"), (1, False, "cuda"),
                                              (0, True, "mps"), (1, True, "cuda")])
def test_auto_takes_the_best_there_is_and_says_why(monkeypatch: pytest.MonkeyPatch, cuda: int,
                                                   mps: bool, right: str) -> None:
    plant(monkeypatch, cuda, mps)
    placement = pick()
    assert placement.device.type == right and placement.dtype == torch.float32
    assert "found" in placement.reason
    assert pick("cpu").device.type == "cpu"  # what is asked for counts


def test_a_device_and_a_dtype_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, cuda=2, mps=True)
    assert pick("cuda:1", "bfloat16").device == torch.device("cuda:1")
    assert pick("cuda:1", "bfloat16").dtype == torch.bfloat16
    assert pick("mps", "float16").dtype == torch.float16
    assert "asked for" in pick("cuda").reason


@pytest.mark.parametrize("device, named", [
    ("cuda", "no working CUDA GPU; use cpu"), ("cuda:0", "no working CUDA GPU"),
    ("mps", "no Apple GPU; use cpu"), ("gpu", "'gpu' is unknown; use auto"),
    ("", "is unknown"), ("meta", "not supported"), ("cuda:x", "is unknown")])
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, device: str,
                                    named: str) -> None:
    plant(monkeypatch)
    with pytest.raises(ConfigError, match=named):
        pick(device)


def test_a_gpu_beyond_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, cuda=2)
    with pytest.raises(ConfigError, match="cuda:2 was asked for, but only 2"):
        pick("cuda:2")


def test_an_unknown_dtype() -> None:
    with pytest.raises(ConfigError, match="'int3' is unknown; use auto, float32"):
        pick("cpu", "int3")


def test_openvino_is_a_processor_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install -r requirements-openvino.txt"):
        pick("openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    placement = pick("openvino")
    assert placement.openvino and placement.device == torch.device("cpu")
    with pytest.raises(ConfigError, match="bfloat16"):
        pick("openvino", "bfloat16")
