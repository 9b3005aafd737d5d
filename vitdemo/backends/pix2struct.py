"""Pix2Struct (Lee et al. 2022, arXiv:2210.03347) from transformers.

A picture is scaled to as many patches as it may have, in a grid of its own shape. Each token knows
its row and column. The decoder is T5's.
"""

from collections.abc import Iterable

from PIL import Image
from transformers import Pix2StructForConditionalGeneration

from vitdemo.attention.trace import Regions
from vitdemo.backends.encoder_decoder import EncoderDecoderBackend
from vitdemo.backends.hub import Checkpoint, Family
from vitdemo.backends.writing_backend import Seen
from vitdemo.errors import CheckpointError
from vitdemo.preprocess import grid_boxes


class Pix2StructBackend(EncoderDecoderBackend):
    """See the file."""

    family = Family("Pix2Struct", "pix2struct",
                    {"captioning": Pix2StructForConditionalGeneration},
                    "google/pix2struct-textcaps-base")

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.processor.image_processor.is_vqa:
            raise CheckpointError("checkpoint.drawn_question", name=checkpoint.name,
                                  example=self.family.example)
        super().__init__(checkpoint)

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """One, which has a grid of its own. Padding is left out."""
        patches = self.processor.image_processor(pictures, return_tensors="pt")[
            "flattened_patches"]
        patches = patches[:, patches[0, :, 0] > 0]  # (1, N, 2 + pixels); rows count from 1
        states = self.model.encoder(flattened_patches=self.own(patches)).last_hidden_state
        rows, columns = (int(number) for number in patches[0, :, :2].amax(0))
        return [Seen(states.clone(), Regions(
            "picture", range(rows * columns), grid_boxes((rows, columns), pictures[0].size),
            (rows, columns), pictures[0].size))]
