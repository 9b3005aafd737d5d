"""What every family of transformers shares: reading a checkpoint from a folder or from the Hugging
Face hub, its tokenizer, and which of its tokens make which word."""

import copy
import functools
import hashlib
import inspect
import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from accelerate.utils import align_module_device
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from vitdemo.attention.sanity import randomise
from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.backends.source import config_at, first_line, locate, read_config
from vitdemo.characters import Characters, unread_of
from vitdemo.device import Placement
from vitdemo.errors import CheckpointError, TextError
from vitdemo.records import Unread, Word
from vitdemo.texts import Message
from vitdemo.words import split_words

_BOUNDLESS = 100_000
# What keeps its numbers where weights have fewer bits: vision encoders are small beside what
# writes, and Mllama's has an axis for tiles that bitsandbytes does not take.
_WHOLE = ["lm_head", "vision_model", "vision_tower", "visual", "multi_modal_projector"]


@dataclass(frozen=True)
class Family:
    """``name`` for people, ``model_type`` as in config.json, and the class of each kind of
    checkpoint that can be used (`architectures` in config.json); ``example`` is one on the hub."""

    name: str
    model_type: str
    kinds: Mapping[str, Any]
    example: str


@dataclass(frozen=True)
class Checkpoint:
    """A model on its device, in evaluation mode, with its processor. ``revision`` is a fingerprint
    of its weights; ``limit`` is how many tokens of a text it reads at most."""

    name: str
    kind: str
    model: Any
    processor: Any
    revision: str
    limit: int

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The processor's."""
        return self.processor.tokenizer

    @functools.cached_property
    def characters(self) -> Characters:
        """Those of the vocabulary."""
        return Characters(self.tokenizer.get_vocab())

    def ids(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text without special tokens, and each one's (start, end) in the text.

        Raises:
            TextError: the text has more tokens than the model has positions.
        """
        folded, places = self.characters.fold(text)
        encoding = self.tokenizer(folded, add_special_tokens=False, return_offsets_mapping=True,
                                  verbose=False)
        ids = list(encoding["input_ids"])
        if len(ids) > self.limit:
            raise TextError("typed.tokens", count=len(ids), model=self.name, most=self.limit)
        return ids, [(places[start], places[end - 1] + 1)
                     for start, end in encoding["offset_mapping"]]

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """For a text encoder: [CLS] text [SEP] of each text, padded: ids and mask (M, T).

        Raises:
            TextError: a text has more tokens than the model has positions.
        """
        tokenizer, device = self.tokenizer, self.model.device
        rows = [torch.tensor([tokenizer.cls_token_id, *self.ids(text)[0], tokenizer.sep_token_id],
                             device=device) for text in texts]
        return (pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id),
                pad_sequence([torch.ones_like(row) for row in rows], batch_first=True))

    def text(self, ids: Sequence[int]) -> str:
        """Ids to text, special tokens left out."""
        known = [number for number in ids if number < len(self.tokenizer)]
        model: Any = getattr(self.tokenizer, "backend_tokenizer", None)
        pieces = type(getattr(model, "model", None)).__name__ == "WordPiece"
        return str(self.tokenizer.decode(known, skip_special_tokens=True,
                                         clean_up_tokenization_spaces=pieces)).strip()


class HubBackend(Backend):
    """One checkpoint of a ``family``."""

    family: Family
    methods: tuple[str, ...] = ("cross-attention", "rollout", "relevancy", "grad-cam")
    pictures_at_once = 1  # in one pass of the vision encoder

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.model = checkpoint, checkpoint.model
        self.processor = checkpoint.processor

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text, and each one's (start, end) in it: see `Checkpoint.ids`."""
        return self.checkpoint.ids(text)

    def unread(self, text: str) -> Unread:
        """By the tokenizer's unknown token, where it has one."""
        ids, spans = self.encode(text)
        return unread_of(text, [span for number, span in zip(ids, spans, strict=True)
                                if number == self.checkpoint.tokenizer.unk_token_id])

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """A few at a time."""
        features: list[PictureFeatures] = []
        for first in range(0, len(pictures), self.pictures_at_once):
            some = list(pictures[first:first + self.pictures_at_once])
            features += [PictureFeatures(data, picture.size) for data, picture in zip(
                self.encode_some(some), some, strict=True)]
        return features

    @abstractmethod
    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Any]:
        """What is kept of each of so many pictures, by one pass of the vision encoder."""

    def own(self, values: Tensor) -> Tensor:
        """The same on the model's device, in its numbers where they are no whole ones."""
        dtype = self.model.dtype if values.is_floating_point() else values.dtype
        return values.to(self.model.device, dtype)

    @classmethod
    def load(cls, source: str, placement: Placement) -> Backend:
        """Read a folder, or a name on the hub.

        Raises:
            CheckpointError: it cannot be loaded, or is of a kind that cannot be used.
        """
        return cls(load_checkpoint(source, placement, cls.family))

    def randomised(self, seed: int, turn: AbstractContextManager[object]) -> Backend:
        """The same, where it has room and its weights are all here as plain numbers."""
        from vitdemo.backends.forecast import free_memory

        size = sum(parameter.nbytes for parameter in self.model.parameters())
        if getattr(self.model, "hf_device_map", None) or size > free_memory(
                Placement(self.model.device, self.model.dtype, "as the trained model")):
            return super().randomised(seed, turn)
        with turn:
            model = copy.deepcopy(self.model)
        randomise(model, seed)
        return type(self)(replace(self.checkpoint, model=model,
                                  name=f"{self.checkpoint.name} with random weights",
                                  revision=f"{self.checkpoint.revision}-random-{seed}"))

    @classmethod
    def tasks_of(cls, source: str = "") -> tuple[str, ...]:
        """Of a checkpoint of the family's kinds."""
        if source and cls.family.kinds:
            kind_of(source, read_config(source), cls.family)
        return super().tasks_of(source)


