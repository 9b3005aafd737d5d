"""Beam search for a text that must hold certain words.

Anderson et al. 2017, "Guided Open Vocabulary Image Captioning with Constrained Beam Search": a
small automaton follows which of the wanted words a text holds already, and each of its states has
beams of its own, so that a text with an unlikely word in it need not compete with those without.

Shapes: R rows (all beams of all states), V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitdemo.config import Decoding
from vitdemo.models.decoder import Decoder
from vitdemo.models.decoding import Hypothesis, Vocabulary, log_chances
from vitdemo.models.fusion import Memory

Form = tuple[int, ...]  # token ids of one way to say a word


@dataclass(frozen=True)
class Wanted:
    """Words that a text must hold: of each, the forms that count as saying it. ``inner`` are the
    tokens that go on with a word: a form that one of them follows is another word. Forms of fewer
    than ``least`` tokens count but are not aimed at where there are longer ones: a single Chinese
    character fits into any word, and makes nonsense of it."""

    words: Sequence[Sequence[Form]]
    inner: frozenset[int]
    least: int = 1

    def __post_init__(self) -> None:
        assert self.words and all(form for forms in self.words for form in forms)

    def held(self, ids: Sequence[int]) -> frozenset[int]:
        """Places of the words that a text holds."""
        return frozenset(i for i, forms in enumerate(self.words)
                         if any(self._holds(ids, form) for form in forms))

    def all_held(self, ids: Sequence[int]) -> bool:
        """Whether a text holds every word."""
        return len(self.held(ids)) == len(self.words)

    def _holds(self, ids: Sequence[int], form: Form) -> bool:
        length = len(form)
        return any(tuple(ids[i:i + length]) == form
                   and (i + length == len(ids) or ids[i + length] not in self.inner)
                   for i in range(len(ids) - length + 1))

    def begun(self, ids: Sequence[int], held: frozenset[int]) -> dict[int, int]:
        """The tokens that would begin or go on with a form of a word that is still missing, with
        how many tokens of it would then stand there, at most."""
        found: dict[int, int] = {}
        for place, forms in enumerate(self.words):
            longest = max(map(len, forms))
            for form in forms if place not in held else ():
                if len(form) < min(self.least, longest):
                    continue
                for done in range(len(form)):
                    if done == 0 or tuple(ids[-done:]) == form[:done]:
                        found[form[done]] = max(found.get(form[done], 0), done + 1)
        return found


@dataclass(frozen=True)
class _Beam:
    """A text that grows, which words it holds, and whether it is inside of one more."""

    text: Hypothesis
    held: frozenset[int]
    inside: bool
    source: int = 0  # the row that it grew from


@torch.inference_mode()
def write_with(decoder: Decoder, memory: Memory, vocabulary: Vocabulary, decoding: Decoding,
               wanted: Wanted) -> list[Hypothesis]:
    """Texts about one memory that hold every wanted word and have ended, at most ``beams``, best
    first; none where there is none within ``max_tokens``."""
    device, beams = memory.tokens.device, decoding.beams
    cache = decoder.start(memory)
    alive = [_Beam(Hypothesis((), 0.0, False), frozenset(), False)]
    token = torch.tensor(list(vocabulary.starts), device=device)
    done: list[Hypothesis] = []
    for step in range(decoding.max_tokens):
        logits = decoder.next(token, cache)
        chances = log_chances(logits, [beam.text.ids for beam in alive], step, vocabulary,
                              decoding)
        grown = [one for row, beam in enumerate(alive)
                 for one in _grow(row, beam, chances[row], wanted, vocabulary.end, beams)]
        done += [one.text for one in grown if one.text.ended]
        done = sorted(done, key=lambda text: text.score(decoding.length_penalty),
                      reverse=True)[:beams]
        alive = _best_of_each_state([one for one in grown if not one.text.ended], beams)
        if not alive or len(done) == beams and _hopeless(alive, done[-1], decoding):
            break
        token = torch.tensor([beam.text.ids[-1] for beam in alive], device=device)
        cache.select(torch.tensor([beam.source for beam in alive], device=device))
    return done


def _grow(row: int, beam: _Beam, chances: Tensor, wanted: Wanted, end: int,
          beams: int) -> list[_Beam]:
    """The likeliest ways for one beam to go on or, where it holds every word, to end, those with a
    wanted word among them; ``chances`` (V,)."""
    ids, total = beam.text.ids, beam.text.log_probability
    begun = wanted.begun(ids, beam.held)
    values, best = chances.topk(beams + 1)
    ways = dict(zip(best.tolist(), values.tolist(), strict=True))
    more = [*begun, end]
    ways.update(zip(more, chances[more].tolist(), strict=True))
    found = []
    for number, value in ways.items():
        if value == -torch.inf or number == end and len(beam.held) < len(wanted.words):
            continue
        if number == end:
            found.append(_Beam(Hypothesis(ids, total + value, True), beam.held, False, row))
            continue
        grown = (*ids, number)
        touched = number in begun or number in wanted.inner
        held = wanted.held(grown) if touched else beam.held
        found.append(_Beam(Hypothesis(grown, total + value, False), held,
                           number in begun and held == beam.held, row))
    return found


def _best_of_each_state(grown: Sequence[_Beam], beams: int) -> list[_Beam]:
    states: dict[tuple[frozenset[int], bool], list[_Beam]] = {}
    for one in sorted(grown, key=lambda one: one.text.log_probability, reverse=True):
        kept = states.setdefault((one.held, one.inside), [])
        if len(kept) < beams:
            kept.append(one)
    return [one for kept in states.values() for one in kept]


def _hopeless(alive: Sequence[_Beam], last: Hypothesis, decoding: Decoding) -> bool:
    """Whether no text that grows is better by now than the last one that has ended."""
    return all(one.text.score(decoding.length_penalty) <= last.score(decoding.length_penalty)
               for one in alive)
