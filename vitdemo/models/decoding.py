"""Choosing words: greedy, beam and top-p decoding over the decoder's key-value cache.

Shapes: B memories, K beams per memory, R = B * K rows, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vitdemo.config import Decoding
from vitdemo.models.decoder import Decoder
from vitdemo.models.fusion import Memory
from vitdemo.models.wording import Wording
from vitdemo.tokens import TextTokenizer


@dataclass(frozen=True)
class Hypothesis:
    """Ids written so far, without start and end; sum of log-probabilities in nats (the end's too
    once ``ended``)."""

    ids: tuple[int, ...]
    log_probability: float
    ended: bool

    def score(self, length_penalty: float) -> float:
        """log p / length^penalty (Wu et al. 2016, with the plain length); the end counts as one."""
        return self.log_probability / max(1, len(self.ids) + self.ended) ** length_penalty


@dataclass(frozen=True)
class Vocabulary:
    """What decoding must know of the tokens: start per row, the end, those never written, for each
    memory those that are not of its language (none given: there are none), and where there are such
    rules those that may not follow what stands there."""

    starts: Sequence[int]  # one for each memory
    end: int
    banned: Sequence[int]
    foreign: Sequence[Sequence[int]] = ()  # one for each memory
    wording: Wording | None = None

    @classmethod
    def of(cls, tokenizer: TextTokenizer, languages: Sequence[str],
           wording: Wording | None = None) -> "Vocabulary":
        """To write in these languages, one for each memory."""
        return cls([tokenizer.language_start[language] for language in languages], tokenizer.end,
                   tokenizer.banned, [tokenizer.foreign(language) for language in languages],
                   wording)

    @cached_property
    def outside(self) -> Tensor:
        """Which tokens are not of each memory's language, of those up to the last that is not:
        bool (B, V or less)."""
        found = torch.zeros(len(self.foreign), 1 + max(map(max, self.foreign)), dtype=torch.bool)
        for row, numbers in zip(found, self.foreign, strict=True):
            row[list(numbers)] = True
        return found


class Writing(ABC):
    """Texts that are being written, one per memory, a token at a time.

    ``texts`` are the hypotheses of every memory so far, best first (one for greedy and sample, up
    to K for beam), the final ones once it is ``over``. ``token`` (R,) is what comes next, and
    ``cache`` what came before.
    """

    texts: list[list[Hypothesis]]
    token: Tensor

    def __init__(self, decoder: Decoder, memory: Memory, vocabulary: Vocabulary,
                 decoding: Decoding) -> None:
        self.decoder, self.vocabulary, self.decoding = decoder, vocabulary, decoding
        self.cache = decoder.start(memory)
        self.count, self.device = memory.tokens.shape[0], memory.tokens.device
        self.over = False
        self._step = 0

    def take(self, logits: Tensor) -> None:
        """Go on by what follows each row's token: logits (R, V)."""
        self._step += 1
        last = self._step == self.decoding.max_tokens
        self.over = self._take(logits, last) or last

    @abstractmethod
    def _take(self, logits: Tensor, last: bool) -> bool:
        """`take`, for the last time or not; whether all texts have ended."""

    def _chances(self, logits: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
        return log_chances(logits, rows, self._step - 1, self.vocabulary, self.decoding)


def begin(decoder: Decoder, memory: Memory, vocabulary: Vocabulary, decoding: Decoding) -> Writing:
    """Begin one text per memory. Beam search is that of Sutskever et al. 2014 with length
    normalisation; top-p sampling that of Holtzman et al. 2020."""
    kind = _Beam if decoding.strategy == "beam" and decoding.beams > 1 else _Single
    return kind(decoder, memory, vocabulary, decoding)


def advance(writings: Sequence[Writing]) -> None:
    """One more token of each, as one batch; all are of one decoder and none is over. What each
    writes is what it writes alone, up to the rounding of its probabilities."""
    logits = writings[0].decoder.next_of_each([one.token for one in writings],
                                              [one.cache for one in writings])
    for one, own in zip(writings, logits, strict=True):
        one.take(own)


def write(decoder: Decoder, memory: Memory, vocabulary: Vocabulary,
          decoding: Decoding) -> Iterator[list[list[Hypothesis]]]:
    """Write one text per memory: the ``texts`` of a `Writing` after each token."""
    writing = begin(decoder, memory, vocabulary, decoding)
    while not writing.over:
        advance([writing])
        yield writing.texts


@torch.inference_mode()
def write_all(decoder: Decoder, memory: Memory, vocabulary: Vocabulary,
              decoding: Decoding) -> list[list[Hypothesis]]:
    """The last state of `write`."""
    state: list[list[Hypothesis]] = []
    for state in write(decoder, memory, vocabulary, decoding):  # noqa: B007
        pass
    return state


def best(found: Sequence[Hypothesis], decoding: Decoding,
         cosines: Sequence[float] | None = None) -> Hypothesis:
    """The text to show, of those of one memory: one that has ended, where there is any, with the
    highest score + fit * cosine; where nothing is known of how they fit, the first such.

    ``cosines``, one each, are of the texts' search vectors with the picture's. The decoder alone
    prefers what is likely of many pictures; a second judge that was trained to tell pictures apart
    prefers what is said of this one (Fang et al. 2015, "From Captions to Visual Concepts and Back",
    who order captions anew by such a similarity, among other things).
    """
    ended = [i for i, text in enumerate(found) if text.ended] or list(range(len(found)))
    if cosines is None:
        return found[ended[0]]
    return found[max(ended, key=lambda i: found[i].score(decoding.length_penalty)
                     + decoding.fit * cosines[i])]


def log_chances(logits: Tensor, rows: Sequence[Sequence[int]], step: int, vocabulary: Vocabulary,
                decoding: Decoding) -> Tensor:
    """Log-probabilities (R, V) of what may follow each row's ids, an equal number of rows for each
    start.

    Bans, penalises repetition (Keskar et al. 2019, section 4.1), forbids an early end. What is of
    another language and what the wording forbids is taken out afterwards: what is left gains
    nothing by it, or a text would be the likelier, the more it wanted to say what it may not.
    """
    logits = logits.float()
    if decoding.repetition_penalty != 1:
        for i, ids in enumerate(rows):
            seen = torch.tensor(sorted(set(ids)), dtype=torch.long, device=logits.device)
            kept = logits[i, seen]
            logits[i, seen] = torch.where(kept > 0, kept / decoding.repetition_penalty,
                                          kept * decoding.repetition_penalty)
    logits[:, list(vocabulary.banned)] = -torch.inf
    if step < decoding.min_tokens:
        logits[:, vocabulary.end] = -torch.inf
    chances = logits.log_softmax(-1)
    each = len(rows) // len(vocabulary.starts)
    if vocabulary.foreign:
        outside = vocabulary.outside.to(chances.device).repeat_interleave(each, 0)
        chances[:, :outside.shape[1]].masked_fill_(outside, -torch.inf)
    if vocabulary.wording is not None:
        after = [(i, number) for i, ids in enumerate(rows) for number in
                 vocabulary.wording.after(vocabulary.starts[i // each], ids)]
        if after:
            row, number = torch.tensor(after, device=chances.device).T
            chances[row, number] = -torch.inf
    return chances


def _draw(chances: Tensor, decoding: Decoding, generator: torch.Generator) -> Tensor:
    """One token per row from the smallest set that holds ``top_p`` of the probability: (R,)."""
    ordered, order = (chances / decoding.temperature).softmax(-1).cpu().sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= decoding.top_p, 0.0)
    drawn = torch.multinomial(ordered, 1, generator=generator)
    return order.gather(1, drawn).squeeze(1).to(chances.device)


class _Single(Writing):
    """Greedy and sampled texts."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._generator = torch.Generator().manual_seed(self.decoding.seed)
        self.token = torch.tensor(list(self.vocabulary.starts), device=self.device)
        self.texts = [[Hypothesis((), 0.0, False)] for _ in range(self.count)]

    def _take(self, logits: Tensor, last: bool) -> bool:
        texts = [text for text, in self.texts]
        chances = self._chances(logits, [text.ids for text in texts])
        if self.decoding.strategy == "sample":
            self.token = _draw(chances, self.decoding, self._generator)
        else:
            self.token = chances.argmax(-1)
        gained = chances.gather(1, self.token[:, None]).squeeze(1).tolist()
        for i, number in enumerate(self.token.tolist()):
            if not texts[i].ended:
                ended = number == self.vocabulary.end
                ids = texts[i].ids if ended else (*texts[i].ids, number)
                texts[i] = Hypothesis(ids, texts[i].log_probability + gained[i], ended)
        self.texts = [[text] for text in texts]
        return all(text.ended for text in texts)


class _Beam(Writing):
    """Beam search."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        beams = self.decoding.beams
        self.token = torch.tensor(list(self.vocabulary.starts),
                                  device=self.device).repeat_interleave(beams)
        self._alive = [[Hypothesis((), 0.0, False)] * beams for _ in range(self.count)]
        self._done: list[list[Hypothesis]] = [[] for _ in range(self.count)]
        self._totals = torch.full((self.count, beams), -torch.inf, device=self.device)
        self._totals[:, 0] = 0.0  # all beams start alike; only the first may grow

    def _take(self, logits: Tensor, last: bool) -> bool:
        beams, decoding = self.decoding.beams, self.decoding
        alive, done = self._alive, self._done
        grown = self._chances(logits, [text.ids for texts in alive for text in texts])
        size = grown.shape[-1]
        grown = grown.view(self.count, beams, size) + self._totals[..., None]  # (B, K, V)
        best, place = grown.view(self.count, -1).topk(2 * beams)
        origin, word = (place // size).tolist(), (place % size).tolist()
        kept: list[int] = []
        for b, values in enumerate(best.tolist()):
            alive[b], done[b], sources = _grow(alive[b], done[b], values, origin[b], word[b],
                                               self.vocabulary.end, beams, decoding.length_penalty)
            kept += [b * beams + source for source in sources]
        self._totals = torch.tensor([[text.log_probability for text in texts] for texts in alive],
                                    device=self.device)
        self.token = torch.tensor([text.ids[-1] if text.ids else self.vocabulary.end
                                   for texts in alive for text in texts], device=self.device)
        self.cache.select(torch.tensor(kept, device=self.device))
        self.texts = [_ranked(a + d if last or not d else d, decoding) if last or len(d) >= beams
                      else _ranked(a, decoding) for a, d in zip(alive, done, strict=True)]
        return all(len(texts) >= beams for texts in done)


def _grow(alive: list[Hypothesis], done: list[Hypothesis], values: list[float],
          origin: list[int], word: list[int], end: int, beams: int, length_penalty: float,
          ) -> tuple[list[Hypothesis], list[Hypothesis], list[int]]:
    """One step of one memory: the beams that go on, those that have ended, and where each that
    goes on came from. The best ``beams`` finished texts are kept."""
    fresh: list[Hypothesis] = []
    sources: list[int] = []
    ended = list(done)
    for rank, (value, source, number) in enumerate(zip(values, origin, word, strict=True)):
        before = alive[source].ids
        if number == end:
            if rank < beams and value > -torch.inf:
                ended.append(Hypothesis(before, value, True))
        elif len(fresh) < beams:
            fresh.append(Hypothesis((*before, number), value, False))
            sources.append(source)
    ended.sort(key=lambda text: text.score(length_penalty), reverse=True)
    return fresh, ended[:beams], sources


def _ranked(texts: list[Hypothesis], decoding: Decoding) -> list[Hypothesis]:
    """Best first; with a finished text for each beam, unfinished ones are out of the race."""
    ordered = sorted(texts, key=lambda text: text.score(decoding.length_penalty), reverse=True)
    return [text for text in ordered if text.log_probability > -torch.inf] or ordered[:1]
