"""Tiny GIT, BLIP-2, InstructBLIP and Kosmos-2 checkpoints with random weights, of the real
configurations, with their own processors and kinds of tokenizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny import stir
from tiny_blip import vocabulary
from tiny_chat import byte_tokenizer
from tokenizers import processors
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
    LlamaConfig,
    OPTConfig,
    XLMRobertaTokenizer,
)

SIDE, PATCH, QUERIES = 32, 8, 6
_CROP = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
_VISION = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1,
           "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH,
           "initializer_range": 0.3}


def _git() -> tuple[Any, Any]:
    tokenizer = BertTokenizer(vocab=vocabulary())
    model = GitForCausalLM(GitConfig(
        vision_config=_VISION, vocab_size=len(tokenizer) + 2, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=48, max_position_embeddings=600,
        initializer_range=0.3, bos_token_id=tokenizer.cls_token_id, pad_token_id=0,
        eos_token_id=tokenizer.sep_token_id))
    return model, GitProcessor(CLIPImageProcessor(**_CROP), tokenizer)


def _queries(config: Any, model: Any, text: Any, qformer: dict[str, Any],
             begin: str) -> tuple[Any, Any]:
    """Three layers of the Q-Former, the first and the third of which look at the picture."""
    tokenizer = byte_tokenizer("</s>", ["<image>", *{begin} - {"</s>"}], bos_token=begin)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        f"{begin} $A", None, [(begin, tokenizer.bos_token_id)])
    shape = {"vocab_size": len(tokenizer) + 4, "hidden_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 4, "max_position_embeddings": 1024, "pad_token_id": 0,
             "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    made = model(config(
        vision_config=_VISION, text_config=text(**shape), num_query_tokens=QUERIES,
        qformer_config={"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
                        "intermediate_size": 32, "encoder_hidden_size": 24,
                        "cross_attention_frequency": 2, "vocab_size": len(vocabulary()),
                        "initializer_range": 0.3, **qformer},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>")))
    torch.nn.init.normal_(made.query_tokens)
    torch.nn.init.normal_(made.language_projection.weight, std=0.3)
    return made, tokenizer


def _blip2() -> tuple[Any, Any]:
    def text(**shape: Any) -> OPTConfig:
        return OPTConfig(**shape, ffn_dim=48, word_embed_proj_dim=32, init_std=0.3)

    model, tokenizer = _queries(Blip2Config, Blip2ForConditionalGeneration, text, {}, "</s>")
    images = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    return model, Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)


def _instructblip() -> tuple[Any, Any]:
    def text(**shape: Any) -> LlamaConfig:
        return LlamaConfig(**shape, intermediate_size=48, initializer_range=0.3,
                           tie_word_embeddings=False)

    model, tokenizer = _queries(InstructBlipConfig, InstructBlipForConditionalGeneration, text, {},
                                "<s>")
    images = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    return model, InstructBlipProcessor(images, tokenizer, BertTokenizer(vocab=vocabulary()),
                                        num_query_tokens=QUERIES)


def _kosmos2() -> tuple[Any, Any]:
    """64 latents; pieces as of XLM-RoBERTa."""
    letters = "abcdefghijklmnopqrstuvwxyzADIQSW0123456789.,?':-"
    words = [word for word in vocabulary() if word.isalpha() and len(word) > 1]
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -5.0),
              *((f"▁{word}", -2.0) for word in words), *((letter, -6.0) for letter in letters),
              *((f"▁{letter}", -6.0) for letter in letters)]
    processor = Kosmos2Processor(CLIPImageProcessor(**_CROP), XLMRobertaTokenizer(vocab=pieces),
                                 num_patch_index_tokens=8)
    model = Kosmos2ForConditionalGeneration(Kosmos2Config(vision_config=_VISION, text_config={
        "vocab_size": len(processor.tokenizer) + 2, "max_position_embeddings": 1024,
        "embed_dim": 32, "layers": 2, "ffn_dim": 48, "attention_heads": 4, "init_std": 0.3},
        tie_word_embeddings=False))
    return model, processor


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "git": _git, "blip-2": _blip2, "instructblip": _instructblip, "kosmos-2": _kosmos2}


def save_tiny_prefix(folder: Path, kind: str, seed: int = 0) -> Path:
    """Make a checkpoint of one of `MODELS` in ``folder``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, processor = MODELS[kind]()
        stir(model)
    for name, parameter in model.named_parameters():
        if "vision_model" in name and name.endswith(("out_proj.weight", "projection.weight")):
            parameter.data *= 0.1  # patches are mixed a little
    output, words = model.get_output_embeddings().weight, vocabulary()
    for token, number in processor.tokenizer.get_vocab().items():
        if token.strip("Ġ▁") not in words or token.startswith("##"):  # marks and letters are rare
            output.data[number] *= 0.2
    output.data[len(processor.tokenizer):] *= 0.2
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
