"""Cross-entropy of a linear output layer without ever holding all the logits.

With a vocabulary of ten thousand the logits of one step are larger than all else together, and
reading and writing them costs more than the products. Here a few hundred rows at a time go from
states to loss and back to gradients, while they are in the processor's cache.
Shapes: n rows, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from vitdemo.models.pointer import Copy

_CHUNK = 512  # rows at a time
_TINY = 1e-30


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are computed with the loss; going back only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor,
                smoothing: float, gate: Tensor | None, copied: Tensor | None) -> Tensor:
        """See `linear_cross_entropy`."""
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) \
            else weight.dtype
        rows, size = hidden.shape[0], weight.shape[0]
        with torch.autocast(device, enabled=False):
            states, table = hidden.detach().to(dtype), weight.detach().to(dtype)
            by_hidden = torch.empty_like(hidden, dtype=torch.float32)
            by_weight = torch.zeros_like(weight, dtype=torch.float32)
            by_bias = torch.zeros_like(bias, dtype=torch.float32)
            total = hidden.new_zeros((), dtype=torch.float32)
            opened = None if gate is None else gate.detach().float().sigmoid()
            share = None if copied is None else copied.detach().float()
            by_gate = None if opened is None else torch.zeros_like(opened)
            by_copied = None if share is None else torch.zeros_like(share)
            for start in range(0, rows, _CHUNK):
                part, right = states[start:start + _CHUNK], targets[start:start + _CHUNK, None]
                scores = (part @ table.T).float() + bias.detach().float()  # (chunk, V)
                whole = scores.logsumexp(1, keepdim=True)
                own = scores.gather(1, right)
                written = own - whole  # log p of the vocabulary
                sure = torch.ones_like(own)  # how much of the word the vocabulary explains
                if opened is not None and share is not None:
                    assert by_gate is not None and by_copied is not None
                    place = slice(start, start + _CHUNK)
                    open_, copy = opened[place, None], share[place, None]
                    either = (1 - open_) * written.exp() + open_ * copy + _TINY
                    sure = (1 - open_) * written.exp() / either
                    factor = (1 - smoothing) / rows
                    by_gate[place] = ((written.exp() - copy) / either * open_ * (1 - open_)
                                      * factor)[:, 0]
                    by_copied[place] = (-open_ / either * factor)[:, 0]
                    written = either.log()
                total += ((smoothing - 1) * written
                          + smoothing * (whole - scores.mean(1, keepdim=True))).sum()
                weight_of = (1 - smoothing) * sure + smoothing
                slope = scores.sub_(whole).exp_().mul_(weight_of).sub_(smoothing / size)
                slope.scatter_add_(1, right, (smoothing - 1) * sure).div_(rows)
                by_bias += slope.sum(0)
                slope = slope.to(dtype)
                by_hidden[start:start + _CHUNK] = slope @ table
                by_weight += slope.T @ part
        ctx.save_for_backward(by_hidden.to(hidden.dtype), by_weight.to(weight.dtype),
                              by_bias.to(bias.dtype), by_gate, by_copied)
        return total / rows

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that were computed on the way."""
        by_hidden, by_weight, by_bias, by_gate, by_copied = ctx.saved_tensors
        scale = outputs[0]
        return (by_hidden * scale, by_weight * scale, by_bias * scale, None, None,
                None if by_gate is None else by_gate * scale,
                None if by_copied is None else by_copied * scale)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor,
                         smoothing: float = 0.0, copy: Copy | None = None) -> Tensor:
    """Mean of -log softmax(hidden weight^T + bias) at the targets, with label smoothing.

    hidden (n, D), weight (V, D), bias (V,), targets int (n,). The same number as
    ``F.cross_entropy(F.linear(hidden, weight, bias), targets, label_smoothing=smoothing)``, and the
    same gradients; under autocast the products are in its type and the sums in float32.
    """
    gate, copied = (None, None) if copy is None else (copy.gate, copy.of(targets))
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing, gate,
                                             copied)
    return loss
