"""The one object that the app, the command line, the API and the index call.

It holds a backend, a lock for the device and the features of the pictures seen last, so that the
second question on a picture skips the vision encoder. P pictures, M texts, E embedding width.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitdemo.backends.base import Backend, require
from vitdemo.checks import Checks, Choice
from vitdemo.config import LIMITS, Decoding, EngineConfig
from vitdemo.device import without_gpu
from vitdemo.errors import ConfigError, TaskError, TextError
from vitdemo.feature_cache import FeatureCache
from vitdemo.instructions import default_instruction, nearest
from vitdemo.lock import DeviceLock
from vitdemo.measures import Measures
from vitdemo.preprocess import Picture
from vitdemo.records import (
    Answer,
    Caption,
    Description,
    Evidence,
    Explanation,
    Match,
    ModelInfo,
    PictureShare,
    Request,
    SmallestPart,
    Unread,
    WhatIf,
    Wishes,
)
from vitdemo.scheduler import Scheduler
from vitdemo.slices import Slices
from vitdemo.streams import width
from vitdemo.texts import phrase
from vitdemo.trials import Progress
from vitdemo.user_texts import UserTexts, caption_of
from vitdemo.words import clean_text, language_of

if TYPE_CHECKING:
    from vitdemo.retrieval.gallery import Gallery

# At most, in one slice; how many fit is found out.
BATCH = 16  # pictures
TEXT_BATCH, MATCH_BATCH = 64, 16  # texts encoded; texts matched with a picture


class Engine:
    """Describes pictures, answers questions on them, compares them with texts, and explains.

    Safe to call from several threads: they take the device in the order they came, what a person
    waits for before checks (see `DeviceLock`). Texts that are being written have their words in
    one batch (see `Scheduler`), and give it back after every word; all that is long gives it back
    after every short slice. Reads no files and keeps none.
    """

    def __init__(self, backend: Backend, config: EngineConfig = EngineConfig(),
                 lock: DeviceLock | None = None) -> None:
        self.config = config
        self._backend = backend
        self._lock = lock or DeviceLock()
        self.measures = Measures()
        self._forget()
        self._picture_slices = Slices(width(), BATCH)
        self._pair_slices, self._text_slices = Slices(1, MATCH_BATCH), Slices(1, TEXT_BATCH)

    def _forget(self) -> None:
        backend, config = self._backend, self.config
        self._cache = FeatureCache(backend, config.cached_pictures,
                                   config.cached_megabytes * 2**20, self.measures)
        self._features = self._cache.of
        self._scheduler = Scheduler(self._lock, self._cache, self.measures)
        self._texts = UserTexts(backend)
        self._checks = Checks(backend, self._lock, lambda one: self._features([one])[0])

    @without_gpu
    def close(self) -> None:
        """Give the model's memory back; what is asked of it then ends with a `TaskError`."""
        with self._lock:
            self._lock.close(TaskError("chooser.closed"))
            self._backend.close()
            self._forget()

    @classmethod
    def load(cls, config: EngineConfig = EngineConfig()) -> "Engine":
        """Load the model that ``config.model`` names; see `backends.registry.resolve`. The address
        of an engine on another machine gives one that asks it.

        Raises:
            CheckpointError: there is none, or it cannot be used.
            ConfigError: the device is not there.
            ServingError: no engine answers at the address.
        """
        from vitdemo.backends.registry import is_address, load_backend

        if is_address(config.model):
            from vitdemo.serving.client import RemoteEngine

            return RemoteEngine.connect(config.model)
        return cls(load_backend(config), config)

    @without_gpu
    def randomised(self, seed: int = 0) -> "Engine":
        """An engine over a copy of the model whose weights are random, for sanity checks: it has
        learned nothing. It takes as much memory again; the device's lock is the same one. It raises
        `TaskError` where this model cannot be copied so."""
        return Engine(self._backend.randomised(seed, self._lock.later), self.config, self._lock)

    def explain_randomised(self, picture: Picture, result: Caption | Answer | str,
                           words: Sequence[int] = (), source: str = "", seed: int = 0
                           ) -> tuple[tuple[Explanation, ...], tuple[Evidence, ...]]:
        """`explain`, and the `evidence` of these words, by a `randomised` copy that goes
        afterwards: what they give when the model has learned nothing. It raises what they do."""
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
        instruction, unread = self._texts.read(instruction, phrase("typed.instruction"),
                                               "caption", language, may_be_empty=True)
        instruction = instruction or default_instruction(language)
        return self._stream(picture, instruction, language, decoding, unread)

    def _stream(self, picture: Picture, instruction: str, language: str,
                decoding: Decoding, unread: Unread) -> Iterator[Caption]:
        seconds, last, start = 0.0, None, time.perf_counter()
        steps = self._scheduler.write(self._backend.doing("caption"), picture, lambda features:
                                      self._backend.generate(features, instruction, language,
                                                             decoding))
        for step in steps:
            seconds += time.perf_counter() - start
            if step.final or last is None or step.text != last.text:
                yield caption_of(step, language, instruction, seconds, unread)
            last = step
            if last.final:
                break
            start = time.perf_counter()  # the caller's own time does not count
        steps.close()
        assert last is not None and last.final, f"{self.info.name} gave no final step"
        self.measures.add("seconds", "write", seconds)

    def caption(self, picture: Picture, instruction: str = "", language: str = "en",
                decoding: Decoding = Decoding()) -> Caption:
        """The finished caption of `stream`, with the same errors."""
        return [*self.stream(picture, instruction, language, decoding)][-1]

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
        question, unread = self._texts.read(question, phrase("typed.question"), "ask", language)
        language = language or language_of(question)
        if count < 1:
            raise ConfigError("typed.count", count=count)
        start = time.perf_counter()
        states = self._scheduler.write(self._backend.doing("ask"), picture, lambda features:
                                       self._backend.answering(features, question, language,
                                                               count))
        best, *more = next(state for state in states if state)
        seconds = time.perf_counter() - start
        self.measures.add("seconds", "answer", seconds)
        return Answer(best.text, question, language, best.probability, tuple(more), seconds, unread)

    def describe(self, pictures: Sequence[Picture], wishes: Wishes,
                 decoding: Decoding = Decoding()) -> list[Description]:
        """Captions, answers and names of many pictures, in batches, behind what persons wait for.
        It raises what `stream` and `ask` do."""
        work = self._texts.describer(wishes, decoding)
        batches = Slices(BATCH, BATCH).each(pictures, lambda some: work(
            self._features(some, keep=False)), self._lock.later)
        return [one for batch in batches for one in batch]

    def surely_seen(self, picture: Picture, caption: Caption) -> tuple[str, ...]:
        """Names of things that are surely in the picture and that the caption leaves out, in its
        language, the likeliest first."""
        with self._lock:
            features = self._features([picture])[0]
            return self._backend.surely_seen(features, caption.text, caption.language)

    def understood(self, instruction: str, language: str) -> str:
        """The key of the taught instruction (`vitdemo.instructions`) that a person's own is like
        enough; "" where it is like none that the model was taught."""
        return nearest(instruction, language, self.info.instructions, self.embed_texts)

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
            raise TextError("typed.sentences", count=len(texts), most=LIMITS.max_sentences)
        given = self._texts.some(texts, "match")
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
        """How well each text fits each picture, by the match head: float32 (P, M), 0..1. It raises
        what `match` does."""
        self._backend.require("match")
        cleaned = self._texts.all(texts, "match")
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
        ``seed`` draws the random orders. One word takes at most 114 masked pictures, each
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
        said = result if isinstance(result, str) else result.text
        return self._checks.what_if(picture, self._request(result), said, word, method, source,
                                    Choice(share, seed, regions), decoding)

    def smallest_part(self, picture: Picture, result: Caption | Answer | str, word: int,
                      source: str = "", progress: Progress | None = None) -> SmallestPart:
        """The least of the picture that is enough for a word, and the least without which it goes:
        a search of about 200 masked pictures (`vitdemo.attention.smallest`). ``source``,
        ``progress`` (for each batch) and what is raised are as in `evidence`."""
        return self._checks.smallest_part(picture, self._request(result), word, source, progress)

    def picture_share(self, picture: Picture,
                      result: Caption | Answer | str) -> tuple[PictureShare, ...]:
        """How much the picture counted for each word: one record for each explanation, in order.

        A word that keeps at least four fifths of its probability with a grey picture is marked
        as one that the model would have said anyway; where the model weighs answers by what they
        claim, only if it would have answered the same. It raises what `explain` does.
        """
        return self._checks.picture_share(picture, self._request(result))

    def _request(self, result: Caption | Answer | str) -> Request:
        """What a result was made from, a sentence cleaned first."""
        self._backend.require("explain")
        return self._texts.request(result)

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
        return self._vectors(self._texts.all(texts, "embed"))

    def _vectors(self, cleaned: Sequence[str]) -> np.ndarray:
        """`embed_texts` of texts that are clean already: (M, E)."""
        long = len(cleaned) > TEXT_BATCH  # then those who wait for less go before
        rows = self._text_slices.each(cleaned, self._backend.embed_texts,
                                      self._lock.later if long else self._lock)
        return np.concatenate([np.zeros((0, self.info.dimension), np.float32), *rows])

    @without_gpu
    def gallery(self, uri: str = "memory://", only: Sequence[str] = ()) -> "Gallery":
        """Pictures that can be searched; ``uri`` is a folder, an object store's address, or
        "memory://" for one that is gone with the process; ``only`` is as in `open_index`.

        Raises:
            TaskError: the model has no embedding vectors.
            StoreError: the store was made by another model, or cannot be opened.
        """
        require(self.info, "embed")
        from vitdemo.retrieval.base import Stamp, open_index
        from vitdemo.retrieval.gallery import Gallery

        info = self.info.doing("embed")
        return Gallery(open_index(uri, Stamp(info.name, info.revision, info.dimension), only), self)

    @without_gpu
    def waiting(self) -> tuple[int, int]:
        """How many persons' requests and how many checks wait for the device."""
        return self._lock.waiting()

    @property
    def cached_bytes(self) -> int:
        """Of the pictures' features that are kept."""
        return self._cache.bytes()

    @without_gpu
    def unread(self, text: str) -> Unread:
        """What of a text the model does not read; "" is a text with nothing to read."""
        return self._backend.unread(clean_text(text, "The text", may_be_empty=True))
