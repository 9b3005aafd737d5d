"""Writing a given text, as `captioning` and `answering` learn it. Shapes as in `batches`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from train.data.batches import TextBatch
from train.objectives.base import Step, take
from train.objectives.cross_entropy import linear_cross_entropy
from vitdemo.attention.capture import AttentionRecord, capture_cross_attention, own_weights

SMOOTHING = 0.1  # of labels (Szegedy et al. 2016, section 7)


@dataclass
class Looked:
    """Where a pass looked: cross-attention of the ``written`` words and of those ``read``, over the
    kept tokens, in the graph; empty where nobody learns from it."""

    texts: TextBatch
    written: AttentionRecord
    read: AttentionRecord


def writing_loss(step: Step, name: str, reads: bool) -> Tensor | None:
    """The mean negative log-likelihood of the next token of the part ``name``,
    -log p(w_t | w_<t, picture, instruction). Where it looked is left in ``step.shared``; at the
    words of the instruction, too, where it ``reads`` them."""
    batch: TextBatch | None = step.parts.get(name)
    if batch is None:
        return None
    model, which = step.model, batch.instruction_of
    decoder, looks = model.decoder, "attention" in step.active and model.region_head is not None
    tokens = take(model.vision.tokens(batch.features), batch.kept)
    words, z = model.encode_text(batch.instruction, batch.instruction_mask)
    with _capture(decoder.blocks, looks) as written, \
            _capture(model.fusion.blocks, looks and reads) as read:
        memory = model.fuse(tokens, words[which], batch.instruction_mask[which], z[which])
        hidden = decoder.hidden(batch.targets[:, :-1], decoder.start(memory))
    step.shared[name] = Looked(batch, written, read)
    real = batch.target_mask[:, 1:]
    states = F.dropout(hidden[real], decoder.dropout, decoder.training)  # (tokens, D)
    smoothing = SMOOTHING if model.training else 0.0
    return linear_cross_entropy(states, decoder.embedding.weight, decoder.bias,
                                batch.targets[:, 1:][real],
                                smoothing) * (len(states) / batch.totals.tokens)


def _capture(blocks: Iterable[Any], wanted: bool) -> Any:
    return capture_cross_attention([block.cross for block in blocks] if wanted else [],
                                   own_weights, keep_graph=True)
