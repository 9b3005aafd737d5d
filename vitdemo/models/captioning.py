"""From the texts that a beam search found to the caption that is shown.

No content word may stand in it twice, and it must fit. Shapes: P pictures, N regions, C channels.
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
from vitdemo.words import repeated_words


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
        found = [self._without_repeats(texts) for texts in found]
        return [best(texts, decoding, cosines) for texts, cosines in zip(
            found, self._cosines(features, found, decoding), strict=True)]

    def _without_repeats(self, found: Sequence[Hypothesis]) -> Sequence[Hypothesis]:
        """Those that say no content word twice, where there are such."""
        if len(found) < 2:
            return found
        return [text for text in found
                if not repeated_words(self.tokenizer.decode(text.ids))] or found

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
