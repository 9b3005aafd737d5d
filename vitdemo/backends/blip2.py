"""BLIP-2 (Li et al. 2023, arXiv:2301.12597) and InstructBLIP (Dai et al. 2023, arXiv:2305.06500)
from transformers, with a language model that is a decoder alone (OPT, Vicuna).

A picture is squeezed to 224 or 364 pixels. 32 queries look at it in some layers of the Q-Former,
and are then the beginning of the text. InstructBLIP's queries read the instruction meanwhile.
"""

from collections.abc import Sequence

from transformers import (
    Blip2ForConditionalGeneration,
    InstructBlipForConditionalGeneration,
    PreTrainedModel,
)

from vitdemo.attention.trace import Layer
from vitdemo.backends.hub import Checkpoint, Family
from vitdemo.backends.prefix import PrefixBackend, Prompt
from vitdemo.errors import CheckpointError


class Blip2Backend(PrefixBackend):
    """See the file."""

    family = Family("BLIP-2", "blip-2", {"captioning": Blip2ForConditionalGeneration},
                    "Salesforce/blip2-opt-2.7b")

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.model.config
        if not config.use_decoder_only_language_model:
            raise CheckpointError("checkpoint.no_decoder", name=checkpoint.name,
                                  kind=config.text_config.model_type, example=self.family.example)
        if config.image_token_id is None or checkpoint.processor.num_query_tokens is None:
            raise CheckpointError("checkpoint.old_copy", name=checkpoint.name)
        super().__init__(checkpoint)

    @property
    def writer(self) -> PreTrainedModel:
        """OPT or Vicuna."""
        return self.model.language_model

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every ``cross_attention_frequency``-th layer of the Q-Former looks at the picture."""
        config, found = self.model.config, list[Layer]()
        heads = config.qformer_config.num_attention_heads
        for number, layer in enumerate(self.model.qformer.encoder.layer, start=1):
            found.append(Layer(layer.attention.attention, "latents", ("latents",), heads))
            if layer.has_cross_attention:
                found.append(Layer(layer.crossattention.attention, "latents", ("picture",), heads,
                                   f"cross-attention {number}"))
        return (*found, *(Layer(layer.self_attn, "text", ("text",),
                                config.text_config.num_attention_heads)
                          for layer in self.writer.get_decoder().layers))

    def beginning(self, prompt: Prompt) -> Sequence[int]:
        """The queries stand before all."""
        return range(self.model.config.num_query_tokens)


class InstructBlipBackend(Blip2Backend):
    """See the file."""

    family = Family("InstructBLIP", "instructblip",
                    {"captioning": InstructBlipForConditionalGeneration},
                    "Salesforce/instructblip-vicuna-7b")
    describe, question = "A short image description:", "Question: {} Short answer:"
    instructed = True
