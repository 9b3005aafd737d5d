"""Records what attention layers looked at, for as long as a `with` block lasts.

    with record(modules) as looks:
        model(...)                    # one teacher-forced pass, or many single steps
    looks[0].weights()                # float32 (R, H, T, N) of the first module

It works whatever kernel a layer uses. Inside the modules given, every call of the fused kernel
(`torch.nn.functional.scaled_dot_product_attention`) is noted with its queries, keys and mask, and
the weights are worked out from them afterwards: for the rows that are asked for, a few heads at a
time, so that a large model never holds every layer's matrix. A layer that computes its weights
itself is known by its softmax over four axes, or over three where rows and heads are one, and these
very weights are kept.

Nothing is recorded outside the block, nothing is left behind in the model (hooks go even when the
pass fails), and without ``graph`` the model's results are the same bits with recording on and off.
With ``graph`` every call can be asked what gradient reached its weights: dA = dO V^T, from the
gradient of the kernel's output, so that no matrix is part of the graph.

Legend: R batch rows, H heads, T positions that look, N positions looked at, d head width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitdemo.errors import TaskError

_SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)
_NUMBERS_AT_ONCE = 2**24  # weights that are worked out in one go, 64 MB
# How far the weights may be from the kernel's own result, relative to the largest of it.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


@dataclass
class Look:
    """One call of one layer. ``query`` (R, H, T, d), ``key`` and ``value`` (R, H, N, d), ``mask``
    what the kernel was given, and its ``output`` (R, H, T, d); or else ``given``, weights
    (R, H, T, N) that the layer made itself."""

    given: Tensor | None = None
    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    mask: Tensor | None = None
    scale: float = 1.0
    causal: bool = False
    output: Tensor | None = None

    @property
    def length(self) -> int:
        """T."""
        looking = self.given if self.given is not None else self.query
        assert looking is not None
        return looking.shape[2]

    @property
    def handle(self) -> Tensor:
        """What a gradient is asked of, for `mean`."""
        found = self.given if self.given is not None else self.output
        assert found is not None
        return found

    def blocks(self, rows: Sequence[int] | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Some heads at a time, with their weights float32 (R, h, T or rows, N)."""
        if self.given is not None:
            chosen = self.given if rows is None else self.given[:, :, list(rows)]
            yield slice(None), chosen.float()
            return
        assert self.query is not None and self.key is not None
        query = self.query if rows is None else self.query[:, :, list(rows)]
        batch, heads, length, _ = query.shape
        size = max(1, _NUMBERS_AT_ONCE // max(1, batch * length * self.key.shape[2]))
        for first in range(0, heads, size):
            some = slice(first, min(heads, first + size))
            scores = query[:, some].float() @ self.key[:, some].float().mT * self.scale
            mask = self._mask(some, rows)
            if mask is None:
                yield some, scores.softmax(-1)
                continue
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else \
                scores + mask.float()
            weights = scores.softmax(-1).nan_to_num(0.0)
            if mask.dtype != torch.bool:  # a row that may look at nothing looks at nothing
                nothing = mask.amax(-1, keepdim=True) <= torch.finfo(mask.dtype).min / 2
                weights = weights.masked_fill(nothing, 0.0)
            yield some, weights

    def _mask(self, heads: slice, rows: Sequence[int] | None) -> Tensor | None:
        mask = self.mask
        if self.causal:
            assert self.query is not None and self.key is not None
            mask = torch.ones(self.query.shape[2], self.key.shape[2], dtype=torch.bool,
                              device=self.key.device).tril()
        if mask is None:
            return None
        while mask.dim() < 4:
            mask = mask[None]
        if mask.shape[1] > 1:
            mask = mask[:, heads]
        return mask if rows is None or mask.shape[2] == 1 else mask[:, :, list(rows)]

    def weights(self, rows: Sequence[int] | None = None) -> Tensor:
        """float32 (R, H, T, N), or only these rows of T."""
        return torch.cat([weights for _, weights in self.blocks(rows)], 1)

    def mean(self, rows: Sequence[int] | None = None) -> Tensor:
        """Mean over the heads: float32 (R, T or rows, N)."""
        total: Any = sum(weights.sum(1) for _, weights in self.blocks(rows))
        return total / self.handle.shape[1]

    def relevant(self, gradient: Tensor | None) -> Tensor:
        """Mean over the heads of max(0, dy/dA * A): float32 (R, T, N), from the gradient of
        `handle`; None where the target does not depend on this layer. A gradient that is no
        number counts as 0."""
        if gradient is None:
            return torch.zeros_like(self.mean())
        total: Any = 0
        for heads, weights in self.blocks():
            slope = gradient.float()
            if self.value is not None and self.query is not None:
                slope = slope.reshape(*self.query.shape[:3], -1)[:, heads]
                slope = slope @ self.value[:, heads].float().mT  # (R, h, T, N)
            product = weights.detach() * slope
            total = total + product.nan_to_num(0.0, 0.0, 0.0).clamp(min=0).sum(1)
        return total / self.handle.shape[1]

    def check(self, rows: Sequence[int]) -> None:
        """See that the weights give what the layer gave, at these rows.

        Raises:
            TaskError: they do not, or hold what is no number.
        """
        heads, weights = next(self.blocks(rows))
        wrong = not bool(weights.isfinite().all())
        if self.given is None and not wrong and len(rows):
            assert self.output is not None and self.value is not None
            assert self.query is not None
            output = self.output.reshape(*self.query.shape[:3], -1)  # (R, H, T, d)
            want = output[:, heads][:, :, list(rows)].float()
            apart = (weights @ self.value[:, heads].float() - want).abs().max()
            wrong = not bool(apart <= _TOLERANCE.get(self.output.dtype, 0.1)
                             * want.abs().max().clamp(min=1e-3))
        if wrong:
            raise TaskError("method.not_used", dtype=str(self.handle.dtype).split(".")[-1])


class _Watch(TorchFunctionMode):
    """Hands what happens in attention layers to the one that is running."""

    def __init__(self, graph: bool) -> None:
        super().__init__()
        self.graph = graph
        self.calls: list[Look] | None = None  # of the layer that is running
        self.shape = (0, 0)  # R and T that it was given

    def __torch_function__(self, func: Any, _types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        fused = func is F.scaled_dot_product_attention
        if self.calls is None or not (fused or func in _SOFTMAX and result.dim() in (3, 4)):
            return result
        if self.graph and not result.requires_grad:  # as in a frozen model
            result.requires_grad_()
        if fused:
            self.calls.append(self._look(result, *args, **(kwargs or {})))
        else:
            given = result
            if result.dim() == 3:  # (R * H, T, N), as TrOCR's
                given = result.view(self.shape[0], -1, *result.shape[1:])
                result = given.flatten(0, 1)  # so that gradients come through what is kept
            self.calls.append(Look(given=self._by_text(self._kept(given))))
        return result

    def _kept(self, tensor: Tensor) -> Tensor:
        return tensor if self.graph else tensor.detach()

    def _look(self, output: Tensor, query: Tensor, key: Tensor, value: Tensor,
              attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
              scale: float | None = None, enable_gqa: bool = False) -> Look:
        if query.shape[0] == self.shape[0] and query.shape[2] != self.shape[1] == 1:
            # One position whose heads were packed into the groups of their keys.
            query = query.flatten(1, 2)[:, :, None]
        heads = query.shape[1]
        key, value = (one if one.shape[1] == heads else
                      one.repeat_interleave(heads // one.shape[1], 1) for one in (key, value))
        groups = self.shape[0] // query.shape[0]
        if groups > 1:  # several texts on one memory
            query = self._by_text(query)
            key, value = (one.repeat_interleave(groups, 0) for one in (key, value))
            if attn_mask is not None and attn_mask.dim() == 4 and attn_mask.shape[0] > 1:
                attn_mask = attn_mask.repeat_interleave(groups, 0)
        return Look(None, self._kept(query), self._kept(key), self._kept(value), attn_mask,
                    query.shape[-1] ** -0.5 if scale is None else scale, is_causal,
                    self._kept(output))

    def _by_text(self, joined: Tensor) -> Tensor:
        """Several texts that looked at one memory together, apart again: (B, H, C * T, x) to
        (B * C, H, T, x)."""
        rows, length = self.shape
        if joined.shape[0] == rows:
            return joined
        batch, heads, _, width = joined.shape
        parted = joined.view(batch, heads, rows // batch, length, width)
        return parted.transpose(1, 2).flatten(0, 1)


@dataclass
class Record:
    """``calls[l]`` are the calls of module l, in order: one for a teacher-forced pass, one per step
    where words are written step by step."""

    calls: list[list[Look]]

    def __getitem__(self, layer: int) -> Look:
        """The only call of a layer."""
        assert len(self.calls[layer]) == 1, \
            f"attention layer {layer} was called {len(self.calls[layer])} times while recording"
        return self.calls[layer][0]

    def __iter__(self) -> Iterator[Look]:
        return (self[layer] for layer in range(len(self.calls)))

    @property
    def weights(self) -> list[Tensor]:
        """For each layer its weights (R, H, T, N), all its calls joined along T."""
        for layer, calls in enumerate(self.calls):
            assert calls, f"attention layer {layer} was not called while recording"
        return [torch.cat([call.weights() for call in calls], 2) for calls in self.calls]


@contextmanager
def record(modules: Sequence[nn.Module], *, graph: bool = False) -> Iterator[Record]:
    """Record every call of ``modules`` inside the block, as the file says above.

    With ``graph`` what is recorded stays part of the graph. Blocks may be nested; each has its own
    record. A module's first argument (or ``hidden_states``) is what looks, (R, T, D).
    """
    kept, watch = Record([[] for _ in modules]), _Watch(graph)

    def begin(calls: list[Look]) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            looking = args[0] if args else kwargs["hidden_states"]
            watch.calls, watch.shape = calls, (looking.shape[0], looking.shape[1])
        return hook

    def end(*_: Any) -> None:
        watch.calls = None

    with ExitStack() as stack:
        for module, calls in zip(modules, kept.calls, strict=True):
            stack.enter_context(hooked([module], begin(calls), before=True))
        stack.enter_context(hooked(modules, end))
        if modules:
            stack.enter_context(watch)
        yield kept


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[..., Any], before: bool = False
           ) -> Iterator[None]:
    """Inside, ``hook`` is called after each module, or before it, keyword arguments included."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback((module.register_forward_pre_hook if before else
                            module.register_forward_hook)(hook, with_kwargs=True).remove)
        yield
