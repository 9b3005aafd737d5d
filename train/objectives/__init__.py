"""What the model learns: all objectives, a file each, and the two loops over them: what a step is
made of, and its losses."""

from collections.abc import Mapping

import torch
from torch import Tensor

from train.data.batch_sampler import BatchSampler, Draw
from train.data.features import features_of
from train.objectives.answering import Answering
from train.objectives.attention import Attention
from train.objectives.base import Objective, Options, Parts, Step, changed
from train.objectives.captioning import Captioning
from train.objectives.contrastive import Contrastive
from train.objectives.fade import Fade
from train.objectives.matching import Matching
from train.objectives.region_words import RegionWords
from train.objectives.self_critical import SelfCritical
from vitdemo.errors import ConfigError, TrainingError
from vitdemo.models.vlm import VLM

# In the order in which they draw and learn: each may use what those before it drew or found.
OBJECTIVES: dict[str, type[Objective]] = {
    "caption": Captioning, "question": Answering, "contrastive": Contrastive, "match": Matching,
    "region": RegionWords, "attention": Attention, "fade": Fade,
    "reward": SelfCritical}


def weight_of(name: str, settings: Options) -> float:
    """What a loss counts."""
    return OBJECTIVES[name].scale * float(getattr(settings, f"loss_{name}"))


def chosen(settings: Mapping[str, Options]) -> list[str]:
    """The names of the objectives that have a weight. ``settings``: of each one its own.

    Raises:
        ConfigError: there are none.
    """
    active = [name for name in OBJECTIVES if weight_of(name, settings[name])]
    if not active:
        raise ConfigError("every loss has weight 0, so there is nothing to learn; give one of "
                          f"{', '.join(f'--loss-{name}' for name in OBJECTIVES)} a weight.")
    return active


def build(settings: Mapping[str, Options], sampler: BatchSampler,
          start: VLM) -> dict[str, Objective]:
    """The objectives that have a weight, by name."""
    return {name: OBJECTIVES[name](settings[name], sampler, start) for name in chosen(settings)}


def draw_step(objectives: Mapping[str, Objective], sampler: BatchSampler, step: int) -> Parts:
    """What each objective draws of the run's step of this number; one that finds nothing of its
    kind in the data is left out."""
    parts: Parts = {}
    for name, objective in objectives.items():
        part = objective.draw(Draw(sampler.seed, step, name), parts)
        if part is not None:
            parts[name] = part
    return parts


def step_losses(model: VLM, parts: Parts,
                objectives: Mapping[str, Objective]) -> dict[str, Tensor]:
    """Each loss of a step by name, unweighted, and their weighted sum as "loss".

    Raises:
        TrainingError: there is none.
    """
    parts = changed(parts, lambda name, value: features_of(model, value)
                    if name == "features" else value)
    step = Step(model, parts, objectives.keys())
    losses: dict[str, Tensor] = {}
    for name, objective in objectives.items():
        drawn = parts.get(name)
        loss = None if objective.draws and drawn is None else objective.loss(step, drawn)
        if loss is not None:
            losses[name] = loss
    if not losses:
        raise TrainingError("no row has anything to learn from with these losses: see which of "
                            "--loss-caption, --loss-question and so on have a weight, and what the "
                            "rows hold.")
    device = next(model.parameters()).device
    weighted = (weight_of(name, objectives[name].settings) * loss
                for name, loss in losses.items())
    losses["loss"] = sum(weighted, start=torch.zeros((), device=device))
    return losses
