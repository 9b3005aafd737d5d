"""Pix2Struct (Lee et al. 2022, arXiv:2210.03347) from transformers.

A picture is scaled to as many patches as it may have, in a grid of its own shape. Each token knows
its row and column.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import Pix2StructForConditionalGeneration

from vitdemo.attention.trace import Regions
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.encoder_decoder import EncoderDecoderBackend, Seen
from vitdemo.backends.hub import Checkpoint, Family
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

    @property
    def decoder(self) -> Any:
        """T5's."""
        return self.model.decoder

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """One at a time: each has a grid of its own. Padding is left out."""
        features = []
        for picture in pictures:
            patches = self.processor.image_processor([picture], return_tensors="pt")[
                "flattened_patches"]
            patches = patches[:, patches[0, :, 0] > 0]  # (1, N, 2 + pixels); rows count from 1
            states = self.model.encoder(flattened_patches=patches.to(
                self.model.device, self.model.dtype)).last_hidden_state
            rows, columns = (int(number) for number in patches[0, :, :2].amax(0))
            regions = Regions("picture", range(rows * columns),
                              grid_boxes((rows, columns), picture.size), (rows, columns),
                              picture.size)
            features.append(PictureFeatures(Seen(states.clone(), regions), picture.size))
        return features
