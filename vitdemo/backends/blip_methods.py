"""BLIP's words explained by each method: the passes that `vitdemo.attention` works on.

What is measured is as in `native_methods`: a word that was written by its own log-probability, a
word that was only read by what the model made of the whole text (the log-probability of the answer
with its end, or the matching head's logit). Each word to explain has a row of its own in the batch.
An answer looks at the question, and through the question's tokens at the picture. The picture's
keys and values are made once for all rows, and gradients end at them: see `_mean_gradient`. The
vision encoder's own mixing is followed by rollout only.

Legend: R rows, N picture tokens (the class token first), K = N - 1 regions, T tokens, H heads,
d head width, D width, Q words.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdemo.attention import relevancy, rollout
from vitdemo.attention.capture import capture_cross_attention
from vitdemo.attention.grad_cam import grad_cam, only_through
from vitdemo.attention.methods import WordMaps, outside_inference_mode, over_words, rows_at_once
from vitdemo.attention.relevancy import Relevancy
from vitdemo.backends.blip_decoder import Memory, Reader, Writer
from vitdemo.backends.blip_explain import returned_weights, word_places
from vitdemo.backends.blip_load import BlipCheckpoint
from vitdemo.words import split_words

METHODS = ("cross-attention", "rollout", "relevancy", "grad-cam")
Spans = list[list[int]]
Found = tuple[Tensor, Tensor]  # maps (R, K) and log-probabilities (R,) of R words


@dataclass(frozen=True)
class Task:
    """One picture with its texts. ``states`` is (1, N, D); ``vision`` gives the share of each
    region in each state, (N, K); ``reader`` reads ``read``, ``writer`` wrote ``written``; one of
    them is None where the task has no such text."""

    checkpoint: BlipCheckpoint
    reader: Reader | None
    writer: Writer | None
    states: Tensor
    vision: Callable[[], Tensor]
    read: str
    written: str

    @property
    def regions(self) -> int:
        """K."""
        return int(self.states.shape[1]) - 1


def word_maps(task: Task, method: str) -> list[WordMaps]:
    """The maps of each text that `Backend.explain` gives, in its order; ``method`` is one of
    `METHODS` but the first."""
    kind = {"rollout": _Rollout, "relevancy": _Relevancy, "grad-cam": _GradCam}[method]
    with outside_inference_mode():
        return _word_maps(task, kind(task))


def _word_maps(task: Task, pass_over: "_Pass") -> list[WordMaps]:
    found = []
    if task.reader is not None:
        source = "text" if task.writer is None else "question"
        found.append(WordMaps(task.read, source, split_words(task.read), pass_over.read()))
    if task.writer is not None:
        source = "caption" if task.reader is None else "answer"
        maps, chances = pass_over.written()
        found.append(WordMaps(task.written, source, split_words(task.written), maps, chances))
    return found


def _mixings(reader: Reader) -> list[nn.Module]:
    layers: Any = reader.model.encoder.layer
    return [layer.attention.self for layer in layers]


def _record(modules: Sequence[nn.Module], keep: bool = True) -> Any:
    return capture_cross_attention(modules, returned_weights, keep_graph=keep)


@contextmanager
def _graph(task: Task) -> Iterator[None]:
    """Inside, the words' embeddings take gradients: the checkpoint's weights are frozen, and so
    the attention of the first layers would have none."""
    readers = [task.reader, task.writer.reader if task.writer is not None else None]
    handles = [reader.model.embeddings.register_forward_hook(
        lambda _module, _args, output: output.requires_grad_())
        for reader in readers if reader is not None]
    try:
        with torch.enable_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Pass:
    """What the methods share: texts to ids, and one pass of R rows."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.device = task.states.device
        first = task.reader or task.writer.reader  # type: ignore[union-attr]
        self.picture = first.project(task.states.clone())
        self.ids: Tensor | None = None
        if task.reader is not None:
            self.ids, self.mask = task.checkpoint.batch([task.read])
            offsets = task.checkpoint.ids(task.read)[1]
            self.read_places = [[place + 1 for place in found]  # [CLS] stands before
                                for found in word_places(task.read, offsets)[1]]
        if task.writer is not None:
            self.targets, offsets = task.checkpoint.ids(task.written)
            self.places = word_places(task.written, offsets)[1]

    def read_rows(self, memory: Memory, rows: int) -> Tensor:
        """Read the text R times: states (R, T, D)."""
        reader = self.task.reader
        assert reader is not None and self.ids is not None
        states: Tensor = reader.model(
            input_ids=self.ids.expand(rows, -1), attention_mask=self.mask.expand(rows, -1),
            encoder_hidden_states=memory.states.expand(rows, -1, -1),
            past_key_values=memory.cache(rows)).last_hidden_state
        return states

    def hidden(self, memory: Memory | None, looked_at: Tensor, length: int) -> Tensor:
        """The decoder's states (R, length, D) for the first ``length`` tokens it was given. It
        looks at ``memory``, or where that is None at ``looked_at`` (R, N, D)."""
        writer = self.task.writer
        assert writer is not None
        rows = len(looked_at)
        inputs = torch.tensor([[writer.start, *self.targets][:length]], device=self.device)
        states: Tensor = writer.model.bert(
            input_ids=inputs.expand(rows, -1), encoder_hidden_states=looked_at, is_decoder=True,
            past_key_values=None if memory is None else memory.cache(rows),
            use_cache=memory is not None).last_hidden_state
        return states

    def logs(self, hidden: Tensor, rows: Sequence[int], places: Sequence[int],
             wanted: Sequence[int]) -> Tensor:
        """Log-probability of each wanted id at its row and place: float32 (n,)."""
        assert self.task.writer is not None
        logits = self.task.writer.model.cls(hidden[list(rows), list(places)]).float()
        ids = torch.tensor(list(wanted), dtype=torch.long, device=self.device)
        return logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)

    def word_logs(self, hidden: Tensor, spans: Spans) -> Tensor:
        """Row r's own word: the sum over its tokens, float32 (R,)."""
        rows = [r for r, tokens in enumerate(spans) for _ in tokens]
        places = [token for tokens in spans for token in tokens]
        found = self.logs(hidden, rows, places, [self.targets[place] for place in places])
        return found.new_zeros(len(spans)).index_add(0, torch.tensor(rows, device=self.device),
                                                     found)

    def whole_log(self, hidden: Tensor) -> Tensor:
        """The whole text with its end, for each row: float32 (R,)."""
        assert self.task.writer is not None
        ids = [*self.targets, self.task.writer.end]
        rows = [r for r in range(len(hidden)) for _ in ids]
        found = self.logs(hidden, rows, list(range(len(ids))) * len(hidden), ids * len(hidden))
        return found.view(len(hidden), len(ids)).sum(1)

    def outcome(self, states: Tensor) -> Tensor:
        """What the model made of the text it read, states (R, T, D): (R,)."""
        if self.task.writer is not None:
            return self.whole_log(self.hidden(None, states, len(self.targets) + 1))
        fits: Tensor = self.task.checkpoint.model.itm_head(states[:, 0]).float()
        return fits[:, 1] - fits[:, 0]  # the logit of the softmax's "fits"

    def size(self) -> int:
        """Rows in one pass."""
        config, total = self.task.checkpoint.model.config.text_config, 0
        read = 0 if self.ids is None else self.ids.shape[1]
        total += read * (read + self.task.regions + 1)
        if self.task.writer is not None:
            length = len(self.targets) + 1
            total += length * (length + (read or self.task.regions + 1))
        return rows_at_once(total * config.num_hidden_layers * config.num_attention_heads)

    def read(self) -> np.ndarray:
        """Maps (Q, K) of the words that were only read."""
        raise NotImplementedError

    def rows_of(self, spans: Spans) -> Found:
        """Maps and log-probabilities of some words that were written."""
        raise NotImplementedError

    def written(self) -> tuple[np.ndarray, tuple[float, ...]]:
        """Maps (Q, K) and probabilities of the words that were written."""
        maps = np.zeros((len(self.places), self.task.regions), dtype=np.float32)
        chances = [1.0] * len(self.places)
        asked = [q for q, tokens in enumerate(self.places) if tokens]
        size = self.size()
        for first in range(0, len(asked), size):
            some = asked[first:first + size]
            with _graph(self.task):
                part, logs = self.rows_of([self.places[q] for q in some])
            maps[some] = part.detach().float().cpu().numpy()
            for q, log in zip(some, logs.detach().tolist(), strict=True):
                chances[q] = min(1.0, float(np.exp(log)))
        return maps, tuple(chances)


