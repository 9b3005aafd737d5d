"""The one object that the app, the command line, the API and the index call.

It holds a backend, a lock for the device and the features of the pictures seen last, so that the
second question on a picture skips the vision encoder. P pictures, M texts, E embedding width.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.cache import LRU
from vitdemo.checks import Checks, Choice
from vitdemo.config import LIMITS, Decoding, EngineConfig
from vitdemo.errors import ConfigError, TextError
from vitdemo.instructions import default_instruction
from vitdemo.lock import DeviceLock
from vitdemo.preprocess import Picture
from vitdemo.records import (
    Answer,
    Caption,
    Evidence,
    Explanation,
    Match,
    ModelInfo,
    PictureShare,
    Unread,
    WhatIf,
)
from vitdemo.slices import Slices
from vitdemo.streams import width
from vitdemo.trials import Progress, Request
from vitdemo.user_texts import UserTexts
from vitdemo.words import clean_text, language_of, tidy

if TYPE_CHECKING:
    from vitdemo.retrieval.gallery import Gallery

# At most, in one slice; how many fit is found out.
BATCH = 16  # pictures
TEXT_BATCH, MATCH_BATCH = 64, 16  # texts encoded; texts matched with a picture
Method = TypeVar("Method", bound=Callable[..., Any])


def without_gpu(method: Method) -> Method:
    """Mark a method of the engine that itself asks nothing of the model."""
    vars(method)["without_gpu"] = True
    return method


class Engine:
    """Describes pictures, answers questions on them, compares them with texts, and explains.

    Safe to call from several threads: they take the device in the order they came, what a person
    waits for before checks (see `DeviceLock`). A text that is being written gives it back after
    every word, and all that is long after every short slice. Reads no files and keeps none.
    """

    def __init__(self, backend: Backend, config: EngineConfig = EngineConfig(),
                 lock: DeviceLock | None = None) -> None:
        self.config = config
        self._backend = backend
        self._lock = lock or DeviceLock()
        self._cache: LRU[PictureFeatures] = LRU(config.cached_pictures)
        self._texts = UserTexts(backend)
        self._picture_slices = Slices(width(), BATCH)
        self._pair_slices, self._text_slices = Slices(1, MATCH_BATCH), Slices(1, TEXT_BATCH)
        self._checks = Checks(backend, self._lock, lambda one: self._features([one])[0])

    @classmethod
    def load(cls, config: EngineConfig = EngineConfig()) -> "Engine":
        """Load the model that ``config.model`` names: a checkpoint folder, or
        "blip:NAME_OR_FOLDER".

        Raises:
            CheckpointError: there is none, or it cannot be used.
            ConfigError: the device is not there.
        """
        from vitdemo.backends.registry import load_backend

        return cls(load_backend(config), config)

    @without_gpu
    def randomised(self, seed: int = 0) -> "Engine":
        """An engine over a copy of the model whose weights are random, for sanity checks: it has
        learned nothing. It takes as much memory again; the device's lock is the same one.

        Raises:
            TaskError: this model cannot be copied with random weights.
        """
        return Engine(self._backend.randomised(seed, self._lock.later), self.config, self._lock)

    def explain_randomised(self, picture: Picture, result: Caption | Answer | str,
                           words: Sequence[int] = (), source: str = "", seed: int = 0
                           ) -> tuple[tuple[Explanation, ...], tuple[Evidence, ...]]:
        """`explain`, and the `evidence` of these words, by a `randomised` copy that goes
        afterwards: what they give when the model has learned nothing.

        Raises:
            TaskError, TextError: see `randomised`, `explain` and `evidence`.
        """
        made = self.randomised(seed)
        found = made.explain(picture, result)
        if not (words and found):
            return found, ()
        return found, made.evidence(picture, result, source=source, words=words)

    @property
    def info(self) -> ModelInfo:
        """What the model is and can do."""
        return self._backend.info

    def stream(self, picture: Picture, instruction: str = "", language: str = "en",
               decoding: Decoding = Decoding()) -> Iterator[Caption]:
        """Describe a picture; yields the caption as it grows, the finished one last.

        ``instruction`` steers the description; empty means `default_instruction`. The device is
        free while the caller looks at a caption, and the caller may stop at any time.

        Raises (at once, not at the first caption):
            TaskError: the model cannot describe, or not in this language.
            TextError: the instruction is too long, holds control characters, or no word that the
                model knows.
        """
        self._backend.require("caption")
        instruction, unread = self._texts.read(instruction, "The instruction", language,
                                               may_be_empty=True)
        instruction = instruction or default_instruction(language)
        return self._stream(picture, instruction, language, decoding, unread)

    def _stream(self, picture: Picture, instruction: str, language: str,
                decoding: Decoding, unread: Unread) -> Iterator[Caption]:
        seconds, last = 0.0, None
        start = time.perf_counter()
        with self._lock:
            features = self._features([picture])[0]
            steps = self._backend.generate(features, instruction, language, decoding)
        try:
            while True:
                with self._lock:
                    step = next(steps, None)
                if step is None:
                    break
                seconds += time.perf_counter() - start
                if step.final or last is None or step.text != last.text:
                    yield _caption(step, language, instruction, seconds, unread)
                last = step
                start = time.perf_counter()  # the caller's own time does not count
        finally:
            # No lock here: this may run in the garbage collector, in a thread that holds it.
            close = getattr(steps, "close", None)
            if close is not None:
                close()
        assert last is not None and last.final, f"{self.info.name} gave no final step"

    def caption(self, picture: Picture, instruction: str = "", language: str = "en",
                decoding: Decoding = Decoding()) -> Caption:
        """The finished caption of `stream`, with the same errors."""
        result = None
        for result in self.stream(picture, instruction, language, decoding):  # noqa: B007
            pass
        assert result is not None
        return result

    def ask(self, picture: Picture, question: str, language: str = "", count: int = 5) -> Answer:
        """Answer a question on a picture.

        ``language`` is read off the question where it is empty. ``count`` is how many answers are
        weighed against each other: the best one and ``count`` - 1 runners-up.

        Raises:
            TaskError: the model cannot answer, or not in this language.
            TextError: the question is empty, too long, holds control characters, or no word that
                the model knows.
        """
        self._backend.require("ask")
        question, unread = self._texts.read(question, "The question", language)
        language = language or language_of(question)
        if count < 1:
            raise ConfigError(f"count is {count}; ask for at least 1 answer.")
        start = time.perf_counter()
        with self._lock:
            features = self._features([picture])[0]
            found = self._backend.answer(features, question, language, count)
        best = found[0]
        return Answer(best.text, question, language, best.probability, tuple(found[1:]),
                      time.perf_counter() - start, unread)

    def match(self, picture: Picture, texts: Sequence[str]) -> list[Match]:
        """How well each text fits the picture, in the order given.

        ``similarity`` is nan where the model has no embedding vectors, and so are both numbers of
        a text that holds no word that the model knows.

        Raises:
            TaskError: the model cannot compare, or not in the language of a text.
            TextError: a text is empty or too long, there are too many, or none holds a word that
                the model knows.
        """
        self._backend.require("match")
        if len(texts) > LIMITS.max_sentences:
            raise TextError(f"There are {len(texts)} sentences; compare at most "
                            f"{LIMITS.max_sentences} at once.")
        given = self._texts.some(texts)
        if not given:
            return []
        read = [place for place, (_, unread) in enumerate(given) if not unread.nothing]
        chosen = [given[place][0] for place in read]
        scores, similarities = np.full((2, len(given)), np.nan)
        with self._lock:
            features = self._features([picture])
        scores[read] = np.concatenate([np.zeros(0), *self._pair_slices.each(
            chosen, lambda some: self._backend.score_pairs(features, some)[0], self._lock)])
        if chosen and "embed" in self.info.tasks:
            with self._lock:
                vector = self._backend.embed_pictures(features)[0]
            similarities[read] = self._vectors(chosen) @ vector
        return [Match(text, float(score), float(similarity), unread)
                for (text, unread), score, similarity in zip(given, scores, similarities,
                                                             strict=True)]

    def match_pictures(self, pictures: Sequence[Picture], texts: Sequence[str]) -> np.ndarray:
        """How well each text fits each picture, by the match head: float32 (P, M), 0..1.

        Raises:
            TaskError, TextError: see `match`.
        """
        self._backend.require("match")
        cleaned = self._texts.all(texts)
        rows = self._picture_slices.each(pictures, lambda some: self._backend.score_pairs(
            self._features(some, keep=False), cleaned), self._lock.later)
        return np.concatenate([np.zeros((0, len(cleaned)), np.float32), *rows])  # (P, M)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the ways to explain (`vitdemo.attention.methods.METHODS`), the default one
        first; none where the model cannot explain."""
        return self._checks.methods

    def explain(self, picture: Picture, result: Caption | Answer | str,
                method: str = "") -> tuple[Explanation, ...]:
        """Where in the picture each word of a result looked; the picture must be the same.

        A caption gives one Explanation (source "caption"), an answer two ("question", "answer"),
        a sentence to compare with the picture one ("text"). A caption without a word gives none.
        ``method`` is one of `methods`; "" is the first of them.

        Raises:
            TaskError: the model cannot explain.
            ConfigError: it knows no such method.
            TextError: the sentence is empty, too long or holds control characters.
        """
        return self._checks.explain(picture, self._request(result), method)

    def evidence(self, picture: Picture, result: Caption | Answer | str, method: str = "",
                 source: str = "", words: Sequence[int] | None = None, seed: int = 0,
                 progress: Progress | None = None) -> tuple[Evidence, ...]:
        """Whether the words' maps can be trusted, by deletion and insertion against chance.

        ``source`` is that of one explanation; "" is the text that the model wrote, or the
        sentence. ``words`` are places of its words, counted from 0; None is all of them.
        ``seed`` draws the random orders. One word takes about 100 masked pictures, each
        further one 14; numbers are kept, so that the next word or method of the same result only
        pays for its own. The device is given back every few seconds; ``progress`` is then called
        with how many masked pictures are done and how many there are.

        Raises:
            TaskError, ConfigError, TextError: see `explain`; there is no such source or word.
        """
        return self._checks.evidence(picture, self._request(result), method, source, words, seed,
                                     progress)

    def what_if(self, picture: Picture, result: Caption | Answer | str, word: int,
                method: str = "", source: str = "", share: float = 0.2, seed: int = 0,
                regions: Sequence[int] | None = None,
                decoding: Decoding = Decoding()) -> WhatIf:
        """Does it matter? Blur the word's strongest regions and run the model again.

        ``share`` is how much of the regions is blurred, the word's strongest first; ``regions``
        blurs these instead. As many others are blurred for comparison, drawn from ``seed``.
        ``decoding`` should be what the caption was written with. For a sentence the texts say how
        well it fits.

        Raises:
            TaskError, ConfigError, TextError: see `evidence`; a share or region out of range; a
                word whose map is empty.
        """
        request = self._request(result)
        said = result if isinstance(result, str) else result.text
        return self._checks.what_if(picture, request, said, word, method, source,
                                    Choice(share, seed, regions), decoding)

    def picture_share(self, picture: Picture,
                      result: Caption | Answer | str) -> tuple[PictureShare, ...]:
        """How much the picture counted for each word: one record for each explanation, in order.

        A word that keeps at least four fifths of its probability with a grey picture is marked
        as one that the model would have said anyway; where the model weighs answers by what they
        claim, only if it would have answered the same.

        Raises:
            TaskError, TextError: see `explain`.
        """
        return self._checks.picture_share(picture, self._request(result))

    def _request(self, result: Caption | Answer | str) -> Request:
        """What a result was made from, a sentence cleaned first."""
        self._backend.require("explain")
        if isinstance(result, Caption):
            return Request(result.instruction, result.raw_text, result.language, "caption")
        if isinstance(result, Answer):
            return Request(result.question, result.text, result.language, "ask")
        self._backend.require("match")
        text, _ = self._texts.read(result, "The sentence")
        return Request("", text, language_of(text), "match")

    @property
    def picture_side(self) -> int:
        """Pixels of the square that the model squeezes every picture to, so that one of that size
        gives the same vector; 0 where that is not one size."""
        return self._backend.picture_side

    def embed_pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Unit vectors of pictures: float32 (P, E). One picture is what a person waits for; more
        are indexed, which lets persons go before."""
        self._backend.require("embed")
        alone = len(pictures) == 1
        rows = self._picture_slices.each(pictures, lambda some: self._backend.embed_pictures(
            self._features(some, keep=alone)), self._lock if alone else self._lock.later)
        return np.concatenate([np.zeros((0, self.info.dimension), np.float32), *rows])  # (P, E)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts: float32 (M, E), comparable with those of pictures.

        Raises:
            TextError: a text is empty, too long, holds control characters, or no word that the
                model knows.
        """
        self._backend.require("embed")
        return self._vectors(self._texts.all(texts))

    def _vectors(self, cleaned: Sequence[str]) -> np.ndarray:
        """`embed_texts` of texts that are clean already: (M, E)."""
        long = len(cleaned) > TEXT_BATCH  # then those who wait for less go before
        rows = self._text_slices.each(cleaned, self._backend.embed_texts,
                                      self._lock.later if long else self._lock)
        return np.concatenate([np.zeros((0, self.info.dimension), np.float32), *rows])

    @without_gpu
    def gallery(self, uri: str = "memory://") -> "Gallery":
        """Pictures that can be searched; ``uri`` is a folder, an object store's address, or
        "memory://" for one that is gone with the process.

        Raises:
            TaskError: the model has no embedding vectors.
            StoreError: the store was made by another model, or cannot be opened.
        """
        self._backend.require("embed")
        from vitdemo.retrieval.base import Stamp, open_index
        from vitdemo.retrieval.gallery import Gallery

        stamp = Stamp(self.info.name, self.info.revision, self.info.dimension)
        return Gallery(open_index(uri, stamp), self)

    def _features(self, pictures: Sequence[Picture], keep: bool = True) -> list[PictureFeatures]:
        """Features from the cache or the encoder; the caller holds the lock.

        Those of many pictures are looked up but not kept: indexing a folder must not push out the
        picture that somebody is asking about.
        """
        found = {picture.digest: self._cache.get(picture.digest) for picture in pictures}
        lacking = {p.digest: p for p in pictures if found[p.digest] is None}
        if lacking:
            encoded = self._backend.encode_pictures([p.image for p in lacking.values()])
            found.update(zip(lacking, encoded, strict=True))
            if keep:
                for digest, one in zip(lacking, encoded, strict=True):
                    self._cache.put(digest, one)
        features = [found[picture.digest] for picture in pictures]
        return [value for value in features if value is not None]

    @without_gpu
    def unread(self, text: str) -> Unread:
        """What of a text the model does not read; "" is a text with nothing to read."""
        return self._backend.unread(clean_text(text, "The text", may_be_empty=True))


def _caption(step: Step, language: str, instruction: str, seconds: float,
             unread: Unread) -> Caption:
    text = tidy(step.text, language)
    if not step.final:  # the full stop comes with the end
        text = text.rstrip(".。")
    return Caption(text, step.text, language, instruction, step.log_probability, seconds, unread)
