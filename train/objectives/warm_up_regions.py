"""Trains a new region head alone, before the rest of the model learns to look where it points."""

import math
import random
import sys

import torch
from tqdm import tqdm

from train.data.batch_sampler import Mixture
from train.data.batches import to_device
from train.objectives.losses import region_loss
from vitdemo.models.vlm import VLM


def warm_up(model: VLM, mixture: Mixture, steps: int, half: bool, rate: float = 1e-3,
            pictures: int = 64, quiet: bool = False) -> float:
    """So many steps of the region loss alone, with AdamW and half a cosine of the rate; ``half``:
    products in bf16.

    The words' rarities start from how often they occur. Returns the mean loss of the last tenth.
    """
    head = model.region_head
    if head is None or steps < 1 or not mixture.seen_words:
        return math.nan
    device = next(model.parameters()).device
    count = torch.zeros(len(head.rarity.weight))
    for bag in mixture.bags:
        count[list(bag)] += 1
    share = (count / len(mixture.bags)).clamp(1e-4, 0.9)
    with torch.no_grad():
        head.rarity.weight.copy_(torch.log(share / (1 - share))[:, None].to(device))
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.02)
    last: list[float] = []
    for step in tqdm(range(steps), desc="region head", unit="step", disable=quiet,
                     file=sys.stderr):
        maker = random.Random(f"{mixture.seed}:regions:{step}")
        features, words = mixture.draw_words(maker, pictures)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (
                0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = region_loss(model, features.to(device), to_device(words, device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        if step >= int(0.9 * steps):
            last.append(float(loss.detach()))
    return sum(last) / len(last)
