"""bf16 is chosen where the machine multiplies in it, and nowhere else."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from train.adapt import depthwise_in_float32, multiplies_bf16, settled
from train.finetune import parse, settings_of
from train.settings import Settings


def plant(monkeypatch: pytest.MonkeyPatch, cuda: bool | None = None, mps: bool = False,
          **processor: bool) -> None:
    """A machine: ``cuda`` says whether its GPU has bf16 products, None that it has no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(get_capabilities=lambda: processor))


def chosen(*flags: str) -> str:
    args = parse(["--data", "d", "--from", "f", "--out", "o", *flags])[0]
    return settled(settings_of(args)).run.mixed_precision


@pytest.mark.parametrize("machine, right", [
    ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True, "avx2": True}, "bf16"),
    ({"bf16": True, "neon": True}, "bf16"), ({"avx2": True, "avx512_bf16": False}, "no"),
    ({"cuda": True}, "bf16"), ({"cuda": False, "amx_bf16": True}, "no"),
    ({"mps": True, "bf16": True}, "no")])
def test_bf16_where_the_machine_has_it(monkeypatch: pytest.MonkeyPatch, machine: dict[str, bool],
                                       right: str) -> None:
    plant(monkeypatch, **machine)
    assert chosen() == right and multiplies_bf16() == (right == "bf16")


def test_what_is_asked_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, avx2=True)
    assert chosen("--mixed-precision", "bf16") == "bf16"
    plant(monkeypatch, amx_bf16=True)
    assert chosen("--mixed-precision", "no") == "no"


def test_an_older_torch_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    monkeypatch.setattr(torch, "cpu", SimpleNamespace())
    assert not multiplies_bf16()


def test_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, amx_bf16=True)
    want = {**Settings().flat(), "mixed_precision": "bf16"}
    assert settled(Settings()).flat() == want


def test_depthwise_convolutions_stay_in_float32() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1))
    x = torch.rand(2, 3, 6, 6)
    plain = model(x)
    depthwise_in_float32(model)
    assert torch.equal(model(x), plain)
    seen: dict[int, torch.dtype] = {}
    for i, layer in enumerate(model):
        layer.register_forward_hook(lambda _m, _given, out, i=i: seen.update({i: out.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        model(x).float().square().sum().backward()
    assert seen == {0: torch.bfloat16, 1: torch.float32, 2: torch.bfloat16}
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(copy.deepcopy(model)(x), plain)
