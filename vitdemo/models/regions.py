"""The region head: which places of the picture match which word.

Picture tokens that are not mixed with each other keep their place, so a score between one region
and one word says something about that region. The head is trained without boxes: from a picture's
captions it learns which words its regions must add up to (multiple-instance learning), and the
decoder's and the fusion's cross-attention learn to look where it points (see `train.losses`).

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
        return F.normalize(self._blend(x), dim=-1)

    def _blend(self, x: Tensor) -> Tensor:
        """Each region with its eight neighbours, weights 1 2 1 each way; at an edge those that
        there are. (P, N, E) to (P, N, E)."""
        rows, columns = self.grid
        down, across = (_neighbours(count, x) for count in (rows, columns))
        x = x.view(len(x), rows, columns, -1)
        x = torch.einsum("rs,psce->prce", down, x)
        return torch.einsum("cd,prde->prce", across, x).flatten(1, 2)

    def words(self, ids: Tensor) -> Tensor:
        """Token ids of any shape (...) to unit vectors (..., E)."""
        return F.normalize(self.word(self.word_norm(self.word_embedding(ids))), dim=-1)

    def scores(self, features: Tensor, ids: Tensor) -> Tensor:
        """Cosines (P, W, N) of each region with each token of ``ids`` (W,)."""
        return self.words(ids) @ self.regions(features).transpose(1, 2)

    def maps(self, features: Tensor, ids: Tensor,
             temperature: float = MAP_TEMPERATURE) -> Tensor:
        """Where each token of ``ids`` (W,) is: (P, W, N), adding up to 1 over the regions.

        The scores are blended once more before their softmax: the strongest single cell is often
        off the thing, the middle of a strong neighbourhood seldom.
        """
        scores = self.scores(features, ids).float()
        blended = self._blend(scores.transpose(1, 2)).transpose(1, 2)  # (P, W, N)
        return (blended / temperature).softmax(-1)

    def presence(self, features: Tensor, ids: Tensor, temperature: float = 0.1) -> Tensor:
        """Log-odds (P, W) that a word belongs to a picture: its score where it scores best,
        softly (the mean of the cosines, weighted by their softmax)."""
        scores = self.scores(features, ids)
        best = ((scores / temperature).softmax(-1) * scores).sum(-1).float()  # (P, W)
        return self.scale.exp() * best + self.rarity(ids).squeeze(-1).float()


def _neighbours(count: int, like: Tensor) -> Tensor:
    """(count, count): each row the shares 1 2 1 of a place's neighbours along one side."""
    near = 2.0 * torch.eye(count)
    near = near + torch.diag(torch.ones(count - 1), 1) + torch.diag(torch.ones(count - 1), -1)
    return (near / near.sum(1, keepdim=True)).to(like)
