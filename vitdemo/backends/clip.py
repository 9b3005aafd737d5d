"""Models that make vectors of pictures and of texts: CLIP (Radford et al. 2021, arXiv:2103.00020),
Chinese-CLIP (Yang et al. 2022, arXiv:2211.01335), SigLIP (Zhai et al. 2023, arXiv:2303.15343) and
SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786), from transformers.

No text looks at a picture here: all that the two have in common is the cosine of their vectors. So
a word is explained by what that loses without it: the text is read again with the word left out,
and the difference of the two texts' vectors, times the picture's, is the target from which
gradients lead back into the picture.

Legend: P pictures, M texts, R rows of one pass, N picture tokens, K regions, Q words, H heads,
D width, E embedding width.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import ChineseCLIPModel, CLIPModel, Siglip2Model, SiglipModel

from vitdemo.attention.capture import hooked
from vitdemo.attention.trace import Layer, Place, Regions, Rows, Trace, with_offset
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.hub import Checkpoint, Family, HubBackend, word_places
from vitdemo.backends.picture_tokens import length_of, patch_boxes
from vitdemo.backends.source import read_config
from vitdemo.records import ModelInfo, Request
from vitdemo.texts import Message, joined, phrase

TEXTS_AT_ONCE = 32  # in one pass of the text encoder
MANY_LANGUAGES = 100_000  # SigLIP's vocabulary has 32,000 tokens of English, or 250,000 of all


@dataclass(frozen=True)
class Seen:
    """One picture: what the vision encoder is given of it, each (1, ...), and its unit vector,
    float32 (E,)."""

    inputs: dict[str, Tensor]
    vector: Tensor


class ClipBackend(HubBackend):
    """CLIP; the others differ from it where they say so."""

    family = Family("CLIP", "clip", {"retrieval": CLIPModel}, "openai/clip-vit-base-patch32")
    # Cosines tell which of several texts fits best, and not how well one does: each is held
    # against this one.
    neutral = "a photo"
    languages: tuple[str, ...] = ("en",)
    class_tokens = 1  # before the patches
    methods = ("relevancy", "grad-cam")
    pictures_at_once = 8

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.images = checkpoint.processor.image_processor
        self.info = ModelInfo(
            name=checkpoint.name, family=self.family.model_type, revision=checkpoint.revision,
            tasks=frozenset(("embed", "match", "explain")), languages=self._languages(
                checkpoint.model.config.text_config.vocab_size),
            dimension=self.read([[]]).shape[1], methods=self.methods, match_weight=0.0,
            missing={task: Message("task.writes_nothing") for task in ("caption", "ask")})

    @classmethod
    def languages_of(cls, source: str) -> tuple[str, ...]:
        """By the size of the vocabulary."""
        text = read_config(source).get("text_config") or {}
        return cls._languages(text.get("vocab_size") or 0)

    @classmethod
    def _languages(cls, vocabulary: int) -> tuple[str, ...]:
        return cls.languages

    # Pictures

    @property
    def picture_side(self) -> int:
        """That of the square; 0 where pictures are cropped to it."""
        return 0 if self.images.do_center_crop else length_of(self.images.size, "height")

    def encode_some(self, pictures: list[Image.Image]) -> Iterable[Seen]:
        """By the checkpoint's own processor."""
        inputs = {name: self.own(value) for name, value in
                  self.images(images=pictures, return_tensors="pt").items()}
        vectors, _ = self.see(inputs)
        return (Seen({name: value[row:row + 1].clone() for name, value in inputs.items()},
                     vector.clone()) for row, vector in enumerate(vectors))

    def see(self, inputs: dict[str, Tensor], offset: Tensor | None = None,
            places: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Unit vectors float32 (R, E) of pictures, and their tokens (R, N, D) as `pooling` is given
        them, with ``offset`` (R, D) added to those at ``places``."""
        states: list[Tensor] = []

        def hook(_module: nn.Module, args: tuple[Any, ...], more: Any) -> tuple[Any, Any]:
            states.append(with_offset(args[0], places, offset))
            return (states[0], *args[1:]), more

        with hooked([self.pooling], hook, before=True):
            vectors = self.model.get_image_features(**inputs).pooler_output
        return F.normalize(vectors.float(), dim=-1), states[0]

    @property
    def pooling(self) -> Any:
        """What brings the tokens together. After the last layer only the class token counts."""
        return self.model.vision_model.encoder.layers[-1]

    def layers(self) -> tuple[Layer, ...]:
        """Those of the vision encoder, in which the class token looks at the patches."""
        heads = self.model.config.vision_config.num_attention_heads
        return tuple(Layer(layer.self_attn, "picture", ("picture",), heads)
                     for layer in self.model.vision_model.encoder.layers)

    def grid(self, seen: Seen) -> tuple[int, int]:
        """(rows, columns) of the patches."""
        vision = self.model.config.vision_config
        return (vision.image_size // vision.patch_size,) * 2

    # Texts

    @functools.cached_property
    def special(self) -> tuple[list[int], list[int]]:
        """The ids that stand before and after those of a text."""
        tokenizer = self.checkpoint.tokenizer
        bare, whole = (list(tokenizer("a", add_special_tokens=special)["input_ids"])
                       for special in (False, True))
        first = next(i for i in range(len(whole)) if whole[i:i + len(bare)] == bare)
        return whole[:first], whole[first + len(bare):]

    @torch.no_grad()
    def read(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Unit vectors float32 (M, E) of texts, whose ids come without special ones."""
        before, after = self.special
        vectors = []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            given = self.padded([[*before, *ids, *after]
                                 for ids in texts[first:first + TEXTS_AT_ONCE]])
            given = {name: value.to(self.model.device) for name, value in given.items()}
            vectors.append(self.model.get_text_features(**given).pooler_output.float())
        return F.normalize(torch.cat(vectors), dim=-1)

    def padded(self, rows: Sequence[Sequence[int]], length: int = 0) -> dict[str, Tensor]:
        """Texts as the model is given them; ``length`` 0 is that of the longest."""
        tokenizer = self.checkpoint.tokenizer
        given: dict[str, Any] = {"input_ids": rows}
        return dict(tokenizer.pad(given, return_tensors="pt", max_length=length,
                                  padding="max_length" if length else "longest"))

    # Comparing

    @torch.no_grad()
    def embed_pictures(self, features: Sequence[PictureFeatures]) -> np.ndarray:
        """Made with the features."""
        self.require("embed")
        rows = [one.data.vector.cpu().numpy() for one in features]
        return np.stack(rows) if rows else np.zeros((0, self.info.dimension), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See `Backend.embed_texts`."""
        self.require("embed")
        if not texts:
            return np.zeros((0, self.info.dimension), np.float32)
        return self.read([self.encode(text)[0] for text in texts]).cpu().numpy()

    @torch.no_grad()
    def score_pairs(self, features: Sequence[PictureFeatures],
                    texts: Sequence[str]) -> np.ndarray:
        """The probability of the text where the choice is between it and `neutral`."""
        self.require("match")
        if not (features and texts):
            return np.zeros((len(features), len(texts)), np.float32)
        pictures = torch.stack([one.data.vector for one in features])
        vectors = self.read([self.encode(text)[0] for text in texts])
        return self.logits(pictures, vectors).sigmoid().cpu().numpy()

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """That they fit, float32 (P, M), of the vectors of pictures (P, E) and texts (M, E)."""
        return self.scale * pictures @ (texts - self._neutral).T

    @property
    def scale(self) -> Tensor:
        """What a cosine is multiplied by."""
        return self.model.logit_scale.float().exp()

    @functools.cached_property
    def _neutral(self) -> Tensor:
        return self.read([self.encode(self.neutral)[0]])

    # Explaining

    def traces(self, features: PictureFeatures, request: Request) -> tuple[Trace, ...]:
        """See `PairTrace`."""
        ids, offsets = self.encode(request.text)
        words, tokens = word_places(request.text, offsets)
        whole, *rest = self.read([ids, *([ids[i] for i in range(len(ids)) if i not in left_out]
                                         for left_out in map(set, tokens))])
        grid = self.grid(features.data)
        boxes, shown = patch_boxes(self.images, features.size, grid)
        regions = Regions("picture", (np.flatnonzero(shown) + self.class_tokens).tolist(), boxes,
                          grid if shown.all() else (0, 0), features.size)
        layers = self.layers()
        return (PairTrace(
            text=request.text, source="text", written=False, words=words, layers=layers,
            tokens=[(0,) if left_out else () for left_out in tokens], shift=0,
            stream=layers[-1].stream, lengths={"picture": self.length(features.data), "probe": 1},
            regions=regions, path=joined((phrase("method.left_out"), "" if regions.whole else
                                          phrase("method.cropped"))),
            backend=self, seen=features.data, whole=whole,
            word_parts=torch.stack([whole - one for one in rest]) if rest else whole[None][:0]),)

    def length(self, seen: Seen) -> int:
        """N, the number of the picture's tokens."""
        rows, columns = self.grid(seen)
        return rows * columns + self.class_tokens


class ChineseClipBackend(ClipBackend):
    """Chinese-CLIP: the text encoder is BERT's."""

    family = Family("Chinese-CLIP", "chinese_clip", {"retrieval": ChineseCLIPModel},
                    "OFA-Sys/chinese-clip-vit-base-patch16")
    neutral, languages = "照片", ("zh",)


class SiglipBackend(ClipBackend):
    """SigLIP, and SigLIP 2 for squares: a probe looks at all patches in place of a class token, and
    each pair has a probability of its own."""

    family = Family("SigLIP", "siglip", {"retrieval": SiglipModel},
                    "google/siglip-base-patch16-224")
    class_tokens = 0

    def __init__(self, checkpoint: Checkpoint) -> None:
        head = checkpoint.model.vision_model.head
        if isinstance(head.attention, nn.MultiheadAttention):
            head.attention = Probe(head.attention)
        super().__init__(checkpoint)

    @classmethod
    def _languages(cls, vocabulary: int) -> tuple[str, ...]:
        return ("en", "zh") if vocabulary > MANY_LANGUAGES else cls.languages

    @property
    def pooling(self) -> Any:
        """The head that holds the probe."""
        return self.model.vision_model.head

    def layers(self) -> tuple[Layer, ...]:
        """Those of the vision encoder, and the probe."""
        heads = self.model.config.vision_config.num_attention_heads
        return (*super().layers(), Layer(self.pooling.attention, "probe", ("picture",), heads))

    def padded(self, rows: Sequence[Sequence[int]], length: int = 0) -> dict[str, Tensor]:
        """The last place of all makes the vector, and padding is read like words: it was trained so
        and gives other vectors without."""
        most = self.model.config.text_config.max_position_embeddings
        return {"input_ids": super().padded(rows, most)["input_ids"]}

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """The scaled cosine with the model's own bias."""
        return self.scale * pictures @ texts.T + self.model.logit_bias.float()


class Siglip2Backend(SiglipBackend):
    """SigLIP 2 that keeps a picture's shape (NaFlex): as many patches as fit, then padding."""

    family = Family("SigLIP 2", "siglip2", {"retrieval": Siglip2Model},
                    "google/siglip2-base-patch16-naflex")
    languages: tuple[str, ...] = ("en", "zh")

    @property
    def picture_side(self) -> int:
        """The shape counts."""
        return 0

    def grid(self, seen: Seen) -> tuple[int, int]:
        """That of this picture."""
        rows, columns = seen.inputs["spatial_shapes"][0].tolist()
        return rows, columns

    def length(self, seen: Seen) -> int:
        """With the padding."""
        return seen.inputs["pixel_values"].shape[1]


class Probe(nn.Module):
    """The attention of a pooling head by the fused kernel; what `nn.MultiheadAttention` does inside
    cannot be recorded (`vitdemo.attention.capture`)."""

    def __init__(self, inner: nn.MultiheadAttention) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, query: Tensor, key: Tensor, value: Tensor,
                attn_mask: Tensor | None = None) -> tuple[Tensor, None]:
        """(R, 1, D) looks at (R, N, D); the mask is (R * H, 1, N). Returns (R, 1, D)."""
        heads = self.inner.num_heads
        query, key, value = (
            F.linear(each, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
            for each, weight, bias in zip((query, key, value), self.inner.in_proj_weight.chunk(3),
                                          self.inner.in_proj_bias.chunk(3), strict=True))
        mask = None if attn_mask is None else attn_mask.unflatten(0, (-1, heads))
        result = F.scaled_dot_product_attention(query, key, value, mask)  # (R, H, 1, d)
        return self.inner.out_proj(result.transpose(1, 2).flatten(2)), None


@dataclass(frozen=True, kw_only=True)
class PairTrace(Trace):
    """A picture and a text. Each word has a target of its own and looks through the picture's one
    pooled token. ``whole`` (E,) is the text's vector, ``word_parts`` (Q, E) what it loses without
    each word."""

    backend: ClipBackend
    seen: Seen
    whole: Tensor
    word_parts: Tensor

    @property
    def apart(self) -> bool:
        """A word's target is what the score loses without it."""
        return True

    def run(self, rows: Rows, places: Sequence[Place] | None) -> Tensor:
        """The logit that they fit."""
        vectors = self._vectors(rows)
        return vectors.new_zeros(0) if places is not None else \
            self.backend.logits(vectors, self.whole[None])[:, 0]

    def word_logs(self, rows: Rows, words: Sequence[int]) -> Tensor:
        """What the logit loses without row r's word, (R,)."""
        return self.backend.scale * (self._vectors(rows) * self.word_parts[list(words)]).sum(-1)

    def features(self) -> Tensor:
        """The patches as they are pooled."""
        _, tokens = self.backend.see(self.seen.inputs)
        return tokens[0, list(self.regions.places)]

    def _vectors(self, rows: Rows) -> Tensor:
        """(R, E)"""
        if rows.pictures:
            return torch.stack([one.data.vector for one in rows.pictures])
        inputs = {name: value.expand(rows.count, *value.shape[1:])
                  for name, value in self.seen.inputs.items()}
        return self.backend.see(inputs, rows.offset, self.regions.places)[0]
