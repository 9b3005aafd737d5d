"""A trace: what a backend says of one finished text, so that every method can explain it.

Each model is a graph of *streams* of tokens (the picture's, those of a text that is read, those of
a text that is written), and of attention layers in which one stream's tokens look at the tokens of
one or several streams. All kinds of models fit in:
- cross-attention: a layer of "written" whose context is ("picture",), gated or not;
- a memory of picture and text: a layer of "written" whose context is ("picture", "read");
- one stream of self-attention with the picture's tokens among the text's: every layer is of "text"
  with the context ("text",), and the regions stand in "text", too;
- a composition through latents or through a question: layers of "written" whose context is
  ("read",), and layers of "read" whose context is ("picture",);
- latents that have looked at the picture and then stand among a text's tokens: layers of "latents"
  whose context is ("picture",), layers of "text" with the context ("text",), and `Trace.latents`;
- a score of picture and text: a text that is only read, whose outcome is the score.
The methods of `vitdemo.attention.explain` know no more of a model than this.

Legend: R rows of one pass, K picture regions, P tokens that show them (as a rule one each), T
tokens of a stream, N tokens looked at, C channels of the picture's features, Q whole words.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdemo.attention.methods import Said, over_words, rows_at_once
from vitdemo.errors import TaskError
from vitdemo.records import Candidate, Word

Place = tuple[int, int]  # a row of the pass, and a token of the written text; T is its end
RIVALS = 5  # texts that are told to be likeliest at a word's place


@dataclass(frozen=True)
class Layer:
    """One attention layer: tokens of ``stream`` look at those of ``context``, joined in this order.

    ``module`` is what computes the attention, and nothing else (see `capture.record`). ``gate`` is
    tanh of its gate, -1..1, None where it has none. ``name`` is for the screen.
    """

    module: nn.Module
    stream: str
    context: tuple[str, ...]
    heads: int
    name: str = ""
    gate: float | None = None

    @property
    def mixes(self) -> bool:
        """Whether it is self-attention: the stream looks at itself alone."""
        return self.context == (self.stream,)


@dataclass(frozen=True)
class Regions:
    """The picture's regions: the token at ``places[k]`` of ``stream`` is region k, which lies in
    ``boxes[k]``: float32 (K, 4), x0, y0, x1, y1 in pixels of the picture the user gave, which has
    the ``size`` (width, height). ``grid`` is (rows, columns) of a full grid, else (0, 0).

    Where several tokens show one place (tiles and the whole picture), ``parts`` are three arrays
    (n,): of the token at ``places[token]`` this ``share`` lies in that ``region``; the shares of a
    token add up to at most 1."""

    stream: str
    places: Sequence[int]
    boxes: np.ndarray
    grid: tuple[int, int]
    size: tuple[int, int]
    parts: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # token, region, share

    @property
    def whole(self) -> bool:
        """Whether they reach to all edges of the picture: nothing was cut away."""
        low, high = self.boxes[:, :2].min(0), self.boxes[:, 2:].max(0)
        return bool((low < 0.5).all() and (high > np.array(self.size) - 0.5).all())

    def spread(self, weights: Tensor) -> Tensor:
        """Of the picture's tokens to its regions: (..., P) to (..., K)."""
        if self.parts is None:
            return weights
        token, region, share = (torch.as_tensor(one, device=weights.device) for one in self.parts)
        spread = weights.new_zeros(*weights.shape[:-1], len(self.boxes))
        return spread.index_add(-1, region, weights[..., token] * share.to(weights.dtype))


