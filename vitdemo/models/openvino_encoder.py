"""The vision encoder as OpenVINO runs it on a CPU: the same features up to rounding, sooner.

Shapes: B pictures, S x S pixels, N picture tokens, C channels of the backbone.
"""

import warnings

import torch
from torch import Tensor, nn

from vitdemo.models.vision import VisionEncoder


class OpenVINOEncoder:
    """What `VisionEncoder.features` gives, in float32 and without gradients."""

    def __init__(self, vision: VisionEncoder, side: int) -> None:
        """``vision``: in evaluation mode, for pictures of side x side pixels."""
        import openvino

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, of how its layers are written down
            network = openvino.convert_model(
                torch.export.export(_Features(vision).eval(), (torch.zeros(1, 3, side, side),)))
        # All cores work on a picture, and which they are is the system's choice: bound to the
        # first of them, two programs would share one.
        self._network = openvino.Core().compile_model(network, "CPU", {
            "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": torch.get_num_threads()})

    def features(self, pixels: Tensor) -> Tensor:
        """float32 (B, 3, S, S), normalised, to the backbone's last features (B, N, C)."""
        return torch.cat([torch.from_numpy(self._network.infer_new_request([one.numpy()])[0])
                          for one in pixels.contiguous().split(1)])


class _Features(nn.Module):
    def __init__(self, vision: VisionEncoder) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vision.features(pixels)
