"""What can be found out about a result: maps by every method, and whether they can be trusted.

A helper of the engine's, which cleans texts and says what may be asked. K regions, Q words.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vitdemo.attention.deletion import order_of, weigh
from vitdemo.attention.faithfulness import said_anyway
from vitdemo.attention.masking import Masker, blank_picture
from vitdemo.attention.methods import choose
from vitdemo.attention.occlusion import occlusion
from vitdemo.attention.smallest import outline, smallest, superpixels
from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.config import Decoding
from vitdemo.errors import ConfigError, TextError
from vitdemo.lock import DeviceLock
from vitdemo.preprocess import Picture
from vitdemo.records import (
    Evidence,
    Explanation,
    PictureShare,
    Request,
    SmallestPart,
    WhatIf,
)
from vitdemo.trials import Progress, Trials
from vitdemo.words import split_words, tidy, unread_words

RAW, SLOW = "cross-attention", "occlusion"
LARGE = 1600  # pixels: longest side of a picture that is described again with regions blurred


class Checks:
    """Explanations, evidence, "does it matter", and how much the picture counted.

    ``encode`` gives one picture's features, from the cache where they are there; the caller of
    `encode` holds the lock.
    """

    def __init__(self, backend: Backend, lock: DeviceLock,
                 encode: Callable[[Picture], PictureFeatures]) -> None:
        self._backend, self._lock, self._encode = backend, lock, encode
        self._trials = Trials(backend, lock)
        self._blanks: list[PictureFeatures] = []  # one, once it was needed

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the ways to explain, the default one first."""
        if "explain" not in self._backend.info.tasks:
            return ()
        return (*self._backend.info.methods, SLOW)

    def explain(self, picture: Picture, request: Request, method: str = "",
                progress: Progress | None = None) -> tuple[Explanation, ...]:
        """See `Engine.explain`."""
        first = method in ("", *self.methods[:1])
        quick = first or method == RAW  # comes with the result itself
        found = self._maps(picture, request, method, self._lock if quick else self._lock.later,
                           progress)
        return self._beside_blank(found, request) if first else found

    def _beside_blank(self, found: tuple[Explanation, ...],
                      request: Request) -> tuple[Explanation, ...]:
        """The same with the probabilities that the written words have on a grey picture."""
        if not any(one.word_probabilities for one in found):
            return found
        with self._lock:
            blank = self._backend.word_probabilities(self._blank(), request)
        return tuple(replace(one, blank_probabilities=tuple(float(value) for value in row[0]))
                     if one.word_probabilities else one
                     for one, row in zip(found, blank, strict=True))

    def _blank(self) -> list[PictureFeatures]:
        """A grey picture's features; the caller holds the lock."""
        if not self._blanks:
            self._blanks = self._backend.encode_pictures([blank_picture()])
        return self._blanks

    def _maps(self, picture: Picture, request: Request, method: str,
              turn: AbstractContextManager[object],
              progress: Progress | None = None) -> tuple[Explanation, ...]:
        """`explain`, with the device taken by ``turn``."""
        method = choose(method, self.methods) if method else ""
        if not split_words(request.text):
            return ()
        with turn:
            features = self._encode(picture)
        with turn:
            found = self._backend.explain(features, request, "" if method == SLOW else method)
        if method == SLOW:
            found = tuple(occlusion(one, self._score(picture, request, one, place, progress))
                          for place, one in enumerate(found))
        return tuple(self._marked(one, request.task) for one in found)

    def _marked(self, explanation: Explanation, task: str) -> Explanation:
        """What the model did not read is marked, and has no map: that of a sign for all unknown
        words, or of the rest of the text, is none of its own."""
        unread = unread_words(explanation.words, self._backend.doing(task).unread(explanation.text))
        if not unread:
            return explanation
        read = np.array([not why for why in unread])
        return replace(explanation, unread=unread,
                       weights=explanation.weights * read[:, None].astype(np.float32))

    def evidence(self, picture: Picture, request: Request, method: str, source: str,
                 words: Sequence[int] | None, seed: int,
                 progress: Progress | None) -> tuple[Evidence, ...]:
        """See `Engine.evidence`."""
        found = self._maps(picture, request, method, self._lock.later, progress)
        place = _place_of(found, source)
        if words is not None:
            for word in words:
                _check_word(found[place].words if found else (), word)
        if not found or (words is not None and not len(words)):
            return ()
        asked = range(len(found[place].words)) if words is None else words
        read = [word for word in asked if not (found[place].unread and found[place].unread[word])]
        if not read:  # without a map there is nothing to test
            return ()
        score = self._score(picture, request, found[place], place, progress)
        return weigh(found[place], score, read, seed)

    def _score(self, picture: Picture, request: Request, explanation: Explanation, place: int,
               progress: Progress | None) -> Callable[[np.ndarray], np.ndarray]:
        """Word probabilities (n, Q) of the explanation at ``place`` for masks (n, K)."""
        return lambda hidden: self._trials.probabilities(
            picture, request, explanation.boxes, hidden, progress)[place]

    def smallest_part(self, picture: Picture, request: Request, word: int, source: str,
                      progress: Progress | None) -> SmallestPart:
        """See `Engine.smallest_part`."""
        found = self._maps(picture, request, "", self._lock.later)
        place = _place_of(found, source)
        _check_word(found[place].words if found else (), word)
        _check_read(found[place], word)
        labels = superpixels(picture.image)

        def score(hidden: np.ndarray) -> np.ndarray:
            return self._trials.probabilities(picture, request, labels, hidden,
                                              progress)[place][:, word].astype(np.float64)

        enough, needed = smallest(score, int(labels.max()) + 1)
        nothing = np.zeros_like(enough)
        whole, blank, kept, left = (float(value) for value in score(np.stack(
            [nothing, ~nothing, ~enough, needed])))
        areas = [float(part[labels].mean()) for part in (enough, needed)]
        lines = [outline(labels, part, picture.image.size) for part in (enough, needed)]
        return SmallestPart(word, found[place].source, lines[0], areas[0], lines[1], areas[1],
                            whole, blank, kept, left)

    def what_if(self, picture: Picture, request: Request, said: str, word: int, method: str,
                source: str, choice: "Choice", decoding: Decoding) -> WhatIf:
        """See `Engine.what_if`; ``said`` is the result's text as shown."""
        found = self.explain(picture, request, method)
        place = _place_of(found, source)
        explanation = found[place] if found else None
        _check_word(explanation.words if explanation else (), word)
        assert explanation is not None
        hidden, random = regions_of(explanation, word, choice)
        masks = np.zeros((2, len(explanation.boxes)), dtype=bool)
        masks[0, list(hidden)] = masks[1, list(random)] = True
        blurred = list(Masker(picture.image, explanation.boxes, LARGE).pictures(masks))
        with self._lock:
            features = [self._encode(picture)]
        for one in blurred:
            with self._lock:
                features += self._backend.encode_pictures([one])
        with self._lock:
            values = self._backend.word_probabilities(features, request)[place]
        if request.task == "match":
            texts = [f"fits {100 * value:.0f}%" for value in values[:, word]]
        else:
            texts = [said, *(self._again(one, request, decoding) for one in features[1:])]
        before, after, drawn = (float(value) for value in values[:, word])
        return WhatIf(word=word, source=explanation.source, method=explanation.method,
                      hidden=hidden, random=random, before=texts[0], after=texts[1],
                      after_random=texts[2], probability=before, probability_after=after,
                      probability_random=drawn)

    def _again(self, features: PictureFeatures, request: Request, decoding: Decoding) -> str:
        """What the model now writes, as shown to a person."""
        if request.task == "ask":
            with self._lock:
                return self._answer(features, request)
        text = ""
        steps = self._backend.generate(features, request.instruction, request.language, decoding)
        while True:
            with self._lock:  # the device is free for others after every word
                step = next(steps, None)
            if step is None:
                return tidy(text, request.language)
            text = step.text

    def _answer(self, features: PictureFeatures, request: Request) -> str:
        return self._backend.answer(features, request.instruction, request.language, 5)[0].text

    def picture_share(self, picture: Picture, request: Request) -> tuple[PictureShare, ...]:
        """See `Engine.picture_share`."""
        found = self._maps(picture, request, RAW if RAW in self.methods else "", self._lock.later)
        if not found:
            return ()
        with self._lock.later:
            features = [self._encode(picture), *self._blank()]
        with self._lock.later:
            values = self._backend.word_probabilities(features, request)
        unseen = ""
        if request.task == "ask" and self._backend.info.weighs_answers:
            with self._lock.later:
                unseen = self._answer(features[1], request)
        changed = unseen not in ("", request.text)
        shares = []
        for one, both in zip(found, values, strict=True):
            seen = one.weights.sum(-1).mean((0, 1)) if one.method == RAW else \
                np.full(len(one.words), np.nan)  # another method's map has no such share
            gate = float(np.abs(one.gates).mean()) if one.gates else float("nan")
            whole, blank = (tuple(float(value) for value in row) for row in both)
            shares.append(PictureShare(
                one.source, gate, tuple(float(value) for value in seen), whole, blank,
                tuple(said_anyway(*word) and not changed
                      for word in zip(whole, blank, strict=True)), unseen, one.unread))
        return tuple(shares)


