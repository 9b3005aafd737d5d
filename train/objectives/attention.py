"""Attention that looks where the region head points. Shapes as in `batch_sampler`; R texts."""


import torch
from pydantic import Field
from torch import Tensor

from train.objectives.base import Objective, Options, Step
from train.objectives.writing import Looked
from vitdemo.attention.capture import Record
from vitdemo.models.vlm import VLM


class AttentionSettings(Options):
    """Where attention looks."""

    loss_attention: float = Field(0.3, ge=0, description=(
        "weight of cross-attention that looks where the region head points"))


class Attention(Objective):
    """Of the words that are written, and of those of questions, where these stand for something
    that can be seen."""

    Settings = AttentionSettings
    draws = False

    def loss(self, step: Step, batch: None) -> Tensor | None:
        """`attention_loss` of captions, answers and questions, added up."""
        found: list[Tensor] = []
        content = self.content(step)
        for name in ("caption", "question"):
            looked: Looked | None = step.shared.get(name)
            if looked is None or not looked.written.calls:
                continue
            texts, drawn = looked.texts, step.parts[name]  # with names swapped, and without
            true = looked.true.repeat_interleave(len(texts.targets) // len(looked.true))
            visible = texts.target_mask[:, 1:] & content[texts.targets[:, 1:]] & true[:, None]
            total = int((drawn.target_mask & content[drawn.targets])[:, 1:].sum())
            found.append(attention_loss(step.model, texts.features, texts.kept, looked.written,
                                        texts.targets[:, 1:], visible, total))
            if looked.read.calls:
                ids = texts.instruction[texts.instruction_of]
                visible = texts.instruction_mask[texts.instruction_of] & content[ids]
                found.append(attention_loss(step.model, texts.features, texts.kept, looked.read,
                                            ids, visible, int(visible.sum())))
        return sum(found, start=torch.zeros_like(found[0])) if found else None


def attention_loss(model: VLM, features: Tensor, kept: Tensor, record: Record,
                   ids: Tensor, which: Tensor, total: int) -> Tensor:
    """How far the cross-attention is from where the region head points, in nats a word.

    The cross entropy of the region head's map m and the attention a, both over the kept places:
    -sum_k m_k log a_k, less the map's own entropy. a is the mean over layers and heads, its part
    on the picture brought to 1. The region head learns nothing here (Liu et al. 2017, "Attention
    correctness in neural image captioning", eq. 8, with a learnt map in place of people's).

    ``kept`` (P, n); ``ids`` (R, T) tokens, R = P * K; ``which`` bool (R, T): those that count;
    ``total``: how many there are before names are swapped.
    """
    assert model.region_head is not None
    if not bool(which.any()):
        return features.new_zeros(())
    text, place = which.nonzero(as_tuple=True)  # (words,)
    picture = text // (len(ids) // len(features))
    different, number = ids[which].unique(return_inverse=True)
    with torch.no_grad():
        maps = model.region_head.maps(features, different)  # (P, W, N)
        wanted = maps[picture, number].gather(1, kept[picture])  # (words, n)
        wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1e-9)
    attention = on_picture(record, kept.shape[1])[text, place]  # (words, n)
    attention = attention / attention.sum(1, keepdim=True).clamp(min=1e-9)
    away = wanted * (wanted.clamp(min=1e-9).log() - attention.clamp(min=1e-9).log())
    return away.sum() / total


def on_picture(record: Record, places: int) -> Tensor:
    """Mean over layers and heads of the attention on the picture's places: (R, T, places)."""
    return torch.stack([weights[..., :places].mean(1) for weights in record.weights]).mean(0)
