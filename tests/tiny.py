"""What the tests of every family share: random weights that tell, random pictures, the real path of
loading, and what holds wherever words and picture stand in one stream."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitdemo.attention.trace import Rows
from vitdemo.backends.registry import load_backend
from vitdemo.config import EngineConfig
from vitdemo.records import Request


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def stir(model: Any, *names: str) -> None:
    """Move what does not start at random: biases and norms are 0 and 1, and what has one of these
    ``names`` is as good as 0."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 or any(part in name for part in names):
            parameter.data += 0.2 * torch.randn_like(parameter)


def load(folder: Path | str) -> Any:
    """A checkpoint as a user's is loaded."""
    return load_backend(EngineConfig(model=str(folder), device="cpu"))


def check_that_only_what_a_word_looked_at_counts(backend: Any) -> None:
    """Where gradients come through one position only, the numbers stay as they are."""
    question, _ = backend.traces(backend.encode_pictures([noise(90, 60)])[0],
                                 Request("what is it?", "a red dog", "en", "ask"))
    through = torch.zeros(2, question.lengths["text"], dtype=torch.bool)
    through[0, question.places_of(1)] = True
    offset = torch.zeros(2, question.features().shape[1], requires_grad=True)
    with torch.enable_grad():
        target = question.run(Rows(2, offset=offset, through=through), None)
        plain = question.run(Rows(2), None)
        (gradient,) = torch.autograd.grad(target.sum(), offset)
    torch.testing.assert_close(target, plain)
    assert gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0
