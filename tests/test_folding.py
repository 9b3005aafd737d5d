"""Batch norm as a part of the convolution before it."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.encoder import measure
from vitdemo.models.folding import folded
from vitdemo.models.vision import VisionEncoder

SIDE = 64


def trained(backbone: str) -> VisionEncoder:
    """An encoder whose batch norms have statistics, scales and shifts of their own."""
    torch.manual_seed(0)
    vision = VisionEncoder(backbone, SIDE, 32).eval().double()
    for module in vision.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.normal_(0, 0.3)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 2)
    return vision


def norms(vision: VisionEncoder) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in vision.modules())


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18", "tf_efficientnet_lite0"])
@torch.no_grad()
def test_the_features_are_the_same_without_batch_norm(backbone: str) -> None:
    vision = trained(backbone)
    before = norms(vision)
    fast = folded(vision, SIDE)
    assert before > 0
    assert norms(fast) == 0
    assert norms(vision) == before  # the encoder that was given stays as it is
    pixels = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    want = vision.features(pixels)
    assert torch.allclose(fast.features(pixels), want, rtol=0, atol=1e-9)
    assert torch.equal(fast.tokens(want), vision.tokens(want))


def test_an_encoder_without_batch_norm_is_left_alone() -> None:
    vision = VisionEncoder("test_vit", SIDE, 32).eval()
    assert folded(vision, SIDE) is vision


@torch.no_grad()
def test_layers_that_run_in_another_order_than_they_stand_in_are_left_alone() -> None:
    class Turned(nn.Module):
        """The convolution stands first and runs last."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)

        def forward_features(self, pixels: Tensor) -> Tensor:
            return self.conv(self.norm(pixels).relu())

    vision = trained("test_efficientnet")
    vision.backbone = Turned().eval()
    vision.backbone.norm.running_mean.fill_(0.5)
    assert folded(vision, SIDE) is vision


def test_the_benchmark_times_both(tiny_checkpoint: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(tiny_checkpoint, 2)["ways"]
    assert len(found) == (8 if importlib.util.find_spec("openvino") else 6)
    assert found["as trained, one by one"]["ratio"] == 1
    assert "folded, a single picture" in capsys.readouterr().out
