"""IDEFICS (Laurençon et al. 2023, arXiv:2306.16527), an open Flamingo, from transformers.

A picture is squeezed to 224 x 224; a class token and 16 x 16 patches are looked at by gated
cross-attention before every few layers of the language model; or latents are, which have looked at
them (use_resampler).
"""

from collections.abc import Iterable
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import IdeficsForVisionText2Text

from vitdemo.attention.trace import Layer, Regions
from vitdemo.backends.causal import CausalBackend, gate_of
from vitdemo.backends.hub import Checkpoint, Family
from vitdemo.backends.writing_backend import Seen
from vitdemo.preprocess import grid_boxes, to_pixels


class IdeficsBackend(CausalBackend):
    """See the file."""

    family = Family("IDEFICS", "idefics", {"captioning": IdeficsForVisionText2Text},
                    "HuggingFaceM4/idefics-9b-instruct")
    picture_token = "<image>"
    pictures_at_once = 8
    picture_text = "<fake_token_around_image><image><fake_token_around_image>"

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.model.config.use_resampler:
            self.latents = checkpoint.model.config.perceiver_config.resampler_n_latents
        super().__init__(checkpoint)

    @property
    def picture_side(self) -> int:
        """That of the vision encoder."""
        return int(self.model.config.vision_config.image_size)

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """Squeezed to a square."""
        images = self.processor.image_processor
        count = self.picture_side // self.model.config.vision_config.patch_size
        pixels = to_pixels(pictures, self.picture_side, images.image_mean, images.image_std)
        states = self.model.model.vision_model(pixel_values=self.own(pixels)).last_hidden_state
        return (Seen(row[None].clone(), Regions(
            "picture", range(1, count * count + 1), grid_boxes((count, count), picture.size),
            (count, count), picture.size)) for picture, row in zip(pictures, states, strict=True))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """A gated layer before every ``cross_layer_interval``-th."""
        model, heads = self.model.model, self.model.config.num_attention_heads
        found: list[Layer] = []
        if self.latents:
            found += [Layer(block[0], "latents", ("picture", "latents"), block[0].n_heads)
                      for block in model.perceiver_resampler.blocks]
        for number, layer in enumerate(model.layers):
            if number % model.cross_layer_interval == 0:
                gated = model.gated_cross_attn_layers[number // model.cross_layer_interval]
                found.append(Layer(
                    gated.cross_attn, "text", ("latents" if self.latents else "picture",), heads,
                    f"cross-attention {number // model.cross_layer_interval + 1}",
                    gate_of(gated, "alpha_cross_attn")))
            found.append(Layer(layer.self_attn, "text", ("text",), heads))
        return tuple(found)

    def looking(self, states: Tensor, tiles: Tensor, sees: Tensor, begins: bool) -> dict[str, Any]:
        """Nothing of the picture is cached, as the model itself does not."""
        mask = sees[None, :, None].expand(len(states), -1, -1)
        return {"image_encoder_embeddings": states[:, None], "image_attention_mask": mask.long()}
