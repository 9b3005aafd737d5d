"""Attention that learns what covering a part of the picture costs each word.

Where deletion and insertion only measure, this trains: the picture is shown whole and under a cloud
(`features.View.clouded`), and of the attention of a word as large a share should lie under the
cloud as the word loses by it. After FastSHAP (Jethani et al. 2022, arXiv:2107.07436), which trains
maps by random masks, with attention in the place of its explainer. Shapes as in `batches`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from train.batches import CloudBatch, TextBatch
from train.team import Team
from vitdemo.attention.capture import capture_cross_attention, own_weights
from vitdemo.models.vlm import VLM

LEAST = 0.05  # of probability: less likely words are left out, what they lose is noise


def cloud_loss(model: VLM, batch: CloudBatch, content: Tensor,
               team: Team | None = None) -> Tensor:
    """The cross entropy of the share of a word's attention that lies under the cloud, and of what
    the cloud takes of its probability, 1 - p(word | clouded) / p(word | whole), at least 0.

    The attention is the mean over layers and heads, its part on the picture brought to 1. Only
    tokens of ``content`` (vocabulary,) count. With several processes it is this one's share: its
    sum, divided by the words of all; how many there are, only the probabilities tell.
    """
    texts = batch.texts
    targets = texts.targets[:, 1:]
    chosen = texts.target_mask[:, 1:] & content[targets]
    crossings = [block.cross for block in model.decoder.blocks]
    with capture_cross_attention(crossings, own_weights, keep_graph=True) as record:
        whole = _probabilities(model, texts.features, texts, chosen)
    with torch.no_grad():
        clouded = _probabilities(model, batch.clouded, texts, chosen)
    sure = ~(whole < LEAST)  # (words,); what is no number counts, so that it is noticed
    total = (team or Team()).sum(sure.sum().float())
    if not bool(sure.any()):
        return whole.new_zeros(())
    lost = (1 - clouded[sure] / whole[sure]).clamp(0, 1)
    text, place = (index[sure] for index in chosen.nonzero(as_tuple=True))
    places = batch.hidden.shape[1]
    mean = torch.stack([calls[0][..., :places].mean(1) for calls in record.calls]).mean(0)
    attention = mean[text, place].float()  # (words, N)
    attention = attention / attention.sum(1, keepdim=True).clamp(min=1e-9)
    hidden = batch.hidden[text // (len(targets) // len(batch.hidden))]
    share = (attention * hidden).sum(1).clamp(1e-4, 1 - 1e-4)
    return -(lost * share.log() + (1 - lost) * (1 - share).log()).sum() / total


def _probabilities(model: VLM, features: Tensor, texts: TextBatch, chosen: Tensor) -> Tensor:
    """Each chosen token's probability, without a gradient: (words,)."""
    words, z = model.encode_text(texts.instruction, texts.instruction_mask)
    which = texts.instruction_of
    memory = model.fuse(model.vision.tokens(features), words[which],
                        texts.instruction_mask[which], z[which])
    decoder = model.decoder
    hidden = decoder.hidden(texts.targets[:, :-1], decoder.start(memory))
    with torch.no_grad():
        logits = F.linear(hidden[chosen], decoder.embedding.weight, decoder.bias).float()
        found = logits.softmax(-1).gather(1, texts.targets[:, 1:][chosen][:, None])
    return found.squeeze(1)
