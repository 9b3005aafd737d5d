"""The whole model: one forward pass, one return type, whatever the task.

Shapes: P pictures, B pairs of a picture and an instruction, C texts per pair, R = B * C rows,
N picture tokens, T text tokens, S decoder tokens, V vocabulary, E embedding width, D width.
"""

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdemo.config import ModelConfig
from vitdemo.models.decoder import Decoder
from vitdemo.models.fusion import Fusion, InstructionHead, Memory, Modulation
from vitdemo.models.names import NamesHead
from vitdemo.models.pointer import Names
from vitdemo.models.querybank import Querybank
from vitdemo.models.regions import RegionHead, WordEvidence
from vitdemo.models.text import TextEncoder, masked_mean
from vitdemo.models.vision import VisionEncoder


@dataclass
class Output:
    """logits (R, S, V); match logits (B,); unit vectors of the pictures (P, E) and of the
    instructions (B, E); tanh of each fusion block's gate (L,)."""

    logits: Tensor
    match_logits: Tensor
    picture_embeddings: Tensor
    text_embeddings: Tensor
    gates: Tensor


class PictureHead(nn.Module):
    """Mean and maximum of the backbone's features to the shared sphere.

    ``dropout``, in training, is of what it reads and of what it makes of it (Srivastava et al.
    2014): its million weights know a few thousand pictures by heart.
    """

    def __init__(self, channels: int, embedding_width: int) -> None:
        super().__init__()
        self.dropout = 0.0
        self.norm = nn.LayerNorm(2 * channels)
        self.inner = nn.Linear(2 * channels, embedding_width)
        self.out = nn.Linear(embedding_width, embedding_width)

    def forward(self, features: Tensor) -> Tensor:
        """(P, N, C) to unit vectors (P, E)."""
        pooled = torch.cat((features.mean(1), features.amax(1)), -1)  # (P, 2C)
        inner = self.inner(F.dropout(self.norm(pooled), self.dropout, self.training))
        outer = self.out(F.dropout(F.gelu(inner), self.dropout, self.training))
        return F.normalize(inner + outer, dim=-1)


class MatchHead(nn.Module):
    """The fused pair to one logit: how well the text fits the picture."""

    def __init__(self, width: int, embedding_width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * width + embedding_width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, fused: Tensor, mask: Tensor, product: Tensor) -> Tensor:
        """fused words (B, T, D), mask bool (B, T), product of the unit vectors (B, E): (B,)."""
        lowest = torch.finfo(fused.dtype).min
        top = fused.masked_fill(~mask[..., None], lowest).amax(1)
        pair = torch.cat((masked_mean(fused, mask), top, product * product.shape[-1] ** 0.5), -1)
        return self.out(F.gelu(self.inner(pair))).squeeze(-1)


