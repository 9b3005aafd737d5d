"""Writing a given text, as `captioning` and `answering` learn it. Shapes as in `batches`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from train.data.batches import TextBatch
from train.objectives.base import Step, take
from train.objectives.cross_entropy import linear_cross_entropy
from train.objectives.swapped_names import swap_names
from vitdemo.attention.capture import AttentionRecord, capture_cross_attention, own_weights

SMOOTHING = 0.1  # of labels (Szegedy et al. 2016, section 7)


@dataclass
class Looked:
    """Where a pass looked: cross-attention of the ``written`` words and of those ``read``, over the
    kept tokens, in the graph; empty where nobody learns from it. ``true`` bool (P,): the pictures
    of which the texts are true."""

    texts: TextBatch
    true: Tensor
    written: AttentionRecord
    read: AttentionRecord


def writing_loss(step: Step, name: str, asked: bool) -> Tensor | None:
    """The mean negative log-likelihood of the next token of the part ``name``,
    -log p(w_t | w_<t, picture, instruction). Where it looked is left in ``step.shared``: where
    something particular is ``asked``, at the words of that, too; where not, some names that can be
    copied are swapped."""
    batch: TextBatch | None = step.parts.get(name)
    if batch is None:
        return None
    model, which = step.model, batch.instruction_of
    decoder, looks = model.decoder, "attention" in step.active and model.region_head is not None
    tokens = take(model.vision.tokens(batch.features), batch.kept)
    words, z = model.encode_text(batch.instruction, batch.instruction_mask)
    names, true = model.nameable(batch.features), torch.ones_like(batch.rows, dtype=torch.bool)
    if names is not None and model.names is not None and model.training and not asked:
        batch, names, true = swap_names(batch, names, model.names)
    with _capture(decoder.blocks, looks) as written, \
            _capture(model.fusion.blocks, looks and asked) as read:
        memory = model.fuse(tokens, words[which], batch.instruction_mask[which], z[which], names)
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
                                copy) * (len(states) / batch.totals.tokens)


def _capture(blocks: Iterable[Any], wanted: bool) -> Any:
    return capture_cross_attention([block.cross for block in blocks] if wanted else [],
                                   own_weights, keep_graph=True)
