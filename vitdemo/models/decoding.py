"""Choosing words: greedy, beam and top-p decoding over the decoder's key-value cache.

Shapes: B memories, K beams per memory, R = B * K rows, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
    def outside(self) -> list[Tensor]:
        """The ids of the tokens that are not of each memory's language."""
        return [torch.tensor(list(numbers), dtype=torch.long) for numbers in self.foreign]


def write(decoder: Decoder, memory: Memory, vocabulary: Vocabulary,
          decoding: Decoding) -> Iterator[list[list[Hypothesis]]]:
    """Write one text per memory, a token at a time.

    Yields, after each token, the hypotheses of every memory, best first (one for greedy and
    sample, up to K for beam); the last yield is the final one. Beam search is that of Sutskever
    et al. 2014 with length normalisation; top-p sampling that of Holtzman et al. 2020.
    """
    if decoding.strategy == "beam" and decoding.beams > 1:
        yield from _beam(decoder, memory, vocabulary, decoding)
    else:
        yield from _single(decoder, memory, vocabulary, decoding)


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
    for place, foreign in enumerate(vocabulary.outside):
        chances[place * each:(place + 1) * each, foreign.to(chances.device)] = -torch.inf
    if vocabulary.wording is not None:
        for i, ids in enumerate(rows):
            chances[i, vocabulary.wording.after(vocabulary.starts[i // each], ids)] = -torch.inf
    return chances


def _draw(chances: Tensor, decoding: Decoding, generator: torch.Generator) -> Tensor:
    """One token per row from the smallest set that holds ``top_p`` of the probability: (R,)."""
    ordered, order = (chances / decoding.temperature).softmax(-1).cpu().sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= decoding.top_p, 0.0)
    drawn = torch.multinomial(ordered, 1, generator=generator)
    return order.gather(1, drawn).squeeze(1).to(chances.device)


def _single(decoder: Decoder, memory: Memory, vocabulary: Vocabulary,
            decoding: Decoding) -> Iterator[list[list[Hypothesis]]]:
    device, count = memory.tokens.device, memory.tokens.shape[0]
    generator = torch.Generator().manual_seed(decoding.seed)
    cache = decoder.start(memory)
    token = torch.tensor(list(vocabulary.starts), device=device)
    texts = [Hypothesis((), 0.0, False) for _ in range(count)]
    for step in range(decoding.max_tokens):
        logits = decoder.next(token, cache)
        chances = log_chances(logits, [text.ids for text in texts], step, vocabulary, decoding)
        if decoding.strategy == "sample":
            token = _draw(chances, decoding, generator)
        else:
            token = chances.argmax(-1)
        gained = chances.gather(1, token[:, None]).squeeze(1).tolist()
        for i, number in enumerate(token.tolist()):
            if not texts[i].ended:
                ended = number == vocabulary.end
                ids = texts[i].ids if ended else (*texts[i].ids, number)
                texts[i] = Hypothesis(ids, texts[i].log_probability + gained[i], ended)
        yield [[text] for text in texts]
        if all(text.ended for text in texts):
            return


def _beam(decoder: Decoder, memory: Memory, vocabulary: Vocabulary,
          decoding: Decoding) -> Iterator[list[list[Hypothesis]]]:
    device, count, beams = memory.tokens.device, memory.tokens.shape[0], decoding.beams
    cache = decoder.start(memory)
    token = torch.tensor(list(vocabulary.starts), device=device).repeat_interleave(beams)
    alive = [[Hypothesis((), 0.0, False)] * beams for _ in range(count)]
    done: list[list[Hypothesis]] = [[] for _ in range(count)]
    totals = torch.full((count, beams), -torch.inf, device=device)
    totals[:, 0] = 0.0  # all beams start alike; only the first may grow
    for step in range(decoding.max_tokens):
        logits = decoder.next(token, cache)
        rows = [text.ids for texts in alive for text in texts]
        grown = log_chances(logits, rows, step, vocabulary, decoding)
        size = grown.shape[-1]
        grown = grown.view(count, beams, size) + totals[..., None]  # (B, K, V)
        best, place = grown.view(count, -1).topk(2 * beams)
        origin, word = (place // size).tolist(), (place % size).tolist()
        kept: list[int] = []
        for b, values in enumerate(best.tolist()):
            alive[b], done[b], sources = _grow(alive[b], done[b], values, origin[b], word[b],
                                               vocabulary.end, beams, decoding.length_penalty)
            kept += [b * beams + source for source in sources]
        totals = torch.tensor([[text.log_probability for text in texts] for texts in alive],
                              device=device)
        token = torch.tensor([text.ids[-1] if text.ids else vocabulary.end
                              for texts in alive for text in texts], device=device)
        cache.select(torch.tensor(kept, device=device))
        over = step + 1 == decoding.max_tokens
        yield [_ranked(a + d if over or not d else d, decoding) if over or len(d) >= beams
               else _ranked(a, decoding) for a, d in zip(alive, done, strict=True)]
        if all(len(texts) >= beams for texts in done):
            return


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
