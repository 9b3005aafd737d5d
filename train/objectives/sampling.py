"""Captions that the model draws while it is trained. Shapes as in `batches`."""

import torch
from torch import Tensor

from train.data.batches import TextBatch
from vitdemo.models.decoding import Vocabulary
from vitdemo.models.fusion import Memory
from vitdemo.models.vlm import VLM


def memory_of(model: VLM, texts: TextBatch, features: Tensor) -> Memory:
    """What the decoder reads of each picture, seen as ``features`` (P, N, C), and of what is asked
    of it."""
    words, z = model.encode_text(texts.instruction, texts.instruction_mask)
    which = texts.instruction_of
    return model.fuse(model.vision.tokens(features), words[which],
                      texts.instruction_mask[which], z[which], model.nameable(features))


@torch.no_grad()
def draw_captions(model: VLM, memory: Memory, vocabulary: Vocabulary,
                  draws: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Captions drawn from the model: ids (P * K, S), the end repeated after the end, and which of
    them have ended, bool (P * K,).

    Token by token by ``draws`` (P, K, S), 0..1: the token at which the sum of the probabilities
    passes it. Unlike `vitdemo.models.decoding`, whose texts are drawn together: so that several
    processes draw what one would.
    """
    each = draws.shape[1]
    draws = draws.flatten(0, 1)
    cache = model.decoder.start(memory)
    token = torch.tensor(list(vocabulary.starts), device=draws.device).repeat_interleave(each)
    ended = torch.zeros(len(token), dtype=torch.bool, device=token.device)
    written = []
    for step in range(draws.shape[1]):
        logits = model.decoder.next(token, cache).float()
        logits[:, list(vocabulary.banned)] = -torch.inf
        reached = (logits / temperature).softmax(-1).cumsum(1)
        wanted = draws[:, step, None] * reached[:, -1:]
        token = torch.searchsorted(reached, wanted, right=True).squeeze(1)
        token = token.clamp(max=logits.shape[1] - 1).masked_fill(ended, vocabulary.end)
        ended = ended | (token == vocabulary.end)
        written.append(token)
        if bool(ended.all()):
            break
    return torch.stack(written, 1), ended


def until_end(ids: Tensor, end: int) -> Tensor:
    """Which drawn tokens belong to the text, its end included: bool (P * K, S)."""
    real = torch.ones_like(ids, dtype=torch.bool)
    real[:, 1:] = ~(ids == end).cumsum(1).bool()[:, :-1]
    return real
