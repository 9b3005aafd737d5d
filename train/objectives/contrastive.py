"""Finding: a picture and its caption near each other, and away from all others of the step.

Shapes as in `batch_sampler`; A pictures of all processes, E numbers of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from train.data.batch_sampler import Totals
from train.distributed import Share
from train.objectives.base import Objective, Options, Step, option, take
from vitdemo.models.vlm import VLM

TEMPERATURE = 0.06  # of the loss
_TEXTS_AT_ONCE = 96  # of about one length that are read together


@dataclass(frozen=True)
class ContrastiveSettings(Options):
    """Finding pictures by texts."""

    loss_contrastive: float = option(1.0, "weight of finding; 0 leaves out matching, too", least=0)
    pairs: int = option(96, "pictures with a caption each, to be told apart", least=0)


@dataclass
class PairBatch:
    """Pictures, each with one caption, all in one ``language``: features (P, N, C), ids and mask
    (P, T), ``rows`` (P,)."""

    features: Tensor
    ids: Tensor
    mask: Tensor
    rows: Tensor
    totals: Totals
    language: str


@dataclass
class Compared:
    """A step's pairs compared: cosines of own pictures with all texts ``forth`` and of own texts
    with all pictures ``back`` (P, A); the columns of the right ones ``own`` (P,); and of all
    processes the vectors of texts and pictures (A, E) and, for the match head, texts' words
    (A, T, D), pictures' kept tokens (A, n, D) and regions."""

    forth: Tensor
    back: Tensor
    own: Tensor
    texts: Tensor
    pictures: Tensor
    words: Tensor | None = None
    tokens: Tensor | None = None
    regions: Tensor | None = None


class Contrastive(Objective):
    """Tells pairs apart. All pairs of a step are in one language: of two, a text's language alone
    would tell it from half of the others. The languages take turns."""

    Settings = ContrastiveSettings

    def draw(self, share: Share, parts: Mapping[str, Any]) -> PairBatch | None:
        """Different pictures with a caption each."""
        sampler = self.sampler
        if not sampler.languages:
            return None
        language = sampler.languages[share.step % len(sampler.languages)]
        rows = sampler.described[language].sample(share.maker, self.settings.pairs)
        if len(rows) < 2:
            return None
        share.check(len(rows), "pairs")
        texts = [share.maker.choice(sampler.texts_of(row, language)) for row in rows]
        ids, mask = sampler.tokenizer.encode(texts)
        own = share.own
        return PairBatch(sampler.features(rows[own]), ids[own], mask[own],
                         torch.tensor(rows)[own], Totals(len(rows)), language)

    def loss(self, step: Step, batch: PairBatch) -> Tensor:
        """The mean over pairs and both ways; what was compared is left in ``step.shared``."""
        found = compare(step, batch)
        step.shared["contrastive"] = found
        return contrastive_loss(found.forth, TEMPERATURE, found.back, found.own) * (
            len(found.own) / batch.totals.pictures)


def compare(step: Step, batch: PairBatch) -> Compared:
    """The pairs against the pictures and texts of all processes, and what `matching` needs where it
    drew something: in one go, so that all processes meet in the same order."""
    model, total, matching = step.model, batch.totals.pictures, step.parts.get("match")
    words, z = read_by_length(model, batch.ids, batch.mask)
    pictures = model.picture_head(batch.features)
    more: list[Tensor] = []
    if matching is not None:
        more = [words, take(model.vision.tokens(batch.features), matching.kept)]
        if model.evidence is not None:
            more.append(model.regions(batch.features))
    all_z, all_pictures, *rest = step.team.gather(total, z, pictures, *more)
    return Compared(pictures @ all_z.T, z @ all_pictures.T, step.team.own(total, z.device),
                    all_z, all_pictures, *rest)


def contrastive_loss(similarity: Tensor, temperature: float, back: Tensor | None = None,
                     right: Tensor | None = None) -> Tensor:
    """L = -log exp(s+/T) / sum exp(s/T) over the batch, both ways (van den Oord et al. 2018, eq. 4;
    Radford et al. 2021, figure 3).

    ``similarity`` (P, A): cosines of pictures with texts; ``back`` (P, A) of texts with pictures;
    ``right`` (P,): the columns of the right ones. By default the batch is all there is: P = A, the
    right ones are on the diagonal.
    """
    scores = similarity.float() / temperature
    scores_back = scores.T if back is None else back.float() / temperature
    if right is None:
        right = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores_back, right)) / 2


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
