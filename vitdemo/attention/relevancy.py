"""Gradient x attention relevancy (Chefer, Gur, Wolf 2021, "Generic Attention-model Explainability
for Interpreting Bi-Modal and Encoder-Decoder Transformers", section 3).

For one target y (a word's log-probability) and each attention A of the pass, with heads H:
    eq. 5   A' = mean over H of max(0, dy/dA * A)
    eq. 6   self-attention:  R_ss = R_ss + A' R_ss
    eq. 7                    R_sq = R_sq + A' R_sq
    eq. 8-9 R_xx without its diagonal I, each row divided by its sum, with I again: N(R_xx)
    eq. 10  cross-attention: R_sq = R_sq + N(R_ss)^T A' N(R_qq)
    eq. 11                   R_ss = R_ss + A' R_qs
where s is what looks and q what is looked at; R_ss starts as I and R_sq as 0. In all models here
the picture never looks at a text, so R_qs = 0 and eq. 11 changes nothing. Where the words look at
tokens that are themselves read from the picture (fused words, a question), the relevancy of those
tokens to the picture stands in place of N(R_qq).

Legend: R rows (one target each), H heads, T positions, N tokens looked at, K picture regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitdemo.attention.capture import record
from vitdemo.attention.methods import Said
from vitdemo.attention.trace import Rows, Trace


@dataclass(frozen=True)
class Relevancy:
    """``own`` (R, T, T) is R_ss, ``picture`` (R, T, K) is R_sq."""

    own: Tensor
    picture: Tensor

    def after_self(self, mean: Tensor) -> "Relevancy":
        """Eqs. 6 and 7; ``mean`` is A' (R, T, T). ``own`` stays empty where it is: a stream that
        looks at no other needs none."""
        own = self.own + mean @ self.own if self.own.shape[1] else self.own
        return Relevancy(own, self.picture + mean @ self.picture)

    def after_cross(self, mean: Tensor, context: Tensor) -> "Relevancy":
        """Eq. 10; ``mean`` is A' (R, T, N), ``context`` (R or 1, N, K) the relevancy of the tokens
        looked at to the picture."""
        seen = mean @ context  # (R, T, K)
        if self.own.shape[1] > seen.shape[1]:  # only the first tokens of the stream look
            seen = F.pad(seen, (0, 0, 0, self.own.shape[1] - seen.shape[1]))
        return Relevancy(self.own, self.picture + normalised_rows(self.own).mT @ seen)


def normalised_rows(own: Tensor) -> Tensor:
    """Eqs. 8 and 9, (R, T, T); a row that is the identity's stays so."""
    identity = torch.eye(own.shape[-1], device=own.device)
    rest = own - identity
    total = rest.sum(-1, keepdim=True)
    return rest / torch.where(total > 0, total, 1) + identity


def relevancy_maps(trace: Trace) -> tuple[np.ndarray, Said]:
    """A text's maps (Q, K) and what is said of its words; see `Trace`. Words that were only read
    share one target, what the model made of the text."""
    if trace.apart:
        return trace.in_batches(lambda words: _apart(trace, words))
    with torch.enable_grad():
        found = _follow(trace, Rows(recorded=trace.streams), None)[0]
    return trace.over_words(found[0]), Said()


def _apart(trace: Trace, words: Sequence[int]) -> tuple[Tensor, Tensor]:
    found, logs = _follow(trace, Rows(len(words), recorded=trace.streams), words)
    return torch.stack([row[trace.places_of(word)].mean(0)
                        for row, word in zip(found, words, strict=True)]), logs


def _follow(trace: Trace, rows: Rows, words: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """The relevancy of the text's tokens to the regions (R, T, K), and the targets (R,). One
    backward pass; no parameter collects a gradient."""
    with record([layer.module for layer in trace.layers], graph=True) as looks:
        target = trace.run(rows, None) if words is None else trace.word_logs(rows, words)
    assert target.requires_grad, "the pass was made without a graph"
    gradients = torch.autograd.grad(target.sum(), [look.handle for look in looks],
                                    allow_unused=True)
    tokens: dict[str, int] = {}
    for layer, look in zip(trace.layers, looks, strict=True):
        tokens[layer.stream] = max(look.length, tokens.get(layer.stream, 0))
    crossed = {layer.stream for layer in trace.layers if not layer.mixes}
    picture = trace.tokens_of_regions()
    flows: dict[str, Relevancy] = {}

    def flow_of(stream: str) -> Relevancy:
        if stream in flows:
            return flows[stream]
        length = tokens.get(stream, trace.lengths[stream])
        own = torch.eye(length if stream in crossed else 0, device=picture.device)
        seen = picture[:length] if stream == trace.regions.stream else \
            picture.new_zeros(length, picture.shape[1])
        seen = seen.expand(rows.count, -1, -1)
        if stream == trace.stream and trace.latents:
            inner = flow_of("latents").picture[:, :len(trace.latents)]
            seen = seen.index_copy(1, torch.tensor(trace.latents, device=seen.device), inner)
        return Relevancy(own.expand(rows.count, -1, -1), seen)

    for layer, look, gradient in zip(trace.layers, looks, gradients, strict=True):
        flow, mean = flow_of(layer.stream), look.relevant(gradient)
        if layer.mixes:
            flows[layer.stream] = flow.after_self(mean)
        else:
            context = torch.cat([flow_of(name).picture for name in layer.context], 1)
            flows[layer.stream] = flow.after_cross(mean, context)
    return flow_of(trace.stream).picture, target
