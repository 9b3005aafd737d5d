"""What is learnt alone before the first step of a run: a new region head, how much each word says
about whether a text belongs to a picture, and the bank that matches are measured against
(`vitdemo.models.querybank`).

The region head knows, word by word, how likely it is that a picture shows it. What that is worth
for matching differs: "dog" tells a lot, "standing" little. The weights are learnt from captions and
pictures as they are: of the captions of many pictures, each picture's own must win. Shapes: P
pictures, W words.
"""

import math
import random
import sys
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from train.data.batch_sampler import BatchSampler
from train.data.features import evaluating, features_of
from train.objectives.base import to_device
from train.objectives.contrastive import contrastive_loss, read_by_length
from train.objectives.region_words import RegionWords, region_loss
from vitdemo.models.vlm import VLM

REGION_STEPS, REGION_PICTURES, REGION_RATE = 300, 64, 1e-3
STEPS = 800  # for the weights of words
PICTURES = 10_000  # of a language that are looked at
TOGETHER = 512  # pictures of a step, with a caption each
_START = -0.5  # of the weights, before softplus
_PULL = 1e-4  # towards where they started
_RATE = 0.02
_AT_ONCE = 64  # pictures that are looked at together


def warm_up_regions(model: VLM, words: RegionWords, half: bool, quiet: bool = False) -> float:
    """`REGION_STEPS` steps of the region loss alone, with AdamW and half a cosine of the rate;
    ``half``: products in bf16.

    The words' rarities start from how often they occur. Returns the mean loss of the last tenth.
    """
    head = model.region_head
    sampler = words.sampler
    if head is None or not sampler.seen_words:
        return math.nan
    device = next(model.parameters()).device
    count = torch.zeros(len(head.rarity.weight))
    for bag in sampler.bags:
        count[list(bag)] += 1
    share = (count / len(sampler.bags)).clamp(1e-4, 0.9)
    with torch.no_grad():
        head.rarity.weight.copy_(torch.log(share / (1 - share))[:, None].to(device))
    optimizer = torch.optim.AdamW(head.parameters(), lr=REGION_RATE, weight_decay=0.02)
    last: list[float] = []
    for step in tqdm(range(REGION_STEPS), desc="region head", unit="step", disable=quiet,
                     file=sys.stderr):
        maker = random.Random(f"{sampler.seed}:regions:{step}")
        features, drawn = words.draw_pictures(maker, REGION_PICTURES)
        for group in optimizer.param_groups:
            group["lr"] = REGION_RATE * min(1.0, (step + 1) / 50) * (
                0.01 + 0.99 * (1 + math.cos(math.pi * step / REGION_STEPS)) / 2)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = region_loss(model, features.to(device), to_device(drawn, device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        if step >= int(0.9 * REGION_STEPS):
            last.append(float(loss.detach()))
    return sum(last) / len(last)


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
    with tqdm(total=len(places), desc="words in pictures", unit="picture", disable=quiet,
              file=sys.stderr, mininterval=5) as bar:
        for features in _seen(model, sampler, places):
            with torch.autocast(features.device.type, torch.bfloat16, enabled=half):
                chances = F.logsigmoid(
                    model.region_head.presence_at(model.regions(features), words))
            found.append(chances.float().cpu())
            bar.update(len(features))
    return torch.cat(found)


def _seen(model: VLM, sampler: BatchSampler, places: list[int]) -> Iterator[Tensor]:
    """Features (P, N, C) of these rows' pictures as they are, some at a time."""
    with evaluating(model):
        for start in range(0, len(places), _AT_ONCE):
            yield features_of(model, sampler.features(places[start:start + _AT_ONCE]))


def _named(sampler: BatchSampler, places: list[int], language: str) -> dict[int, list[list[int]]]:
    """For each row, for each of its captions, the places of its words among the known ones."""
    place_of = {token: i for i, token in enumerate(sampler.seen_words)}
    named: dict[int, list[list[int]]] = {}
    for row in places:
        texts = sampler.captions_of(row, language)
        named[row] = [sorted({place_of[token] for token in ids if token in place_of})
                      for ids in sampler.tokenizer.batch_pieces(texts)]
    return named


@torch.no_grad()
def fill_querybank(model: VLM, sampler: BatchSampler) -> None:
    """So many captioned pictures, and captions of each language, as the bank has places, drawn from
    the seed; where there are fewer some are there several times. A language without captions gets
    the other one's."""
    bank = model.querybank
    assert bank is not None
    if not sampler.languages:
        return
    maker, count = random.Random(f"{sampler.seed}:querybank"), len(bank.pictures)

    def drawn(places: list[int]) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            found += maker.sample(places, min(len(places), count - len(found)))
        return found

    with evaluating(model) as device:
        pictures = drawn(sorted(set().union(*sampler.captioned.values())))
        bank.pictures.copy_(torch.cat([model.picture_head(features) for features
                                       in _seen(model, sampler, pictures)]))
        vectors = []
        for language in sampler.captioned:
            spoken = language if sampler.captioned[language] else sampler.languages[0]
            ids, mask = sampler.tokenizer.encode([
                maker.choice(sampler.captions_of(place, spoken))
                for place in drawn(sampler.captioned[spoken])])
            vectors.append(read_by_length(model, ids.to(device), mask.to(device))[1])
        bank.texts.copy_(torch.cat(vectors))
