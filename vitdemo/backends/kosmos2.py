"""Kosmos-2 (Peng et al. 2023, arXiv:2306.14824) from transformers: 64 latents look once at the
picture, as CLIP sees it, and stand in the text in its place.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Kosmos2ForConditionalGeneration

from vitdemo.attention.trace import Layer
from vitdemo.backends.hub import Family
from vitdemo.backends.prefix import PrefixBackend, Prompt


class Kosmos2Backend(PrefixBackend):
    """See the file."""

    family = Family("Kosmos-2", "kosmos-2", {"captioning": Kosmos2ForConditionalGeneration},
                    "microsoft/kosmos-2-patch14-224")
    describe = "An image of"

    @property
    def writer(self) -> Any:
        """Magneto."""
        return self.model.text_model

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The latents look at the picture and at each other."""
        heads = self.model.config.text_config.attention_heads
        return (Layer(self.model.image_to_text_projection.x_attn, "latents",
                      ("picture", "latents"), heads, "cross-attention"),
                *(Layer(layer.self_attn, "text", ("text",), heads)
                  for layer in self.model.text_model.model.layers))

    def beginning(self, prompt: Prompt) -> Sequence[int]:
        """Where the processor put them."""
        return torch.nonzero(prompt.inputs["image_embeds_position_mask"][0])[:, 0].tolist()

    def text(self, ids: Sequence[int]) -> str:
        """Without marks of phrases and places."""
        return " ".join(re.sub("<[^<>]*>", "", super().text(ids)).split())