class _Rollout(_Pass):
    def _read_share(self) -> tuple[Tensor, Tensor]:
        """States (1, T, D) of the text that is read, and its tokens' shares (T, K)."""
        reader = self.task.reader
        assert reader is not None
        with _record(reader.cross_attentions, False) as crossed, \
                _record(_mixings(reader), False) as mixed:
            states = self.read_rows(self.picture, 1)
        return states, self._share(mixed.weights, crossed.weights, self.task.vision())

    @staticmethod
    def _share(own: list[Tensor], crossed: list[Tensor], context: Tensor) -> Tensor:
        share = context.new_zeros(own[0].shape[-1], context.shape[-1])
        for mine, theirs in zip(own, crossed, strict=True):
            share = rollout.self_attention(share, mine[0])
            share = rollout.cross_attention(share, theirs[0], context)
        return share

    def read(self) -> np.ndarray:
        return over_words(self._read_share()[1].cpu().numpy(), self.read_places)

    def written(self) -> tuple[np.ndarray, tuple[float, ...]]:
        if not self.targets:
            return np.zeros((len(self.places), self.task.regions), np.float32), \
                (1.0,) * len(self.places)
        assert self.task.writer is not None
        reader = self.task.writer.reader
        memory: Memory | None = self.picture
        looked_at, context = self.task.states, None
        if self.task.reader is not None:
            memory, (looked_at, context) = None, self._read_share()
        with _record(reader.cross_attentions, False) as crossed, \
                _record(_mixings(reader), False) as mixed:
            hidden = self.hidden(memory, looked_at, len(self.targets))
        share = self._share(mixed.weights, crossed.weights,
                            self.task.vision() if context is None else context)
        places = list(range(len(self.targets)))
        logs = self.logs(hidden, [0] * len(places), places, self.targets)
        chances = tuple(min(1.0, float(logs[tokens].sum().exp())) for tokens in self.places)
        return over_words(share.cpu().numpy(), self.places), chances


