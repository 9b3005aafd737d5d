"""The settings of a fine-tuning run, and how its learning rate rises and falls."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from train.data.batch_sampler import MixtureConfig
from train.data.features import VIEWS
from train.objectives.losses import LossConfig
from vitdemo.errors import ConfigError

TRAINED = ("frozen", "lora", "full")


@dataclass(frozen=True)
class FinetuneConfig:
    """The settings of one run."""

    train: str = "frozen"  # frozen (all but the backbone), lora (small additions) or full (all)
    only: str = ""  # of that, only weights whose whole name this regular expression matches
    steps: int = 2000  # optimizer steps
    learning_rate: float = 5e-4  # of new parts
    text_rate: float = 0.1  # of the text encoder, as a share of learning_rate
    embedding_rate: float = 0.3  # of the text encoder's token table, likewise
    gate_rate: float = 20.0  # of the gates, likewise: they start at 0, where they hardly learn
    region_rate: float = 2.5  # of the region head, likewise
    backbone_rate: float = 0.02  # of the vision backbone, likewise, with --train full
    backbone_stage: int = 0  # with --train full: only this stage of the backbone and later ones
    lora_rank: int = 8  # width of the additions, with --train lora
    region_steps: int = 300  # steps for a new region head alone, before the others
    evidence_steps: int = 800  # steps for the weights of words alone, with --word-evidence
    weight_decay: float = 0.05  # of matrices (Loshchilov, Hutter 2019)
    warmup: float = 0.05  # share of the steps in which the rate rises
    dropout: float = 0.1  # in the decoder
    picture_dropout: float = 0.5  # in the picture head
    accumulate: int = 1  # batches per optimizer step
    average_decay: float = 0.998  # of the weights' moving average, which is what is shipped
    views: int = 2  # views of each picture (see features.VIEWS)
    workers: int = 0  # other processes that draw the coming steps; 0: this one draws each itself
    save_minutes: float = 5.0  # time between two saved states
    validate_every: int = 500  # steps between two looks at the validation split; 0: no look
    patience: int = 0  # stop after so many looks without a better one; 0: never before the end
    mixed_precision: str = "auto"  # auto (bf16 where the machine has it), no, bf16, fp16
    weights: str = "float16"  # as they are written: int8 is half the size, and loses small changes
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "accumulate", "save_minutes", "lora_rank",
                     "evidence_steps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for name in ("patience", "backbone_rate", "backbone_stage", "validate_every",
                     "workers"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or above.")
        for name in ("dropout", "picture_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0 and "
                                  "below 1.")
        if not 1 <= self.views <= len(VIEWS):
            raise ConfigError(f"views is {self.views}; it must be from 1 to {len(VIEWS)}.")
        for name, allowed in (("mixed_precision", ("auto", "no", "bf16", "fp16")),
                              ("train", TRAINED), ("weights", ("int8", "float16", "float32"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; "
                                  f"it must be {', '.join(allowed[:-1])} or {allowed[-1]}.")
        if self.backbone_stage and self.train != "full":
            raise ConfigError(f"backbone_stage is {self.backbone_stage} and train is "
                              f"{self.train!r}; of the backbone only --train full trains anything.")
        self._check_only()

    def _check_only(self) -> None:
        try:
            re.compile(self.only)
        except re.error as error:
            raise ConfigError(f"only is {self.only!r}, which is no valid regular expression: "
                              f"{error}.") from error
        if self.only and self.train == "lora":
            raise ConfigError(f"only is {self.only!r} and train is 'lora', which do not go "
                              "together: only chooses weights of the model, and lora trains "
                              "additions to them.")


@dataclass(frozen=True)
class Settings:
    """All that decides what a run does, beside its data and the checkpoint it starts from."""

    run: FinetuneConfig = field(default_factory=FinetuneConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    losses: LossConfig = field(default_factory=LossConfig)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from every setting by the name of its flag; other names are passed over."""
        made = {}
        for prefix, part in PARTS:
            kind = type(getattr(cls(), part))
            made[part] = kind(**{each.name: values[prefix + each.name]
                                 for each in dataclasses.fields(kind)})
        return cls(**made)

    def flat(self) -> dict[str, Any]:
        """Every setting by the name of its flag."""
        return {prefix + name: value for prefix, part in PARTS
                for name, value in dataclasses.asdict(getattr(self, part)).items()}


PARTS = (("", "run"), ("", "mixture"), ("loss_", "losses"))  # prefix of the flags, field


def rate_at(step: int, config: FinetuneConfig) -> float:
    """The share of the learning rate at a step: linear warm-up, then half a cosine to 0.02."""
    warm = max(1, round(config.steps * config.warmup))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, done))) / 2
