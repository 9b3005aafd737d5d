"""What a model says about many pictures, in batches: the reading end of evaluation.

Shapes: P pictures of a batch, N picture tokens, C backbone channels, M texts, E embedding width.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdemo.config import Decoding
from vitdemo.instructions import taught
from vitdemo.models.answering import ANSWER_TOKENS, answer_beams
from vitdemo.models.inference import Inference, Seen
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import normalisation, open_picture, to_pixels
from vitdemo.tokens import TextTokenizer
from vitdemo.words import language_of


class ModelPredictor:
    """What evaluation asks of a model; another one is an object with the same methods.

    ``features`` are of one batch of pictures, here the backbone's (P, N, C); nobody else looks into
    them, nor into what `keep` gives."""

    def __init__(self, model: VLM, tokenizer: TextTokenizer, *, beams: int = 3,
                 batch: int = 32) -> None:
        strategy = "beam" if beams > 1 else "greedy"
        self.model, self.batch = model, batch
        self.inference = Inference(model, tokenizer)
        self.device = self.inference.device
        self.caption_decoding = Decoding(strategy=strategy, beams=beams)
        # As in the app: an answer's length is not weighed.
        self.answer_decoding = Decoding(
            strategy=strategy, beams=answer_beams(beams) if beams > 1 else 1, length_penalty=0,
            max_tokens=ANSWER_TOKENS, fit=0)

    def ablations(self) -> dict[str, Callable[[], AbstractContextManager[None]]]:
        """What switches each part off, as far as the model has it. "no_fusion": the words see
        nothing of the picture, as with gates of 0 (the decoder still does); "no_modulation": the
        instruction changes no picture token."""
        crossings = [block.cross for block in self.model.fusion.blocks]
        found: dict[str, Callable[[], AbstractContextManager[None]]] = {}
        if crossings:
            found["no_fusion"] = partial(
                _replaced, crossings, lambda module, given, output: torch.zeros_like(output))
        if self.model.modulation is not None:
            found["no_modulation"] = partial(
                _replaced, [self.model.modulation], lambda module, given, output: given[0])
        return found

    @torch.inference_mode()
    def batches(self, paths: Sequence[Path]) -> Iterator[tuple[list[int], Tensor]]:
        """Features of all pictures, batch by batch, with the places of each batch in ``paths``; the
        next batch is read while the model works on this one.

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

    def embed_texts(self, texts: Sequence[str],
                    progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """Unit vectors, float32 (M, E); ``progress`` hears how many more are done."""
        return self.inference.embed_texts(texts, progress).float().cpu().numpy()

    def captions(self, features: Tensor, places: Sequence[int], language: str,
                 instruction: str = "describe") -> list[str]:
        """What is said of each of these pictures, raw, by the instruction with this key."""
        return self.inference.captions(features[list(places)], taught()[language][instruction][0],
                                       language, self.caption_decoding)

    def answers(self, features: Tensor, places: Sequence[int],
                questions: Sequence[str]) -> list[str]:
        """A raw answer to each question, in its language, about the picture at its place."""
        languages = [language_of(question) for question in questions]
        chances = self.inference.answers(features, places, questions, languages,
                                         self.answer_decoding)
        return [max(of, key=lambda answer: of[answer]) for of in chances]

    def answer_scores(self, features: Tensor, places: Sequence[int], questions: Sequence[str],
                      answers: Sequence[str]) -> np.ndarray:
        """How well each answer fits each question about the picture at its place: float32 (R,), the
        mean log-probability of the answer's tokens, its end among them."""
        languages = [language_of(question) for question in questions]
        return np.array(self.inference.answer_scores(features, places, questions, answers,
                                                     languages), np.float32)

    def keep(self, features: Tensor) -> list[Seen]:
        """(P, N, C) to what matching reads of each picture, in float16."""
        return [picture.half() for picture in self.inference.see(features)]

    def match_logits(self, pictures: Sequence[Seen], texts: Sequence[str], pairs: np.ndarray,
                     progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """How well each text fits each picture: float32 (R,), more is better.

        ``pictures`` come from `keep`; ``pairs`` int (R, 2) are places in ``pictures`` and
        ``texts``; ``progress`` hears how many more pairs are done.
        """
        return self.inference.match(pictures, texts, pairs, progress=progress).cpu().numpy()


@contextmanager
def _replaced(modules: list[nn.Module], output: Callable[[nn.Module, Any, Tensor], Tensor],
              ) -> Iterator[None]:
    handles = [module.register_forward_hook(output) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
