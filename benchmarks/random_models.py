"""Models of transformers with random weights in the shapes of published ones, saved as those are.

Each token is a word (w17), so that a text that a model writes reads back as the same tokens.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

TEMPLATE = ("{% for message in messages %}{% for part in message['content'] %}"
            "{% if part['type'] == 'image' %}IMAGE{% else %} {{ part['text'] }}{% endif %}"
            "{% endfor %}\n{% endfor %}")


def words(size: int, end: str, marks: tuple[str, ...] = (), **more: str) -> Any:
    """A tokenizer of ``size`` words, the last of which are its marks."""
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", *marks, end]
    tokens = [*(f"w{i}" for i in range(size - len(special))), *special]
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens([AddedToken(mark, special=True) for mark in special])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token=end,
                                   pad_token=end, extra_special_tokens=list(marks), **more)


def florence2(folder: Path) -> None:
    """Florence-2-base: 768 pixels, 577 tokens."""
    from transformers import (
        BartConfig,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    torch.manual_seed(0)
    tokenizer = words(51289, "</s>", ("<s>", "<image>"), bos_token="<s>", image_token="<image>")
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    config = Florence2Config(
        vision_config={"projection_dim": 768},
        text_config=BartConfig(
            vocab_size=len(tokenizer), d_model=768, encoder_layers=6, decoder_layers=6,
            encoder_attention_heads=12, decoder_attention_heads=12, encoder_ffn_dim=3072,
            decoder_ffn_dim=3072, bos_token_id=start, eos_token_id=end, pad_token_id=end,
            decoder_start_token_id=end),
        image_token_id=tokenizer.image_token_id)
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.update(
        decoder_start_token_id=end, forced_bos_token_id=start, forced_eos_token_id=None,
        bos_token_id=start, eos_token_id=end, pad_token_id=end)
    images: Any = CLIPImageProcessor(size={"height": 768, "width": 768}, do_center_crop=False)
    images.image_seq_length = 577
    _save(folder, model, Florence2Processor(images, tokenizer))


def vit_gpt2(folder: Path) -> None:
    """ViT-GPT2: 224 pixels, 197 tokens."""
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    torch.manual_seed(0)
    end = "<|endoftext|>"
    tokenizer = words(50257, end, bos_token=end)
    decoder: Any = GPT2Config()
    decoder.is_decoder = decoder.add_cross_attention = True
    model = VisionEncoderDecoderModel(
        VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(), decoder))
    number = tokenizer.eos_token_id
    model.generation_config.update(decoder_start_token_id=number, bos_token_id=number,
                                   eos_token_id=number, pad_token_id=number)
    _save(folder, model, ViTImageProcessor(), tokenizer)


def smolvlm(folder: Path) -> None:
    """SmolVLM-256M: tiles of 512 pixels with 64 tokens each; pictures are scaled to one."""
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    torch.manual_seed(0)
    tokenizer = words(49280, "<end_of_utterance>", (
        "<|im_start|>", "<fake_token_around_image>", "<image>", "<global-img>"))
    shape: dict[str, Any] = dict(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=4,
        vision_config={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                       "num_attention_heads": 12, "image_size": 512, "patch_size": 16},
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=576, intermediate_size=1536,
            num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
            max_position_embeddings=8192, pad_token_id=None, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id),
        pad_token_id=tokenizer.pad_token_id)
    config = SmolVLMConfig(**shape)
    images = SmolVLMImageProcessor(size={"longest_edge": 512}, max_image_size={"longest_edge": 512})
    _save(folder, SmolVLMForConditionalGeneration(config), SmolVLMProcessor(
        images, tokenizer, image_seq_len=64, video_processor=SmolVLMVideoProcessor(),
        chat_template=TEMPLATE.replace("IMAGE", "<image>")))


def mllama(folder: Path) -> None:
    """A small Mllama: three of ten layers look at up to four tiles of 336 pixels, 577 tokens each,
    by gates that are half open."""
    from transformers import (
        MllamaConfig,
        MllamaForConditionalGeneration,
        MllamaImageProcessor,
        MllamaProcessor,
    )
    from transformers.models.mllama.configuration_mllama import (
        MllamaTextConfig,
        MllamaVisionConfig,
    )

    torch.manual_seed(0)
    tokenizer = words(32000, "</s>", ("<s>", "<|image|>", "<|python_tag|>"), bos_token="<s>")
    number = tokenizer.convert_tokens_to_ids
    model = MllamaForConditionalGeneration(MllamaConfig(
        vision_config=MllamaVisionConfig(
            hidden_size=768, num_hidden_layers=6, num_global_layers=2, attention_heads=12,
            intermediate_size=3072, vision_output_dim=2304, image_size=336, patch_size=14,
            intermediate_layers_indices=[2, 4]),
        text_config=MllamaTextConfig(
            vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=2816,
            num_hidden_layers=10, num_attention_heads=16, num_key_value_heads=4,
            cross_attention_layers=[1, 4, 7], bos_token_id=number("<s>"),
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id),
        image_token_index=number("<|image|>")))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_gate"):
                parameter.fill_(0.5)
    _save(folder, model, MllamaProcessor(
        MllamaImageProcessor(size={"height": 336, "width": 336}), tokenizer,
        chat_template="{{ bos_token }}" + TEMPLATE.replace("IMAGE", "<|image|>")))


def _save(folder: Path, model: Any, *parts: Any) -> None:
    tokenizer = getattr(parts[-1], "tokenizer", parts[-1])
    model.get_output_embeddings().weight.data[tokenizer.all_special_ids] = 0  # none is written
    for part in (model, *parts):
        part.save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "florence2": florence2, "vit-gpt2": vit_gpt2, "smolvlm": smolvlm, "mllama": mllama}
