"""The settings of a fine-tuning run, and how its learning rate rises and falls."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from train.objectives.base import Options, option
from train.objectives.registry import OBJECTIVES
from vitdemo.errors import ConfigError

WARMUP = 0.05  # share of the steps in which the rate rises


@dataclass(frozen=True)
class RunSettings(Options):
    """The run."""

    train: str = option("frozen", "what learns: frozen (all but the backbone), lora (small "
                        "additions) or full (all)", one_of=("frozen", "lora", "full"))
    train_pattern: str = option("", "of that, only weights whose whole name this regular "
                                "expression matches")
    steps: int = option(2000, "optimizer steps", above=0)
    learning_rate: float = option(5e-4, "of new parts", above=0)
    text_rate: float = option(0.1, "of the text encoder, as a share of --learning-rate", least=0)
    backbone_rate: float = option(0.02, "of the vision backbone, likewise, with --train full",
                                  least=0)
    weight_decay: float = option(0.05, "of matrices (Loshchilov, Hutter 2019)", least=0)
    dropout: float = option(0.1, "in the decoder", least=0, below=1)
    kept_tokens: float = option(0.6, "share of a picture's tokens that is kept while writing and "
                                "matching, in place of dropout", above=0)
    workers: int = option(0, "other processes that draw the coming steps; 0: this one draws each "
                          "itself", least=0)
    validate_every: int = option(500, "steps between two looks at the validation split; 0: no look",
                                 least=0)
    patience: int = option(0, "stop after so many looks without a better one; 0: never before the "
                           "end", least=0)
    mixed_precision: str = option("auto", "auto (bf16 where the machine has it), no, bf16 or fp16",
                                  one_of=("auto", "no", "bf16", "fp16"))
    weights: str = option("float16", "as they are written; int8 is half the size, and loses small "
                          "changes", one_of=("int8", "float16", "float32"))
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.train_pattern)
        except re.error as error:
            raise ConfigError(f"train_pattern is {self.train_pattern!r}, which is no valid regular "
                              f"expression: {error}.") from error
        if self.train_pattern and self.train == "lora":
            raise ConfigError(f"train_pattern is {self.train_pattern!r} and train is 'lora', which "
                              "do not go together: a pattern chooses weights of the model, and "
                              "lora trains additions to them.")


def _defaults() -> dict[str, Options]:
    return {name: kind.Settings() for name, kind in OBJECTIVES.items()}


@dataclass(frozen=True)
class Settings:
    """All that decides what a run does, beside its data and the checkpoint it starts from: of the
    run, and of each objective by its name."""

    run: RunSettings = field(default_factory=RunSettings)
    objectives: Mapping[str, Options] = field(default_factory=_defaults)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings by the names of their flags, the default where one is missing; other names are
        passed over."""
        def made(kind: Any) -> Any:
            return kind(**{each.name: values[each.name] for each in dataclasses.fields(kind)
                           if each.name in values})
        return cls(made(RunSettings), {name: made(kind.Settings)
                                       for name, kind in OBJECTIVES.items()})

    def parts(self) -> list[Options]:
        """Each group of settings."""
        return [self.run, *self.objectives.values()]

    def flat(self) -> dict[str, Any]:
        """Every setting by the name of its flag."""
        return {name: value for part in self.parts()
                for name, value in dataclasses.asdict(part).items()}


def rate_at(step: int, steps: int) -> float:
    """The share of the learning rate at a step: linear warm-up, then half a cosine to 0.02."""
    warm = max(1, round(steps * WARMUP))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, done))) / 2
