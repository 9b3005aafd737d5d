"""Language models of transformers whose text begins with the picture: with the picture's own tokens
(GIT), or with a few latents that have looked at it (BLIP-2, InstructBLIP, Kosmos-2). A family adds
its modules, and what its prompt looks like.

The trace's stream "text" holds the beginning, the prompt and what was written; a token is chosen at
the place before it. The regions stand in it, or in "picture", at which "latents" look.

Legend: R rows, N tokens of the vision encoder, K regions, T tokens of the text, C width of the
vision encoder's states, V vocabulary.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vitdemo.attention.trace import Layer, Place, Regions, Rows, Trace, place_indices
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.chat_model import ends_of, handed, joined_ends
from vitdemo.backends.chat_trace import only_through_picture
from vitdemo.backends.hub import Checkpoint, HubBackend, cache_argument
from vitdemo.backends.picture_tokens import patch_boxes
from vitdemo.backends.writing_backend import (
    CachedState,
    Seen,
    SeenTrace,
    Start,
    WritingBackend,
    one_stream,
)
from vitdemo.cache import LRU
from vitdemo.instructions import default_instruction, is_preset, taught
from vitdemo.records import Request
from vitdemo.texts import phrase

_KEPT_PROMPTS = 64


@dataclass(frozen=True)
class Prompt:
    """``text`` stands between the picture and what is written; ``ids`` are the model's for both,
    ``inputs`` what else it is given, each (1, n)."""

    text: str
    ids: list[int]
    inputs: dict[str, Tensor]


class PrefixBackend(WritingBackend):
    """One checkpoint; see the file."""

    question = "Question: {} Answer:"
    describe = ""  # where no instruction is given
    instructed = False  # else a free instruction is the beginning that the caption goes on from
    stream = "picture"  # in which the regions stand
    before = 0  # tokens of the picture that no ids stand for
    pictures_at_once = 8

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(
            checkpoint, instructions=tuple(taught()["en"]) if self.instructed else ("describe",))
        self.ends = ends_of(self.model, self.tokenizer)
        self._prompts: LRU[Prompt] = LRU(_KEPT_PROMPTS)

    # What a family adds

    @property
    def vision(self) -> Any:
        """What makes the picture's states, as its last_hidden_state."""
        return self.model.vision_model

    @property
    @abstractmethod
    def writer(self) -> Any:
        """The language model, which goes on from its cache."""

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """Those of the latents, if any, and those of the text, in order."""

    @abstractmethod
    def beginning(self, prompt: Prompt) -> Sequence[int]:
        """Places of the picture, or of its latents, in the text."""

    def asked(self, text: str) -> tuple[list[int], dict[str, Tensor]]:
        """What the processor makes of a prompt: ids, and other inputs."""
        given = self.checkpoint.processor(text=[text], images=[Image.new("RGB", (64, 64))])
        more = {name: torch.as_tensor(np.array(given[name]), device=self.model.device)
                for name in given if name not in ("input_ids", "attention_mask", "pixel_values")}
        return [int(number) for number in given["input_ids"][0]], more

    def going_on(self, ids: Tensor, length: int) -> dict[str, Any]:
        """What else the writer is given for ids after ``length`` others."""
        return {}

    # Pictures

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """By the checkpoint's own processor."""
        images, config = self.processor.image_processor, self.model.config.vision_config
        grid = (config.image_size // config.patch_size,) * 2
        pixels = images(images=pictures, return_tensors="pt")["pixel_values"]
        states = self.vision(pixel_values=self.own(pixels)).last_hidden_state
        for picture, row in zip(pictures, states, strict=True):
            boxes, shown = patch_boxes(images, picture.size, grid)
            yield Seen(row[None].clone(), Regions(
                self.stream, (np.flatnonzero(shown) + 1).tolist(), boxes,
                grid if shown.all() else (0, 0), picture.size))

    def forward(self, ids: Tensor, prompt: Prompt, states: Tensor, **more: Any) -> Tensor:
        """The model's own pass over ids (R, T), which begin with the prompt's, with states
        (R, N, C): logits of the places asked for by ``logits_to_keep``, (R, n, V)."""
        inputs = {name: value.expand(len(ids), -1) for name, value in prompt.inputs.items()}
        for name, value in inputs.items():
            if name.endswith("position_mask"):
                inputs[name] = F.pad(value, (0, ids.shape[1] - value.shape[1]))
        with handed(self.vision, "forward", BaseModelOutputWithPooling(
                last_hidden_state=states, pooler_output=states[:, 0])):
            return self.model(input_ids=ids, pixel_values=states.new_zeros(len(ids), 3, 1, 1),
                              **inputs, **more).logits

    # Texts

    encode = HubBackend.encode  # characters that the vocabulary lacks are folded

    def prompt(self, text: str) -> Prompt:
        """What stands for the picture, and then ``text``.

        Raises:
            TextError: the text is too long, or holds one of the model's own marks.
        """
        known = self._prompts.get(text)
        if known is None:
            self.refuse_marks(text, *map(str, self.tokenizer.get_added_vocab()))
            self.encode(text)
            known = Prompt(text, *self.asked(text))
            self._prompts.put(text, known)
        return known

    def _said(self, request: Request) -> tuple[str, str]:
        """The prompt, and the beginning of what is written where that goes on from the prompt."""
        words = request.instruction.strip()
        if request.task == "ask":
            return self.question.format(words), ""
        if words in ("", default_instruction("en")) or is_preset(words) and not self.instructed:
            return self.describe, ""
        return words, "" if self.instructed else words

    def text(self, ids: Sequence[int]) -> str:
        """What was written."""
        return self.checkpoint.text(ids)

    def start(self, features: PictureFeatures, request: Request) -> Start:
        """After the prompt."""
        said, begin = self._said(request)
        prompt = self.prompt(said)
        return Start(_State(self, features.data, prompt), prompt.ids, self.ends[0],
                     lambda ids: f"{begin} {self.text(ids)}".strip())

    # Explaining

    def traces(self, features: PictureFeatures, request: Request) -> tuple[Trace, ...]:
        """The question and what was written stand in one stream."""
        words, text = request.instruction.strip(), request.text
        said, own = self._said(request)
        said = "" if own else said  # the text begins with it
        prompt, seen = self.prompt(said), features.data
        joint = " " if said and text else ""
        whole = said + joint + text
        ids, spans = self.encode(whole)
        first = sum(end <= len(said) for _, end in spans)
        start, places = self.before + len(prompt.ids), list(self.beginning(prompt))
        length, read = start + len(ids) - first, prompt.inputs.get("qformer_input_ids")
        asked = said.rfind(words)
        return one_stream(
            PrefixTrace, request.task, whole, spans, first, len(said) + len(joint),
            (asked, asked + len(words)), (start - first, start - first),
            backend=self, seen=seen, prompt=prompt, written_ids=[*ids[first:], self.ends[0]],
            text_of=self.text, stream="text", layers=self.layers, regions=seen.regions,
            beginning=places, path="" if seen.regions.whole else phrase("method.cropped"),
            latents=places if self.stream == "picture" else (),
            lengths={"picture": seen.states.shape[1], "text": length,
                     "latents": len(places) + (0 if read is None else read.shape[1])})


class _State(CachedState):
    """See `vitdemo.backends.writing.State`."""

    def next(self, ids: Tensor) -> Tensor:
        """Logits of the token after ids."""
        backend = self.backend
        more = {cache_argument(backend.writer): self.cache, "use_cache": True, "logits_to_keep": 1}
        if self.length:
            logits = backend.writer(input_ids=ids, **backend.going_on(ids, self.length),
                                    **more).logits
        else:
            logits = backend.forward(ids, self.prompt, self.seen.states, **more)
        self.length += ids.shape[1]
        return joined_ends(logits[:, -1], backend.ends)


@dataclass(frozen=True, kw_only=True)
class PrefixTrace(SeenTrace):
    """``beginning`` are the places in the text of the picture or its latents."""

    beginning: Sequence[int]

    def logits(self, rows: Rows, places: Sequence[Place]) -> Tensor:
        """One pass over the picture, the prompt and the text."""
        backend, states = self.backend, self.states(rows)
        tokens = sorted({token for _, token in places}) or [0]
        start = backend.before + len(self.prompt.ids) - 1
        ids = backend.tensor([*self.prompt.ids, *self.written_ids[:-1]])
        last = max(self.beginning[-1], self.shift - 1)
        own = [layer for layer in self.layers if layer.stream == self.stream]
        with only_through_picture(own, self.beginning[0], last, rows.through):
            logits = backend.forward(
                ids.expand(len(states), -1), self.prompt, states, use_cache=False,
                logits_to_keep=backend.tensor(tokens)[0] + start)  # (R, n, V)
        row, token = place_indices(places, logits.device)
        kept = torch.searchsorted(backend.tensor(tokens)[0], token)
        return joined_ends(logits[row, kept], backend.ends)
