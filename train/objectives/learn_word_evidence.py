"""Learns how much each word says about whether a text belongs to a picture, before the rest trains.

The region head knows, word by word, how likely it is that a picture shows it. What that is worth
for matching differs: "dog" tells a lot, "standing" little. The weights are learnt from captions and
pictures as they are: of the captions of many pictures, each picture's own must win. Shapes: P
pictures, W words.
"""

import math
import random
import sys

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from train.data.batch_sampler import BatchSampler
from train.data.features import evaluating
from train.objectives.base import plain_features
from train.objectives.contrastive import contrastive_loss
from vitdemo.models.vlm import VLM

STEPS = 800
PICTURES = 10_000  # of a language that are looked at
TOGETHER = 512  # pictures of a step, with a caption each
_AT_ONCE = 32  # pictures whose words are looked for at a time
_START = -0.5  # of the weights, before softplus
_PULL = 1e-4  # towards where they started
_RATE = 0.02


def learn_evidence(model: VLM, sampler: BatchSampler, half: bool, quiet: bool = False) -> float:
    """`STEPS` steps for the weights of words alone, from the start, the languages in turn, with
    Adam and half a cosine of the rate; ``half``: products in bf16. Words that no training text
    names count nothing. Returns the mean loss of the last tenth; nan where there is nothing to
    learn."""
    head = model.evidence
    known = {language: places for language, places in sampler.captioned.items()
             if len(places) > 1}
    if head is None or not known or not sampler.seen_words:
        return math.nan
    device = next(model.parameters()).device
    words = torch.tensor(sampler.seen_words)
    maker = random.Random(f"{sampler.seed}:evidence")
    known = {language: maker.sample(places, min(len(places), PICTURES))
             for language, places in known.items()}
    every = sorted(set().union(*known.values()))
    seen = _presence(model, sampler, every, words.to(device), half, quiet)  # (P, W)
    middle = seen.mean(0, keepdim=True)
    seen -= middle
    row_of = {place: i for i, place in enumerate(every)}
    said = {language: _named(sampler, places, language) for language, places in known.items()}
    weight = torch.full((len(words),), _START, requires_grad=True)
    bias = torch.zeros(len(words), requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE)
    last: list[float] = []
    for step in tqdm(range(STEPS), desc="weights of words", unit="step", disable=quiet,
                     file=sys.stderr, mininterval=5):
        language = sorted(known)[step % len(known)]
        places = maker.sample(known[language], min(TOGETHER, len(known[language])))
        texts = torch.zeros(len(places), len(words))
        for i, place in enumerate(places):
            texts[i, maker.choice(said[language][place])] = 1
        optimizer.param_groups[0]["lr"] = _RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        scores = (texts * F.softplus(weight)) @ seen[[row_of[place] for place in places]].T
        scores = scores + (texts @ bias)[:, None]  # (texts, P)
        loss = contrastive_loss(scores, 1.0)
        pull = (weight - _START).square().sum() + bias.square().sum()
        optimizer.zero_grad()
        (loss + _PULL * pull).backward()
        optimizer.step()
        if step >= int(0.9 * STEPS):
            last.append(float(loss.detach()))
    with torch.no_grad():
        head.weight.weight.fill_(head.UNKNOWN)
        head.bias.weight.zero_()
        head.weight.weight[words] = weight[:, None].to(device)
        shifted = bias - F.softplus(weight) * middle[0]
        head.bias.weight[words] = shifted[:, None].to(device)
    return sum(last) / len(last)


@torch.no_grad()
def _presence(model: VLM, sampler: BatchSampler, places: list[int], words: Tensor, half: bool,
              quiet: bool) -> Tensor:
    """log p of each word in each picture, as it is: float32 (P, W)."""
    assert model.region_head is not None
    found = []
    with evaluating(model) as device:
        for start in tqdm(range(0, len(places), _AT_ONCE), desc="words in pictures", unit="batch",
                          disable=quiet, file=sys.stderr, mininterval=5):
            paths = [sampler.rows[place].path for place in places[start:start + _AT_ONCE]]
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                regions = model.regions(plain_features(model, sampler.store, paths))
                chances = F.logsigmoid(model.region_head.presence_at(regions, words))
            found.append(chances.float().cpu())
    return torch.cat(found)


def _named(sampler: BatchSampler, places: list[int], language: str) -> dict[int, list[list[int]]]:
    """For each row, for each of its captions, the places of its words among the known ones."""
    place_of = {token: i for i, token in enumerate(sampler.seen_words)}
    named: dict[int, list[list[int]]] = {}
    for row in places:
        texts = sampler.captions_of(row, language)
        named[row] = [sorted({place_of[token] for token in ids if token in place_of})
                      for ids in sampler.tokenizer.batch_pieces(texts)]
    return named
