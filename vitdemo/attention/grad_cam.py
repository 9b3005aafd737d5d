"""Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", eqs. 1 and 2) on the last feature grid of the vision encoder.

With y the target (a word's log-probability) and f the features:
    eq. 1   a_c = mean over the regions n of dy/df[n, c]
    eq. 2   map[n] = max(0, sum over c of a_c f[n, c])

Words that were only read share one target, whose gradient alone would give them one map. The
picture comes into a text through cross-attention only, so for such a word the gradient is let
through at that word's own positions (`only_through`): the part of it that the word brought in.

Legend: R rows (one target each), N regions, C channels, T positions of the text.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdemo.attention.capture import hooked
from vitdemo.attention.methods import Said
from vitdemo.attention.trace import Rows, Trace


def grad_cam(features: Tensor, mean_gradient: Tensor) -> Tensor:
    """Eq. 2: features (N, C) and a_c for each row (R, C) to maps float32 (R, N), at least 0."""
    return (mean_gradient.float() @ features.float().mT).clamp(min=0)


def only_through(modules: Sequence[nn.Module], positions: Tensor) -> AbstractContextManager[None]:
    """Inside, gradients pass the results of ``modules`` (R, T, D) only where ``positions``, bool
    (R, T), is true. The results themselves stay the same. A module may return a tuple, whose first
    part it then is."""
    def hook(*given: Any) -> Any:
        output = given[-1]
        result = output[0] if isinstance(output, tuple) else output
        result = torch.where(positions[..., None], result, result.detach())
        return (result, *output[1:]) if isinstance(output, tuple) else result

    return hooked(modules, hook)


def grad_cam_maps(trace: Trace) -> tuple[np.ndarray, Said]:
    """A text's maps (Q, K) and what is said of its words; see `Trace`."""
    return trace.in_batches(lambda words: _some(trace, words))


def _some(trace: Trace, words: Sequence[int]) -> tuple[Tensor, Tensor]:
    features = trace.features()  # (P, C)
    offset = features.new_zeros(len(words), features.shape[1]).requires_grad_()
    if trace.apart:
        target = trace.word_logs(Rows(len(words), offset=offset), words)
    else:
        through = torch.zeros(len(words), trace.lengths[trace.stream], dtype=torch.bool,
                              device=features.device)
        for row, word in zip(through, words, strict=True):
            row[trace.places_of(word)] = True
        own = [layer for layer in trace.layers if layer.stream == trace.stream and (
            not layer.mixes or trace.regions.stream in layer.context)]
        with only_through([layer.module for layer in own], through):
            target = trace.run(Rows(len(words), offset=offset, through=through), None)
    (total,) = torch.autograd.grad(target.sum(), offset)  # over the regions
    return trace.regions.spread(grad_cam(features, total / len(features))), target
