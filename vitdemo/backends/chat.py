"""Chat models of transformers in which a picture's tokens stand among those of the text, in one
stream of self-attention: SmolVLM and Idefics3, LLaVA, LLaVA-OneVision, Qwen-VL, InternVL,
PaliGemma, Gemma 3, and what `AutoModelForImageTextToText` loads besides, where its picture tokens
can be found.

The picture is encoded once. Whatever is written or explained on it later is handed what the vision
encoder gave, and the model puts it among its words by its own code, positions and masks included.

Legend: R rows of one pass, P tokens of a picture, T tokens of a text, D width, V vocabulary.
"""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from vitdemo.attention.trace import Layer, with_offset
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.chat_model import (
    ChatPicture,
    ChatState,
    ends_of,
    flat,
    handed,
    output_of,
    token_types,
)
from vitdemo.backends.chat_trace import chat_traces
from vitdemo.backends.hub import Checkpoint, Family, load_checkpoint
from vitdemo.backends.picture_tokens import GEOMETRIES, Processed, regions_of, unknown
from vitdemo.backends.registry import unknown_type
from vitdemo.backends.source import read_config
from vitdemo.backends.writing_backend import ANSWER, DESCRIBE, Start, WritingBackend
from vitdemo.cache import LRU
from vitdemo.device import Placement
from vitdemo.errors import CheckpointError, shortened
from vitdemo.instructions import default_instruction, taught
from vitdemo.records import Request

ANY = Family("chat", "chat", {}, "HuggingFaceTB/SmolVLM-256M-Instruct")
# PaliGemma knows tasks by these words, and no instructions.
TASKS = {"caption": "caption en", "ask": "answer en {}"}
_CHINESE = ("qwen", "internlm", "chatglm", "glm", "deepseek", "ernie", "minicpm", "hunyuan",
            "gemma3")
_KEPT_PROMPTS = 64
_MOST_TOKENS = 1280  # of a picture, where the model takes pictures of any size


def _languages(text: str) -> tuple[str, ...]:
    """Of a language model of this type."""
    return ("en", "zh") if text.startswith(_CHINESE) else ("en",)


@dataclass(frozen=True)
class Prompt:
    """The chat's text up to where the model begins to write, with one mark for the picture;
    ``lead`` is what stands before a finished text there, ``question`` where the question stands."""

    text: str
    lead: str
    question: tuple[int, int]


