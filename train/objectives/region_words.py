"""Words in regions, without boxes: which words of a picture's texts its regions must add up to
(multiple-instance learning; Fang et al. 2015, section 3.1). Shapes as in `batch_sampler`; W
words."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from train.data.batch_sampler import Draw, TextBatch
from train.objectives.base import Objective, Options, Step
from vitdemo.models.vlm import VLM

TEXTS = ("caption", "question")  # the parts whose pictures' words are looked for
MOST = 1000  # words that are looked for in the pictures of a step, there or not
UNSURE = 0.1  # weight of a word that nobody named of a picture without captions


class RegionSettings(Options):
    """Words in regions."""

    loss_region: float = Field(0.5, ge=0, description=(
        "weight of the words that a picture's regions add up to"))


@dataclass
class WordBatch:
    """ids (W,) tokens; ``present`` (P, W) 1 where a text about the picture holds the token, else 0;
    ``weight`` (P, W) how sure that is: a picture with questions alone has many words that nobody
    asked about."""

    ids: Tensor
    present: Tensor
    weight: Tensor


class RegionWords(Objective):
    """Looks for words in the pictures that are described and asked about."""

    Settings = RegionSettings
    scale: ClassVar[float] = 1 / 25  # about so many words belong to a picture: a mean over words

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> WordBatch | None:
        """The words of the pictures, captions first, then questions."""
        texts: list[TextBatch] = [parts[name] for name in TEXTS if name in parts]
        if not texts or not self.sampler.seen_words:
            return None
        return self.words_of(draw.maker, [row for part in texts for row in part.rows.tolist()])

    def loss(self, step: Step, batch: WordBatch) -> Tensor | None:
        """`region_loss` of the step's pictures."""
        if step.model.region_head is None:
            return None
        texts: list[TextBatch] = [step.parts[name] for name in TEXTS if name in step.parts]
        return region_loss(step.model, torch.cat([part.features for part in texts]), batch)

    def draw_pictures(self, maker: random.Random, count: int) -> tuple[Tensor, WordBatch]:
        """Features (P, N, C) of so many different pictures, and their words."""
        sampler = self.sampler
        rows = maker.sample(range(len(sampler.rows)), min(count, len(sampler.rows)))
        return sampler.features(rows), self.words_of(maker, rows)

    def words_of(self, maker: random.Random, rows: Sequence[int]) -> WordBatch:
        """The words of the drawn rows, and others up to the wanted number."""
        sampler = self.sampler
        found = sorted(set().union(*(sampler.bags[row] for row in rows)))
        found = maker.sample(found, min(len(found), MOST))
        others = sorted(set(sampler.seen_words).difference(found))
        ids = found + maker.sample(others, min(len(others), MOST - len(found)))
        place = {token: i for i, token in enumerate(ids)}
        present = torch.zeros(len(rows), len(ids))
        for i, row in enumerate(rows):
            present[i, [place[token] for token in sampler.bags[row] if token in place]] = 1
        captioned = torch.tensor([bool(sampler.rows[row].captions or sampler.rows[row].captions_zh)
                                  for row in rows])
        weight = torch.where(captioned[:, None], 1.0, UNSURE + (1 - UNSURE) * present)
        return WordBatch(torch.tensor(ids), present, weight)


def region_loss(model: VLM, features: Tensor, words: WordBatch) -> Tensor:
    """Binary cross entropy of which words belong to each picture, summed over the words and
    meaned over the pictures."""
    assert model.region_head is not None
    logits = model.region_head.presence(features, words.ids)  # (P, W)
    loss = F.binary_cross_entropy_with_logits(logits, words.present, weight=words.weight,
                                              reduction="sum")
    return loss / len(features)
