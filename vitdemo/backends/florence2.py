"""Florence-2 (Xiao et al. 2023, arXiv:2311.06242) from transformers.

A picture is squeezed to a square. Its first token is the mean of the others, which are a grid. They
and a sentence that says what to do go through one encoder, and the decoder looks at both.
"""

from collections.abc import Iterable
from math import isqrt
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Florence2ForConditionalGeneration

from vitdemo.attention.trace import Layer, Regions
from vitdemo.backends.base import Backend
from vitdemo.backends.encoder_decoder import EncoderDecoderBackend, Prompt
from vitdemo.backends.hub import Checkpoint, Family
from vitdemo.backends.source import read_config
from vitdemo.backends.writing_backend import Seen
from vitdemo.device import Placement
from vitdemo.errors import CheckpointError
from vitdemo.instructions import in_language, presets
from vitdemo.models.vision import Stride, region_edges
from vitdemo.preprocess import grid_boxes

# Its word for each instruction that is offered; the processor makes a sentence of it.
TASKS = {"describe": "<DETAILED_CAPTION>", "short": "<CAPTION>"}


class Florence2Backend(EncoderDecoderBackend):
    """See the file."""

    family = Family("Florence-2", "florence2", {"captioning": Florence2ForConditionalGeneration},
                    "florence-community/Florence-2-base")
    pictures_at_once = 8

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint, instructions=tuple(TASKS))

    @classmethod
    def load(cls, source: str, placement: Placement) -> Backend:
        """One that needs Python code of its own is refused."""
        if "auto_map" in read_config(source):
            raise CheckpointError("checkpoint.own_code", source=source,
                                  example=cls.family.example)
        return super().load(source, placement)

    @property
    def decoder(self) -> Any:
        """BART's."""
        return self.model.model.language_model.decoder

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The encoder's come before."""
        encoder = self.model.model.language_model.encoder
        return (*(Layer(layer.self_attn, "picture", ("picture",), layer.self_attn.num_heads)
                  for layer in encoder.layers), *super().layers)

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """By the checkpoint's own processor."""
        pixels = self.processor.image_processor(images=pictures, return_tensors="pt")[
            "pixel_values"]
        output = self.model.get_image_features(self.own(pixels))
        states = getattr(output, "pooler_output", output)  # (B, N, D)
        return (Seen(row[None].clone(), self._regions(picture.size, len(row), pixels.shape[-1]))
                for picture, row in zip(pictures, states, strict=True))

    def _regions(self, size: tuple[int, int], count: int, side: int) -> Regions:
        """Of a picture of ``size`` (width, height) that was squeezed to a square of ``side`` pixels
        and has ``count`` tokens. Each looks around a point that is not the middle of its part: of
        768 pixels, around 0, 32 and so on to 736."""
        vision = self.model.config.vision_config
        edges = region_edges(isqrt(count - 1), side, [
            Stride(0, step, kernel, before) for kernel, step, before in zip(
                vision.patch_size, vision.patch_stride, vision.patch_padding, strict=True)])
        grid = len(edges) - 1, len(edges) - 1
        return Regions("picture", range(1, count), grid_boxes(grid, size, (edges, edges)), grid,
                       size)

    def prompt(self, instruction: str, task: str) -> Prompt:
        """The sentence of its task; a person's own instruction stays as it is.

        Raises:
            TextError: the instruction holds one of the model's own marks, or is too long.
        """
        words = in_language(instruction, "en").strip()
        offered = {"": TASKS["describe"]} | {
            text: TASKS[key] for key, text in presets("en", TASKS).items()}
        if words not in self.processor.task_prompts_without_inputs:
            self.refuse_marks(words, *self.processor.task_prompts_without_inputs)
        inputs = self.processor(text=[offered.get(words, words)], images=[Image.new("RGB", (8, 8))])
        ids = [int(number) for number in inputs["input_ids"][0]]
        self.require_room(len(ids))
        count = ids.count(self.model.config.image_token_id)  # they stand first
        return Prompt([self.first], self.end, ids[count:])

    def memory(self, states: Tensor, prompt: Prompt) -> Tensor:
        """The encoder's."""
        read = self.model.get_input_embeddings()(self.tensor(prompt.read))
        joint = torch.cat([states, read.expand(len(states), -1, -1)], 1)
        return self.model.model.language_model.encoder(
            inputs_embeds=joint).last_hidden_state
