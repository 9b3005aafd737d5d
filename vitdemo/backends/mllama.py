"""Mllama (Llama 3.2 Vision; Grattafiori et al. 2024, arXiv:2407.21783, section 7) from
transformers.

A picture is fitted into a canvas of at most four square tiles, which is padded on the right and
below; each tile has a class token and its patches. Some layers of the language model look at all
tiles by gated cross-attention.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import MllamaForConditionalGeneration

from vitdemo.attention.trace import Layer, Regions
from vitdemo.backends.causal import CausalBackend, gate_of
from vitdemo.backends.hub import Checkpoint, Family
from vitdemo.backends.writing_backend import Seen


class MllamaBackend(CausalBackend):
    """See the file."""

    family = Family("Mllama", "mllama", {"captioning": MllamaForConditionalGeneration},
                    "meta-llama/Llama-3.2-11B-Vision-Instruct")
    picture_token = "<|image|>"
    picture_text = "<|image|>"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.looking_layers = self.model.config.text_config.cross_attention_layers

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """One, which is several tiles."""
        inputs, model = self.processor.image_processor(pictures, return_tensors="pt"), self.model
        states = model.model.multi_modal_projector(model.model.vision_model(**{
            name: self.own(inputs[name]) for name in (
                "pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")}).last_hidden_state)
        vision = model.config.vision_config
        canvas = vision.supported_aspect_ratios[int(inputs["aspect_ratio_ids"][0, 0]) - 1]
        regions = tile_regions(pictures[0].size, (canvas[0], canvas[1]), vision.image_size,
                               vision.patch_size)
        return [Seen(states.reshape(1, -1, states.shape[-1]), regions, canvas[0] * canvas[1])]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Either looks at the text or at the picture."""
        config, found = self.model.config.text_config, []
        for number, layer in enumerate(self.model.model.language_model.layers):
            if number in config.cross_attention_layers:
                found.append(Layer(layer.cross_attn, "text", ("picture",),
                                   config.num_attention_heads, f"cross-attention {number + 1}",
                                   gate_of(layer, "cross_attn_attn_gate")))
            else:
                found.append(Layer(layer.self_attn, "text", ("text",), config.num_attention_heads))
        return tuple(found)

    def looking(self, states: Tensor, tiles: Tensor, sees: Tensor, begins: bool) -> dict[str, Any]:
        """Without a mask the fused kernel would look at the picture as if it were a text."""
        most = self.model.config.vision_config.max_num_tiles
        real = torch.arange(most, device=states.device) < tiles[:, None]  # (R, tiles)
        mask = sees[None, :, None, None] & real[:, None, None]  # (R, T, 1, tiles)
        return {"cross_attention_states": states if begins else None,
                "cross_attention_mask": mask.to(states.dtype)}


def tile_regions(size: tuple[int, int], canvas: tuple[int, int], tile: int,
                 patch: int) -> Regions:
    """The regions of a picture of ``size`` (width, height) on a canvas of (rows, columns) tiles,
    row by row over the whole picture; patches of padding are none. Tokens lie tile by tile, a
    class token first in each."""
    width, height = size
    wide, high = (min(max(side, tile), count * tile)
                  for side, count in ((width, canvas[1]), (height, canvas[0])))
    if wide / width < high / height:  # as MllamaImageProcessor fits a picture
        high = min(math.floor(height * wide / width) or 1, high)
    else:
        wide = min(math.floor(width * high / height) or 1, wide)
    across = tile // patch
    rows, columns = math.ceil(high / patch), math.ceil(wide / patch)
    rows, columns = min(rows, canvas[0] * across), min(columns, canvas[1] * across)
    row, column = (axis.reshape(-1) for axis in np.mgrid[:rows, :columns])
    number = row // across * canvas[1] + column // across  # of the tile
    inside = row % across * across + column % across
    places = number * (across * across + 1) + 1 + inside
    # A tile's last pixels are in no patch where its side is no multiple of one.
    left, top = (axis // across * tile + axis % across * patch for axis in (column, row))
    boxes = np.stack((left, top, left + patch, top + patch), 1) * np.array(
        [width / wide, height / high] * 2)
    boxes = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    return Regions("picture", places.tolist(), boxes, (rows, columns), size)
