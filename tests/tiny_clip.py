"""Tiny CLIP, Chinese-CLIP, SigLIP, SigLIP 2 and ViLT checkpoints with random weights, with their
own processors and kinds of tokenizers, saved the way transformers saves real ones."""

import json
from pathlib import Path
from typing import Any

import torch
from tiny import stir
from tiny_blip import vocabulary
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessor,
    ChineseCLIPModel,
    ChineseCLIPProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltImageProcessor,
    ViltProcessor,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

KINDS = ("clip", "chinese_clip", "siglip", "siglip2")
SIDE, PATCH = 32, 8
LENGTH = 48  # tokens that SigLIP reads, always
CHINESE = "一只狗在草地上跑红色的球照片"
_WORDS = "a the dog cat red runs on beach photo two".split()


def save_tiny_clip(folder: Path, kind: str, seed: int = 0) -> Path:
    """Make a checkpoint of one of `KINDS` in ``folder``."""
    tokenizer, size = _TOKENIZERS[kind]()
    # A real CLIP's configuration has a wrong end, 2, and means the highest id; padding is an end.
    text = {"vocab_size": size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "eos_token_id": 2, "projection_dim": 24,
            "max_position_embeddings": LENGTH if kind.startswith("siglip") else 64}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 4, "image_size": SIDE, "patch_size": PATCH,
              "projection_dim": 24, "num_patches": (SIDE // PATCH) ** 2}
    if kind.startswith("siglip"):
        text = {name: value for name, value in text.items() if name != "projection_dim"}
        vision.pop("projection_dim")
    if kind == "siglip2":
        vision.pop("image_size")
    else:
        vision.pop("num_patches")
    config_class, model_class, processor_class, images = _CLASSES[kind]
    more = {} if kind.startswith("siglip") else {"projection_dim": 24}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config_class(text_config=text, vision_config=vision, **more))
        stir(model)
    for name, parameter in model.named_parameters():
        if "position" in name or "token_embedding" in name:
            parameter.data *= 3
    model.logit_scale.data.fill_(3.0)
    if kind.startswith("siglip"):
        model.logit_bias.data.fill_(-1.5)
    model.save_pretrained(folder)
    processor_class(images, tokenizer).save_pretrained(folder)
    if kind == "siglip":  # as its checkpoints say, whatever library is there
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text()) | {"tokenizer_class": "SiglipTokenizer"}
        path.write_text(json.dumps(config))
    return folder


def save_tiny_vilt(folder: Path, seed: int = 0) -> Path:
    """Patches of 8 pixels, of a picture whose shorter side is scaled to 32; BERT's pieces."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ViltForImageAndTextRetrieval(ViltConfig(
            vocab_size=len(vocabulary()), hidden_size=32, num_hidden_layers=2,
            num_attention_heads=4, intermediate_size=48, image_size=SIDE, patch_size=PATCH,
            max_position_embeddings=400, initializer_range=0.2, max_image_length=-1))
        stir(model, "position")
    model.save_pretrained(folder)
    images = ViltImageProcessor(size={"shortest_edge": SIDE}, size_divisor=PATCH)
    ViltProcessor(images, BertTokenizer(vocab=vocabulary())).save_pretrained(folder)
    return folder


def _byte_pairs() -> tuple[Any, int]:
    """CLIP's: letters, some of them joined, and every byte."""
    letters = sorted(bytes_to_unicode().values())
    merges, joint = [], []
    for word in _WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            joint.append(parts[0])
    tokens = dict.fromkeys([*letters, *(f"{letter}</w>" for letter in letters), *joint,
                            "<|startoftext|>", "<|endoftext|>"])
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=list(dict.fromkeys(merges))), len(vocab)


def _word_pieces() -> tuple[Any, int]:
    """BERT's, with Chinese characters."""
    words = vocabulary()
    for character in (*CHINESE, "，", "。", "？"):
        words.setdefault(character, len(words))
    return BertTokenizer(vocab=words), len(words)


def _unigrams() -> tuple[Any, int]:
    """SigLIP's: capitals and punctuation are lost, whatever pieces there are."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?'-"
    pieces = [("</s>", 0.0), ("<unk>", -9.0), ("▁", -5.0), *((letter, -6.0) for letter in letters),
              *((f"▁{word}", -2.0) for word in _WORDS if word != "a"), ("▁a", -2.0)]
    made = Tokenizer(models.Unigram(pieces, 1, False))
    made.normalizer = normalizers.Sequence([
        normalizers.Lowercase(), normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens(["</s>", "<unk>"])
    made.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="</s>",
                                   unk_token="<unk>", model_max_length=LENGTH), len(pieces)


def _gemma() -> tuple[Any, int]:
    """SigLIP 2's: pieces, and bytes for what they lack."""
    letters = [*"▁abcdefghijklmnopqrstuvwxyz0123456789.,?'-", *CHINESE]
    tokens = dict.fromkeys(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters,
                            *(f"<0x{byte:02X}>" for byte in range(256))])
    vocab = {token: number for number, token in enumerate(tokens)}
    return Siglip2Tokenizer(vocab=vocab, merges=[], add_eos_token=True, add_bos_token=False,
                            model_max_length=LENGTH), len(vocab)


_TOKENIZERS: dict[str, Any] = {"clip": _byte_pairs, "chinese_clip": _word_pieces,
                               "siglip": _unigrams, "siglip2": _gemma}
_CROP = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
_SQUARE = {"size": {"height": SIDE, "width": SIDE}}
_CLASSES: dict[str, Any] = {
    "clip": (CLIPConfig, CLIPModel, CLIPProcessor, CLIPImageProcessor(**_CROP)),
    "chinese_clip": (ChineseCLIPConfig, ChineseCLIPModel, ChineseCLIPProcessor,
                     ChineseCLIPImageProcessor(**_SQUARE, do_center_crop=False)),
    "siglip": (SiglipConfig, SiglipModel, SiglipProcessor, SiglipImageProcessor(**_SQUARE)),
    "siglip2": (Siglip2Config, Siglip2Model, Siglip2Processor,
                Siglip2ImageProcessor(patch_size=PATCH, max_num_patches=(SIDE // PATCH) ** 2)),
}
