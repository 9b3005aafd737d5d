"""How chat models of transformers are called: a picture's features are handed to the model's own
code, and writing goes on from its cache.

Legend: R rows of one pass, P tokens of a picture, T tokens of a text, D width, V vocabulary.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vitdemo.attention.methods import for_gradients
from vitdemo.attention.trace import Regions
from vitdemo.backends.writing_backend import CachedState


@dataclass(frozen=True)
class ChatPicture:
    """What is kept of one picture: what `get_image_features` of the model gave, the ``inputs`` that
    its tokens' positions follow from, and its regions, with ``places`` among its own tokens."""

    output: Any
    inputs: dict[str, Tensor]
    regions: Regions

    @property
    def features(self) -> Tensor:
        """(P, D)."""
        return flat(self.output.pooler_output)

    def own(self) -> "ChatPicture":
        """One whose tensors can take gradients."""
        return replace(self, output=output_of([self.output], [for_gradients(self.features)]))


class ChatState(CachedState):
    """See `vitdemo.backends.writing.State`."""

    _positions: Any = None

    def next(self, ids: Tensor) -> Tensor:
        """Logits of the token after ids."""
        if not self.length:
            logits = self.backend.forward(ids, [self.seen], logits_to_keep=1, use_cache=True,
                                        **{self._argument: self.cache}).logits
            # Qwen-VL keeps in the model by how much the last text's positions are moved; another
            # text may be written meanwhile.
            self._positions = getattr(self.backend.model.base_model, "rope_deltas", None)
        else:
            logits = self.going_on(ids, self.cache, 1)
        self.length += ids.shape[1]
        return joined_ends(logits[:, -1], self.backend.ends)

    def going_on(self, ids: Tensor, cache: Any, keep: Tensor | int) -> Tensor:
        """Logits of ids (R, T), which follow what is in a ``cache``, at the places to ``keep``:
        (R, n, V)."""
        model = self.backend.model
        if self._positions is not None:
            model.base_model.rope_deltas = self._positions
        return model(input_ids=ids, logits_to_keep=keep, use_cache=True,
                     **{self._argument: cache}).logits


@contextmanager
def handed(owner: Any, method: str, output: Any) -> Iterator[None]:
    """Inside, a model is handed ``output`` where it asks ``owner`` for a picture's features by this
    method."""
    setattr(owner, method, lambda *_, **__: output)
    try:
        yield
    finally:
        delattr(owner, method)


def output_of(outputs: Sequence[Any], rows: list[Tensor]) -> Any:
    """What `get_image_features` gives for several pictures: ``outputs`` are each one's, but with
    these features, each (P, D). Qwen3-VL adds some to its deeper layers, too."""
    like = outputs[0]
    joint: dict[str, Any] = {"pooler_output": torch.stack(rows) if isinstance(
        like.pooler_output, Tensor) else rows}
    if getattr(like, "deepstack_features", None) is not None:
        joint["deepstack_features"] = [
            [for_gradients(part) for one in outputs for part in one.deepstack_features[number]]
            for number in range(len(like.deepstack_features))]
        return type(like)(**joint)
    return BaseModelOutputWithPooling(**joint)


def flat(pooled: Any) -> Tensor:
    """Features of one picture's tokens, however they are packed: (P, D)."""
    if not isinstance(pooled, Tensor):
        pooled = torch.cat([flat(part) for part in pooled])
    return pooled.flatten(0, -2)


def joined_ends(logits: Tensor, ends: Sequence[int]) -> Tensor:
    """Of several tokens that end a text the first stands for all: float32 (..., V)."""
    logits = logits.float()
    if len(ends) == 1:
        return logits
    places = torch.tensor(list(ends), device=logits.device)
    joint = logits[..., places].logsumexp(-1, keepdim=True)
    return logits.index_fill(-1, places, -torch.inf).index_copy(-1, places[:1], joint)


def token_types(model: Any, ids: Tensor, picture_id: int, written: int) -> dict[str, Tensor]:
    """What tells a model the kinds of tokens in ids (R, T). PaliGemma's prompt is read both ways,
    the last ``written`` ids are not; to others it says which are the picture's."""
    if model.config.model_type == "paligemma":
        kinds = torch.zeros_like(ids)
        kinds[:, ids.shape[1] - written:] = 1
        return {"token_type_ids": kinds}
    accepted = inspect.signature(model.forward).parameters
    return {name: (ids == picture_id).int() for name in ("mm_token_type_ids", "token_type_ids")
            if name in accepted}


def ends_of(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a text."""
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    return [ends] if isinstance(ends, int) else list(ends)
