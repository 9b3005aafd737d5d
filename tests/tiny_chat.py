"""Tiny chat models with random weights, of the real configurations, saved the way transformers
saves real ones: model, processor and a byte-level tokenizer with the model's marks and template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny import stir
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaConfig,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

SENTENCES = """a dog runs on the beach
two red cats
a man with a hat sits in the street
what colour is the dog? red blue green
Describe this picture in one sentence.
Answer with a word or a short phrase.""".splitlines() * 3

# As the real ones write: SmolVLM's with a space after "Assistant:", Qwen's and LLaVA's.
_SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")
_CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ 'IMAGE' }}{% endif %}{% endfor %}{{'<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}")
_LLAVA = (
    "{% for message in messages %}{{message['role'].upper() + ': '}}"
    "{% for line in message['content'] if line['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for line in message['content'] if line['type'] == 'text' %}{{line['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")
_GEMMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' }}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text'] | trim}}"
    "{% elif line['type'] == 'image' %}{{ '<start_of_image>' }}{% endif %}{% endfor %}"
    "{{'<end_of_turn>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}")


def byte_tokenizer(end: str, marks: list[str], **more: str) -> PreTrainedTokenizerFast:
    """Bytes and pairs of them, as GPT-2 makes them, with these marks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in (end, *marks)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end,
                                   extra_special_tokens=marks, **more)


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return dict(vocab_size=len(tokenizer) + 8, hidden_size=32, intermediate_size=48,
                num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                max_position_embeddings=4096, initializer_range=0.3, pad_token_id=None,
                bos_token_id=None, eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=False)


def _vision(**more: Any) -> dict[str, Any]:
    return dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                **more)


def _tiles(processor: Any, images: Any, config: Any, model: Any, **more: Any) -> tuple[Any, Any]:
    """SmolVLM and Idefics3: 2 x 2 tiles at most, each shuffled to 3 x 3 tokens."""
    tokenizer = byte_tokenizer("<end_of_utterance>", [
        "<|im_start|>", "<fake_token_around_image>", "<image>", "<global-img>",
        *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))])
    made = config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=2,
        vision_config=_vision(image_size=24, patch_size=4), text_config=LlamaConfig(
            **_text(tokenizer)), pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False)
    return model(made), processor(
        images(size={"longest_edge": 48}, max_image_size={"longest_edge": 24}), tokenizer,
        image_seq_len=9, chat_template=_SMOLVLM, **more)


def _smolvlm() -> tuple[Any, Any]:
    return _tiles(SmolVLMProcessor, SmolVLMImageProcessor, SmolVLMConfig,
                  SmolVLMForConditionalGeneration, video_processor=SmolVLMVideoProcessor())


def _idefics3() -> tuple[Any, Any]:
    return _tiles(Idefics3Processor, Idefics3ImageProcessor, Idefics3Config,
                  Idefics3ForConditionalGeneration)


def _llava() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer("</s>", ["<image>"])
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_vision(image_size=24, patch_size=6, projection_dim=16)),
        text_config=LlamaConfig(**_text(tokenizer)), vision_feature_layer=-1,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"))
    images = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    return LlavaForConditionalGeneration(config), LlavaProcessor(
        images, tokenizer, patch_size=6, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=_LLAVA)


def _llava_onevision() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer("<|im_end|>", ["<|im_start|>", "<image>", "<video>"])
    pinpoints = [[24 * rows, 24 * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**_vision(image_size=24, patch_size=6)),
        text_config=Qwen2Config(**_text(tokenizer)), vision_feature_layer=-1,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints, vision_aspect_ratio="anyres_max_4")
    images = LlavaOnevisionImageProcessor(size={"height": 24, "width": 24},
                                          image_grid_pinpoints=pinpoints)
    return LlavaOnevisionForConditionalGeneration(config), LlavaOnevisionProcessor(
        images, tokenizer, LlavaOnevisionVideoProcessor(size={"height": 24, "width": 24}),
        num_image_tokens=16, vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4", chat_template=_CHATML.replace("IMAGE", "<image>\n"))


def _llava_next() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer("</s>", ["<image>"])
    pinpoints = [[24, 48], [48, 24], [48, 48], [72, 24], [24, 72]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**_vision(image_size=24, patch_size=6, projection_dim=16)),
        text_config=LlamaConfig(**_text(tokenizer)), vision_feature_layer=-1,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), image_grid_pinpoints=pinpoints)
    images = LlavaNextImageProcessor(size={"shortest_edge": 24}, image_grid_pinpoints=pinpoints,
                                     crop_size={"height": 24, "width": 24})
    return LlavaNextForConditionalGeneration(config), LlavaNextProcessor(
        images, tokenizer, patch_size=6, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=_LLAVA)


