"""BLIP's text side: cross-attention over a projected memory, and a thin loop that writes words.

The words equal those of transformers' own `generate`, for greedy and for beam search, and come
one step at a time, which its streamers cannot do with beams. The memory (a picture's tokens, or
a question's) is projected to keys and values once, however many texts then read it.

Legend: L layers, R rows (beams or texts), H heads, T text positions, N memory tokens, d head
width, D width, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel, BlipTextModel

from vitdemo.config import Decoding


@dataclass(frozen=True)
class Memory:
    """What the text looks at: ``states`` (B, N, D), and each layer's key and value of it,
    (B, H, N, d). B is 1, or P where one text is read with each of P pictures."""

    states: Tensor
    pairs: tuple[tuple[Tensor, Tensor], ...]

    def cache(self, rows: int = 1, written: DynamicCache | None = None) -> EncoderDecoderCache:
        """A cache for ``rows`` texts that all look at this memory and go on after ``written``;
        ``rows`` is B where B is not 1."""
        cross = DynamicCache()
        for i, (key, value) in enumerate(self.pairs):
            cross.update(key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1), i)
        return EncoderDecoderCache(written or DynamicCache(), cross)


class Reader:
    """A BLIP text model with cross-attention; keeps the last memory it was asked for, so that
    writing a caption and explaining it project the picture once."""

    def __init__(self, model: BlipTextModel) -> None:
        self.model = model
        self._last: Memory | None = None

    @property
    def cross_attentions(self) -> list[nn.Module]:
        """The modules whose call returns (result, weights (R, H, T, N)), one per layer."""
        layers: Any = self.model.encoder.layer
        return [layer.crossattention.self for layer in layers]

    @property
    def heads(self) -> int:
        """H."""
        return int(self.model.config.num_attention_heads)

    @property
    def max_tokens(self) -> int:
        """The longest text that it has positions for."""
        return int(self.model.config.max_position_embeddings)

    @torch.no_grad()
    def memory(self, states: Tensor) -> Memory:
        """Project ``states`` (1, N, D) for every layer, once for the same tensor."""
        if self._last is None or self._last.states is not states:
            self._last = None  # the old one's room is free before the new one is made
            self._last = self.project(states)
        return self._last

    @torch.no_grad()
    def project(self, states: Tensor) -> Memory:
        """Project ``states`` (B, N, D) for every layer; nothing is kept."""
        return Memory(states, tuple((_project(module, module.key, states),
                                     _project(module, module.value, states))
                                    for module in self.cross_attentions))

    @torch.no_grad()
    def encode(self, ids: Tensor, mask: Tensor, memory: Memory) -> Tensor:
        """Read texts both ways with the memory in view: ids and mask (R, T) to (R, T, D)."""
        return self.model(input_ids=ids, attention_mask=mask, encoder_hidden_states=memory.states,
                          past_key_values=memory.cache(ids.shape[0])).last_hidden_state


def _project(module: Any, linear: Any, states: Tensor) -> Tensor:
    shape = (*states.shape[:-1], -1, module.attention_head_size)
    keys: Tensor = linear(states).view(shape).transpose(1, 2)  # (B, H, N, d)
    return keys


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


class Writer:
    """BLIP's text decoder, which writes after ``start`` and stops at ``end`` (token ids)."""

    def __init__(self, model: BlipTextLMHeadModel, start: int, end: int) -> None:
        self.model = model
        self.reader = Reader(model.bert)
        self.start = start
        self.end = end

    @torch.no_grad()
    def next_logits(self, ids: Tensor, cache: EncoderDecoderCache, memory: Memory) -> Tensor:
        """Logits of the token after ids (R, T), which follow what ``cache`` holds and are added
        to it: float32 (R, V)."""
        return self.model(input_ids=ids, encoder_hidden_states=memory.states,
                          past_key_values=cache, use_cache=True,
                          logits_to_keep=1).logits[:, -1].float()

    @torch.no_grad()
    def teacher_forced(self, ids: Sequence[int], memory: Memory) -> Tensor:
        """Log-probabilities of every id of a finished text, in one pass: float32 (T,).

        Row t of a cross-attention recorded meanwhile is the one that id t was chosen with: the
        decoder reads start, ids[0], ..., ids[T-2].
        """
        return self.teacher_forced_on_each(ids, memory)[0]

    @torch.no_grad()
    def teacher_forced_on_each(self, ids: Sequence[int], memory: Memory) -> Tensor:
        """`teacher_forced` with each of the memory's B states: float32 (B, T)."""
        device = memory.states.device
        rows = len(memory.states)
        inputs = torch.tensor([[self.start, *ids[:-1]]], device=device).expand(rows, -1)
        logits = self.model(input_ids=inputs, encoder_hidden_states=memory.states,
                            past_key_values=memory.cache(rows), use_cache=True).logits.float()
        targets = torch.tensor(list(ids), device=device).expand(rows, -1)[..., None]
        return logits.log_softmax(-1).gather(2, targets)[..., 0]  # (B, T)

    def write(self, memory: Memory, prompt: Sequence[int],
              decoding: Decoding) -> Iterator[list[Draft]]:
        """Write after start and ``prompt``; after each token, the drafts so far, best first. The
        last ones are final."""
        if decoding.strategy == "beam" and decoding.beams > 1:
            return self.search(memory, prompt, decoding, decoding.beams)
        return self._write_one(memory, prompt, decoding)

    def _write_one(self, memory: Memory, prompt: Sequence[int],
                   decoding: Decoding) -> Iterator[list[Draft]]:
        device = memory.states.device
        generator = torch.Generator().manual_seed(decoding.seed)
        cache, draft = memory.cache(), Draft((), 0.0)
        fed = torch.tensor([[self.start, *prompt]], device=device)
        while not draft.ended and len(draft.ids) < decoding.max_tokens:
            logits = self.next_logits(fed, cache, memory)
            log_probabilities = logits.log_softmax(-1)
            self._adjust(logits, [[self.start, *prompt, *draft.ids]], len(draft.ids), decoding)
            if decoding.strategy == "sample":
                token = _draw(logits[0], decoding, generator)
            else:
                token = int(logits[0].argmax())
            total = draft.log_probability + float(log_probabilities[0, token])
            ended = token == self.end
            draft = Draft(draft.ids if ended else (*draft.ids, token), total, ended)
            fed = torch.tensor([[token]], device=device)
            yield [draft]

    def search(self, memory: Memory, prompt: Sequence[int], decoding: Decoding,
               beams: int) -> Iterator[list[Draft]]:
        """Beam search as transformers does it with early_stopping=False: of the 2K best
        continuations those in the first K places may end, the best K open ones go on, and it
        stops where no open one scores above the worst of K ended ones.
        """
        device, penalty = memory.states.device, decoding.length_penalty
        cache = memory.cache()
        fed = torch.tensor([[self.start, *prompt]], device=device)
        open_drafts, done = [Draft((), 0.0)], list[Draft]()
        for step in range(1, decoding.max_tokens + 1):
            scores = self.next_logits(fed, cache, memory)[:len(open_drafts)]  # (R, V)
            scores = scores.log_softmax(-1)
            rows = [[self.start, *prompt, *draft.ids] for draft in open_drafts]
            self._adjust(scores, rows, step - 1, decoding)
            scores = scores + torch.tensor([[draft.log_probability] for draft in open_drafts],
                                           device=device)
            size = scores.shape[-1]
            best, place = scores.flatten().topk(min(2 * beams, scores.numel()))
            fresh, sources, last = list[Draft](), list[int](), step == decoding.max_tokens
            ranked = zip(best.tolist(), place.tolist(), strict=True)
            for rank, (total, at) in enumerate(ranked):
                source, token = divmod(at, size)
                before, ended = open_drafts[source].ids, token == self.end
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
            idle = 4 - len(fresh) if device.type == "cpu" and 1 < len(fresh) < 4 else 0
            written = cache.self_attention_cache
            written.batch_select_indices(torch.tensor([*sources, *sources[:1] * idle],
                                                      device=device))
            if len(fresh) != len(open_drafts):
                cache = memory.cache(len(fresh) + idle, written)
            open_drafts = fresh
            fed = torch.tensor([[draft.ids[-1]] for draft in (*fresh, *fresh[:1] * idle)],
                               device=device)
        yield done

    def _adjust(self, scores: Tensor, rows: Sequence[Sequence[int]], step: int,
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
            scores[:, self.end] = float("-inf")


def _draw(logits: Tensor, decoding: Decoding, generator: torch.Generator) -> int:
    """One token from the smallest set that holds ``top_p`` of the probability (Holtzman et al.
    2020). It is drawn on the CPU, so that a seed means the same on every device."""
    probabilities = (logits / decoding.temperature).softmax(-1).cpu()
    ordered, order = probabilities.sort(descending=True)
    ordered[ordered.cumsum(-1) - ordered >= decoding.top_p] = 0.0
    return int(order[torch.multinomial(ordered, 1, generator=generator)])
