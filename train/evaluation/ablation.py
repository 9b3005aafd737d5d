"""Parts of a model switched off for a while, to see what they do."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitdemo.models.vlm import VLM


def ablations(model: VLM) -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """What switches each part off, as far as the model has it. "no_fusion": the words see nothing
    of the picture, as with gates of 0 (the decoder still does); "no_modulation": the instruction
    changes no picture token."""
    crossings = [block.cross for block in model.fusion.blocks]
    found: dict[str, Callable[[], AbstractContextManager[None]]] = {}
    if crossings:
        found["no_fusion"] = partial(
            _replaced, crossings, lambda module, given, output: torch.zeros_like(output))
    if model.modulation is not None:
        found["no_modulation"] = partial(
            _replaced, [model.modulation], lambda module, given, output: given[0])
    return found


@contextmanager
def _replaced(modules: list[nn.Module], output: Callable[[nn.Module, Any, Tensor], Tensor],
              ) -> Iterator[None]:
    handles = [module.register_forward_hook(output) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