class _Relevancy(_Pass):
    def _patches(self) -> Tensor:
        """The picture tokens' own regions (1, N, K); the class token has none."""
        regions = self.task.regions
        return torch.eye(regions + 1, device=self.device)[None, :, 1:]

    @staticmethod
    def _follow(own: list[Tensor], crossed: list[Tensor], context: Tensor) -> Relevancy:
        found = Relevancy.start(len(own[0]), own[0].shape[-1], context.shape[-1], own[0].device)
        for mine, theirs in zip(own, crossed, strict=True):
            found = found.after_self(mine).after_cross(theirs, context)
        return found

    def read(self) -> np.ndarray:
        reader = self.task.reader
        assert reader is not None
        with _graph(self.task):
            with _record(reader.cross_attentions) as crossed, _record(_mixings(reader)) as mixed:
                target = self.outcome(self.read_rows(self.picture, 1))
            own, cross = relevancy.means(target, mixed.weights, crossed.weights)
        found = self._follow(own, cross, self._patches())
        return over_words(found.picture[0].cpu().numpy(), self.read_places)

    def rows_of(self, spans: Spans) -> Found:
        reader, writer = self.task.reader, self.task.writer
        assert writer is not None
        rows, length = len(spans), 1 + max(max(tokens) for tokens in spans)
        asked = [] if reader is None else [reader.cross_attentions, _mixings(reader)]
        with _record(asked[0] if asked else []) as read_cross, \
                _record(asked[1] if asked else []) as read_own:
            states = None if reader is None else self.read_rows(self.picture, rows)
        with _record(writer.reader.cross_attentions) as crossed, \
                _record(_mixings(writer.reader)) as mixed:
            hidden = self.hidden(self.picture, self.picture.states.expand(rows, -1, -1), length) \
                if states is None else self.hidden(None, states, length)
        logs = self.word_logs(hidden, spans)
        first_own, first, own, cross = relevancy.means(
            logs, read_own.weights, read_cross.weights, mixed.weights, crossed.weights)
        context = self._patches()
        if reader is not None:
            context = self._follow(first_own, first, context).picture  # (R, T of the question, K)
        found = self._follow(own, cross, context)
        return torch.stack([found.picture[r, tokens].mean(0)
                            for r, tokens in enumerate(spans)]), logs


