"""What the app and the evaluation ask of a model, in batches: writing, answering, matching.

It knows pictures by their features alone. Shapes: P pictures, N picture tokens, C channels of the
backbone, M texts, B pairs of a picture and a text, T text tokens, D width, E embedding width. A
*place* is a picture's number among the features, 0..P-1.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitdemo.config import Decoding
from vitdemo.models.answering import answer_chances, claims, weighed
from vitdemo.models.captioning import Captioner
from vitdemo.models.decoding import Hypothesis, Vocabulary, write_all
from vitdemo.models.fusion import Memory
from vitdemo.models.pointer import Names
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

_ROWS = 64  # texts written at a time
_TEXTS = 128  # texts embedded at a time
_PAIRS, _PAIRS_CPU = 1024, 64  # pairs matched at a time; few stay in a CPU's cache


class Reading(NamedTuple):
    """Texts that were read with pictures: the memory, the texts' ids and mask (B, T), z (B, E)."""

    memory: Memory
    ids: Tensor
    mask: Tensor
    z: Tensor


class Seen(NamedTuple):
    """What matching reads of one picture: tokens (N, D), unit vector (E,) and, where the match head
    weighs words, its regions' vectors (N, E), else (0,)."""

    tokens: Tensor
    vector: Tensor
    regions: Tensor

    def half(self) -> "Seen":
        """The same in less memory: tokens and regions in float16."""
        return Seen(self.tokens.half(), self.vector, self.regions.half())


def _silent(_done: int) -> None:
    """For who does not want to hear how many more are done."""


