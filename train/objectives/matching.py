"""Matching: whether a text fits a picture, against pairs that are wrong and look alike (Li et al.
2021, ALBEF, section 3.2). Shapes as in `contrastive`, whose pairs these are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from train.data.batch_sampler import Draw
from train.objectives.base import Objective, Options, Step, take
from train.objectives.contrastive import TEMPERATURE, Compared, PairBatch

PAIRS = 32  # pictures of the step's pairs, at most, that go through the match head
_LEAST_ODDS = 1e-6  # of a wrong pair to be drawn, however little alike


class MatchSettings(Options):
    """Matching texts with pictures."""

    loss_match: float = Field(0.5, ge=0, description="weight of matching")


@dataclass
class MatchBatch:
    """For each pair which picture tokens are ``kept`` (P, n), and ``picks`` (P, 2), 0..1, by which
    a wrong text and a wrong picture are chosen."""

    kept: Tensor
    picks: Tensor


class Matching(Objective):
    """The match head sees each right pair and, for each, a wrong text and a wrong picture."""

    Settings = MatchSettings

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> MatchBatch | None:
        """What is random of each pair."""
        pairs: PairBatch | None = parts.get("contrastive")
        if pairs is None:
            return None
        count = len(pairs.rows)
        return MatchBatch(self.sampler.draw_kept(draw, count), draw.uniform(count, 2))

    def loss(self, step: Step, batch: MatchBatch) -> Tensor:
        """Binary cross entropy over right and wrong pairs, the right ones counting twice."""
        pairs: PairBatch = step.parts["contrastive"]
        found: Compared = step.shared["contrastive"]
        model, count = step.model, min(PAIRS, len(pairs.rows))
        tokens = take(model.vision.tokens(pairs.features), batch.kept)
        regions = None if model.evidence is None else model.regions(pairs.features)
        own = torch.arange(count, device=pairs.ids.device)
        wrong_text = draw_wrong(found.cosines[:count], TEMPERATURE, batch.picks[:count, 0])
        wrong_picture = draw_wrong(found.cosines.T[:count], TEMPERATURE, batch.picks[:count, 1])
        picture = torch.cat((own, own, wrong_picture))
        text = torch.cat((own, wrong_text, own))
        mask = pairs.mask[text]
        memory = model.fuse(tokens[picture], found.words[text], mask, found.texts[text])
        logits = model.match(memory, pairs.ids[text], mask, found.texts[text],
                             found.pictures[picture],
                             None if regions is None else regions[picture])
        target = torch.zeros_like(logits)
        target[:count] = 1
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), target.float(), reduction="sum",
            pos_weight=logits.new_tensor(2.0).float())
        return loss / (3 * count)


@torch.no_grad()
def draw_wrong(similarity: Tensor, temperature: float, picks: Tensor) -> Tensor:
    """For each row of ``similarity`` (n, P) a column other than its own, the diagonal's, drawn by
    how alike they are with ``picks`` (n,), uniform in 0..1."""
    odds = (similarity.float() / temperature).softmax(1) + _LEAST_ODDS
    odds = odds.double().fill_diagonal_(0)
    reached = odds.cumsum(1)
    wanted = picks.double()[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True).squeeze(1).clamp(max=odds.shape[1] - 1)