class _GradCam(_Pass):
    def _leaves(self, rows: int) -> Memory:
        """The picture's keys and values for R rows, each row with gradients of its own."""
        pairs = tuple((key.expand(rows, -1, -1, -1).clone().requires_grad_(),
                       value.expand(rows, -1, -1, -1).clone().requires_grad_())
                      for key, value in self.picture.pairs)
        return Memory(self.picture.states.expand(rows, -1, -1), pairs)

    def _mean_gradient(self, target: Tensor, memory: Memory, reader: Reader) -> Tensor:
        """The mean over the patches of the gradient with respect to the states: (R, D).

        Keys and values are linear in the states, so the mean can be taken before the gradient is
        led through their matrices, which spares nearly all of the work for every row."""
        flat = [one for pair in memory.pairs for one in pair]
        found = torch.autograd.grad(target.sum(), flat)
        modules: list[Any] = reader.cross_attentions
        linear = [one for module in modules for one in (module.key, module.value)]
        means = [one[:, :, 1:].mean(2).flatten(1) @ matrix.weight
                 for one, matrix in zip(found, linear, strict=True)]  # each (R, D)
        return torch.stack(means).sum(0)

    def _maps(self, target: Tensor, memory: Memory, reader: Reader) -> Tensor:
        return grad_cam(self.task.states[0, 1:], self._mean_gradient(target, memory, reader))

    def read(self) -> np.ndarray:
        reader = self.task.reader
        assert reader is not None and self.ids is not None
        maps = np.zeros((len(self.read_places), self.task.regions), dtype=np.float32)
        asked = [q for q, tokens in enumerate(self.read_places) if tokens]
        size = self.size()
        for first in range(0, len(asked), size):
            some = asked[first:first + size]
            positions = torch.zeros(len(some), self.ids.shape[1], dtype=torch.bool,
                                    device=self.device)
            for row, q in zip(positions, some, strict=True):
                row[self.read_places[q]] = True
            with torch.enable_grad():
                memory = self._leaves(len(some))
                with only_through(reader.cross_attentions, positions):
                    states = self.read_rows(memory, len(some))
                found = self._maps(self.outcome(states), memory, reader)
            maps[some] = found.detach().cpu().numpy()
        return maps

    def rows_of(self, spans: Spans) -> Found:
        reader, writer = self.task.reader, self.task.writer
        assert writer is not None
        memory = self._leaves(len(spans))
        length = 1 + max(max(tokens) for tokens in spans)
        if reader is None:
            hidden = self.hidden(memory, memory.states, length)
        else:
            hidden = self.hidden(None, self.read_rows(memory, len(spans)), length)
        logs = self.word_logs(hidden, spans)
        return self._maps(logs, memory, reader or writer.reader), logs
