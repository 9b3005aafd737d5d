"""Sanity checks of maps: do they go with the words, and do they hang on what the model has learned?

Two checks that a map which means something must pass, as pure functions:
- shuffled words: the same words in another order; a map should go with its word, not its place;
- random weights: the same map out of a model that has learned nothing must look different
  (Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292, section 3: model
  parameter randomisation, compared by Spearman's rank correlation).
The lines between the verdicts are our own; the paper gives none.

Q whole words, K picture regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vitdemo.records import Explanation, Word

CHANGED, PARTLY = 0.4, 0.7  # mean rank correlation below which random weights changed the maps
APART = 0.1  # by so much must a word's own map be nearer than the map of its new place
ALIKE = 0.7  # mean rank correlation above which maps of different words are much the same
TRIES = 200  # orders that are drawn to find one in which every word moves


@dataclass(frozen=True)
class Shuffled:
    """What shuffling the words did to their maps.

    ``own`` is, for each word that moved, the rank correlation (-1..1) of its map with its own map
    before; ``place`` that with the map of the word that used to stand where it now stands.
    ``verdict`` is "word", "place", "alike", "mixed" or, where too few words moved, "unclear".
    """

    moved: tuple[int, ...]
    own: tuple[float, ...]
    place: tuple[float, ...]
    verdict: str


@dataclass(frozen=True)
class Randomised:
    """What random weights did to the maps: the rank correlation (-1..1) of each word's map before
    and after. ``verdict`` is "changed" (as it should be), "partly" or "unchanged"."""

    similarity: tuple[float, ...]
    verdict: str


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rho of each row of (Q, K) with the same row of (Q, K): (Q,), -1..1.

    Equal values share their mean rank. A row without any order (all values equal) has nothing to
    compare and gives 0, never nan.
    """
    from scipy.stats import rankdata  # takes half a second to import

    x, y = (rankdata(one, axis=1) for one in (a, b))
    x -= x.mean(axis=1, keepdims=True)
    y -= y.mean(axis=1, keepdims=True)
    size = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.asarray((x * y).sum(axis=1) / np.where(size > 0, size, 1.0))


def shuffle_words(words: Sequence[Word], seed: int = 0) -> tuple[str, tuple[int, ...]]:
    """The words in another order, as a text with single spaces, and the order: place p of the new
    text holds word ``order[p]`` of the old one.

    Of many orders drawn from the seed it is the first in which most words move to a place where
    another word stood; equal words that change places have not moved.
    """
    texts = [word.text.casefold() for word in words]
    generator = np.random.default_rng(seed)
    best, most = tuple(range(len(words))), -1
    for _ in range(TRIES):
        order = tuple(int(place) for place in generator.permutation(len(words)))
        moved = sum(texts[p] != texts[q] for p, q in enumerate(order))
        if moved > most:
            best, most = order, moved
        if most == len(words):
            break
    return " ".join(words[q].text for q in best), best


def compare_shuffled(before: Explanation, after: Explanation, order: Sequence[int]) -> Shuffled:
    """Whether the maps of shuffled words go with the words or with their places.

    ``after`` explains the text of `shuffle_words`. "unclear" where its words were cut otherwise
    (Chinese) or fewer than two moved.
    """
    texts = [word.text.casefold() for word in before.words]
    found = [word.text.casefold() for word in after.words]
    moved = [p for p, q in enumerate(order) if texts[p] != texts[q]]
    if found != [texts[q] for q in order] or len(moved) < 2:
        return Shuffled((), (), (), "unclear")
    words = [order[p] for p in moved]
    old, new = before.mean_map(), after.mean_map()
    own = rank_correlation(old[words], new[moved])
    place = rank_correlation(old[moved], new[moved])
    gap = float((own - place).mean())
    if gap >= APART:
        verdict = "word"
    elif gap <= -APART:
        verdict = "place"
    else:
        verdict = "alike" if min(own.mean(), place.mean()) >= ALIKE else "mixed"
    return Shuffled(tuple(words), tuple(own.tolist()), tuple(place.tolist()), verdict)


def compare_randomised(trained: Explanation, randomised: Explanation) -> Randomised:
    """How like the maps of a trained model are to those of one with random weights, over the same
    words."""
    similarity = rank_correlation(trained.mean_map(), randomised.mean_map())
    mean = float(similarity.mean()) if similarity.size else 0.0
    verdict = "changed" if mean < CHANGED else "partly" if mean < PARTLY else "unchanged"
    return Randomised(tuple(similarity.tolist()), verdict)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Replace what a model has learned by noise of the same size, in place.

    Every weight tensor is drawn anew from a normal distribution with mean 0 and the standard
    deviation of the trained tensor, all from one generator. Normalisation layers and single numbers
    (gates) stay, so that signals keep their size.
    """
    generator = torch.Generator().manual_seed(seed)
    kept = {id(parameter) for module in model.modules()
            if "Norm" in type(module).__name__  # LayerNorm, BatchNorm2d, LlamaRMSNorm and so on
            for parameter in module.parameters(recurse=False)}
    for parameter in model.parameters():
        if id(parameter) in kept or parameter.numel() < 2:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(noise * float(parameter.float().std()))
