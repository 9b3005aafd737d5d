"""Cross-entropy of a linear output layer without ever holding all the logits.

With a vocabulary of ten thousand the logits of one step are larger than all else together, and
reading and writing them costs more than the products. Here a few hundred rows at a time go from
states to loss and back to gradients, while they are in the processor's cache.
Shapes: n rows, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

_CHUNK = 512  # rows at a time


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are computed with the loss; going back only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor,
                smoothing: float) -> Tensor:
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
            for start in range(0, rows, _CHUNK):
                part, right = states[start:start + _CHUNK], targets[start:start + _CHUNK, None]
                scores = (part @ table.T).float() + bias.detach().float()  # (chunk, V)
                whole = scores.logsumexp(1, keepdim=True)
                own = scores.gather(1, right)
                total += (whole - (1 - smoothing) * own
                          - smoothing * scores.mean(1, keepdim=True)).sum()
                slope = scores.sub_(whole).exp_().sub_(smoothing / size)
                slope.scatter_add_(1, right, torch.full_like(own, smoothing - 1)).div_(rows)
                by_bias += slope.sum(0)
                slope = slope.to(dtype)
                by_hidden[start:start + _CHUNK] = slope @ table
                by_weight += slope.T @ part
        ctx.save_for_backward(by_hidden.to(hidden.dtype), by_weight.to(weight.dtype),
                              by_bias.to(bias.dtype))
        return total / rows

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that were computed on the way."""
        by_hidden, by_weight, by_bias = ctx.saved_tensors
        scale = outputs[0]
        return by_hidden * scale, by_weight * scale, by_bias * scale, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor,
                         smoothing: float = 0.0) -> Tensor:
    """Mean of -log softmax(hidden weight^T + bias) at the targets, with label smoothing.

    hidden (n, D), weight (V, D), bias (V,), targets int (n,). The same number as
    ``F.cross_entropy(F.linear(hidden, weight, bias), targets, label_smoothing=smoothing)``, and the
    same gradients; under autocast the products are in its type and the sums in float32.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing)
    return loss
