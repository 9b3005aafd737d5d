"""The settings of a fine-tuning run, how its learning rate rises and falls, and what follows from
how many pictures there are.

The plain defaults are made for thousands of pictures. With fewer than `FEW`, a step of that size
would show each of them several times over, and 2,000 steps would be thousands of epochs; so what
nobody set is derived from the number of pictures.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from train.data.reading import Row
from train.objectives import OBJECTIVES
from train.objectives.base import Options
from vitdemo.errors import ConfigError

WARMUP = 0.05  # share of the steps in which the rate rises
FEW = 1000  # pictures
VERY_FEW = 300
_LOOKS = 5  # at the validation split in a run
_EPOCHS, _EPOCHS_FULL = 12, 4  # pixels are dear, and a backbone soon knows few pictures by heart
_RATES = {"frozen": 1e-4, "lora": 5e-4, "full": 1e-4}  # a trained checkpoint is to change gently


class RunSettings(Options):
    """The run."""

    train: Literal["frozen", "lora", "full"] = Field("frozen", description=(
        "what learns: frozen (all but the backbone), lora (small additions) or full (all)"))
    train_pattern: str = Field("", description=(
        "of that, only weights whose whole name this regular expression matches"))
    steps: int = Field(2000, gt=0, description="optimizer steps")
    learning_rate: float = Field(5e-4, gt=0, description="of new parts")
    text_rate: float = Field(0.1, ge=0, description=(
        "of the text encoder, as a share of --learning-rate"))
    backbone_rate: float = Field(0.02, ge=0, description=(
        "of the vision backbone, likewise, with --train full"))
    weight_decay: float = Field(0.05, ge=0, description="of matrices (Loshchilov, Hutter 2019)")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the decoder")
    kept_tokens: float = Field(0.6, gt=0, description=(
        "share of a picture's tokens that is kept while writing and matching, in place of "
        "dropout"))
    validate_every: int = Field(500, ge=0, description=(
        "steps between two looks at the validation split; 0: no look"))
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field("auto", description=(
        "auto (bf16 where the machine has it), no, bf16 or fp16"))
    weights: Literal["int8", "float16", "float32"] = Field("float16", description=(
        "as they are written; int8 is half the size, and loses small changes"))
    seed: int = 0

    def model_post_init(self, context: Any) -> None:
        """What no field says of itself."""
        try:
            re.compile(self.train_pattern)
        except re.error as error:
            raise ConfigError(f"train_pattern is {self.train_pattern!r}, which is no valid regular "
                              f"expression: {error}.") from error
        if self.train_pattern and self.train == "lora":
            raise ConfigError(f"train_pattern is {self.train_pattern!r} and train is 'lora', which "
                              "do not go together: a pattern chooses weights of the model, and "
                              "lora trains additions to them.")


class StartSettings(Options):
    """What the model is given before it learns."""

    picture_size: int = Field(0, ge=0, description=(
        "train at this size, in pixels, instead of the checkpoint's own"))
    region_head: bool = Field(False, description="give the model a region head if it has none")
    word_evidence: bool = Field(False, description=(
        "let the match head weigh words one by one; the weights are learnt first"))
    querybank: int = Field(0, ge=0, description=(
        "before the first step keep so many pictures, and captions of each language, as the "
        "bank that matches are measured against"))


def _defaults() -> dict[str, Options]:
    return {name: kind.Settings() for name, kind in OBJECTIVES.items()}


@dataclass(frozen=True)
class Settings:
    """All that decides what a run does, beside its data and the checkpoint it starts from: of the
    run, of its start, and of each objective by its name."""

    run: RunSettings = field(default_factory=RunSettings)
    start: StartSettings = field(default_factory=StartSettings)
    objectives: Mapping[str, Options] = field(default_factory=_defaults)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings by the names of their flags, the default where one is missing; other names are
        passed over."""
        def made(kind: Any) -> Any:
            return kind(**{name: values[name] for name in kind.model_fields if name in values})
        return cls(made(RunSettings), made(StartSettings),
                   {name: made(kind.Settings) for name, kind in OBJECTIVES.items()})

    def parts(self) -> list[Options]:
        """Each group of settings."""
        return [self.run, self.start, *self.objectives.values()]

    def flat(self) -> dict[str, Any]:
        """Every setting by the name of its flag."""
        return {name: value for part in self.parts()
                for name, value in part.model_dump().items()}


def rate_at(step: int, steps: int) -> float:
    """The share of the learning rate at a step: linear warm-up, then half a cosine to 0.02."""
    warm = max(1, round(steps * WARMUP))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, done))) / 2


def scaled(settings: Settings, given: Collection[str],
           rows: Sequence[Row]) -> tuple[Settings, dict[str, Any]]:
    """The settings for these rows, and those that are not the plain defaults, by flag.

    ``given`` are the names of the flags that somebody set: they stay. With `FEW` rows or more
    nothing changes.
    """
    if len(rows) >= FEW:
        return settings, {}
    full = settings.run.train == "full"
    part = 12 if full else 6
    found: dict[str, Any] = settings.flat()

    def derive(name: str, value: float) -> None:
        if name not in given:
            found[name] = value

    derive("caption_pictures", _between(4, len(rows) // part, found["caption_pictures"]))
    derive("questions", _between(4, len(rows) // part, found["questions"]))
    derive("pairs", _between(4, 2 * len(rows) // part, found["pairs"]))
    each = min(found["texts_per_picture"], _captions_each(rows))
    derive("texts_per_picture", min(each, 3) if len(rows) < VERY_FEW else each)
    derive("learning_rate", _RATES[settings.run.train])
    shown = found["caption_pictures"] or found["questions"] or max(1, found["pairs"])
    epochs = _EPOCHS_FULL if full else _EPOCHS
    derive("steps", min(found["steps"], math.ceil(epochs * len(rows) / shown)))
    derive("validate_every", max(1, found["steps"] // _LOOKS))
    changed = {name: value for name, value in found.items() if value != settings.flat()[name]}
    return Settings.of(found), changed


def said(changed: dict[str, Any], count: int) -> str:
    """What was derived, for a person."""
    flags = ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in changed.items())
    return f"for {count} pictures: {flags} (set them yourself to have it otherwise)"


def _between(low: int, value: int, high: int) -> int:
    return min(max(low, value), high)


def _captions_each(rows: Sequence[Row]) -> int:
    """Captions of a row in one language, about: more texts than that would only repeat them."""
    counts = [len(texts) for row in rows for texts in (row.captions, row.captions_zh) if texts]
    return max(1, math.ceil(sum(counts) / len(counts))) if counts else 1

