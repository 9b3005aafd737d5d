"""Causal language models of transformers that look at a picture by cross-attention: what IDEFICS,
Mllama and their like share. A family adds how it encodes pictures, where their regions lie, and
which layers look at them.

The trace has two streams: "picture", and "text", in which the prompt stands before what was
written; the token after a place is chosen there.

Legend: R rows, N picture tokens, K regions, T tokens, D width of the picture's states.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from vitdemo.attention.trace import Layer, Place, Rows, Trace, place_indices
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.hub import Checkpoint, cache_argument
from vitdemo.backends.writing_backend import (
    ANSWER,
    DESCRIBE,
    CachedState,
    Seen,
    SeenTrace,
    Start,
    WritingBackend,
    one_stream,
)
from vitdemo.instructions import default_instruction, is_preset, taught
from vitdemo.records import Request


@dataclass(frozen=True)
class Prompt:
    """A text before what is written, and from where to where in it the question stands."""

    text: str
    question: tuple[int, int]


class CausalBackend(WritingBackend):
    """One checkpoint; see the file."""

    picture_text: str  # what stands for the picture in a prompt
    picture_token: str  # from where on the text may look at it
    latents = 0  # that look at the picture, and the text at them

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.chats = bool(getattr(checkpoint.processor, "chat_template", None))
        super().__init__(
            checkpoint, instructions=tuple(taught()["en"]) if self.chats else ("describe",))

    # What a family adds

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """Those of self-attention and of cross-attention, in order."""

    @abstractmethod
    def looking(self, states: Tensor, tiles: Tensor, sees: Tensor, begins: bool) -> dict[str, Any]:
        """What lets R texts look at states (R, N, D): keyword arguments of the model. ``tiles``
        (R,) is how many are real, ``sees``, bool (T,), from which places the picture can be seen;
        ``begins`` is false where the states are in the cache."""

    def forward(self, ids: Tensor, states: Tensor, tiles: Tensor, sees: Tensor, begins: bool,
                cache: Any) -> Tensor:
        """The last states of a pass over ids (R, T), which follow what is in the ``cache``:
        (R, T, width)."""
        return self.model.model(
            input_ids=ids, use_cache=cache is not None, **self.looking(states, tiles, sees, begins),
            **{cache_argument(self.model): cache}).last_hidden_state

    # Texts

    def prompt(self, instruction: str, asked: bool) -> Prompt:
        """By the model's own chat template; without one a caption goes on from the instruction,
        where that is no preset, and an answer follows "Answer:".

        Raises:
            TextError: the instruction holds one of the model's own marks.
        """
        words = instruction.strip()
        self.refuse_marks(words, self.picture_token)
        if self.chats:
            if not asked and words in ("", default_instruction("en")):
                words = DESCRIBE["en"]
            content = [{"type": "image"}, {
                "type": "text", "text": ANSWER["en"].format(words) if asked else words}]
            text = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True)
        else:
            start = self.tokenizer.bos_token or ""
            words = words if asked or not is_preset(words) else ""
            text = start + self.picture_text + (f"Question: {words} Answer:" if asked else words)
        first = text.rfind(words)
        return Prompt(text, (first, first + len(words)))

    def sees(self, ids: Sequence[int]) -> Tensor:
        """From which places the picture can be seen: bool (T,)."""
        token = self.tokenizer.convert_tokens_to_ids(self.picture_token)
        first = next((i for i, number in enumerate(ids) if number == token), 0)
        return torch.arange(len(ids), device=self.model.device) >= first

    def start(self, features: PictureFeatures, request: Request) -> Start:
        """After the prompt; without a template a caption's own beginning is part of it."""
        instruction, asked = request.instruction, request.task == "ask"
        prompt = self.prompt(instruction, asked)
        before = "" if asked or self.chats or is_preset(instruction) else instruction.strip()
        return Start(_State(self, features.data, prompt), self.encode(prompt.text)[0],
                     self.tokenizer.eos_token_id,
                     lambda written: f"{before} {self.text(written)}".strip())

    # Explaining

    def traces(self, features: PictureFeatures, request: Request) -> tuple[Trace, ...]:
        """The prompt's question and what was written stand in one stream. Where a caption went on
        from its instruction, it begins with it."""
        asked, text = request.task == "ask", request.text
        prompt = self.prompt(request.instruction if asked or self.chats else "", asked)
        joint = "" if not text or prompt.text[-1:].isspace() else " "
        whole = prompt.text + joint + text
        ids, spans = self.encode(whole)
        first = sum(end <= len(prompt.text) for _, end in spans)
        seen: Seen = features.data
        return one_stream(
            CausalTrace, request.task, whole, spans, first, len(prompt.text) + len(joint),
            prompt.question, (0, 0), backend=self, seen=seen, prompt=prompt, ids=ids, first=first,
            text_of=self.text, state=self.written_state(seen, prompt),
            written_ids=[*ids[first:], self.tokenizer.eos_token_id],
            stream="text", layers=self.layers, regions=seen.regions,
            lengths={"picture": seen.states.shape[1], "text": len(ids), "latents": self.latents})


def gate_of(layer: nn.Module, name: str) -> float:
    """tanh of a layer's gate, the mean where it has several."""
    with align_module_device(layer):  # where it has no room on the GPU
        return float(layer.get_parameter(name).float().tanh().mean())


class _State(CachedState):
    """See `vitdemo.backends.writing.State`."""

    def next(self, ids: Tensor) -> Tensor:
        """Logits of the token after ids."""
        rows, begins = len(ids), not self.length
        sees = self.backend.sees(ids[0].tolist()) if begins else torch.ones(
            ids.shape[1], dtype=torch.bool, device=ids.device)
        hidden = self.backend.forward(
            ids, self.seen.states.expand(rows, -1, -1),
            torch.full((rows,), self.seen.tiles, device=ids.device), sees, begins, self.cache)
        self.length += ids.shape[1]
        return self.backend.model.lm_head(hidden[:, -1]).float()


@dataclass(frozen=True, kw_only=True)
class CausalTrace(SeenTrace):
    """``ids`` are the prompt's and, from ``first`` on, those of what was written."""

    ids: Sequence[int]
    first: int

    def kept(self) -> int:
        """The prompt without its last token."""
        return self.first - 1 if self.state is not None and self.state.plain else 0

    def logits(self, rows: Rows, places: Sequence[Place]) -> Tensor:
        """One pass over prompt and text."""
        backend, states = self.backend, self.states(rows)
        tiles = torch.tensor([one.data.tiles for one in rows.pictures] or [self.seen.tiles],
                             device=states.device).expand(len(states))
        last, since = self.first + max((t for _, t in places), default=0), rows.since
        ids = backend.tensor(self.ids[since:last]).expand(len(states), -1)
        cache = self.state.prefix(since) if since and self.state is not None else None
        hidden = backend.forward(ids, states, tiles, backend.sees(self.ids)[since:last],
                                 cache is None, cache)
        row, place = place_indices(places, states.device)
        return backend.model.lm_head(hidden[row, self.first - 1 + place - since]).float()
