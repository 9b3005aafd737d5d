"""What an objective is: its settings, what it draws of a step, and its loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeVar, cast

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from train.data.batch_sampler import BatchSampler, Draw
from vitdemo.errors import ConfigError
from vitdemo.models.vlm import VLM

T = TypeVar("T")
Parts = dict[str, Any]  # what each objective drew of a step, by its name


class Options(BaseModel):
    """Settings that look at their values themselves; every field is a flag of its name.

    Raises:
        ConfigError: a value is not allowed.
    """

    model_config = ConfigDict(frozen=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ConfigError(f"{wrong['loc'][0]} is {wrong['input']!r}; " + wrong["msg"].replace(
                "Input should", "it must") + ".") from error


@dataclass
class Step:
    """A step while its losses are worked out. ``parts``: what each objective drew, by name;
    ``active``: the objectives that have a weight; ``shared``: passes that one objective leaves for
    those after it."""

    model: VLM
    parts: Mapping[str, Any]
    active: Collection[str]
    shared: dict[str, Any] = field(default_factory=dict)


class Objective(ABC):
    """One thing that is learnt. ``Settings`` has the weight of the loss as ``loss_NAME``, and what
    else may be chosen; ``scale`` times the weight is what the loss counts; ``draws`` is False where
    it learns from what others drew alone; ``teaches`` are the keys of the instructions
    (`vitdemo/instructions.tsv`) of which it has enough examples to be offered afterwards."""

    Settings: ClassVar[type[Options]]
    scale: ClassVar[float] = 1.0
    draws: ClassVar[bool] = True
    teaches: tuple[str, ...] = ()

    def __init__(self, settings: Any, sampler: BatchSampler, start: VLM) -> None:
        """``start``: the model that the run begins with."""
        self.settings, self.sampler = settings, sampler

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> Any:
        """Its part of a step, a dataclass of tensors, or None; ``parts`` is what the objectives
        before this one drew."""
        return None

    @abstractmethod
    def loss(self, step: Step, batch: Any) -> Tensor | None:
        """The loss, in a scalar; None where there is nothing to learn. ``batch``: what it drew; it
        is not asked where it draws and drew nothing."""

    def content(self, step: Step) -> Tensor:
        """bool (vocabulary,), where the model is: the tokens that can be seen at a place."""
        return self.sampler.content.to(next(step.model.parameters()).device)


def changed(part: T, change: Callable[[str, Tensor], Tensor], name: str = "") -> T:
    """A part of a step, or all of them, with every tensor inside changed; ``change`` gets the name
    of its field, too."""
    made: Any = part
    if isinstance(part, Tensor):
        made = change(name, part)
    elif isinstance(part, dict):
        made = {key: changed(value, change, key) for key, value in part.items()}
    elif is_dataclass(part) and not isinstance(part, type):
        made = replace(part, **{each.name: changed(getattr(part, each.name), change, each.name)
                                for each in fields(part)})
    return cast("T", made)


def to_device(part: T, device: torch.device) -> T:
    """The same on the device."""
    return changed(part, lambda name, value: value.to(device))


def pictures(parts: Parts) -> list[tuple[Tensor, Tensor]]:
    """(rows, features) of each part that has pictures."""
    own: list[Any] = [getattr(part, "texts", part) for part in parts.values()]
    return [(part.rows, part.features) for part in own if hasattr(part, "features")]


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens at these places: (P, N, D), (P, n) to (P, n, D)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
