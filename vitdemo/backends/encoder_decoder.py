"""Encoders and decoders of transformers: a picture is encoded, and a decoder writes while it looks
at what the encoder gave by cross-attention. What Florence-2, `VisionEncoderDecoderModel` and
Pix2Struct share; a family adds how it encodes pictures and how a text begins.

The trace has two streams: "written", in which what the decoder is given stands before what it wrote
(the token after a place is chosen there), and "picture", which it looks at. Where the encoder reads
an instruction beside the picture, both stand in "picture", and its layers are in the trace.

Legend: R rows, N tokens looked at, T tokens, D width of the picture's states, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from vitdemo.attention.capture import hooked
from vitdemo.attention.trace import Layer, Place, Rows, Trace, in_groups, place_indices
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.chat_model import ends_of
from vitdemo.backends.hub import Checkpoint
from vitdemo.backends.writing_backend import (
    CachedState,
    Seen,
    SeenTrace,
    Start,
    WritingBackend,
    select_written,
    words_between,
)
from vitdemo.instructions import is_preset
from vitdemo.records import Request
from vitdemo.texts import Message, phrase

# What a decoder's block calls its self-attention and its cross-attention, by family.
_ATTENTION = (("self_attn", "encoder_attn"), ("attn", "crossattention"),
              ("self_attention.attention", "encoder_decoder_attention.attention"),
              ("attention.self", "crossattention.self"))


@dataclass(frozen=True)
class Prompt:
    """What a text begins with: ids that the encoder ``read`` beside the picture, none as a rule;
    ids that the decoder is ``given``, and the text they are, in which the question stands from
    where to where; and the token that is the ``end``."""

    given: Sequence[int]
    end: int
    read: Sequence[int] = ()
    text: str = ""
    question: tuple[int, int] = (0, 0)


class EncoderDecoderBackend(WritingBackend):
    """One checkpoint; see the file."""

    def __init__(self, checkpoint: Checkpoint, family: str = "", **info: Any) -> None:
        name = family or self.family.name
        super().__init__(checkpoint, name, **{
            "tasks": frozenset({"caption", "explain"}),
            "missing": {"ask": Message("task.no_questions", family=name)}, **info})
        self._marked: bool | None = None

    @classmethod
    def tasks_of(cls, source: str = "") -> tuple[str, ...]:
        """They describe."""
        return tuple(task for task in super().tasks_of(source) if task != "ask")

    # What a family adds

    @property
    def decoder(self) -> Any:
        """What writes."""
        return self.model.decoder

    def prompt(self, instruction: str, task: str) -> Prompt:
        """What a caption or an answer begins with."""
        return Prompt([self.first], self.end)

    def memory(self, states: Tensor, prompt: Prompt) -> Tensor:
        """What the decoder looks at: (R, N, D) of the pictures, and then what was read."""
        return states

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The decoder's."""
        layers: list[Layer] = []
        for block in self.decoder.modules():
            for own, cross in _ATTENTION:
                if not all(hasattr(block, name.split(".")[0]) for name in (own, cross)):
                    continue
                looking: Any = block.get_submodule(cross)
                heads = next(int(getattr(looking, name)) for name in (
                    "num_heads", "n_heads", "num_attention_heads") if hasattr(looking, name))
                number = len(layers) // 2 + 1
                layers += [Layer(block.get_submodule(own), "written", ("written",), heads),
                           Layer(looking, "written", ("picture",), heads,
                                 f"cross-attention {number}")]
        return tuple(layers)

    # Texts

    @property
    def first(self) -> int:
        """The token that a decoder begins with."""
        settings, config = self.model.generation_config, self.model.config
        for found in (settings.decoder_start_token_id,
                      getattr(config, "decoder_start_token_id", None),
                      getattr(config.get_text_config(), "decoder_start_token_id", None),
                      self.tokenizer.bos_token_id):
            if found is not None:
                return int(found)
        return int(self.tokenizer.pad_token_id)

    @property
    def end(self) -> int:
        """The token that ends a text."""
        return ends_of(self.model, self.tokenizer)[0]

    def begun(self, seen: Seen, prompt: Prompt) -> Prompt:
        """``prompt`` with the mark of a beginning that many models write before the first word,
        as their tokenizers put one before the texts they were trained on."""
        mark = self.tokenizer.bos_token_id
        if mark is None or prompt.given[-1] != self.first or mark in (self.first, self.end):
            return prompt
        if self._marked is None:
            forced = self.model.generation_config.forced_bos_token_id
            if forced is None:
                with torch.no_grad():
                    logits = EncoderDecoderState(self, seen, prompt).next(self.tensor(prompt.given))
                forced = int(logits.argmax())
            self._marked = forced == mark
        return replace(prompt, given=[*prompt.given, mark]) if self._marked else prompt

    # Writing

    def start(self, features: PictureFeatures, request: Request) -> Start:
        """A family that reads no instructions goes on from a person's own, as from the beginning
        of a caption."""
        instruction, own = request.instruction, list[int]()
        prompt = self.begun(features.data, self.prompt(instruction, request.task))
        if request.task == "caption" and not prompt.read and not is_preset(instruction):
            own = self.encode(instruction.strip())[0]
        return Start(EncoderDecoderState(self, features.data, prompt), [*prompt.given, *own],
                     prompt.end, lambda written: self.text([*own, *written]))

    def forward(self, memory: Tensor, ids: Tensor, row: Tensor, place: Tensor,
                **more: Any) -> Tensor:
        """Logits, float32 (n, V), after the token at each ``place`` of each ``row`` of ids
        (R, T) of the decoder, which looks at memory (R, N, D)."""
        # The head makes logits at these places only; those of all would be (R, T, V).
        with hooked([self.model.get_output_embeddings()], lambda _, args, more: (
                (args[0][row, place],), more), before=True):
            return self.model(encoder_outputs=BaseModelOutput(last_hidden_state=memory),
                              decoder_input_ids=ids, **more).logits.float()

    # Explaining

    def traces(self, features: PictureFeatures, request: Request) -> tuple[Trace, ...]:
        """A caption or an answer; and a question where the decoder is given it."""
        seen: Seen = features.data
        text, task = request.text, request.task
        prompt = self.begun(seen, self.prompt(request.instruction, task))
        state = self.written_state(seen, prompt)
        ids, spans = self.encode(text)
        self.require_room(len(prompt.given) + len(ids) + 1)
        shared: dict[str, Any] = dict(
            backend=self, seen=seen, prompt=prompt, state=state, written_ids=[*ids, prompt.end],
            text_of=self.text, stream="written",
            layers=self.layers, regions=seen.regions,
            path="" if seen.regions.whole else phrase("method.cropped"),
            lengths={"picture": seen.states.shape[1] + len(prompt.read),
                     "written": len(prompt.given) + len(ids)})
        words, tokens, _ = words_between(text, spans, 0, len(text), 0)
        written = EncoderDecoderTrace(
            text=text, source="caption" if task == "caption" else "answer", written=True,
            words=words, tokens=tokens, shift=len(prompt.given) - 1, **shared)
        if task == "caption":
            return (written,)
        begin, end = prompt.question
        words, tokens, place = words_between(prompt.text, self.encode(prompt.text)[1], begin, end)
        return EncoderDecoderTrace(
            text=prompt.text[begin:end], source="question", written=False, words=words,
            tokens=tokens, shift=place, **shared), written