class Inference:
    """A model, in evaluation mode, and its tokenizer."""

    def __init__(self, model: VLM, tokenizer: TextTokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.captioner = Captioner(model, tokenizer)

    @property
    def device(self) -> torch.device:
        """That of the model."""
        return self.model.decoder.bias.device

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and bool mask (M, T) on the model's device."""
        ids, mask = self.tokenizer.encode(texts)
        return ids.to(self.device), mask.to(self.device)

    def memory(self, features: Tensor, places: Sequence[int], texts: Sequence[str]) -> Memory:
        """What the decoder reads of texts (B,), or of one text, each with the picture (P, N, C) at
        its place (B,)."""
        pictures = torch.tensor(list(places), device=self.device)
        return self.read(self.model.vision.tokens(features)[pictures], texts,
                         names=self.model.nameable(features, pictures)).memory

    def read(self, tokens: Tensor, texts: Sequence[str], which: np.ndarray | None = None,
             names: Names | None = None) -> Reading:
        """Picture tokens (B, N, D) with a text each: the one at ``which`` (B,), where one stands
        for several, so that it is encoded once; a single text goes with every picture. ``names``
        are what may be copied of the pictures."""
        ids, mask = self.encode(texts)
        words, z = self.model.encode_text(ids, mask)
        if which is None and len(texts) < len(tokens):
            assert len(texts) == 1
            which = np.zeros(len(tokens), int)
        if which is not None:
            ids, mask, words, z = (x[which] for x in (ids, mask, words, z))
        return Reading(self.model.fuse(tokens, words, mask, z, names), ids, mask, z)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str],
                    progress: Callable[[int], object] = _silent) -> Tensor:
        """Unit vectors (M, E). Texts of like length go together, so that little is padding."""
        vectors = self.model.decoder.bias.new_zeros(len(texts), self.model.config.embedding_width)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i].encode()))
        for start in range(0, len(order), _TEXTS):
            places = order[start:start + _TEXTS]
            some = [texts[i] for i in places]
            z = self.model.encode_text(*self.encode(some))[1]
            vectors[places] = z if self.model.names is None else self.model.names.towards(some, z)
            progress(len(places))
        return vectors

    # Captions

    @torch.inference_mode()
    def captions(self, features: Tensor, instruction: str, language: str,
                 decoding: Decoding) -> list[str]:
        """The raw caption of each picture (P, N, C)."""
        said: list[str] = []
        for some in features.split(_ROWS):
            memory = self.memory(some, range(len(some)), [instruction])
            found = write_all(self.model.decoder, memory,
                              self.captioner.vocabulary([language] * len(some)), decoding)
            said += [self.tokenizer.decode(text.ids)
                     for text in self.captioner.choose(some, decoding, found)]
        return said

    # Answers

    @torch.inference_mode()
    def answers(self, features: Tensor, places: Sequence[int], questions: Sequence[str],
                languages: Sequence[str], decoding: Decoding) -> list[dict[str, float]]:
        """Different answers to each question about the picture (P, N, C) at its place, with their
        probabilities; for a model with a bank by how what they claim fits, too."""
        found: list[list[Hypothesis]] = []
        for start in range(0, len(places), _ROWS):
            rows = slice(start, start + _ROWS)
            memory = self.memory(features, places[rows], questions[rows])
            found += write_all(self.model.decoder, memory,
                               Vocabulary.of(self.tokenizer, languages[rows]), decoding)
        return self.weigh(features, places, questions, found)

    def weigh(self, features: Tensor, places: Sequence[int], questions: Sequence[str],
              found: Sequence[Sequence[Hypothesis]]) -> list[dict[str, float]]:
        """`answers` of what was written to each question."""
        chances = [answer_chances(texts, self.tokenizer.decode) for texts in found]
        if self.model.querybank is None:
            return chances
        said = [claims(self.tokenizer.plain(question), of) if len(of) > 1 else {}
                for question, of in zip(questions, chances, strict=True)]
        texts = {text: i for i, text in enumerate(sorted({t for of in said for t in of.values()}))}
        pairs = [(place, texts[text]) for place, of in zip(places, said, strict=True)
                 for text in of.values()]
        evidence = iter(self.match(self.see(features), list(texts), pairs, claimed=True).tolist())
        return [weighed(of, {answer: next(evidence) for answer in sentences})
                for of, sentences in zip(chances, said, strict=True)]

    @torch.inference_mode()
    def answer_scores(self, features: Tensor, places: Sequence[int], questions: Sequence[str],
                      answers: Sequence[str], languages: Sequence[str]) -> list[float]:
        """The mean log-probability of the tokens of each answer, its end among them, to the
        question about the picture (P, N, C) at its place."""
        scores: list[float] = []
        for start in range(0, len(places), _ROWS):
            rows = slice(start, start + _ROWS)
            memory = self.memory(features, places[rows], questions[rows])
            ids, real = (x.to(self.device) for x in self.tokenizer.encode_targets(
                answers[rows], languages[rows]))  # (B, S)
            logs = self.model.decoder(ids[:, :-1], memory).float().log_softmax(-1)
            of_tokens = logs.gather(2, ids[:, 1:, None]).squeeze(2) * real[:, 1:]
            scores += (of_tokens.sum(1) / real[:, 1:].sum(1)).tolist()
        return scores

    # Matches

    @torch.inference_mode()
    def see(self, features: Tensor) -> list[Seen]:
        """What matching reads of each picture (P, N, C)."""
        return [Seen(*parts) for parts in zip(
            self.model.vision.tokens(features), self.model.picture_head(features),
            self.model.regions(features), strict=True)]

    @torch.inference_mode()
    def match(self, pictures: Sequence[Seen], texts: Sequence[str],
              pairs: np.ndarray | Iterable[tuple[int, int]], *, claimed: bool = False,
              progress: Callable[[int], object] = _silent) -> Tensor:
        """How well texts fit pictures: float32 logits (B,) of pairs (picture, text), int (B, 2).

        Pairs of one text go together: reading it costs more than matching it once. ``claimed``: see
        `VLM.match`; ``progress`` hears how many more pairs are done.
        """
        pairs = np.asarray(pairs if isinstance(pairs, np.ndarray) else list(pairs),
                           int).reshape(-1, 2)
        logits = torch.zeros(len(pairs), device=self.device)
        lengths = np.array([len(text.encode()) for text in texts], int)
        order = np.lexsort((pairs[:, 1], lengths[pairs[:, 1]]))
        size = _PAIRS_CPU if self.device.type == "cpu" else _PAIRS
        dtype = self.model.decoder.bias.dtype
        for start in range(0, len(order), size):
            rows = order[start:start + size]
            different, which = np.unique(pairs[rows, 1], return_inverse=True)
            tokens, vectors, regions = (torch.stack(part).to(dtype) for part in zip(
                *(pictures[i] for i in pairs[rows, 0]), strict=True))
            read = self.read(tokens, [texts[i] for i in different], which)
            logits[torch.from_numpy(rows)] = self.model.match(
                *read, vectors, regions, claimed=claimed).float()
            progress(len(rows))
        return logits
