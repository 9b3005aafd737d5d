"""GIT (Wang et al. 2022, arXiv:2205.14100) from transformers: the picture's tokens are the
beginning of the text, in one stream of self-attention; they look at each other both ways.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GitForCausalLM

from vitdemo.attention.trace import Layer
from vitdemo.backends.hub import Checkpoint, Family
from vitdemo.backends.prefix import PrefixBackend, Prompt
from vitdemo.errors import CheckpointError


class GitBackend(PrefixBackend):
    """See the file."""

    family = Family("GIT", "git", {"captioning": GitForCausalLM}, "microsoft/git-base-coco")
    question, stream = "{}", "text"

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.model.config
        if config.num_image_with_embedding:
            raise CheckpointError("checkpoint.videos", name=checkpoint.name,
                                  example=self.family.example)
        self.before = (config.vision_config.image_size // config.vision_config.patch_size)**2 + 1
        super().__init__(checkpoint)

    @property
    def vision(self) -> Any:
        """CLIP's."""
        return self.model.git.image_encoder

    @property
    def writer(self) -> Any:
        """The whole model, given no picture."""
        return self.model

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those of the text."""
        heads = self.model.config.num_attention_heads
        return tuple(Layer(layer.attention.self, "text", ("text",), heads, f"layer {number}")
                     for number, layer in enumerate(self.model.git.encoder.layer, start=1))

    def beginning(self, prompt: Prompt) -> Sequence[int]:
        """The picture's tokens, for which there are no ids."""
        return range(self.before)

    def asked(self, text: str) -> tuple[list[int], dict[str, Tensor]]:
        """A text that goes on has no [SEP]."""
        return [self.checkpoint.tokenizer.cls_token_id, *self.checkpoint.ids(text)[0]], {}

    def going_on(self, ids: Tensor, length: int) -> dict[str, Any]:
        """Positions are counted without the picture's tokens, which the cache holds, too."""
        return {"position_ids": torch.arange(length, length + ids.shape[1],
                                             device=ids.device).expand(len(ids), -1)}
