"""Writing: a given text, as `captioning` and `answering` learn it, and captions that the model
draws itself while it is trained. Shapes as in `batch_sampler`."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from train.data.batch_sampler import TextBatch
from train.objectives.base import Step, take
from train.objectives.cross_entropy import linear_cross_entropy
from train.objectives.swapped_names import swap_names
from vitdemo.attention.capture import Record, record
from vitdemo.models.decoding import Vocabulary
from vitdemo.models.fusion import Memory
from vitdemo.models.pointer import mixed
from vitdemo.models.vlm import VLM

SMOOTHING = 0.1  # of labels (Szegedy et al. 2016, section 7)


@dataclass
class Looked:
    """Where a pass looked: cross-attention of the ``written`` words and of those ``read``, over the
    kept tokens, in the graph; empty where nobody learns from it. ``true`` bool (P,): the pictures
    of which the texts are true."""

    texts: TextBatch
    true: Tensor
    written: Record
    read: Record


def writing_loss(step: Step, batch: TextBatch, name: str, asked: bool,
                 unseen: float = 0.0) -> Tensor:
    """The mean negative log-likelihood of the next token, -log p(w_t | w_<t, picture, instruction).
    Where it looked is left in ``step.shared`` as ``name``: where something particular is ``asked``,
    at the words of that, too; where not, some names that can be copied are swapped. Of a share
    ``unseen`` of the pictures the decoder reads no token, and knows of them what the fused words
    bring."""
    model, which = step.model, batch.instruction_of
    decoder, looks = model.decoder, "attention" in step.active and model.region_head is not None
    tokens = take(model.vision.tokens(batch.features), batch.kept)
    words, z = model.encode_text(batch.instruction, batch.instruction_mask)
    names, true = model.nameable(batch.features), torch.ones_like(batch.rows, dtype=torch.bool)
    drawn = int(batch.target_mask[:, 1:].sum())  # tokens, before names are swapped
    if names is not None and model.names is not None and model.training and not asked:
        batch, names, true = swap_names(batch, names, model.names)
    with _capture(decoder.blocks, looks) as written, \
            _capture(model.fusion.blocks, looks and asked) as read:
        memory = model.fuse(tokens, words[which], batch.instruction_mask[which], z[which], names)
        if model.training and unseen:
            memory = hide_pictures(memory, batch.draws[:, 0] < unseen)
        cache = decoder.start(memory)
        hidden = decoder.hidden(batch.targets[:, :-1], cache)
    step.shared[name] = Looked(batch, true, written, read)
    real = batch.target_mask[:, 1:]
    states = F.dropout(hidden[real], decoder.dropout, decoder.training)  # (tokens, D)
    smoothing = SMOOTHING if model.training else 0.0
    copy = decoder.copies(hidden, batch.targets[:, :-1], cache)
    copy = copy and copy.at(*real.nonzero(as_tuple=True))
    return linear_cross_entropy(states, decoder.embedding.weight, decoder.bias,
                                batch.targets[:, 1:][real], smoothing,
                                copy) * (len(states) / drawn)


def hide_pictures(memory: Memory, hidden: Tensor) -> Memory:
    """A memory whose picture tokens are not read where ``hidden``, bool (B,)."""
    read = torch.arange(memory.mask.shape[1], device=hidden.device) >= memory.picture_tokens
    return dataclasses.replace(memory, mask=memory.mask & (read | ~hidden[:, None]))


def _capture(blocks: Iterable[Any], wanted: bool) -> Any:
    return record([block.cross for block in blocks] if wanted else [], graph=True)


def memory_of(model: VLM, texts: TextBatch, features: Tensor) -> Memory:
    """What the decoder reads of each picture, seen as ``features`` (P, N, C), and of what is asked
    of it."""
    words, z = model.encode_text(texts.instruction, texts.instruction_mask)
    which = texts.instruction_of
    return model.fuse(model.vision.tokens(features), words[which],
                      texts.instruction_mask[which], z[which], model.nameable(features))


def log_probabilities(model: VLM, memory: Memory, prefix: Tensor, real: Tensor) -> Tensor:
    """log p of what follows at each ``real`` place, bool (R, S), of the texts that begin with
    ``prefix`` (R, S), what is copied included: float32 (tokens, V)."""
    decoder, cache = model.decoder, model.decoder.start(memory)
    hidden = decoder.hidden(prefix, cache)
    copy = decoder.copies(hidden, prefix, cache)
    logits = F.linear(hidden[real], decoder.embedding.weight, decoder.bias)
    if copy is None:
        return logits.float().log_softmax(-1)
    return mixed(logits, copy.at(*real.nonzero(as_tuple=True))).float()


@torch.no_grad()
def draw_captions(model: VLM, memory: Memory, vocabulary: Vocabulary,
                  draws: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Captions drawn from the model: ids (P * K, S), the end repeated after the end, and which of
    them have ended, bool (P * K,).

    Token by token by ``draws`` (P, K, S), 0..1: the token at which the sum of the probabilities
    passes it.
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
