"""Trains a new region head alone, before the rest of the model learns to look where it points."""

import math
import random
import sys

import torch
from tqdm import tqdm

from train.data.batches import to_device
from train.objectives.region_words import RegionWords, region_loss
from vitdemo.models.vlm import VLM

STEPS = 300
RATE = 1e-3
PICTURES = 64  # of a step


def warm_up(model: VLM, words: RegionWords, half: bool, quiet: bool = False) -> float:
    """`STEPS` steps of the region loss alone, with AdamW and half a cosine of the rate; ``half``:
    products in bf16.

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
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.02)
    last: list[float] = []
    for step in tqdm(range(STEPS), desc="region head", unit="step", disable=quiet,
                     file=sys.stderr):
        maker = random.Random(f"{sampler.seed}:regions:{step}")
        features, drawn = words.draw_pictures(maker, PICTURES)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (
                0.01 + 0.99 * (1 + math.cos(math.pi * step / STEPS)) / 2)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = region_loss(model, features.to(device), to_device(drawn, device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        if step >= int(0.9 * STEPS):
            last.append(float(loss.detach()))
    return sum(last) / len(last)