@dataclass(frozen=True)
class Rows:
    """The ``count`` rows of one pass: each is the trace's own picture with its text, or one of as
    many ``pictures`` (features of the backend's own kind) with that text.

    ``recorded`` names the streams whose layers are recorded: what the others made may come from a
    cache, and so may what the trace's own stream holds before ``since`` (`Trace.kept`), the place
    where the pass begins. For gradients: ``offset`` (R, C) is added to all of `Trace.features`, so
    that its gradient is the sum over them; ``through``, bool (R, T) over the trace's stream, says
    that nothing of the picture counts but what these positions looked at.
    """

    count: int = 1
    pictures: Sequence[Any] = ()
    recorded: frozenset[str] = frozenset()
    since: int = 0
    offset: Tensor | None = None
    through: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Trace(ABC):
    """One finished text on one picture.

    ``source`` is as in `Explanation`; ``written`` says that the model wrote the text, so that each
    token has a probability. ``tokens[q]`` are the tokens of word q, counted within the text; token
    t was looked up at place t + ``shift`` of ``stream``. ``lengths`` has the number of tokens of
    every stream, ``layers`` are in the order in which they run. At the places ``latents`` of
    ``stream`` stand the first tokens of the stream "latents", as they came out. ``path`` is a
    sentence for people on how the text comes to the picture, where that is not straight.
    ``pictures_at_once`` is how many pictures go through one pass.
    """

    text: str
    source: str
    written: bool
    words: tuple[Word, ...]
    tokens: Sequence[Sequence[int]]
    stream: str
    shift: int
    layers: tuple[Layer, ...]
    lengths: dict[str, int] = field(default_factory=dict)
    regions: Regions
    latents: Sequence[int] = ()
    path: str = ""
    pictures_at_once: int = 8

    @abstractmethod
    def run(self, rows: Rows, places: Sequence[Place] | None) -> Tensor:
        """One pass, float32: the log-probability of the written token at each place, (n,).

        None asks for the outcome of each row, (R,): of a text that was written, or read before one
        was, the log-probability of all that was written with its end; of a sentence to compare the
        logit that it fits. No places at all: only what this text's own layers need is run.
        """

    @abstractmethod
    def features(self) -> Tensor:
        """What `Rows.offset` is added to, at each of the regions' places: (P, C)."""

    def vision(self) -> Tensor:
        """How much of each token of the regions' stream came from each region, by rollout through
        the vision encoder: (N, K). Here each region's token is its own."""
        return self.tokens_of_regions()

    def likeness(self) -> np.ndarray:
        """How much each region looks like each word, float (Q, K) adding up to 1, whether or not
        it was used. Only a model that can tell names a method which asks for it."""
        raise NotImplementedError

    def kept(self) -> int:
        """At how many places of its own stream the model still has what it made when it wrote, so
        that a pass may begin at any of them, and at the next one."""
        return 0

    # What the methods share

    @property
    def streams(self) -> frozenset[str]:
        """Those whose tokens look at something."""
        return frozenset(layer.stream for layer in self.layers)

    @property
    def apart(self) -> bool:
        """Whether each word has a target of its own (`word_logs`); else all share the outcome."""
        return self.written

    @property
    def looking(self) -> tuple[int, ...]:
        """Which layers of the text's own stream look at the picture."""
        return tuple(number for number, layer in enumerate(self.layers)
                     if layer.stream == self.stream and self.regions.stream in layer.context)

    def column(self, layer: Layer) -> int:
        """Where the tokens of the regions' stream begin among what a layer looks at."""
        before = layer.context[:layer.context.index(self.regions.stream)]
        return sum(self.lengths[name] for name in before)

    def tokens_of_regions(self) -> Tensor:
        """float32 (N, K): the share of each token of the regions' stream that is each region's."""
        places, device = list(self.regions.places), self.features().device
        own = torch.zeros(self.lengths[self.regions.stream], len(self.regions.boxes), device=device)
        own[places] = self.regions.spread(torch.eye(len(places), device=device))
        return own

    def places_of(self, word: int) -> list[int]:
        """Where in the stream a word's tokens were looked up."""
        return [token + self.shift for token in self.tokens[word]]

    def over_words(self, share: Tensor) -> np.ndarray:
        """Of the stream's tokens (T, K) to the text's words (Q, K), by the mean."""
        return over_words(share.float().cpu().numpy(),
                          [self.places_of(word) for word in range(len(self.words))])

    def said(self, rows: Rows) -> Said:
        """One pass over the text on its own picture, and what it says of the words: nothing of
        those that were only read."""
        self.run(rows, ())
        return Said()

    def word_logs(self, rows: Rows, words: Sequence[int]) -> Tensor:
        """Row r's own word: the sum over its tokens, float32 (R,)."""
        places = [(row, token) for row, word in enumerate(words) for token in self.tokens[word]]
        logs = self.run(rows, places)
        row = torch.tensor([row for row, _ in places], device=logs.device)
        return logs.new_zeros(len(words)).index_add(0, row, logs)

    def in_batches(self, method: Callable[[Sequence[int]], tuple[Tensor, Tensor]]
                   ) -> tuple[np.ndarray, Said]:
        """Maps (Q, K) and what is said of the words: ``method`` gives, with gradients, the maps
        (R, K) of some words and their targets (R,), each word in a row of its own.

        Raises:
            TaskError: the words have other probabilities in that pass than without gradients.
        """
        said = self.said(Rows()) if self.written else Said()
        maps = np.zeros((len(self.words), len(self.regions.boxes)), dtype=np.float32)
        asked = [word for word, tokens in enumerate(self.tokens) if tokens]
        size = rows_at_once(sum(layer.heads * self.lengths[layer.stream]
                                * sum(self.lengths[name] for name in layer.context)
                                for layer in self.layers))
        for first in range(0, len(asked), size):
            some = asked[first:first + size]
            with torch.enable_grad():
                part, targets = method(some)
            maps[some] = part.detach().float().cpu().numpy()
            if self.written:
                want = targets.new_tensor([said.logs[word] for word in some])
                _same(targets.detach(), want, self.features().dtype)
        return maps, said