class Choice(NamedTuple):
    """Which regions are blurred: these, or else this share of them, the strongest; ``seed`` draws
    the others that they are held against."""

    share: float
    seed: int
    regions: Sequence[int] | None


def regions_of(explanation: Explanation, word: int,
               choice: Choice) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Places of the regions to blur, and as many others, drawn by chance; both in rising order.

    The others are drawn from those not chosen, or from all where too few are left.

    Raises:
        ConfigError: the share or a region is out of range.
        TextError: the word's map is empty, and no regions were given.
    """
    count = len(explanation.boxes)
    if choice.regions is None:
        if not 0 < choice.share <= 1:
            raise ConfigError("check.share", share=choice.share)
        weights = np.nan_to_num(explanation.mean_map()[word])
        _check_read(explanation, word)
        if not weights.sum() > 0:
            raise TextError("check.no_map", word=explanation.words[word].text)
        chosen = order_of(weights, choice.seed)[:max(1, round(choice.share * count))].tolist()
    else:
        chosen = list(dict.fromkeys(choice.regions))
        for region in chosen:
            if isinstance(region, bool) or not isinstance(region, int | np.integer) \
                    or not 0 <= region < count:
                raise ConfigError("check.no_region", region=region, last=count - 1)
        if not chosen:
            raise ConfigError("check.no_regions")
    left = sorted(set(range(count)) - set(chosen))
    pool = left if len(left) >= len(chosen) else list(range(count))
    drawn = np.random.default_rng([choice.seed, count]).choice(pool, len(chosen), replace=False)
    return tuple(sorted(map(int, chosen))), tuple(sorted(map(int, drawn)))


def _place_of(found: Sequence[Explanation], source: str) -> int:
    """Where among these explanations the source is; "" is what the model wrote: the last one.

    Raises:
        TextError: none has this source.
    """
    sources = [one.source for one in found]
    if source and source not in sources:
        raise TextError("check.no_source", source=source, known=", ".join(sources) or "-")
    return sources.index(source) if source else max(0, len(found) - 1)


def _check_read(explanation: Explanation, word: int) -> None:
    if explanation.unread and explanation.unread[word]:
        raise TextError(f"unread.{explanation.unread[word]}.choose",
                        word=explanation.words[word].text)


def _check_word(words: Sequence[object], word: int) -> None:
    if not words:
        raise TextError("check.no_words")
    if isinstance(word, bool) or not isinstance(word, int | np.integer) \
            or not 0 <= word < len(words):
        raise TextError("check.no_word", word=word, last=len(words) - 1)
