"""Reads one BLIP checkpoint of transformers, from a folder or from the Hugging Face hub."""

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipProcessor,
    PreTrainedTokenizerBase,
)

from vitdemo.characters import Characters, unread_of
from vitdemo.device import Placement
from vitdemo.disk import expanded
from vitdemo.errors import CheckpointError, TextError, shortened
from vitdemo.records import Unread

# kind -> the class that holds such a checkpoint; `architectures` of its config names the class
KINDS: dict[str, Any] = {
    "captioning": BlipForConditionalGeneration,
    "VQA": BlipForQuestionAnswering,
    "retrieval": BlipForImageTextRetrieval,
}
HUB_SECONDS = 10  # to wait for the hub's answer before saying that it cannot be reached


@dataclass(frozen=True)
class PixelFormat:
    """How a checkpoint wants its pictures: side of the square in pixels, mean and std of RGB."""

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class BlipCheckpoint:
    """A model on its device, in evaluation mode, with its tokenizer. ``revision`` is a
    fingerprint of its weights."""

    name: str
    kind: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    pixel_format: PixelFormat
    revision: str

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of picture patches."""
        count = self.pixel_format.side // self.model.config.vision_config.patch_size
        return count, count

    @functools.cached_property
    def characters(self) -> Characters:
        """Those of the vocabulary."""
        return Characters(self.tokenizer.get_vocab())

    def unread(self, text: str) -> Unread:
        """What of a text is not read; errors as in `ids`."""
        ids, spans = self.ids(text)
        return unread_of(text, [span for number, span in zip(ids, spans, strict=True)
                                if number == self.tokenizer.unk_token_id])

    def ids(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text without special tokens, and each one's (start, end) in the text.

        Raises:
            TextError: the text has more tokens than the model has positions.
        """
        folded, places = self.characters.fold(text)
        encoding = self.tokenizer(folded, add_special_tokens=False, return_offsets_mapping=True,
                                  verbose=False)
        ids = list(encoding["input_ids"])
        limit = self.model.config.text_config.max_position_embeddings - 2
        if len(ids) > limit:
            raise TextError(f"The text has {len(ids)} tokens; {self.name} reads at most {limit}. "
                            "Shorten it.")
        return ids, [(places[start], places[end - 1] + 1)
                     for start, end in encoding["offset_mapping"]]

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """For a text encoder: [CLS] text [SEP] of each text, padded: ids and mask (M, T).

        Raises:
            TextError: a text has more tokens than the model has positions.
        """
        tokenizer, device = self.tokenizer, self.model.device
        rows = [[tokenizer.cls_token_id, *self.ids(text)[0], tokenizer.sep_token_id]
                for text in texts]
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), self.model.config.text_config.pad_token_id)
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, :len(row)] = torch.tensor(row)
            mask[i, :len(row)] = 1
        return ids.to(device), mask.to(device)

    def text(self, ids: Sequence[int]) -> str:
        """Ids to text, special tokens left out."""
        known = [number for number in ids if number < len(self.tokenizer)]
        return str(self.tokenizer.decode(known, skip_special_tokens=True,
                                         clean_up_tokenization_spaces=True)).strip()


