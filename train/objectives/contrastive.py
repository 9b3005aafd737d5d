"""Finding: a picture and its caption near each other, and away from all others of the step.

Shapes as in `batch_sampler`; E numbers of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from train.data.batch_sampler import Draw
from train.objectives.base import Objective, Options, Step
from vitdemo.models.vlm import VLM

TEMPERATURE = 0.06  # of the loss
_TEXTS_AT_ONCE = 96  # of about one length that are read together


class ContrastiveSettings(Options):
    """Finding pictures by texts."""

    loss_contrastive: float = Field(1.0, ge=0, description=(
        "weight of finding; 0 leaves out matching, too"))
    pairs: int = Field(96, ge=0, description="pictures with a caption each, to be told apart")


@dataclass
class PairBatch:
    """Pictures, each with one caption, all in one ``language``: features (P, N, C), ids and mask
    (P, T), ``rows`` (P,)."""

    features: Tensor
    ids: Tensor
    mask: Tensor
    rows: Tensor
    language: str


@dataclass
class Compared:
    """A step's pairs compared: cosines of pictures with texts (P, P), the right ones on the
    diagonal; the vectors of texts and pictures (P, E), and the texts' words (P, T, D)."""

    cosines: Tensor
    texts: Tensor
    pictures: Tensor
    words: Tensor


class Contrastive(Objective):
    """Tells pairs apart. All pairs of a step are in one language: of two, a text's language alone
    would tell it from half of the others. The languages take turns."""

    Settings = ContrastiveSettings

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> PairBatch | None:
        """Different pictures with a caption each."""
        sampler = self.sampler
        if not sampler.languages:
            return None
        language = sampler.languages[draw.step % len(sampler.languages)]
        rows = sampler.described[language].sample(draw.maker, self.settings.pairs)
        if len(rows) < 2:
            return None
        texts = [draw.maker.choice(sampler.texts_of(row, language)) for row in rows]
        return PairBatch(sampler.features(rows), *sampler.tokenizer.encode(texts),
                         torch.tensor(rows), language)

    def loss(self, step: Step, batch: PairBatch) -> Tensor:
        """The mean over pairs and both ways; what was compared is left in ``step.shared``."""
        words, texts = read_by_length(step.model, batch.ids, batch.mask)
        pictures = step.model.picture_head(batch.features)
        found = Compared(pictures @ texts.T, texts, pictures, words)
        step.shared["contrastive"] = found
        return contrastive_loss(found.cosines, TEMPERATURE)


def contrastive_loss(similarity: Tensor, temperature: float) -> Tensor:
    """L = -log exp(s+/T) / sum exp(s/T) over the batch, both ways (van den Oord et al. 2018, eq. 4;
    Radford et al. 2021, figure 3).

    ``similarity`` (P, P): cosines of pictures with texts, the right ones on the diagonal.
    """
    scores = similarity.float() / temperature
    right = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2


def read_by_length(model: VLM, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`VLM.encode_text`, the texts of about one length together: of many texts the longest is two
    to three times as long as the mean, and all would be read at its length. What stands after
    the end of a text means nothing, as there."""
    lengths = mask.sum(1)
    order = lengths.argsort()
    words, z = [], []
    for chunk in order.split(_TEXTS_AT_ONCE):
        longest = int(lengths[chunk].max())
        found, vectors = model.encode_text(ids[chunk, :longest], mask[chunk, :longest])
        words.append(F.pad(found, (0, 0, 0, ids.shape[1] - longest)))
        z.append(vectors)
    back = order.argsort()
    return torch.cat(words)[back], torch.cat(z)[back]
