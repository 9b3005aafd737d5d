"""Tiny encoders and decoders with random weights, of the real configurations, saved the way
transformers saves real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny import stir
from tiny_chat import SENTENCES, byte_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BartConfig,
    CLIPImageProcessor,
    DeiTConfig,
    DonutImageProcessor,
    DonutProcessor,
    DonutSwinConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GPT2Config,
    MBartConfig,
    Pix2StructConfig,
    Pix2StructForConditionalGeneration,
    Pix2StructImageProcessor,
    Pix2StructProcessor,
    PreTrainedTokenizerFast,
    TrOCRConfig,
    TrOCRProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

_VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32}
# Of BART's relatives.
_DECODER = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48, "max_position_embeddings": 1024, "init_std": 0.3,
            "tie_word_embeddings": False}


def _pieces(marks: list[str]) -> PreTrainedTokenizerFast:
    """Pieces of words, as sentencepiece makes them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>", *marks]
    tokenizer.train_from_iterator(
        [*SENTENCES, *"abcdefghijklmnopqrstuvwxyz.,?!'"], trainers.UnigramTrainer(
            vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>",
                                   eos_token="</s>", extra_special_tokens=marks)


def _florence2() -> tuple[Any, Any]:
    """6 x 6 tokens and their mean."""
    tokenizer = byte_tokenizer("</s>", ["<s>", "<image>"], bos_token="<s>", image_token="<image>")
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    config = Florence2Config(
        vision_config={"embed_dim": [16, 24, 32], "depths": [1, 1, 1], "num_heads": [2, 2, 2],
                       "num_groups": [2, 2, 2], "patch_size": [7, 3, 3], "patch_stride": [4, 2, 1],
                       "patch_padding": [3, 1, 1], "patch_prenorm": [False, True, True],
                       "window_size": 3, "projection_dim": 32},
        text_config=BartConfig(
            vocab_size=len(tokenizer) + 8, encoder_layers=2, encoder_attention_heads=4,
            encoder_ffn_dim=48, bos_token_id=start, eos_token_id=end, pad_token_id=end,
            decoder_start_token_id=end, **_DECODER),
        image_token_id=tokenizer.image_token_id, tie_word_embeddings=False)
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.update(
        decoder_start_token_id=end, forced_bos_token_id=start, forced_eos_token_id=None,
        bos_token_id=start, eos_token_id=end, pad_token_id=end)
    for conv in model.model.vision_tower.convs:  # a trained one looks at its middle most
        side = conv.conv.kernel_size[0]
        weight = 1 - (torch.arange(side) - side // 2).abs() / (side // 2 + 1)
        conv.conv.weight.data *= weight * weight[:, None]
    images = CLIPImageProcessor(size={"height": 48, "width": 48}, do_center_crop=False)
    images.image_seq_length = 37
    return model, [Florence2Processor(images, tokenizer)]


def _joined(encoder: Any, decoder: Any, start: int, tokenizer: Any) -> Any:
    decoder.is_decoder = decoder.add_cross_attention = True
    model = VisionEncoderDecoderModel(
        VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder))
    model.generation_config.update(
        decoder_start_token_id=start, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        forced_eos_token_id=None)
    return model


def _vit_gpt2() -> tuple[Any, Any]:
    """Its two parts are saved without a processor around them."""
    tokenizer = byte_tokenizer("<|endoftext|>", [], bos_token="<|endoftext|>")
    decoder = GPT2Config(vocab_size=len(tokenizer) + 8, n_embd=32, n_layer=2, n_head=4,
                         initializer_range=0.3, tie_word_embeddings=False)
    model = _joined(ViTConfig(**_VIT), decoder, tokenizer.bos_token_id, tokenizer)
    return model, [ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer]


def _trocr() -> tuple[Any, Any]:
    """A DeiT has two class tokens."""
    tokenizer = byte_tokenizer("</s>", ["<s>"], bos_token="<s>")
    decoder = TrOCRConfig(vocab_size=len(tokenizer) + 8, cross_attention_hidden_size=24,
                          **_DECODER)
    model = _joined(DeiTConfig(**_VIT), decoder, tokenizer.eos_token_id, tokenizer)
    return model, [TrOCRProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer)]


def _donut(*marks: str) -> tuple[Any, Any]:
    """A canvas of 8 x 6 tokens."""
    tokenizer = _pieces(["<s>", "<s_iitcdip>", *marks])
    tokenizer.bos_token = "<s>"
    encoder = DonutSwinConfig(image_size=[64, 48], patch_size=4, embed_dim=16, depths=[1, 1],
                              num_heads=[2, 2], window_size=4)
    decoder = MBartConfig(vocab_size=len(tokenizer) + 8, scale_embedding=True, **_DECODER)
    model = _joined(encoder, decoder, tokenizer.bos_token_id, tokenizer)
    return model, [DonutProcessor(DonutImageProcessor(size={"height": 64, "width": 48}), tokenizer)]


def _pix2struct() -> tuple[Any, Any]:
    """At most 24 patches of 8 x 8 pixels."""
    tokenizer = _pieces([])
    sizes = {"hidden_size": 32, "d_kv": 8, "d_ff": 48}
    config = Pix2StructConfig(
        text_config={"vocab_size": len(tokenizer) + 8, "num_layers": 2, "num_heads": 4,
                     "initializer_factor": 1.0, **sizes},
        vision_config={"patch_embed_hidden_size": 192, "num_hidden_layers": 2,
                       "num_attention_heads": 4, "patch_size": 8, "seq_len": 64, **sizes},
        tie_word_embeddings=False)
    model = Pix2StructForConditionalGeneration(config)
    model.generation_config.update(decoder_start_token_id=0, eos_token_id=1, pad_token_id=0)
    images = Pix2StructImageProcessor(max_patches=24, patch_size={"height": 8, "width": 8})
    return model, [Pix2StructProcessor(images, tokenizer)]


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "florence2": _florence2, "vit_gpt2": _vit_gpt2, "trocr": _trocr,
    "donut": lambda: _donut("<s_cord-v2>", "<s_menu>", "</s_menu>"),
    "donut_asked": lambda: _donut("<s_docvqa>", "<s_question>", "</s_question>", "<s_answer>",
                                  "</s_answer>"),
    "pix2struct": _pix2struct}


def save_tiny_encdec(folder: Path, kind: str, seed: int = 0) -> Path:
    """Make a checkpoint of one of `MODELS` in ``folder``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, parts = MODELS[kind]()
        stir(model)
        head = model.get_output_embeddings().weight.data
        torch.nn.init.normal_(head, std=0.3)
    tokenizer = getattr(parts[-1], "tokenizer", parts[-1])
    words = {mark + word for word in " ".join(SENTENCES).split() for mark in "Ġ▁"}
    for token, number in tokenizer.get_vocab().items():
        if token not in words:  # single letters are rare
            head[number] *= 0.2
    for number in {*tokenizer.all_special_ids} - {tokenizer.eos_token_id}:
        head[number] = 0
    head[len(tokenizer):] *= 0.2
    model.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return folder
