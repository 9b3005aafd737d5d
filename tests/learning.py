"""Objectives over a few rows, for tests that draw steps and work out their losses by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.data.batch_sampler import BatchSampler
from train.data.features import Store
from train.data.reading import Row
from train.objectives import build, draw_step, step_losses
from train.objectives.base import Objective, Parts
from train.settings import Settings
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

SMALL = {"caption_pictures": 4, "texts_per_picture": 2, "questions": 4, "pairs": 6}


class NoiseStore(Store):
    """Random numbers of the right shape, where nothing is to be read."""

    def __init__(self, model: VLM) -> None:
        super().__init__(model)
        self.channels = model.vision.channels

    def get(self, paths: Sequence[Path]) -> Tensor:
        return torch.randn(len(paths), len(self.boxes), self.channels)

    def sharp_and_blurred(self, paths: Sequence[Path]) -> Tensor:
        return torch.randn(len(paths), 2, 3, self.side, self.side)


@dataclass
class Learning:
    """What a run has: its objectives, what they draw from, and the model."""

    objectives: dict[str, Objective]
    sampler: BatchSampler
    model: VLM

    def draw(self, step: int = 0) -> Parts:
        return draw_step(self.objectives, self.sampler, step)

    def losses(self, batch: Parts) -> dict[str, Tensor]:
        return step_losses(self.model, batch, self.objectives)


def learning(model: VLM, rows: Sequence[Row], store: Any, tokenizer: TextTokenizer,
             seed: int = 0, **settings: Any) -> Learning:
    """With small steps, but for ``settings`` by their flags' names."""
    found = Settings.of({**SMALL, **settings})
    sampler = BatchSampler(rows, store, tokenizer, seed, found.run.kept_tokens)
    return Learning(build(found.objectives, sampler, model), sampler, model)
