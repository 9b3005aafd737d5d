"""Describing pictures as people do."""

import random
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from train.data.batch_sampler import BatchSampler, Draw, Item, TextBatch
from train.objectives.base import Objective, Options, Step
from train.objectives.writing import writing_loss
from vitdemo.instructions import taught

SHORT_LIMIT = {"en": 8, "zh": 7}  # words, characters
SHORT_SHARE = 0.12  # of descriptions that are to be short, where there are short captions


class CaptionSettings(Options):
    """Describing pictures."""

    loss_caption: float = Field(1.0, ge=0, description="weight of describing")
    caption_pictures: int = Field(48, ge=0, description="pictures to describe")
    texts_per_picture: int = Field(5, ge=1, description="captions of each")


class Captioning(Objective):
    """Writes people's captions; the languages take turns."""

    Settings = CaptionSettings

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> TextBatch | None:
        """Pictures with captions of each."""
        return self.sampler.text_batch(
            descriptions(self.sampler, draw.maker, self.settings.caption_pictures,
                         self.settings.texts_per_picture), draw)

    def loss(self, step: Step, batch: TextBatch) -> Tensor:
        """Negative log-likelihood a token."""
        return writing_loss(step, batch, "caption", asked=False)


def descriptions(sampler: BatchSampler, maker: random.Random, count: int,
                 each: int) -> list[Item]:
    """Pictures with an instruction and ``each`` captions of theirs, some of them short ones."""
    items = []
    for i in range(count if sampler.languages else 0):
        language = sampler.languages[i % len(sampler.languages)]
        row = sampler.described[language].draw(maker)
        texts = sampler.fitting(sampler.texts_of(row, language))
        briefs = [text for text in texts if is_short(text, language)]
        short = bool(briefs) and maker.random() < SHORT_SHARE
        chosen = briefs if short else texts
        chosen = maker.sample(chosen, each) if len(chosen) >= each else \
            [maker.choice(chosen) for _ in range(each)]
        asked = maker.choice(taught()[language]["short" if short else "describe"])
        items.append(Item(row, asked, chosen, language))
    return items


def is_short(caption: str, language: str) -> bool:
    """Whether a caption is a description in few words."""
    length = len(caption.split()) if language == "en" else len(caption)
    return length <= SHORT_LIMIT[language]
