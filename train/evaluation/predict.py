"""What a model says about many pictures, in batches: the reading end of evaluation.

Shapes: P pictures of a batch, N picture tokens, C backbone channels, M texts, E embedding width.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from train.data.features import FeatureStore
from train.evaluation.ablation import ablations
from vitdemo.config import Decoding
from vitdemo.instructions import default_instruction
from vitdemo.models.answering import (
    ANSWER_TOKENS,
    answer_beams,
    answer_chances,
    claims,
    weighed,
)
from vitdemo.models.captioning import Captioner
from vitdemo.models.decoding import Hypothesis, Vocabulary, write_all
from vitdemo.models.fusion import Memory
from vitdemo.models.pointer import Names
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import normalisation, open_picture, to_pixels
from vitdemo.tokens import TextTokenizer
from vitdemo.words import language_of

Features = TypeVar("Features")

_ROWS = 64  # texts written at a time
_TEXTS = 128  # texts embedded at a time
_PAIRS, _PAIRS_CPU = 1024, 64  # pairs matched at a time; few stay in a CPU's cache


class Predictor(Protocol[Features]):
    """What evaluation asks of a model. ``Features`` are its own, of one batch of pictures."""

    def batches(self, paths: Sequence[Path]) -> Iterator[tuple[list[int], Features]]:
        """Features of all pictures, batch by batch, with the places of each batch in ``paths``."""
        ...

    def blank(self) -> Features:
        """Features of one picture without content, the mean colour all over."""
        ...

    def embed_pictures(self, features: Features) -> np.ndarray:
        """Unit vectors, float32 (P, E)."""
        ...

    def embed_texts(self, texts: Sequence[str],
                    progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """Unit vectors, float32 (M, E); ``progress`` hears how many more are done."""
        ...

    def captions(self, features: Features, places: Sequence[int], language: str) -> list[str]:
        """A raw description of each of these pictures of the batch."""
        ...

    def answers(self, features: Features, places: Sequence[int],
                questions: Sequence[str]) -> list[str]:
        """A raw answer to each question about the picture at its place in the batch."""
        ...

    def answer_scores(self, features: Features, places: Sequence[int], questions: Sequence[str],
                      answers: Sequence[str]) -> np.ndarray:
        """How well each answer fits each question about the picture at its place: float32 (R,),
        any unit, more is better."""
        ...

    def keep(self, features: Features) -> list[Any]:
        """What `match_logits` needs of each picture of the batch, P of them, in little memory."""
        ...

    def match_logits(self, pictures: Sequence[Any], texts: Sequence[str], pairs: np.ndarray,
                     progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """How well each text fits each picture: float32 (R,), any unit, more is better.

        ``pictures`` come from `keep`; ``pairs`` int (R, 2) are places in ``pictures`` and
        ``texts``; ``progress`` hears how many more pairs are done.
        """
        ...

    def ablations(self) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        """What switches parts of the model off, by name; see `train.evaluation.ablation`."""
        ...


class ModelPredictor:
    """Our own model as a `Predictor`. ``features`` are the backbone's, (P, N, C)."""

    def __init__(self, model: VLM, tokenizer: TextTokenizer, *, beams: int = 3,
                 batch: int = 32) -> None:
        strategy = "beam" if beams > 1 else "greedy"
        self.model, self.tokenizer, self.batch = model, tokenizer, batch
        self._captioner = Captioner(model, tokenizer)
        self.device = next(model.parameters()).device
        self.caption_decoding = Decoding(strategy=strategy, beams=beams)
        # As in the app: an answer's length is not weighed.
        self.answer_decoding = Decoding(
            strategy=strategy, beams=answer_beams(beams) if beams > 1 else 1, length_penalty=0,
            max_tokens=ANSWER_TOKENS, fit=0)

    def ablations(self) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        """Of the fusion and of the modulation, as far as the model has them."""
        return ablations(self.model)

    @torch.inference_mode()
    def batches(self, paths: Sequence[Path]) -> Iterator[tuple[list[int], Tensor]]:
        """The next batch's pictures are read while the model works on this one.

        Raises:
            PictureError: a picture cannot be read.
        """
        config = self.model.config
        mean, std = normalisation(config.backbone)

        def read(path: Path) -> Tensor:
            return to_pixels([open_picture(path).image], config.picture_size, mean, std)

        starts = range(0, len(paths), self.batch)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            ahead = [pool.submit(read, path) for path in paths[:self.batch]]
            for start in starts:
                end = start + self.batch
                current = ahead
                ahead = [pool.submit(read, path) for path in paths[end:end + self.batch]]
                pixels = torch.cat([future.result() for future in current])
                pixels = pixels.to(self.device, memory_format=torch.channels_last)  # much faster
                yield (list(range(start, start + len(current))),
                       self.model.vision.features(pixels))

    @torch.inference_mode()
    def blank(self) -> Tensor:
        """Features (1, N, C) of a picture that is the backbone's mean colour all over."""
        side = self.model.config.picture_size
        return self.model.vision.features(torch.zeros(1, 3, side, side, device=self.device))

    @torch.inference_mode()
    def embed_pictures(self, features: Tensor) -> np.ndarray:
        """(P, N, C) to unit vectors, float32 (P, E)."""
        return self.model.picture_head(features).float().cpu().numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str],
                    progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """Texts of like length go together, so that little is padding."""
        vectors = np.zeros((len(texts), self.model.config.embedding_width), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i].encode()))
        for start in range(0, len(order), _TEXTS):
            places = order[start:start + _TEXTS]
            ids, mask = self.tokenizer.encode([texts[i] for i in places])
            _, z = self.model.encode_text(ids.to(self.device), mask.to(self.device))
            vectors[places] = z.float().cpu().numpy()
            progress(len(places))
        return vectors

    @torch.inference_mode()
    def keep(self, features: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(P, N, C) to each picture's tokens (N, D), float16, unit vector (E,) and, where the
        match head weighs words, its regions' vectors (N, E), float16, else nothing."""
        tokens = self.model.vision.tokens(features).half()  # (P, N, D)
        regions = self.model.regions(features).half()
        return list(zip(tokens, self.model.picture_head(features), regions, strict=True))

    @torch.inference_mode()
    def match_logits(self, pictures: Sequence[tuple[Tensor, ...]], texts: Sequence[str],
                     pairs: np.ndarray, progress: Callable[[int], object] = lambda n: None, *,
                     claimed: bool = False) -> np.ndarray:
        """Pairs of one text go together: reading it costs more than matching it once. ``claimed``:
        see `VLM.match`."""
        logits = np.zeros(len(pairs), np.float32)
        lengths = np.array([len(text.encode()) for text in texts])
        order = np.lexsort((pairs[:, 1], lengths[pairs[:, 1]]))
        size = _PAIRS_CPU if self.device.type == "cpu" else _PAIRS
        for start in range(0, len(order), size):
            rows = order[start:start + size]
            different, which = np.unique(pairs[rows, 1], return_inverse=True)
            ids, mask = (x.to(self.device)
                         for x in self.tokenizer.encode([texts[i] for i in different]))
            words, z = self.model.encode_text(ids, mask)
            tokens, vectors, regions = (torch.stack([pictures[i][part] for i in pairs[rows, 0]])
                                        .float() for part in range(3))
            memory = self.model.fuse(tokens, words[which], mask[which], z[which])
            evidence = self.model.weigh_words(regions, ids[which], mask[which])
            found = self.model.match(memory, mask[which], vectors, z[which], evidence,
                                     claimed=claimed)
            logits[rows] = found.float().cpu().numpy()
            progress(len(rows))
        return logits

    @torch.inference_mode()
    def captions(self, features: Tensor, places: Sequence[int], language: str) -> list[str]:
        """The model's answer to the default instruction of this language."""
        tokens = self.model.vision.tokens(features)  # (P, N, D)
        found: list[Hypothesis] = []
        for start in range(0, len(places), _ROWS):
            rows = list(places[start:start + _ROWS])
            languages = [language] * len(rows)
            memory = self._memory(tokens[rows], [default_instruction(language)] * len(rows),
                                  self.model.nameable(features[rows]))
            texts = write_all(self.model.decoder, memory, self._captioner.vocabulary(languages),
                              self.caption_decoding)
            found += self._captioner.choose(features[rows], memory, languages,
                                            self.caption_decoding, texts)
        return [self.tokenizer.decode(text.ids) for text in found]

    def answers(self, features: Tensor, places: Sequence[int],
                questions: Sequence[str]) -> list[str]:
        """In the language of each question. One picture may stand for all questions."""
        languages = [language_of(question) for question in questions]
        found = self._write(features, places, questions, languages, self.answer_decoding)
        chances = [answer_chances(of, self.tokenizer.decode) for of in found]
        if self.model.querybank is not None:
            chances = self._weigh(features, places, questions, chances)
        return [max(of, key=lambda answer: of[answer]) for of in chances]

    @torch.inference_mode()
    def answer_scores(self, features: Tensor, places: Sequence[int], questions: Sequence[str],
                      answers: Sequence[str]) -> np.ndarray:
        """The mean log-probability of each answer's tokens, its end among them."""
        tokens = self.model.vision.tokens(features)  # (P, N, D)
        scores: list[float] = []
        for start in range(0, len(places), _ROWS):
            rows = slice(start, start + _ROWS)
            memory = self._memory(tokens[list(places[rows])], questions[rows],
                                  self._nameable(features, places[rows]))
            ids, real = (x.to(self.device) for x in self.tokenizer.encode_targets(
                answers[rows], [language_of(text) for text in questions[rows]]))  # (R, S)
            logs = self.model.decoder(ids[:, :-1], memory).float().log_softmax(-1)
            of_tokens = logs.gather(2, ids[:, 1:, None]).squeeze(2) * real[:, 1:]
            scores += (of_tokens.sum(1) / real[:, 1:].sum(1)).tolist()
        return np.array(scores, np.float32)

    def _nameable(self, features: Tensor, places: Sequence[int]) -> Names | None:
        names = self.model.nameable(features)
        return names and names.select(torch.tensor(list(places), device=features.device))

    def _memory(self, tokens: Tensor, instructions: Sequence[str],
                names: Names | None = None) -> Memory:
        """Each instruction fused with its picture's tokens (B, N, D)."""
        ids, mask = (x.to(self.device) for x in self.tokenizer.encode(instructions))
        words, z = self.model.encode_text(ids, mask)
        return self.model.fuse(tokens, words, mask, z, names)

    @torch.inference_mode()
    def _weigh(self, features: Tensor, places: Sequence[int],
               questions: Sequence[str], chances: Sequence[Mapping[str, float]]
               ) -> list[dict[str, float]]:
        """By how what each answer claims fits the picture, too."""
        said = [claims(self.tokenizer.plain(question), of)
                for question, of in zip(questions, chances, strict=True)]
        texts = {text: i for i, text in enumerate(sorted({t for of in said for t in of.values()}))}
        pairs = np.array([(place, texts[text]) for place, of in zip(places, said, strict=True)
                          for text in of.values()], dtype=int).reshape(-1, 2)
        found = self.match_logits(self.keep(features), list(texts), pairs, claimed=True)
        evidence = iter(found.tolist())
        return [weighed(of, {answer: next(evidence) for answer in sentences})
                for of, sentences in zip(chances, said, strict=True)]

    @torch.inference_mode()
    def _write(self, features: Tensor, places: Sequence[int], instructions: Sequence[str],
               languages: Sequence[str], decoding: Decoding) -> list[list[Hypothesis]]:
        """What was found for each instruction about the picture at its place."""
        tokens = self.model.vision.tokens(features)  # (P, N, D)
        found: list[list[Hypothesis]] = []
        for start in range(0, len(places), _ROWS):
            rows = slice(start, start + _ROWS)
            memory = self._memory(tokens[list(places[rows])], instructions[rows],
                                  self._nameable(features, places[rows]))
            vocabulary = Vocabulary.of(self.tokenizer, languages[rows])
            found += write_all(self.model.decoder, memory, vocabulary, decoding)
        return found


class StoredPredictor(ModelPredictor):
    """The same for pictures whose features are kept: those of a frozen backbone serve many."""

    def __init__(self, model: VLM, tokenizer: TextTokenizer, store: FeatureStore, *,
                 beams: int = 3, batch: int = 32) -> None:
        super().__init__(model, tokenizer, beams=beams, batch=batch)
        self.store = store

    def batches(self, paths: Sequence[Path]) -> Iterator[tuple[list[int], Tensor]]:
        """The pictures must be in the store."""
        for start in range(0, len(paths), self.batch):
            chosen = paths[start:start + self.batch]
            features = self.store.get(chosen, [0] * len(chosen))
            yield list(range(start, start + len(chosen))), features.float().to(self.device)
