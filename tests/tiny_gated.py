"""Tiny IDEFICS and Mllama models with random weights, saved as transformers saves real ones."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessor,
    IdeficsProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

SIDE, PATCH = 32, 8
_TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
         "num_attention_heads": 4, "max_position_embeddings": 1024, "initializer_range": 0.3}


def _tokenizer(specials: list[str]) -> PreTrainedTokenizerFast:
    """Letters, and some pairs of them, as GPT's: every English text can be written."""
    alphabet = [*"ĠabcdefghijklmnopqrstuvwxyzADQ0123456789.,?!:'-"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "a"), ("d", "o"), ("do", "g"),
              ("Ġ", "dog"), ("r", "e"), ("re", "d"), ("Ġ", "red"), ("o", "n"), ("Ġ", "on")]
    tokens = [*specials, *alphabet, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges,
                                unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", extra_special_tokens=specials[4:])


def _random(model: Any, seed: int, end: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate" in name and parameter.numel() == 1 or "alpha" in name:
                parameter.fill_(0.7)
            elif parameter.dim() == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
            elif "embed_tokens" in name:
                parameter[end] *= 1.5


def save_tiny_idefics(folder: Path, seed: int = 0, latents: int = 0) -> Path:
    """Two gated layers before four of the language model; 32 x 32 pixels, 4 x 4 patches; latents
    that look at them in two layers."""
    specials = ["<pad>", "<s>", "</s>", "<unk>", "<fake_token_around_image>", "<image>"]
    tokenizer = _tokenizer(specials)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = IdeficsForVisionText2Text(IdeficsConfig(
            vocab_size=len(tokenizer), additional_vocab_size=0, cross_layer_interval=2,
            use_resampler=latents > 0, perceiver_config={
                "use_resampler": latents > 0, "resampler_n_latents": latents or 64,
                "resampler_depth": 2, "resampler_n_heads": 3, "resampler_head_dim": 8,
                "qk_layer_norms_perceiver": True},
            qk_layer_norms=True, freeze_text_layers=False, freeze_vision_layers=False, **_TEXT,
            vision_config={"embed_dim": 24, "image_size": SIDE, "patch_size": PATCH,
                           "intermediate_size": 32, "num_hidden_layers": 2,
                           "num_attention_heads": 4, "initializer_range": 0.2}))
    _random(model, seed, 2)
    model.save_pretrained(folder)
    IdeficsProcessor(IdeficsImageProcessor(image_size=SIDE), tokenizer,
                     image_size=SIDE).save_pretrained(folder)
    return folder


def save_tiny_mllama(folder: Path, seed: int = 0) -> Path:
    """Two of six layers look at up to four tiles of 32 x 32 pixels, 4 x 4 patches each."""
    specials = ["<pad>", "<s>", "</s>", "<unk>", "<|image|>", "<|python_tag|>"]
    tokenizer = _tokenizer(specials)
    text = {**_TEXT, "num_hidden_layers": 6}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MllamaForConditionalGeneration(MllamaConfig(
            vision_config=MllamaVisionConfig(
                               hidden_size=24, num_hidden_layers=2, num_global_layers=1,
                               attention_heads=4, intermediate_size=32, vision_output_dim=48,
                               image_size=SIDE, patch_size=PATCH, initializer_range=0.2,
                               intermediate_layers_indices=[0]),
            text_config=MllamaTextConfig(
                             vocab_size=len(tokenizer), num_key_value_heads=2,
                             cross_attention_layers=[1, 4], bos_token_id=1, eos_token_id=2,
                             pad_token_id=0, **text), image_token_index=4))
    _random(model, seed, 2)
    model.save_pretrained(folder)
    MllamaProcessor(MllamaImageProcessor(size={"height": SIDE, "width": SIDE}),
                    tokenizer).save_pretrained(folder)
    return folder