def load_checkpoint(source: str, placement: Placement) -> BlipCheckpoint:
    """Read the checkpoint in the folder ``source``, or of that name on the hub.

    Raises:
        CheckpointError: it cannot be had, is no BLIP model, or is incomplete.
    """
    where, offline = _locate(source)
    kind = _kind(source, _read_config(source, where, offline))
    try:
        model, report = KINDS[kind].from_pretrained(
            where, dtype=torch.float32, output_loading_info=True, local_files_only=offline)
        processor = BlipProcessor.from_pretrained(where, local_files_only=offline)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, StrictDataclassError,
            SafetensorError) as error:
        raise CheckpointError(f"The BLIP checkpoint {source} is incomplete or broken: "
                              f"{_first_line(error)} Copy or download it again, with its weights, "
                              "tokenizer and preprocessor_config.json.") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"The weights of {source} lack {len(missing)} parts of a BLIP "
                              f"{kind} model, among them {missing[0]}. Download it again.")
    if len(processor.tokenizer) > model.config.text_config.vocab_size:
        raise CheckpointError(f"The tokenizer of {source} has {len(processor.tokenizer)} tokens, "
                              f"its model knows {model.config.text_config.vocab_size}; they do "
                              "not belong together. Download both again.")
    images = processor.image_processor
    pixel_format = PixelFormat(int(model.config.vision_config.image_size),
                               tuple(images.image_mean), tuple(images.image_std))
    revision = fingerprint(model)
    model = model.to(device=placement.device, dtype=placement.dtype).eval().requires_grad_(False)
    name = Path(source).resolve().name if os.path.isdir(source) else source.split("/")[-1]
    return BlipCheckpoint(name, kind, model, processor.tokenizer, pixel_format, revision)


def _locate(source: str) -> tuple[str, bool]:
    """Where transformers is to look, and whether it is to leave the network alone: it is for a
    folder and for a model that was downloaded before."""
    folder = expanded(source)
    if os.path.isdir(folder):
        if not os.path.isfile(folder / "config.json"):
            raise CheckpointError(f"The folder {source} holds no config.json, so it is no BLIP "
                                  "checkpoint. Give the folder that save_pretrained or a download "
                                  "made.")
        return str(folder), True
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or "\\" in source:
        raise CheckpointError(f"There is no folder {shortened(repr(source))}. Give the folder of a "
                              "BLIP checkpoint, or its name on the Hugging Face hub, such as "
                              "Salesforce/blip-image-captioning-base.")
    try:
        here = [isinstance(try_to_load_from_cache(source, name), str)
                for name in ("config.json", "model.safetensors", "pytorch_model.bin")]
        if here[0] and any(here[1:]):
            return source, True
        HfApi().model_info(source, timeout=HUB_SECONDS)
    except HfHubHTTPError as error:
        raise CheckpointError(f"The Hugging Face hub does not give {source}: "
                              f"{_first_line(error)} Check the name.") from error
    except HFValidationError as error:
        raise CheckpointError(f"{shortened(repr(source))} is neither a folder nor a name on the "
                              "Hugging Face hub. Check it.") from error
    except (HTTPError, OSError) as error:
        raise CheckpointError(
            f"{source} is not on this machine, and the Hugging Face hub cannot be reached to "
            f"download it. Check the network; or, where there is one, run 'hf download {source} "
            "--local-dir FOLDER', copy the folder here and use blip:FOLDER.") from error
    return source, False


def _read_config(source: str, where: str, offline: bool) -> dict[str, Any]:
    try:
        return dict(BlipConfig.get_config_dict(where, local_files_only=offline)[0])
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"config.json of {source} cannot be read: {_first_line(error)} "
                              "Copy or download the checkpoint again.") from error


def _kind(source: str, config: dict[str, Any]) -> str:
    if config.get("model_type") != "blip":
        raise CheckpointError(f"{source} is a {config.get('model_type') or 'nameless'} model, not "
                              "a BLIP model (model_type in its config.json).")
    named = config.get("architectures") or ["no class"]
    for kind, model_class in KINDS.items():
        if model_class.__name__ in named:
            return kind
    raise CheckpointError(f"{source} holds {named[0]}; captioning, VQA and retrieval checkpoints "
                          "can be used: "
                          f"{', '.join(model_class.__name__ for model_class in KINDS.values())}.")


def fingerprint(model: torch.nn.Module) -> str:
    """12 hex digits of a SHA-256 over up to 4096 values of every parameter, evenly spaced: another
    set of weights gives another one, and a large model takes well under a second."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().flatten()
        values = values[::max(1, values.numel() // 4096)].float().cpu().contiguous()
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:12]


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:200] + "..." if len(text) > 200 else text).rstrip(".") + "."