class VLM(nn.Module):
    """Vision encoder -> text encoder -> modulation -> fusion -> decoder and heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, embed = config.width, config.embedding_width
        self.vision = VisionEncoder(config.backbone, config.picture_size, width)
        self.text = TextEncoder(config.vocabulary, width, config.text_heads, config.text_layers,
                                config.max_text_tokens)
        self.instruction_head = InstructionHead(width, embed)
        self.modulation = Modulation(embed, width) if config.modulation else None
        self.fusion = Fusion(config.fusion, width, config.heads, config.fusion_layers)
        self.decoder = Decoder(config.vocabulary, width, config.heads, config.decoder_layers,
                               config.pointer)
        self.picture_head = PictureHead(self.vision.channels, embed)
        self.match_head = MatchHead(width, embed)
        self.region_head = RegionHead(config.vocabulary, self.vision.channels, width, embed,
                                      self.vision.grid) if config.regions else None
        self.evidence = WordEvidence(config.vocabulary) if config.evidence else None
        self.names = NamesHead(self.vision.channels, self.vision.grid,
                               embed) if config.names else None
        self.querybank = Querybank(config.querybank, embed) if config.querybank else None

    def encode_text(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """ids (B, T), mask bool (B, T) to words (B, T, D) and unit vectors z (B, E)."""
        words = self.text(ids, mask)
        return words, F.normalize(self.instruction_head(words, mask), dim=-1)

    def nameable(self, features: Tensor, picture_of: Tensor | None = None) -> Names | None:
        """What may be copied of pictures (P, N, C), for a memory of each, or of these (B,)."""
        if self.names is None or self.decoder.pointer is None:
            return None
        names = self.names.nameable(features)
        return names if names is None or picture_of is None else names.select(picture_of)

    def fuse(self, tokens: Tensor, words: Tensor, mask: Tensor, z: Tensor,
             names: Names | None = None) -> Memory:
        """Picture tokens (B, N, D) and an instruction's words (B, T, D) to the memory, with what
        `nameable` found."""
        if self.modulation is not None:
            tokens = self.modulation(tokens, z)
        memory: Memory = self.fusion(tokens, words, mask)
        return dataclasses.replace(memory, names=names)

    def match(self, memory: Memory, ids: Tensor, mask: Tensor, z: Tensor, picture: Tensor,
              regions: Tensor | None, *, claimed: bool = False) -> Tensor:
        """Match logits (B,) from a memory, its texts' ids and mask (B, T), the pairs' unit vectors
        (B, E) and `regions`; ``picture`` (1, E) and its regions where it is one for all.
        ``claimed``: the texts are what answers claim, and a model with a bank gives
        `Querybank.evidence`."""
        logits = self.match_head(memory.text, mask, picture * z)
        evidence = self.weigh_words(regions, ids, mask)
        if evidence is not None:
            logits = logits + evidence
        if self.querybank is None:
            return logits
        return (self.querybank.evidence if claimed else self.querybank)(logits, picture, z)

    def regions(self, features: Tensor) -> Tensor:
        """(P, N, C) to what `weigh_words` reads of each picture: (P, N, E), or (P, 0) for a model
        that does not weigh words one by one."""
        if self.evidence is None or self.region_head is None:
            return features.new_zeros(len(features), 0)
        return self.region_head.regions(features)

    def weigh_words(self, regions: Tensor | None, ids: Tensor, mask: Tensor) -> Tensor | None:
        """What the words of each text say for its picture: (B,), or None for a model that does not
        weigh words one by one. ``regions``, of B pictures or of one, are those of `regions`; ids
        and bool mask (B, T)."""
        if self.evidence is None or self.region_head is None:
            return None
        assert regions is not None
        return self.evidence(self.region_head.presence_at(regions, ids), ids, mask)

    def gates(self) -> Tensor:
        """tanh of each fusion block's cross-attention gate: (L,), L 0 for concat and linear."""
        values = [block.gate().to(self.decoder.bias) for block in self.fusion.blocks]
        return torch.cat(values) if values else self.decoder.bias.new_zeros(0)

    def forward(self, features: Tensor, instruction: Tensor, instruction_mask: Tensor,
                decoder_ids: Tensor, picture_of: Tensor | None = None) -> Output:
        """Everything at once, teacher-forced.

        features (P, N, C) from ``vision.features``; instruction ids (B, T) with bool mask (B, T);
        decoder_ids (R, S); ``picture_of`` (B,) says which picture each instruction is about
        (default: one each, in order).
        """
        tokens, pictures = self.vision.tokens(features), self.picture_head(features)
        pair_tokens, pair_pictures = tokens, pictures
        if picture_of is not None:
            pair_tokens, pair_pictures = tokens[picture_of], pictures[picture_of]
        words, z = self.encode_text(instruction, instruction_mask)
        memory = self.fuse(pair_tokens, words, instruction_mask, z,
                           self.nameable(features, picture_of))
        regions = self.regions(features)
        match = self.match(memory, instruction, instruction_mask, z, pair_pictures,
                           regions if picture_of is None else regions[picture_of])
        return Output(self.decoder(decoder_ids, memory), match, pictures, z, self.gates())
