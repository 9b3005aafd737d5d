"""Saying of whole pictures what the start of the run says: the model that a run starts with, the
teacher, holds what it is to say, so that nothing drifts (Hinton, Vinyals, Dean 2015)."""

import copy
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from train.data.batch_sampler import BatchSampler
from train.objectives.base import Objective, Options, Step, option
from train.objectives.fade import Passes
from vitdemo.models.vlm import VLM


@dataclass(frozen=True)
class DistilSettings(Options):
    """Holding on to the start."""

    loss_distil: float = option(
        0.0, "weight of saying of the pictures of --loss-fade, whole, what the start says", least=0)


class Distil(Objective):
    """Holds what is said of the pictures whose words fade."""

    Settings = DistilSettings
    needs = "fade"

    def __init__(self, settings: DistilSettings, sampler: BatchSampler, start: VLM) -> None:
        super().__init__(settings, sampler, start)
        self.teacher = copy.deepcopy(start).eval().requires_grad_(False)

    def loss(self, step: Step) -> Tensor | None:
        """KL(start || model) a token of whole pictures."""
        passes: Passes | None = step.shared.get("fade")
        return None if passes is None else distil_loss(passes)


def distil_loss(passes: Passes) -> Tensor:
    """KL(taught || p(. | whole)), summed over the tokens, divided by what all processes have."""
    return F.kl_div(passes.whole, passes.taught.exp(), reduction="sum") / passes.total
