"""Fills a model's bank of vectors (`vitdemo.models.querybank`) with pictures and captions."""

import random

import torch
from torch import Tensor

from train.data.batch_sampler import BatchSampler
from train.objectives.contrastive import read_by_length
from train.objectives.learn_word_evidence import plain_features
from vitdemo.models.vlm import VLM

_AT_ONCE = 64  # pictures, and texts, that are looked at together


@torch.no_grad()
def fill_querybank(model: VLM, sampler: BatchSampler) -> None:
    """So many captioned pictures, and captions of each language, as the bank has places, drawn from
    the seed; where there are fewer some are there several times. A language without captions gets
    the other one's."""
    bank = model.querybank
    assert bank is not None
    maker = random.Random(f"{sampler.seed}:querybank")
    count = len(bank.pictures)
    if not sampler.languages:
        return
    training = model.training
    model.eval()
    everyone = sorted(set().union(*sampler.captioned.values()))
    bank.pictures.copy_(picture_vectors(model, sampler, _drawn(everyone, count, maker)))
    texts = []
    for language in sampler.captioned:
        spoken = language if sampler.captioned[language] else sampler.languages[0]
        places = _drawn(sampler.captioned[spoken], count, maker)
        texts.append(text_vectors(model, sampler, [
            maker.choice(sampler.captions_of(place, spoken)) for place in places]))
    bank.texts.copy_(torch.cat(texts))
    model.train(training)


def _drawn(places: list[int], count: int, maker: random.Random) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += maker.sample(places, min(len(places), count - len(found)))
    return found


def picture_vectors(model: VLM, sampler: BatchSampler, places: list[int]) -> Tensor:
    """Unit vectors (P, E) of these rows' pictures."""
    paths = [sampler.rows[place].path for place in places]
    return torch.cat([model.picture_head(plain_features(model, sampler.store,
                                                        paths[start:start + _AT_ONCE]))
                      for start in range(0, len(paths), _AT_ONCE)])


def text_vectors(model: VLM, sampler: BatchSampler, texts: list[str]) -> Tensor:
    """Unit vectors (M, E)."""
    device = next(model.parameters()).device
    ids, mask = (given.to(device) for given in sampler.tokenizer.encode(texts))
    return read_by_length(model, ids, mask)[1]