class ChatBackend(WritingBackend):
    """One checkpoint; see the file."""

    family = ANY

    def __init__(self, checkpoint: Checkpoint) -> None:
        config, text = checkpoint.model.config, checkpoint.model.config.get_text_config()
        super().__init__(checkpoint, config.model_type, instructions=tuple(taught()["en"]),
                         languages=_languages(text.model_type))
        self.picture_id = getattr(config, "image_token_id", None) or config.image_token_index
        self.ends = ends_of(self.model, self.tokenizer)
        self.tasks_only = config.model_type == "paligemma"
        self.known = config.model_type in GEOMETRIES
        self.layers = tuple(
            Layer(layer.self_attn, "text", ("text",), text.num_attention_heads, f"layer {number}")
            for number, layer in enumerate(self.model.get_decoder().layers, start=1)
            if hasattr(layer, "self_attn"))
        self._accepted = inspect.signature(self.model.forward).parameters
        self._prompts: LRU[list[int]] = LRU(_KEPT_PROMPTS)

    @classmethod
    def load(cls, source: str, placement: Placement) -> "ChatBackend":
        """Read a folder, or a name on the hub; the model's type is found from its config.

        Raises:
            CheckpointError: it cannot be loaded, is of a type that cannot be used, or where its
                picture tokens lie cannot be found.
        """
        config = read_config(source)
        kind = str(config.get("model_type"))
        name = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)
        if name is None or config.get("is_encoder_decoder"):
            raise unknown_type(source, kind)
        family = Family(kind, kind, {"chat": getattr(transformers, name)}, ANY.example)
        checkpoint = load_checkpoint(source, placement, family)
        images = checkpoint.processor.image_processor
        if hasattr(images, "merge_size"):  # Qwen-VL's own limit lets one photograph have 16,384
            most = _MOST_TOKENS * (images.patch_size * images.merge_size) ** 2
            images.size = {"shortest_edge": images.size["shortest_edge"],
                           "longest_edge": min(images.size["longest_edge"], most)}
        if kind in GEOMETRIES:
            return cls(checkpoint)
        try:
            backend = cls(checkpoint)
            backend.check()
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError("checkpoint.called_otherwise", source=source, kind=kind,
                                  why=shortened(error), known=", ".join(GEOMETRIES)) from error
        return backend

    @classmethod
    def languages_of(cls, source: str) -> tuple[str, ...]:
        """By the language model."""
        config = read_config(source)
        text = config.get("text_config") or {}
        return _languages(str(text.get("model_type") or config.get("model_type")))

    # Pictures

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[ChatPicture]:
        """One, which may be several tiles, and of a size of its own."""
        images, base = self.processor.image_processor, self.model.base_model
        more = {name: value for name, value in (  # as the whole processor asks for
            ("return_row_col_info", True), ("do_pan_and_scan", False), ("crop_to_patches", True))
            if hasattr(images, name)}
        inputs = images(images=pictures, return_tensors="pt", **more)
        given = {name: self.own(value) for name, value in inputs.items()
                 if isinstance(value, Tensor)}
        wanted = inspect.signature(base.get_image_features).parameters
        output = base.get_image_features(**{name: given[name] for name in given
                                            if name in wanted})
        features = flat(output.pooler_output).clone()
        regions = regions_of(Processed(pictures[0].size, inputs, len(features), self.processor,
                                       self.model.config))
        kept = {name: value for name, value in given.items()
                if name in self._accepted and not name.startswith("pixel")}
        return [ChatPicture(output_of([output], [features]), kept, regions)]

    @torch.no_grad()
    def check(self) -> None:
        """For a type that is not known: see that a bright square changes most where its region's
        tokens are said to be, and that what the model says is what it says by transformers' way.

        Raises:
            CheckpointError: it is not so.
        """
        picture = Image.new("RGB", (192, 144), (90, 90, 90))
        (before,) = self.encode_pictures([picture])
        boxes = before.data.regions.boxes
        for region in {len(boxes) // 3, 2 * len(boxes) // 3}:
            lit = picture.copy()
            x0, y0, x1, y1 = boxes[region].round().astype(int).tolist()
            lit.paste((255, 255, 255), (x0, y0, x1, y1))
            (other,) = self.encode_pictures([lit])
            change = (other.data.features - before.data.features).norm(dim=-1).float()
            shown = before.data.regions.spread(change[list(before.data.regions.places)])
            if int(shown.argmax()) != region:
                raise unknown(self.model.config.model_type, len(before.data.features))
        prompt = self.prompt("", "en", "caption")
        given = self.processor(text=[prompt.text], images=[picture], return_tensors="pt")
        want = self.model(**given.to(self.model.device)).logits[0, -1]
        ids, plain = self.prompt_ids(prompt, picture.size), self.encode(prompt.text)[0]
        after = plain[plain.index(self.picture_id) + 1:]
        # A token more must change nothing: some models read what they are given both ways.
        said = self.forward(self.tensor([*ids, self.ends[0]]), [before.data]).logits[0, -2]
        if not self.layers or ids[-len(after):] != after \
                or not torch.allclose(said, want, rtol=0.01, atol=0.01):
            raise ValueError("it says something else")

    def forward(self, ids: Tensor, pictures: Sequence[ChatPicture], offset: Tensor | None = None,
                written: int = 0, **more: Any) -> Any:
        """The model's own pass over ids (R, T) with each row's picture, or one for all; ``offset``
        (R, D) is added to the tokens of their regions. The last ``written`` ids are not of the
        prompt."""
        pictures = list(pictures) * (len(ids) // len(pictures))
        inputs = {name: torch.cat([one.inputs[name] for one in pictures])
                  for name in pictures[0].inputs}
        inputs |= token_types(self.model, ids, self.picture_id, written)
        rows = [one.features for one in pictures]
        if offset is not None:
            rows = [*with_offset(torch.stack(rows), pictures[0].regions.places, offset)]
        output = output_of([one.output for one in pictures], rows)
        with handed(self.model.base_model, "get_image_features", output):
            return self.model(input_ids=ids, pixel_values=rows[0].new_zeros(1), **inputs, **more)

    # Texts

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text, and each one's (start, end) in it."""
        encoding = self.tokenizer(text, return_offsets_mapping=True, verbose=False,
                                  add_special_tokens=self._plain(text))
        return list(encoding["input_ids"]), list(encoding["offset_mapping"])

    def _plain(self, text: str) -> bool:
        """Whether the tokenizer is to begin a text as it does: a template has done it already."""
        begin = self.tokenizer.bos_token
        return begin is None or begin not in text

    def prompt(self, instruction: str, language: str, task: str) -> Prompt:
        """By the model's own chat template.

        Raises:
            TextError: the instruction holds one of the model's own marks.
        """
        words = instruction.strip()
        describe, answer = (TASKS["caption"], TASKS["ask"]) if self.tasks_only else (
            DESCRIBE[language], ANSWER[language])
        if task == "caption" and words in ("", default_instruction(language)):
            words = describe
        self.refuse_marks(words, self.mark)
        said = words if task == "caption" else answer.format(words)
        turns: list[Any] = [{"role": "user", "content": [{"type": "image"},
                                                         {"type": "text", "text": said}]}]
        if getattr(self.processor, "chat_template", None) is None:
            begin = self.tokenizer.bos_token if self.tasks_only else ""
            text, lead = f"{self.mark}{begin}{said}\n", ""
        else:
            text = self.processor.apply_chat_template(turns, add_generation_prompt=True)
            turns.append({"role": "assistant", "content": [{"type": "text", "text": "§"}]})
            rest = self.processor.apply_chat_template(turns).removeprefix(text)
            lead = rest[:rest.find("§")]
            lead = lead if lead.isspace() else ""
        first = text.rfind(words)
        return Prompt(text, lead, (first, first + len(words)))

    @property
    def mark(self) -> str:
        """What stands for the picture in a prompt."""
        return str(getattr(self.processor, "image_token", None)
                   or self.tokenizer.convert_ids_to_tokens(self.picture_id))

    def prompt_ids(self, prompt: Prompt, size: tuple[int, int]) -> list[int]:
        """With as many tokens for the picture as one of that size has."""
        key = f"{size} {prompt.text}"
        ids = self._prompts.get(key)
        if ids is None:
            text = prompt.text
            if self.tasks_only:  # its processor writes the rest
                text = text.replace(str(self.tokenizer.bos_token), "").removesuffix("\n")
            inputs = self.processor(text=[text], images=[Image.new("RGB", size)],
                                    add_special_tokens=self._plain(text))
            ids = [int(number) for number in inputs["input_ids"][0]]
            self._prompts.put(key, ids)
        return ids

    def start(self, features: PictureFeatures, request: Request) -> Start:
        """After the chat's text."""
        prompt = self.prompt(request.instruction, request.language, request.task)
        return Start(ChatState(self, features.data, prompt),
                     self.prompt_ids(prompt, features.size), self.ends[0], self.text)

    traces = chat_traces
