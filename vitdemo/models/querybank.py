"""Takes off what makes a picture near all texts, or a text near all pictures.

In a space of many dimensions some vectors, the hubs, are near to nearly everything (Radovanovic,
Nanopoulos, Ivanovic 2010, "Hubs in Space"), and so are found in vain. How near a vector is to
everything is measured on a bank of vectors that are kept with the model (Bogolin, Croitoru, Jin,
Liu, Albanie 2022, arXiv:2112.12777, querybank normalisation), by the sum that its nearness is
divided by in the loss that search was trained with.

Shapes: B pairs, n vectors of a bank, E embedding width.
"""

import math

import torch
from torch import Tensor, nn

LANGUAGES = 2  # that the texts of a bank are in, as many texts of each
TEMPERATURE = 0.07  # T, about that of the contrastive loss
# Scale, gain and offset for what answers claim: short texts, which the match head knows better than
# the vectors do. Chosen by the answers to the validation photographs' questions.
CLAIMED = (0.4, 0.4, 0.7)


class Querybank(nn.Module):
    """What a match logit x becomes with the pointwise mutual information of the picture p and the
    text t, as the vectors have it, in nats: scale * x + gain * (p.t / T - log Z(p) - log Z(t)) +
    offset.

    Z(p) is the mean of exp(p.t' / T) over the bank's texts t', by the mean of the languages' log Z;
    Z(t) that of exp(p'.t / T) over its pictures p'. The three numbers at the start make a
    probability of it: chosen on validation photographs, as the training ones are known by heart.
    """

    texts: Tensor
    pictures: Tensor

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.register_buffer("texts", torch.zeros(LANGUAGES * count, width))
        self.register_buffer("pictures", torch.zeros(count, width))
        self.scale = nn.Parameter(torch.tensor([0.2]))
        self.gain = nn.Parameter(torch.tensor([0.45]))
        self.offset = nn.Parameter(torch.tensor([0.4]))

    def forward(self, logits: Tensor, pictures: Tensor, texts: Tensor) -> Tensor:
        """Match logits (B,) and the unit vectors of their pairs (B, E), or of one picture for all
        (1, E), to better ones (B,)."""
        information = self.information(pictures, texts)
        return self.scale * logits + self.gain * information + self.offset

    def information(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """In nats, of pairs of unit vectors (B, E): (B,)."""
        together = (pictures * texts).sum(-1).float() / TEMPERATURE
        return together - self.of_pictures(pictures) - self.of_texts(texts)

    def evidence(self, logits: Tensor, pictures: Tensor, texts: Tensor) -> Tensor:
        """How far what answers claim speaks for these pictures rather than others, in nats: as
        `forward`, by the numbers of `CLAIMED` and without log Z(p), which is taken off all texts of
        a picture alike. What is left of the information is log p(picture | text) / p(picture)."""
        scale, gain, offset = CLAIMED
        together = (pictures * texts).sum(-1).float() / TEMPERATURE
        return scale * logits + gain * (together - self.of_texts(texts)) + offset

    def of_pictures(self, pictures: Tensor) -> Tensor:
        """log Z of unit vectors (B, E): (B,)."""
        return torch.stack([_nearness(pictures, bank)
                            for bank in self.texts.chunk(LANGUAGES)]).mean(0)

    def of_texts(self, texts: Tensor) -> Tensor:
        """log Z of unit vectors (B, E): (B,)."""
        return _nearness(texts, self.pictures)


def _nearness(vectors: Tensor, bank: Tensor) -> Tensor:
    """log of the mean over a bank (n, E) of exp(v.b / T): (B,)."""
    scores = (vectors @ bank.to(vectors).T).float() / TEMPERATURE
    return scores.logsumexp(-1) - math.log(len(bank))