@dataclass(frozen=True, kw_only=True)
class WrittenTrace(Trace):
    """One whose outcome is a text that was written: its ``written_ids`` and the one that ends it;
    ``text_of`` makes a text of ids."""

    written_ids: Sequence[int]
    text_of: Callable[[Sequence[int]], str]

    @abstractmethod
    def logits(self, rows: Rows, places: Sequence[Place]) -> Tensor:
        """One pass, float32 (n, V): those by which the token at each place was chosen. No places at
        all: only what this text's own layers need is run."""

    @property
    def targets(self) -> int:
        """T, how many tokens were written."""
        return len(self.written_ids) - 1

    @property
    def everything(self) -> list[Place]:
        """Places of all of them, for one row."""
        return [(0, token) for token in range(self.targets)]

    def run(self, rows: Rows, places: Sequence[Place] | None) -> Tensor:
        """See `Trace.run`."""
        count, end = rows.count, self.targets + 1
        asked = [(r, t) for r in range(count) for t in range(end)] if places is None else places
        logs = self._logs(self.logits(rows, asked), asked)
        return logs.view(count, end).sum(1) if places is None else logs

    def _logs(self, logits: Tensor, places: Sequence[Place]) -> Tensor:
        targets = torch.tensor([self.written_ids[token] for _, token in places],
                               dtype=torch.long, device=logits.device)
        return logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)

    def said(self, rows: Rows) -> Said:
        """A word that has no token has the probability 1."""
        if not self.written:
            return super().said(rows)
        logits = self.logits(rows, self.everything)
        logs = checked(self._logs(logits, self.everything)).double().cpu()
        return Said(tuple(float(logs[list(tokens)].sum()) for tokens in self.tokens),
                    self._rivals(logits))

    def _rivals(self, logits: Tensor) -> tuple[tuple[Candidate, ...], ...]:
        """See `Explanation.rivals`; what cannot be shown, such as a part of a character, is left
        out."""
        best, ids = (one.tolist() for one in logits.softmax(-1).topk(
            min(3 * RIVALS, logits.shape[-1]), -1))
        found = []
        for word, tokens in zip(self.words, self.tokens, strict=True):
            texts: dict[str, float] = {}
            place = tokens[0] if tokens else 0
            before = self.written_ids[max(0, place - 1):place]
            for probability, number in zip(best[place], ids[place], strict=True) if tokens else ():
                own, end = number == self.written_ids[place], number == self.written_ids[-1]
                text = word.text if own else "" if end else self._piece(before, number)
                if text or end:
                    texts.setdefault(text, probability)
            found.append(tuple(Candidate(*one) for one in list(texts.items())[:RIVALS]))
        return tuple(found)

    def _piece(self, before: Sequence[int], number: int) -> str:
        known, text = self.text_of(before), self.text_of([number]).removeprefix("##")
        goes_on = known and text[:1].isalnum() and text.isascii() and self.text_of(
            [*before, number]).startswith(known + text)
        return f"…{text}" if goes_on else text


def place_indices(places: Sequence[Place], device: torch.device) -> tuple[Tensor, Tensor]:
    """Their rows and tokens, (n,) each."""
    row, token = torch.tensor(list(places), dtype=torch.long, device=device).view(-1, 2).T
    return row.contiguous(), token.contiguous()


def with_offset(states: Tensor, places: Sequence[int], offset: Tensor | None) -> Tensor:
    """States (R, N, C) with ``offset`` (R, C) added to those at ``places``; themselves where it is
    None."""
    if offset is None:
        return states
    moved = states.new_zeros(states.shape[1], 1)
    moved[list(places)] = 1
    return states + moved * offset[:, None]


def in_groups(keys: Sequence[Hashable], places: Sequence[Place],
              run: Callable[[list[int], list[Place]], Tensor]) -> Tensor:
    """What ``run`` gives (n, V) at places of rows, those in one pass whose keys are the same: it is
    given which rows these are, and the places in them."""
    groups: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    if len(groups) == 1:
        return run(list(range(len(keys))), list(places))
    found, order = [], list[int]()
    for rows in groups.values():
        inside = [number for number, (row, _) in enumerate(places) if row in rows]
        found.append(run(rows, [(rows.index(places[n][0]), places[n][1]) for n in inside]))
        order += inside
    return torch.cat(found)[torch.tensor(order, device=found[0].device).argsort()]


def checked(logs: Tensor) -> Tensor:
    """The same numbers.

    Raises:
        TaskError: some are no numbers.
    """
    if bool(logs.isnan().any()):
        raise TaskError("method.no_numbers")
    return logs


def _same(found: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    apart = (checked(found) - checked(want)).abs() / (1 + want.abs())
    if float(apart.max()) > (0.01 if dtype == torch.float32 else 0.25):
        raise TaskError("method.other_pass", apart=f"{float(apart.max()):.0%}")
