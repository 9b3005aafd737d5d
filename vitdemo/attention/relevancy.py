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

import torch
from torch import Tensor


@dataclass(frozen=True)
class Relevancy:
    """``own`` (R, T, T) is R_ss, ``picture`` (R, T, K) is R_sq."""

    own: Tensor
    picture: Tensor

    @classmethod
    def start(cls, rows: int, tokens: int, regions: int,
              device: torch.device | str = "cpu") -> "Relevancy":
        """Before the first layer."""
        own = torch.eye(tokens, device=device).expand(rows, -1, -1)
        return cls(own, torch.zeros(rows, tokens, regions, device=device))

    def after_self(self, mean: Tensor) -> "Relevancy":
        """Eqs. 6 and 7; ``mean`` is A' (R, T, T)."""
        return Relevancy(self.own + mean @ self.own, self.picture + mean @ self.picture)

    def after_cross(self, mean: Tensor, context: Tensor) -> "Relevancy":
        """Eq. 10; ``mean`` is A' (R, T, N), ``context`` (R or 1, N, K) the relevancy of the tokens
        looked at to the picture."""
        seen = mean @ context  # (R, T, K)
        return Relevancy(self.own, self.picture + normalised_rows(self.own).mT @ seen)


def mean_over_heads(weights: Tensor, gradient: Tensor | None) -> Tensor:
    """Eq. 5: (R, H, T, N) to float32 (R, T, N). No gradient: the target does not depend on it."""
    if gradient is None:
        return torch.zeros_like(weights[:, 0], dtype=torch.float32)
    product = weights.detach().float() * gradient.float()
    return product.nan_to_num(0.0, 0.0, 0.0).clamp(min=0).mean(1)


def normalised_rows(own: Tensor) -> Tensor:
    """Eqs. 8 and 9, (R, T, T); a row that is the identity's stays so."""
    identity = torch.eye(own.shape[-1], device=own.device)
    rest = own - identity
    total = rest.sum(-1, keepdim=True)
    return rest / torch.where(total > 0, total, 1) + identity


def means(target: Tensor, *records: Sequence[Tensor]) -> list[list[Tensor]]:
    """Eq. 5 for every recorded attention: ``target`` (R,), one for each row, and lists of weights
    (R, H, T, N) that are part of its graph. One backward pass; no parameter collects a gradient.
    """
    flat = [weights for record in records for weights in record]
    assert target.requires_grad, "the pass was made without a graph"
    found = torch.autograd.grad(target.sum(), flat, allow_unused=True)
    pairs = iter(zip(flat, found, strict=True))
    return [[mean_over_heads(*next(pairs)) for _ in record] for record in records]
