"""The texts of chat models as traces: one stream, "text", in which the picture's tokens stand
before the question and what was written; a token is chosen at the place before it.

Legend: R rows, P tokens of a picture, T tokens of the stream, D width, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vitdemo.attention.capture import hooked
from vitdemo.attention.trace import (
    Layer,
    Place,
    Rows,
    Trace,
    WrittenTrace,
    in_groups,
    place_indices,
)
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.chat_model import joined_ends
from vitdemo.backends.writing_backend import one_stream
from vitdemo.records import Request
from vitdemo.texts import joined, phrase

if TYPE_CHECKING:
    from vitdemo.backends.chat import ChatBackend, Prompt
    from vitdemo.backends.chat_model import ChatPicture, ChatState


@dataclass(frozen=True, kw_only=True)
class ChatTrace(WrittenTrace):
    """``picture`` is fit for gradients; ``ids`` are the prompt's and then what was written;
    ``state`` is the one that wrote on the prompt last, None where there is none."""

    backend: "ChatBackend"
    picture: "ChatPicture"
    prompt: "Prompt"
    ids: Sequence[int]
    state: "ChatState | None"

    def kept(self) -> int:
        """The prompt without its last token."""
        known = self.state is not None and self.state.plain
        return len(self.ids) - self.targets - 1 if known else 0

    def features(self) -> Tensor:
        """What the vision encoder gave for the tokens of the regions."""
        return self.picture.features[list(self.picture.regions.places)]

    def logits(self, rows: Rows, places: Sequence[Place]) -> Tensor:
        """One pass over prompt and text; pictures whose prompts are alike go together."""
        if not rows.pictures:
            last = max(*self.regions.places, self.shift - 1)
            with only_through_picture(self.layers, min(self.regions.places), last, rows.through):
                return self._pass([self.picture], rows.count, self.ids, rows.offset, places,
                                  rows.since)
        ids = [(*self.backend.prompt_ids(self.prompt, one.size), *self.written_ids[:-1])
               for one in rows.pictures]
        return in_groups(ids, places, lambda some, asked: self._pass(
            [rows.pictures[row].data for row in some], len(some), ids[some[0]], None, asked))

    def _pass(self, pictures: Sequence["ChatPicture"], count: int, ids: Sequence[int],
              offset: Tensor | None, places: Sequence[Place], since: int = 0) -> Tensor:
        backend = self.backend
        tokens = sorted({token for _, token in places}) or [self.targets]
        keep = backend.tensor(tokens)[0] + len(ids) - self.targets - 1  # the place before each
        if since:
            assert self.state is not None
            logits = self.state.going_on(backend.tensor(ids[since:]), self.state.prefix(since),
                                         keep - since)
        else:
            logits = backend.forward(backend.tensor(ids).expand(count, -1), pictures, offset,
                                     self.targets, logits_to_keep=keep, use_cache=False).logits
        row, token = place_indices(places, logits.device)
        kept = torch.searchsorted(keep, keep[0] + token - tokens[0])
        return joined_ends(logits[row, kept], backend.ends)  # (n, V)


@contextmanager
def only_through_picture(layers: Sequence[Layer], first: int, last: int,
                         positions: Tensor | None) -> Iterator[None]:
    """Inside, gradients come from the places ``first`` to ``last`` of a stream, which hold the
    picture, to the others only where ``positions``, bool (R, T), is true: elsewhere the same
    attention is computed with those places cut off from the graph. None is everywhere."""
    if positions is None:
        yield
        return
    free = positions.clone()
    free[:, first:last + 1] = True  # the picture among itself

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        states = args[0] if args else kwargs["hidden_states"]
        cut = states.clone()
        cut[:, first:last + 1] = states[:, first:last + 1].detach()
        given = {**kwargs, "hidden_states": cut} if not args else kwargs
        other = module.forward(*((cut, *args[1:]) if args else ()), **given)
        return (torch.where(free[..., None], output[0], other[0]), *output[1:])

    with hooked([layer.module for layer in layers], hook):
        yield


def chat_traces(backend: "ChatBackend", features: PictureFeatures,
                request: Request) -> tuple[Trace, ...]:
    """See `Backend.traces`.

    Raises:
        TextError: prompt and text are too long.
    """
    text, task = request.text, request.task
    prompt = backend.prompt(request.instruction, request.language, task)
    start = len(prompt.text) + len(prompt.lead)
    ids, spans = backend.encode(prompt.text + prompt.lead + text)
    first = next((n for n, (_, end) in enumerate(spans) if end > len(prompt.text)), len(ids))
    first = first if text else len(backend.encode(prompt.text)[0])
    written_ids = ids[first:] if text else []
    prompt_ids = backend.prompt_ids(prompt, features.size)
    backend.require_room(len(prompt_ids) + len(written_ids) + 1)
    picture = features.data.own()
    stood = [place for place, number in enumerate(prompt_ids) if number == backend.picture_id]
    regions = picture.regions
    # The prompt with one mark for the picture has the same tokens after it.
    moved = len(prompt_ids) - first
    before = prompt.text.find(backend.mark) < prompt.question[0]
    return one_stream(
        ChatTrace, task, prompt.text + prompt.lead + text, spans, first, start, prompt.question,
        (moved if before else 0, moved),
        backend=backend, picture=picture, prompt=prompt, ids=[*prompt_ids, *written_ids],
        written_ids=[*written_ids, backend.ends[0]], text_of=backend.text, stream="text",
        state=backend.written_state(features.data, prompt),
        layers=backend.layers,
        lengths={"text": len(prompt_ids) + len(written_ids)}, path=joined((
            "" if regions.whole else phrase("method.cropped"),
            "" if backend.known else phrase("method.tried"))),
        regions=replace(regions, places=[stood[place] for place in regions.places]))
