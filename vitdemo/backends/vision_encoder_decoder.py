"""`VisionEncoderDecoderModel` of transformers: a vision encoder and a language model of any kind
that looks at what it gave by cross-attention. ViT-GPT2 describes pictures; TrOCR (Li et al. 2021,
arXiv:2109.10282) and Donut (Kim et al. 2021, arXiv:2111.15664) read the text that stands in them,
and a Donut model may answer questions about it.

A ViT's picture is squeezed; its tokens are one or two class tokens and a grid. Donut fits a picture
into a canvas and pads it all around; a token of its Swin stands for 32 x 32 pixels.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoTokenizer, VisionEncoderDecoderModel

from vitdemo.attention.trace import Regions
from vitdemo.backends.encoder_decoder import EncoderDecoderBackend, Prompt
from vitdemo.backends.hub import Checkpoint, Family
from vitdemo.backends.picture_tokens import patch_boxes, shown_boxes, unknown
from vitdemo.backends.source import locate, read_config
from vitdemo.backends.writing_backend import Seen
from vitdemo.texts import Message

QUESTION, ANSWER, ANSWERED = "<s_docvqa><s_question>", "</s_question><s_answer>", "</s_answer>"
_PRETRAINING = ("<s_iitcdip>", "<s_synthdog>")


class VisionEncoderDecoderBackend(EncoderDecoderBackend):
    """See the file."""

    family = Family("vision encoder–decoder", "vision-encoder-decoder",
                    {"captioning": VisionEncoderDecoderModel},
                    "nlpconnect/vit-gpt2-image-captioning")
    pictures_at_once = 4

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.model.config
        self.mark = _mark_of(checkpoint.tokenizer)
        kind = "Donut" if config.encoder.model_type == "donut-swin" else \
            "TrOCR" if config.decoder.model_type == "trocr" else ""
        info: dict[str, Any] = {}
        if kind:
            reason = Message("task.reads_text", family=kind)
            info["missing"] = dict.fromkeys(("ask", "match", "embed"), reason)
        if QUESTION.startswith(self.mark or "none"):
            info["tasks"] = frozenset({"ask", "explain"})
            info["missing"] = dict.fromkeys(("caption", "match", "embed"), reason)
        super().__init__(checkpoint, kind or f"{config.encoder.model_type} and "
                         f"{config.decoder.model_type}", **info)

    @classmethod
    def tasks_of(cls, source: str = "") -> tuple[str, ...]:
        """A Donut describes or answers: its tokenizer tells."""
        asks = ("ask", "explain")
        if not source:
            return ("caption", *asks)
        tasks, (where, offline) = super().tasks_of(source), locate(source)
        if read_config(source)["encoder"]["model_type"] == "donut-swin":
            tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=offline)
            return asks if QUESTION.startswith(_mark_of(tokenizer) or "none") else tasks
        return tasks

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """By the checkpoint's own processor."""
        pixels = self.processor.image_processor(images=pictures, return_tensors="pt")[
            "pixel_values"]
        states = self.model.encoder(pixel_values=self.own(pixels)).last_hidden_state
        return (Seen(row[None].clone(),
                     self._regions(picture.size, tuple(pixels.shape[-2:]), len(row)))
                for picture, row in zip(pictures, states, strict=True))

    def _regions(self, size: tuple[int, int], canvas: tuple[int, ...], count: int) -> Regions:
        """Of a picture of ``size`` (width, height) on a canvas of (height, width) pixels, of which
        ``count`` tokens are made."""
        config, images = self.model.config.encoder, self.processor.image_processor
        patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
        stride = patch * 2 ** max(0, len(getattr(config, "depths", ())) - 1)
        grid = canvas[0] // stride, canvas[1] // stride
        before = count - grid[0] * grid[1]  # class tokens
        if before not in (0, 1, 2):
            raise unknown(config.model_type, count)
        turned = False
        if hasattr(images, "do_thumbnail"):
            turned = bool(images.do_align_long_axis) and (size[0] - size[1]) * (
                canvas[1] - canvas[0]) < 0
            given = size[::-1] if turned else size
            boxes, shown = shown_boxes(given, _fitted(given, canvas), canvas[::-1], grid)
        else:
            boxes, shown = patch_boxes(images, size, grid)
        places = before + np.flatnonzero(shown)
        if turned:  # back, to the left
            boxes = np.stack((boxes[:, 1], size[1] - boxes[:, 2],
                              boxes[:, 3], size[1] - boxes[:, 0]), 1)
            order = np.lexsort((boxes[:, 0], boxes[:, 1]))
            boxes, places = boxes[order], places[order]
        rows, columns = (len(np.unique(boxes[:, axis])) for axis in (1, 0))
        return Regions("picture", places.tolist(), boxes, (rows, columns), size)

    def prompt(self, instruction: str, task: str) -> Prompt:
        """Donut begins with the mark of its task, and is given a question between two.

        Raises:
            TextError: the question holds one of the model's own marks.
        """
        if not self.mark:
            return super().prompt(instruction, task)
        number: Any = self.tokenizer.convert_tokens_to_ids
        if task == "caption":
            return Prompt([number(self.mark)], self.end)
        words = instruction.strip()
        self.refuse_marks(words, *self.tokenizer.get_added_vocab())
        text = f"{QUESTION}{words}{ANSWER}"
        return Prompt(self.encode(text)[0], number(ANSWERED), (), text,
                      (len(QUESTION), len(QUESTION) + len(words)))


def _mark_of(tokenizer: Any) -> str:
    """Donut's marks come in pairs; one without an end names what the model was trained for. "" is
    that of no Donut."""
    known = tokenizer.get_vocab()
    marks = sorted((mark for mark in known if mark.startswith("<s_")
                    and f"</{mark[1:]}" not in known), key=lambda mark: mark in _PRETRAINING)
    return marks[0] if marks else ""


def _fitted(size: tuple[int, int], canvas: tuple[int, ...]) -> tuple[int, int]:
    """To which (width, height) `DonutImageProcessor` scales a picture of ``size``, for a canvas of
    (height, width): its shorter side to the canvas's, then the whole until it fits."""
    width, height = size
    short, edge = min(size), min(canvas)
    width, height = int(edge * width / short), int(edge * height / short)
    high, wide = min(height, canvas[0]), min(width, canvas[1])
    if (high, wide) != (height, width):
        if height > width:
            wide = int(width * high / height)
        elif width > height:
            high = int(height * wide / width)
    return wide, high