def word_places(text: str, offsets: Sequence[tuple[int, int]],
                ) -> tuple[tuple[Word, ...], list[list[int]]]:
    """The whole words of a text, and for each the tokens (by place in ``offsets``) that share a
    character with it."""
    words = split_words(text)
    return words, [[i for i, (start, end) in enumerate(offsets)
                    if start < word.end and end > word.start] for word in words]


def cache_argument(model: Any) -> str:
    """What a model calls the cache of keys and values, which was renamed."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else \
        "past_key_values"


def most_tokens(config: Any) -> int:
    """How many tokens of a text a model has places for; without bound where only their distances
    count (T5's way)."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None)
               or _BOUNDLESS)


def load_checkpoint(source: str, placement: Placement, family: Family) -> Checkpoint:
    """Read the checkpoint of a family in the folder ``source``, or of that name on the hub.

    Raises:
        CheckpointError: it cannot be had, is of another family, or is incomplete.
    """
    where, offline = locate(source)
    kind = kind_of(source, config_at(source, where, offline), family)
    try:
        model, report = family.kinds[kind].from_pretrained(
            where, output_loading_info=True, local_files_only=offline, **_precision(placement))
        processor = _processor(where, offline)
    except ImportError as error:
        raise CheckpointError("checkpoint.package", source=source,
                              why=first_line(error)) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise CheckpointError("chooser.no_room", model=source) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError,
            StrictDataclassError, SafetensorError) as error:
        raise CheckpointError("checkpoint.broken", family=family.name, source=source,
                              why=first_line(error)) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError("checkpoint.lacks_parts", source=source, count=len(missing),
                              family=family.name, kind=kind, first=missing[0])
    text = model.config.get_text_config()
    if len(processor.tokenizer) > text.vocab_size + getattr(text, "additional_vocab_size", 0):
        raise CheckpointError("checkpoint.tokenizer_size", source=source,
                              tokens=len(processor.tokenizer), known=text.vocab_size)
    revision = placement.revision(fingerprint(model))
    if not (placement.bits or placement.spread):
        model = model.to(device=placement.device, dtype=placement.dtype)
    model = model.eval().requires_grad_(False)
    name = Path(source).resolve().name if os.path.isdir(source) else source.split("/")[-1]
    return Checkpoint(name, kind, model, processor, revision, most_tokens(model.config) - 2)


def _precision(placement: Placement) -> dict[str, Any]:
    """How weights are read, as `from_pretrained` has it: at once in the numbers that they are kept
    in, so that no more memory is taken meanwhile."""
    how: dict[str, Any] = {"dtype": placement.dtype}
    if placement.spread:
        how["device_map"] = "auto"
    if placement.bits:
        from transformers import BitsAndBytesConfig

        how["device_map"] = {"": placement.device}
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=placement.bits == 8, load_in_4bit=placement.bits == 4,
            llm_int8_skip_modules=_WHOLE, bnb_4bit_compute_dtype=placement.dtype)
    return how


def _processor(where: str, offline: bool) -> Any:
    """The checkpoint's, with a tokenizer that tells where in the text its tokens lie. Those of
    sentencepiece (SigLIP's) do not, and need that package, so tokenizer.json is read instead."""
    processor, tokenizers = None, cast(Any, PreTrainedTokenizerFast)
    try:
        processor = AutoProcessor.from_pretrained(where, local_files_only=offline)
        if not hasattr(processor, "tokenizer"):  # ViT-GPT2 is saved in two parts
            processor, tokenizers = None, AutoTokenizer
        elif processor.tokenizer.is_fast:
            return processor
    except ImportError as error:
        if "sentencepiece" not in str(error).lower():
            raise
    if processor is None:  # its two parts, where the class of the whole cannot be used
        processor = SimpleNamespace(image_processor=AutoImageProcessor.from_pretrained(
            where, local_files_only=offline))
    processor.tokenizer = tokenizers.from_pretrained(where, local_files_only=offline)
    return processor


def kind_of(source: str, config: dict[str, Any], family: Family) -> str:
    """Which of a family's kinds a checkpoint is, by its config.json.

    Raises:
        CheckpointError: none of them.
    """
    if config.get("model_type") != family.model_type:
        raise CheckpointError("checkpoint.other_family", source=source, family=family.name,
                              kind=config.get("model_type") or Message("checkpoint.nameless"))
    named = config.get("architectures") or ["no class"]
    for kind, model_class in family.kinds.items():
        if model_class.__name__ in named:
            return kind
    raise CheckpointError("checkpoint.other_kind", source=source, named=named[0],
                          kinds=", ".join(family.kinds), classes=", ".join(
                              model_class.__name__ for model_class in family.kinds.values()))


def fingerprint(model: torch.nn.Module) -> str:
    """12 hex digits of a SHA-256 over up to 4096 values of every parameter, evenly spaced: another
    set of weights gives another one, and a large model takes well under a second."""
    digest = hashlib.sha256()
    for name in sorted(name for name, _ in model.named_parameters()):
        module = model.get_submodule(name.rpartition(".")[0])
        with align_module_device(module):  # where it has no room on the GPU
            parameter = model.get_parameter(name)
            values = parameter.detach().flatten()
            values = values[::max(1, values.numel() // 4096)].float().cpu().contiguous()
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:12]
