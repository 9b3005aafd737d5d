"""The region head: which places of the picture match which word.

Picture tokens that are not mixed with each other keep their place, so a score between one region
and one word says something about that region. The head is trained without boxes: from a picture's
captions it learns which words its regions must add up to (multiple-instance learning), and the
decoder's and the fusion's cross-attention learn to look where it points
(`train.objectives.region_words`).

Shapes: P pictures, N = gh * gw regions, C backbone channels, M texts, T tokens, E embedding width,
W different words.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAP_TEMPERATURE = 0.04  # of the softmax over regions, in cosines


class RegionHead(nn.Module):
    """Regions and words on one sphere, compared one by one (Yao et al. 2022, FILIP, section 3.1;
    Lee et al. 2018, SCAN, eqs. 1 to 3).

    A region's vector is the weighted mean of itself and its neighbours: single cells of a CNN's
    last grid are noisy.
    """

    def __init__(self, vocabulary: int, channels: int, width: int, embedding_width: int,
                 grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, embedding_width)
        self.inner = nn.Linear(embedding_width, embedding_width)
        self.word_embedding = nn.Embedding(vocabulary, width)
        self.word_norm = nn.LayerNorm(width)
        self.word = nn.Linear(width, embedding_width)
        self.rarity = nn.Embedding(vocabulary, 1)  # log-odds of a word being there at all
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def regions(self, features: Tensor) -> Tensor:
        """(P, N, C) to unit vectors (P, N, E)."""
        x = self.project(self.norm(features))
        x = x + self.inner(F.gelu(x))
        return F.normalize(blend(x, self.grid), dim=-1)

    def words(self, ids: Tensor) -> Tensor:
        """Token ids of any shape (...) to unit vectors (..., E)."""
        return F.normalize(self.word(self.word_norm(self.word_embedding(ids))), dim=-1)

    def scores(self, features: Tensor, ids: Tensor) -> Tensor:
        """Cosines (P, W, N) of each region with each token of ``ids`` (W,)."""
        return self._scores(self.regions(features), ids)

    def _scores(self, regions: Tensor, ids: Tensor) -> Tensor:
        return self.words(ids) @ regions.transpose(1, 2)

    def maps(self, features: Tensor, ids: Tensor,
             temperature: float = MAP_TEMPERATURE) -> Tensor:
        """Where each token of ``ids`` (W,) is: (P, W, N), adding up to 1 over the regions.

        The scores are blended once more before their softmax: the strongest single cell is often
        off the thing, the middle of a strong neighbourhood seldom.
        """
        scores = self.scores(features, ids).float()
        blended = blend(scores.transpose(1, 2), self.grid).transpose(1, 2)  # (P, W, N)
        return (blended / temperature).softmax(-1)

    def presence(self, features: Tensor, ids: Tensor) -> Tensor:
        """`presence_at` of pictures by their features (P, N, C)."""
        return self.presence_at(self.regions(features), ids)

    def presence_at(self, regions: Tensor, ids: Tensor, temperature: float = 0.1) -> Tensor:
        """Log-odds (P, W) that a word belongs to a picture with these `regions` (P, N, E): its
        score where it scores best, softly (the mean of the cosines, weighted by their softmax).

        ``ids`` are the same W tokens for all pictures (W,), or each picture's own (P, W).
        """
        scores = self._scores(regions, ids)
        best = ((scores / temperature).softmax(-1) * scores).sum(-1).float()  # (P, W)
        return self.scale.exp() * best + self.rarity(ids).squeeze(-1).float()


class WordEvidence(nn.Module):
    """How much each word of a text speaks for or against a picture, weighed and added up.

    sum over the text's different tokens w of a_w log p_w + b_w, with p_w the region head's
    probability that w belongs to the picture, a_w >= 0: a log-linear model over detected words
    (Fang et al. 2015, section 4). The picture's vector is one for everything in it; this looks for
    each word by itself, where it is. Tokens that it never learnt count nothing.
    """

    UNKNOWN = -12.0  # softplus of it is the weight of a token that was not learnt

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.weight = nn.Embedding(vocabulary, 1)
        self.bias = nn.Embedding(vocabulary, 1)
        nn.init.constant_(self.weight.weight, self.UNKNOWN)
        nn.init.zeros_(self.bias.weight)

    def forward(self, presence: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """``presence`` log-odds (B, T) of the tokens ``ids`` (B, T) with bool mask: (B,)."""
        each = self.weights(ids) * F.logsigmoid(presence.float()) + self.biases(ids)
        return (each * (mask & first_of_its_kind(ids))).sum(1)

    def weights(self, ids: Tensor) -> Tensor:
        """a_w of tokens of any shape."""
        return F.softplus(self.weight(ids).squeeze(-1).float())

    def biases(self, ids: Tensor) -> Tensor:
        """b_w of tokens of any shape."""
        return self.bias(ids).squeeze(-1).float()


def first_of_its_kind(ids: Tensor) -> Tensor:
    """Which tokens do not stand further to the left already: (B, T) to bool (B, T)."""
    same = ids[:, :, None] == ids[:, None]
    return ~same.tril(-1).any(2)


def blend(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Each region with its eight neighbours, weights 1 2 1 each way; at an edge those that there
    are. (P, N, E) to (P, N, E)."""
    rows, columns = grid
    down, across = (_neighbours(count, x) for count in grid)
    x = x.view(len(x), rows, columns, -1)
    x = torch.einsum("rs,psce->prce", down, x)
    return torch.einsum("cd,prde->prce", across, x).flatten(1, 2)


def _neighbours(count: int, like: Tensor) -> Tensor:
    """(count, count): each row the shares 1 2 1 of a place's neighbours along one side."""
    near = 2.0 * torch.eye(count)
    near = near + torch.diag(torch.ones(count - 1), 1) + torch.diag(torch.ones(count - 1), -1)
    return (near / near.sum(1, keepdim=True)).to(like)
