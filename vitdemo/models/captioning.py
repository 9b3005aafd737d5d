"""From the texts that a beam search found to the caption that is shown.

The names that a picture surely has must be in it, no content word twice, and it must fit. Shapes: P
pictures, N regions, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from vitdemo.config import Decoding
from vitdemo.models.constrained import Form, Wanted, write_with
from vitdemo.models.decoding import Hypothesis, Vocabulary, best
from vitdemo.models.fusion import Memory
from vitdemo.models.names import Name
from vitdemo.models.vlm import VLM
from vitdemo.models.wording import Wording
from vitdemo.tokens import TextTokenizer
from vitdemo.words import repeated_words

# Of a name that is sure, in nats by `Hypothesis.score`. What costs more stands in a wrong place: "a
# man is sitting on a dog".
MOST_COST = float(__import__("os").environ.get("MC","0.5"))


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
    def choose(self, features: Tensor, memory: Memory, languages: Sequence[str],
               decoding: Decoding, found: Sequence[Sequence[Hypothesis]]) -> list[Hypothesis]:
        """Of what a beam search found for each picture (P, N, C) and its memory, the text to show.

        A picture of which no text holds the names that it surely has is written about once more,
        with them. Of several texts the best by `best`, with the fit to the picture.
        """
        if decoding.strategy != "beam":
            return [texts[0] for texts in found]
        if self.model.names is not None and decoding.beams > 1:
            found = [self._named(memory, place, language, decoding, names, texts)
                     for place, (language, names, texts) in enumerate(zip(
                         languages, self.model.names.sure(features), found, strict=True))]
        found = [self._without_repeats(texts) for texts in found]
        return [best(texts, decoding, cosines) for texts, cosines in zip(
            found, self._cosines(features, found, decoding), strict=True)]

    def _named(self, memory: Memory, place: int, language: str, decoding: Decoding,
               names: Sequence[Name], found: Sequence[Hypothesis]) -> Sequence[Hypothesis]:
        """The texts with all of these names, or with the first, of those found or of a search for
        them; those found, where the names would make them unlikely by more than `MOST_COST`."""
        forms = [of for of in (self._forms(name.forms[language]) for name in names) if of]
        ended = [text for text in found if text.ended]
        least = max((text.score(decoding.length_penalty) for text in ended),
                    default=-torch.inf) - MOST_COST
        for count in range(len(forms), 0, -1):
            wanted = Wanted(forms[:count], self._wording.inner,
                            least=2 if language == "zh" else 1)
            held = [text for text in ended if wanted.all_held(text.ids)]
            if held:
                return held
            texts = write_with(self.model.decoder, _one(memory, place),
                               self.vocabulary([language]), decoding, wanted)
            if texts and texts[0].score(decoding.length_penalty) >= least:
                return texts
        return found

    def _forms(self, texts: Sequence[str]) -> list[Form]:
        """The token ids of these words, where the tokenizer knows all of them."""
        rows = [tuple(ids) for ids in self.tokenizer.batch_pieces(texts)]
        return [ids for ids in rows if ids and self.tokenizer.unknown not in ids]

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


def _one(memory: Memory, place: int) -> Memory:
    """The memory of one picture."""
    return replace(memory, tokens=memory.tokens[place:place + 1],
                   mask=memory.mask[place:place + 1], text=memory.text[place:place + 1],
                   names=memory.names and memory.names.select(torch.tensor([place])))
