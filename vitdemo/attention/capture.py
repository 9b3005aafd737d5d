"""Records what cross-attention layers looked at, for as long as a `with` block lasts.

    with capture_cross_attention(modules, weights_of) as record:
        model(...)                      # one teacher-forced pass, or many single steps
    record.stacked()                    # float32 (L, R, H, T, N)

Nothing is recorded outside the block, nothing is left behind in the model (the hooks go even when
the pass fails), and the model's results are the same bits with recording on and off: a hook only
reads what a layer was given and what it gave back.

``weights_of(module, args, kwargs, output)`` is the adapter of a model family: it returns the
weights (R, H, T, N) of one call of one module. Two ways to write one:
- the layer already computes them (transformers' BLIP returns them next to its result): return
  that part of ``output``;
- the layer uses a fused kernel that keeps them for itself: compute them again from ``args`` with
  `attention_weights(q, k)`, which is softmax(q k^T / sqrt(d)).

With ``keep_graph=True`` the weights stay part of the graph, for methods that need gradients, and so
in the number type that they were made in. A layer with a fused kernel must then be led through its
weights: pass
``output_from(module, weights, args, kwargs)``, which returns the layer's output computed from
``weights``; it replaces the kernel's, so the logits then agree to rounding and not to the bit.

Legend: L recorded layers, R batch rows, H heads, T text positions, N memory tokens, d head width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

WeightsOf = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], torch.Tensor]
OutputFrom = Callable[[nn.Module, torch.Tensor, tuple[Any, ...], dict[str, Any]], Any]


@dataclass
class AttentionRecord:
    """What was recorded. ``calls[l]`` holds the weights (R, H, T, N) of every call of layer l, in
    order: one for a teacher-forced pass, one per step where words are written step by step."""

    calls: list[list[torch.Tensor]]

    @property
    def weights(self) -> list[torch.Tensor]:
        """For each layer its weights, (R, H, T, N), with all its calls joined along T."""
        for layer, calls in enumerate(self.calls):
            assert calls, f"cross-attention layer {layer} was not called while recording"
        return [calls[0] if len(calls) == 1 else torch.cat(calls, dim=2) for calls in self.calls]

    def stacked(self) -> torch.Tensor:
        """All layers in one tensor: float32 (L, R, H, T, N), with ``keep_graph`` of the number type
        that they were made in."""
        return torch.stack(self.weights)


def attention_weights(query: torch.Tensor, key: torch.Tensor,
                      mask: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) in float32, as `scaled_dot_product_attention` weighs its values.

    ``query`` is (R, H, T, d), ``key`` (R or 1, H, N, d); ``mask`` is boolean, true where a
    position may be looked at, or added to the scores; it broadcasts to (R, H, T, N). A row whose
    positions are all masked gets zeros. Returns (R, H, T, N).
    """
    scores = query.float() @ key.float().transpose(-1, -2)  # (R, H, T, N)
    scores = scores / query.shape[-1] ** 0.5
    if mask is None:
        return scores.softmax(dim=-1)
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    else:
        scores = scores + mask.float()
    return scores.softmax(dim=-1).nan_to_num(0.0)


def own_weights(module: Any, args: tuple[Any, ...], _kwargs: dict[str, Any],
                _output: Any) -> torch.Tensor:
    """Adapter for a layer whose ``weights`` method takes what its forward takes, as our own
    `CrossAttention`'s does: (R, H, T, N)."""
    weights: torch.Tensor = module.weights(*args)
    return weights


@contextmanager
def capture_cross_attention(modules: Sequence[nn.Module], weights_of: WeightsOf, *,
                            keep_graph: bool = False,
                            output_from: OutputFrom | None = None) -> Iterator[AttentionRecord]:
    """Record the weights of every call of ``modules`` inside the block, as the file says above.

    Without ``keep_graph`` the weights are detached. ``output_from`` is used with ``keep_graph``
    only. Blocks may be nested; each has its own record.
    """
    record = AttentionRecord([[] for _ in modules])
    handles: list[RemovableHandle] = []

    def make_hook(calls: list[torch.Tensor]) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any],
                 output: Any) -> Any:
            if keep_graph:
                weights = weights_of(module, args, kwargs, output)
                if output_from and not weights.requires_grad:  # as in a frozen model
                    weights.requires_grad_()
                calls.append(weights)  # a float copy would lie beside the way to the output
                return output_from(module, weights, args, kwargs) if output_from else None
            with torch.no_grad():
                calls.append(weights_of(module, args, kwargs, output).detach().float())
            return None
        return hook

    try:
        for module, calls in zip(modules, record.calls, strict=True):
            handles.append(module.register_forward_hook(make_hook(calls), with_kwargs=True))
        yield record
    finally:
        for handle in handles:
            handle.remove()
