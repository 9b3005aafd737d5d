"""Writes words with a model of transformers: greedy, beams or drawn, a step at a time.

The words equal those of transformers' own `generate`, for greedy and for beam search, and come one
step at a time, which its streamers cannot do with beams; a caller who stops asking stops the model.

Legend: R rows (beams), T text positions, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vitdemo.backends.base import Step
from vitdemo.config import Decoding
from vitdemo.records import Candidate
from vitdemo.words import normalise_answer


class State(Protocol):
    """One picture and prompt that texts are written on: the model with its cache."""

    def next(self, ids: Tensor) -> Tensor:
        """Logits of the token after ids (R, T), which follow what was given before and are kept:
        float32 (R, V). R is 1 at first, then as many as were last selected."""

    def select(self, rows: Sequence[int]) -> None:
        """Go on with the texts of these rows, in this order."""


@dataclass(frozen=True)
class Draft:
    """Ids written so far, without the prompt and the end, and the sum of their log-probabilities
    in nats (the end's too once ``ended``)."""

    ids: tuple[int, ...]
    log_probability: float
    ended: bool = False

    def score(self, length_penalty: float) -> float:
        """log p / length^penalty; the end counts as a token."""
        return self.log_probability / max(1, len(self.ids) + self.ended) ** length_penalty


@torch.no_grad()
def write(state: State, prompt: Tensor, end: int, decoding: Decoding) -> Iterator[list[Draft]]:
    """Write after ``prompt``, ids (1, T); after each token, the drafts so far, best first. The last
    ones are final."""
    if decoding.strategy == "beam" and decoding.beams > 1:
        yield from search(state, prompt, end, decoding, decoding.beams)
        return
    generator = torch.Generator().manual_seed(decoding.seed)
    draft, fed = Draft((), 0.0), prompt
    while not draft.ended and len(draft.ids) < decoding.max_tokens:
        logits = state.next(fed)
        log_probabilities = logits.log_softmax(-1)
        _adjust(logits, [[*prompt[0].tolist(), *draft.ids]], end, len(draft.ids), decoding)
        token = _draw(logits[0], decoding, generator) if decoding.strategy == "sample" else \
            int(logits[0].argmax())
        total = draft.log_probability + float(log_probabilities[0, token])
        ended = token == end
        draft = Draft(draft.ids if ended else (*draft.ids, token), total, ended)
        fed = prompt.new_tensor([[token]])
        yield [draft]


@torch.no_grad()
def search(state: State, prompt: Tensor, end: int, decoding: Decoding,
           beams: int) -> Iterator[list[Draft]]:
    """Beam search as transformers does it with early_stopping=False: of the 2K best continuations
    those in the first K places may end, the best K open ones go on, and it stops where no open one
    scores above the worst of K ended ones."""
    penalty, fed, start = decoding.length_penalty, prompt, prompt[0].tolist()
    open_drafts, done = [Draft((), 0.0)], list[Draft]()
    for step in range(1, decoding.max_tokens + 1):
        scores = state.next(fed)[:len(open_drafts)].log_softmax(-1)  # (R, V)
        _adjust(scores, [[*start, *draft.ids] for draft in open_drafts], end, step - 1, decoding)
        scores = scores + scores.new_tensor([[draft.log_probability] for draft in open_drafts])
        size = scores.shape[-1]
        best, place = scores.flatten().topk(min(2 * beams, scores.numel()))
        fresh, sources, last = list[Draft](), list[int](), step == decoding.max_tokens
        for rank, (total, at) in enumerate(zip(best.tolist(), place.tolist(), strict=True)):
            source, token = divmod(at, size)
            before, ended = open_drafts[source].ids, token == end
            draft = Draft(before if ended else (*before, token), total, ended)
            if ended or last:
                if rank < beams and total > float("-inf"):
                    done.append(draft)
            elif len(fresh) < beams:
                fresh.append(draft)
                sources.append(source)
        done = sorted(done, key=lambda draft: draft.score(penalty), reverse=True)[:beams]
        if last or (len(done) == beams and fresh[0].score(penalty) <= done[-1].score(penalty)):
            break
        yield fresh
        # On a CPU a matrix product with 2 or 3 rows takes longer than one with 4.
        idle = 4 - len(fresh) if prompt.device.type == "cpu" and 1 < len(fresh) < 4 else 0
        state.select([*sources, *sources[:1] * idle])
        open_drafts = fresh
        fed = prompt.new_tensor([[draft.ids[-1]] for draft in (*fresh, *fresh[:1] * idle)])
    yield done


def best_answers(drafts: Sequence[Draft], text_of: Callable[[Sequence[int]], str],
                 count: int) -> tuple[Candidate, ...]:
    """The most probable answers, best first; spellings that read the same are one answer."""
    totals: dict[str, float] = {}
    for draft in drafts:
        text = normalise_answer(text_of(draft.ids))
        totals[text] = totals.get(text, 0.0) + math.exp(draft.log_probability)
    if len(totals) > 1:
        totals.pop("", None)  # saying nothing is no answer where there is another
    ranked = sorted(totals.items(), key=lambda pair: -pair[1])[:count]
    return tuple(Candidate(text, min(1.0, probability)) for text, probability in ranked)


def steps(drafts: Iterator[list[Draft]], text_of: Callable[[Sequence[int]], str]
          ) -> Iterator[Step]:
    """The best draft's text as it grows, and once more when it is final."""
    text, total = text_of(()), 0.0
    for best, *_ in drafts:
        text, total = text_of(best.ids), best.log_probability
        yield Step(text, total, False)
    yield Step(text, total, True)


def _adjust(scores: Tensor, rows: Sequence[Sequence[int]], end: int, step: int,
            decoding: Decoding) -> None:
    """Penalise repetition (Keskar et al. 2019, section 4.1) and forbid an early end, in place:
    (R, V)."""
    if decoding.repetition_penalty != 1:
        for i, ids in enumerate(rows):
            seen = torch.tensor(sorted(set(ids)), device=scores.device)
            kept = scores[i, seen]
            scores[i, seen] = torch.where(kept < 0, kept * decoding.repetition_penalty,
                                          kept / decoding.repetition_penalty)
    if step < decoding.min_tokens:
        scores[:, end] = float("-inf")


def _draw(logits: Tensor, decoding: Decoding, generator: torch.Generator) -> int:
    """One token from the smallest set that holds ``top_p`` of the probability (Holtzman et al.
    2020). It is drawn on the CPU, so that a seed means the same on every device."""
    probabilities = (logits / decoding.temperature).softmax(-1).cpu()
    ordered, order = probabilities.sort(descending=True)
    ordered[ordered.cumsum(-1) - ordered >= decoding.top_p] = 0.0
    return int(order[torch.multinomial(ordered, 1, generator=generator)])
