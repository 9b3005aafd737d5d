"""From the texts that a beam search found to the caption that is shown.

No content word may stand in it twice or be broken off, and it must fit. Shapes: P pictures, N
regions, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vitdemo.config import Decoding
from vitdemo.models.decoding import Hypothesis, Vocabulary, best
from vitdemo.models.vlm import VLM
from vitdemo.models.wording import Wording
from vitdemo.tokens import TextTokenizer
from vitdemo.words import broken_words, repeated_words


@dataclass(frozen=True)
class Captioner:
    """A model and its tokenizer, for the last step of writing captions by beam search."""

    model: VLM
    tokenizer: TextTokenizer

    @cached_property
    def _wording(self) -> Wording:
        return Wording(self.tokenizer)

    def vocabulary(self, languages: Sequence[str]) -> Vocabulary:
        """What captions in these languages are written with, one for each memory."""
        return Vocabulary.of(self.tokenizer, languages, self._wording)

    @torch.inference_mode()
    def choose(self, features: Tensor, decoding: Decoding,
               found: Sequence[Sequence[Hypothesis]]) -> list[Hypothesis]:
        """Of what a beam search found for each picture (P, N, C) the text to show: the best by
        `best`, with the fit to the picture."""
        if decoding.strategy != "beam":
            return [texts[0] for texts in found]
        found = [self._well_formed(texts) for texts in found]
        return [best(texts, decoding, cosines) for texts, cosines in zip(
            found, self._cosines(features, found, decoding), strict=True)]

    def _well_formed(self, found: Sequence[Hypothesis]) -> Sequence[Hypothesis]:
        """Of those that have ended, if any, the ones with the fewest content words that stand
        there twice or are broken off."""
        found = [text for text in found if text.ended] or found
        if len(found) < 2:
            return found
        faults = [len(repeated_words(text)) + len(broken_words(text))
                  for text in (self.tokenizer.decode(each.ids) for each in found)]
        return [text for text, count in zip(found, faults, strict=True) if count == min(faults)]

    def _cosines(self, features: Tensor, found: Sequence[Sequence[Hypothesis]],
                 decoding: Decoding) -> list[list[float]] | list[None]:
        """Of each picture's texts with its search vector, where that decides something."""
        if not decoding.fit or all(len(texts) < 2 for texts in found):
            return [None] * len(found)
        device = features.device
        ids, mask = self.tokenizer.encode([self.tokenizer.decode(text.ids)
                                           for texts in found for text in texts])
        texts = self.model.encode_text(ids.to(device), mask.to(device))[1]  # (M, E)
        pictures = self.model.picture_head(features)  # (P, E)
        owner = [place for place, texts in enumerate(found) for _ in texts]
        fit = (texts * pictures[owner]).sum(1).float().tolist()
        return [[one for one, place in zip(fit, owner, strict=True) if place == i]
                for i in range(len(found))]