class EncoderDecoderState(CachedState):
    """See `vitdemo.backends.writing.State`. The picture's keys and values are made once, and all
    rows look at them."""

    def __init__(self, backend: EncoderDecoderBackend, seen: Seen, prompt: Prompt) -> None:
        super().__init__(backend, seen, prompt, EncoderDecoderCache(DynamicCache(), DynamicCache()))
        with torch.no_grad():
            self.memory = backend.memory(seen.states, prompt)

    def next(self, ids: Tensor) -> Tensor:
        """Logits of the token after ids."""
        rows = torch.arange(len(ids), device=ids.device)
        return self.backend.forward(
            self.memory.expand(len(ids), -1, -1), ids, rows, torch.full_like(rows, -1),
            use_cache=True, **{self._argument: self.cache})

    def select(self, rows: Sequence[int]) -> None:
        """The cache of these rows."""
        select_written(self.cache, rows)

    def looked(self) -> dict[str, EncoderDecoderCache]:
        """The argument by which a text is read that looks at the same: one row."""
        looked = DynamicCache()
        layer: Any
        for number, layer in enumerate(self.cache.cross_attention_cache.layers):
            looked.update(layer.keys[:1], layer.values[:1], number)
        return {self._argument: EncoderDecoderCache(DynamicCache(), looked)}


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderTrace(SeenTrace):
    """What was written stands after the ids of the ``prompt``."""

    def logits(self, rows: Rows, places: Sequence[Place]) -> Tensor:
        """One pass of the decoder, and of the encoder where it reads an instruction; pictures
        with as many tokens go together."""
        alone = not rows.pictures and rows.count == 1 and rows.offset is None
        if alone and self.state is not None and "picture" not in rows.recorded:
            return self._read(self.state.memory, places, use_cache=True, **self.state.looked())
        if not rows.pictures:
            return self._pass(self.states(rows), places)
        states = [one.data.states for one in rows.pictures]
        return in_groups([one.shape for one in states], places, lambda some, asked: self._pass(
            torch.cat([states[row] for row in some]), asked))

    def _pass(self, states: Tensor, asked: Sequence[Place]) -> Tensor:
        return self._read(self.backend.memory(states, self.prompt), asked, use_cache=False)

    def _read(self, memory: Tensor, asked: Sequence[Place], **more: Any) -> Tensor:
        given, (row, place) = self.prompt.given, place_indices(asked, memory.device)
        last = int(place.max()) if len(place) else self.targets
        ids = self.backend.tensor([*given, *self.written_ids[:last]]).expand(len(memory), -1)
        return self.backend.forward(memory, ids, row, place + len(given) - 1, **more)
