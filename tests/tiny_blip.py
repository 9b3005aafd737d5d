"""Tiny BLIP checkpoints with random weights, saved the way transformers saves real ones."""

from pathlib import Path
from typing import Any

import torch
from tiny import stir
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    BlipProcessor,
)

CLASSES: dict[str, Any] = {"captioning": BlipForConditionalGeneration,
                           "VQA": BlipForQuestionAnswering,
                           "retrieval": BlipForImageTextRetrieval}
SIDE, PATCH = 32, 8
_WORDS = """
a the of on in at is are with and dog cat man woman red blue green ball grass sky tree bird runs
sits plays eats two three what colour who where how many photo picture beach water white black
young big small hat car street yes no skate ##board ##s ##ing ##ed
""".split()


def vocabulary() -> dict[str, int]:
    """Special tokens, whole words, letters and word ends: every lower-case text can be written."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS,
              *(letter for letter in letters if letter not in _WORDS),
              *(f"##{letter}" for letter in letters if letter != "s"), ".", ",", "?", "'", "-"]
    return {token: number for number, token in enumerate(tokens)}


def save_tiny_blip(folder: Path, kind: str, seed: int = 0) -> Path:
    """Make a checkpoint of one kind ("captioning", "VQA" or "retrieval") in ``folder``."""
    words = vocabulary()
    size = len(words) + 2  # the real ones have two tokens that the tokenizer does not know
    text = {"vocab_size": size, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 512,
            "bos_token_id": len(words), "eos_token_id": 2, "pad_token_id": 0,
            "sep_token_id": words["[SEP]"], "initializer_range": 0.3}
    # A VQA decoder reads the question's states with layers made for the picture's width.
    vision = {"hidden_size": 32 if kind == "VQA" else 48, "intermediate_size": 64,
              "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIDE,
              "patch_size": PATCH, "initializer_range": 0.2}
    config = BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=24,
                        initializer_range=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLASSES[kind](config)
        stir(model)
    for name, parameter in model.named_parameters():
        # Or else a random model says one word for ever, the picture's.
        if "text_decoder.bert.embeddings.position" in name:
            parameter.data *= 15
        elif parameter.dim() > 1 and "text_decoder" in name and "crossattention.output" in name:
            parameter.data *= 0.4
    if kind != "retrieval":  # ends are rare in a random model
        model.text_decoder.cls.predictions.decoder.bias.data[words["[SEP]"]] = 1.0
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    BlipProcessor(images, BertTokenizer(vocab=words)).save_pretrained(folder)
    return folder