def _paligemma() -> tuple[Any, Any]:
    """It reads its prompt both ways, and its processor writes a part of it."""
    tokenizer = byte_tokenizer("</s>", ["<image>", "<bos>"], bos_token="<bos>")
    images = SiglipImageProcessor(size={"height": 24, "width": 24})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer)  # which adds 1,152 tokens for places
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**_vision(image_size=24, patch_size=6,
                                                   projection_dim=32)),
        text_config=GemmaConfig(**{**_text(tokenizer), "head_dim": 8}), projection_dim=32,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"))
    return PaliGemmaForConditionalGeneration(config), processor


def _gemma3() -> tuple[Any, Any]:
    """6 x 6 patches pooled to 3 x 3 tokens; its tokenizer and its template both write a beginning,
    and every other layer sees 64 tokens back."""
    marks = {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>",
             "eoi_token": "<end_of_image>"}
    tokenizer = byte_tokenizer("<eos>", [*marks.values(), "<bos>", "<start_of_turn>",
                                         "<end_of_turn>"], bos_token="<bos>", **marks)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<bos> $A", None, [("<bos>", tokenizer.bos_token_id)])
    number = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**_vision(image_size=24, patch_size=4)),
        text_config=Gemma3TextConfig(
            **{**_text(tokenizer), "head_dim": 8, "sliding_window": 64,
               "layer_types": ["sliding_attention", "full_attention"]}),
        mm_tokens_per_image=9, boi_token_index=number("<start_of_image>"),
        eoi_token_index=number("<end_of_image>"), image_token_index=number("<image_soft_token>"))
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)
    model.get_input_embeddings().weight.data /= 2  # the model multiplies them by 6
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, number("<end_of_turn>")]
    images = Gemma3ImageProcessor(size={"height": 24, "width": 24})
    return model, Gemma3Processor(images, tokenizer, chat_template=_GEMMA3, image_seq_length=9)


def _internvl() -> tuple[Any, Any]:
    """At most four tiles and the whole picture, each shuffled to 3 x 3 tokens."""
    marks = {"start_image_token": "<img>", "end_image_token": "</img>",
             "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = byte_tokenizer("<|im_end|>", ["<|im_start|>", *marks.values()], **marks)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**_vision(image_size=24, patch_size=4)),
        text_config=Qwen2Config(**_text(tokenizer)), image_seq_length=9,
        image_token_id=tokenizer.context_image_token_id, tie_word_embeddings=False)
    size = {"height": 24, "width": 24}
    return InternVLForConditionalGeneration(config), InternVLProcessor(
        GotOcr2ImageProcessor(size=size, max_patches=4), tokenizer,
        InternVLVideoProcessor(size=size), image_seq_length=9,
        chat_template=_CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"))


def _qwen(config: Any, model: Any, processor: Any, **vision: Any) -> tuple[Any, Any]:
    tokenizer = byte_tokenizer("<|im_end|>", ["<|endoftext|>", "<|im_start|>", "<|vision_start|>",
                                          "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"])
    number = tokenizer.convert_tokens_to_ids
    made = config(
        text_config={**_text(tokenizer),
                     "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2],
                                         "rope_theta": 10000.0}},
        vision_config={"depth": 1, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2,
                       "temporal_patch_size": 2, **vision},
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"), tie_word_embeddings=False)
    sizes = {"size": {"shortest_edge": 24 * 24, "longest_edge": 48 * 48}, "patch_size": 4,
             "merge_size": 2, "temporal_patch_size": 2}
    built = model(made)
    built.generation_config.eos_token_id = [number("<|im_end|>"), number("<|endoftext|>")]
    return built, processor(
        Qwen2VLImageProcessor(**sizes), tokenizer,
        (Qwen3VLVideoProcessor if config is Qwen3VLConfig else Qwen2VLVideoProcessor)(**sizes),
        chat_template=_CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"))


def _qwen3_vl() -> tuple[Any, Any]:
    return _qwen(Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor,
                 hidden_size=24, out_hidden_size=32, intermediate_size=32,
                 num_position_embeddings=16, deepstack_visual_indexes=[0])


def _qwen2_vl() -> tuple[Any, Any]:
    return _qwen(Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor,
                 embed_dim=24, hidden_size=32, mlp_ratio=2)


def _qwen2_5_vl() -> tuple[Any, Any]:
    return _qwen(Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor,
                 hidden_size=24, out_hidden_size=32, intermediate_size=32, window_size=16,
                 fullatt_block_indexes=[0])


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "smolvlm": _smolvlm, "idefics3": _idefics3, "llava": _llava,
    "llava_next": _llava_next, "llava_onevision": _llava_onevision, "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "paligemma": _paligemma, "gemma3": _gemma3,
    "internvl": _internvl}


def save_tiny_chat(folder: Path, kind: str, seed: int = 0) -> Path:
    """Make a checkpoint of one of `MODELS` in ``folder``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, processor = MODELS[kind]()
        stir(model)
    words = {f"Ġ{word}" for word in " ".join(SENTENCES).split()}
    for token, number in processor.tokenizer.get_vocab().items():
        if token not in words:  # single bytes and marks are rare
            model.get_output_embeddings().weight.data[number] *= 0.2
    model.get_output_embeddings().weight.data[len(processor.tokenizer):] *= 0.2
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
