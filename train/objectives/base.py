"""What an objective is: its settings, what it draws of a step, and its loss.

With several processes each loss is this process's share: a sum over its rows, divided by what all
processes hold. The shares add up to the loss that one process would have.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from train.data.batch_sampler import BatchSampler
from train.data.features import scaled_pixels
from train.distributed import Share, Team
from train.options import Options
from vitdemo.models.vlm import VLM


@dataclass
class Step:
    """A step while its losses are worked out. ``parts``: what each objective drew, by name;
    ``active``: the objectives that have a weight; ``teacher``: the model that the run began with,
    where it is held to that; ``shared``: passes that one objective leaves for those after it."""

    model: VLM
    parts: Mapping[str, Any]
    team: Team
    active: Collection[str]
    teacher: VLM | None = None
    shared: dict[str, Any] = field(default_factory=dict)


class Objective(ABC):
    """One thing that is learnt. ``Settings`` has the weight of the loss as ``loss_NAME``, and what
    else may be chosen; ``scale`` times the weight is what the loss counts; ``needs`` names the
    objective without which this one does nothing."""

    Settings: ClassVar[type[Options]]
    scale: ClassVar[float] = 1.0
    needs: ClassVar[str] = ""
    teacher: VLM | None = None

    def __init__(self, settings: Any, sampler: BatchSampler, start: VLM) -> None:
        """``start``: the model that the run begins with."""
        self.settings, self.sampler = settings, sampler

    def draw(self, share: Share, parts: Mapping[str, Any]) -> Any:
        """This process's share of a step, a dataclass of tensors, or None; ``parts`` is what the
        objectives before this one drew.

        Raises:
            ConfigError: there are more processes than rows.
        """
        return None

    @abstractmethod
    def loss(self, step: Step) -> Tensor | None:
        """This process's share of the loss, in a scalar; None where there is nothing to learn."""

    def content(self, step: Step) -> Tensor:
        """bool (vocabulary,), where the model is: the tokens that can be seen at a place."""
        return self.sampler.content.to(next(step.model.parameters()).device)


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens at these places: (P, N, D), (P, n) to (P, n, D)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def features_of(model: VLM, given: Tensor, stage: int = 0) -> Tensor:
    """Features (P, N, C) of pixels (P, 3, side, side), or of what the stages of the backbone before
    ``stage`` made of them (P, c, h, w); what are features stays as it is."""
    if given.dim() == 3:
        return given.float()
    if stage:
        made = given.float().contiguous(memory_format=torch.channels_last)
        return model.vision.late(made, stage).float()
    pixels = scaled_pixels(model, given)
    return model.vision.features(pixels.contiguous(memory_format=torch.channels_last)).float()
