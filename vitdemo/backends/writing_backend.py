"""What models share that write and do nothing else: describing, answering, their tokens and words.
A family says how its writing begins."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from vitdemo.attention.methods import for_gradients
from vitdemo.attention.trace import Regions, Rows, Trace, WrittenTrace, with_offset
from vitdemo.backends.base import PictureFeatures, Step
from vitdemo.backends.hub import (
    Checkpoint,
    HubBackend,
    cache_argument,
    most_tokens,
    word_places,
)
from vitdemo.backends.writing import State, best_answers, search, steps, write
from vitdemo.config import Decoding
from vitdemo.errors import TextError
from vitdemo.records import Candidate, ModelInfo, Request, Word
from vitdemo.texts import Message

ANSWER_TOKENS = 12
# What a chat model is asked for: a caption where no instruction is given, and an answer.
DESCRIBE = {"en": "Describe this picture in one sentence.", "zh": "用一句话描述这张图片。"}
ANSWER = {"en": "{} Answer with a word or a short phrase.", "zh": "{}请用一个词或短语回答。"}
Span = tuple[int, int]


class CachedState:
    """What a `State` of transformers shares: how the model goes on from a ``prompt`` on a picture
    that was ``seen``; ``length`` counts the ids that it was given so far. It is kept until the next
    text is begun, so that an explanation need not run again what was run to write."""

    length = 0

    def __init__(self, backend: Any, seen: Any, prompt: Any, cache: Any = None) -> None:
        model = backend.model
        self.seen, self.prompt, self.backend = seen, prompt, backend
        self.cache: Any = DynamicCache(config=model.config.get_text_config()) if cache is None \
            else cache
        self._argument = cache_argument(model)

    def select(self, rows: Sequence[int]) -> None:
        """The cache of these rows."""
        self.cache.batch_select_indices(torch.tensor(rows, device=self.backend.model.device))

    @property
    def plain(self) -> bool:
        """Whether the cache holds every place, as one with a sliding window does not."""
        layers = self.cache.layers
        return bool(layers) and all(type(layer) is DynamicLayer and layer.is_initialized
                                    for layer in layers)

    def prefix(self, length: int) -> Any:
        """The cache as it was after ``length`` places of one row; that of the layers that look
        at the picture holds it. This one stays as it is."""
        found = copy.copy(self.cache)
        found.layers = [copy.copy(layer) for layer in self.cache.layers]
        for number, layer in enumerate(found.layers):
            end = None if number in self.backend.looking_layers else length
            layer.keys, layer.values = layer.keys[:1, :, :end], layer.values[:1, :, :end]
        return found


def select_written(cache: EncoderDecoderCache, rows: Sequence[int]) -> None:
    """The cache of these rows: only what was written is copied, as all look at one picture."""
    layer: Any = None  # one with keys and values: no other kind looks at a picture
    for layer in cache.cross_attention_cache.layers:
        layer.keys, layer.values = (one[:1].expand(len(rows), -1, -1, -1)
                                    for one in (layer.keys, layer.values))
    cache.self_attention_cache.batch_select_indices(torch.tensor(rows, device=layer.keys.device))


@dataclass(frozen=True)
class Start:
    """Where a text begins: the model's ``state``, the ``ids`` it is given first, the token that is
    the ``end``, and the text that ids written after that are."""

    state: State
    ids: Sequence[int]
    end: int
    text: Callable[[Sequence[int]], str]


class WritingBackend(HubBackend):
    """One checkpoint; see the file."""

    looking_layers: Sequence[int] = ()  # in whose cache the picture is

    def __init__(self, checkpoint: Checkpoint, family: str = "", **info: Any) -> None:
        super().__init__(checkpoint)
        self.tokenizer = checkpoint.tokenizer
        self.most = most_tokens(self.model.config)
        self._state: Any = None  # of the text that was begun last
        reason = Message("task.only_writes", family=family or self.family.name)
        known: dict[str, Any] = {"tasks": frozenset({"caption", "ask", "explain"}),
                                 "languages": ("en",)} | info
        known["missing"] = {"match": reason, "embed": reason} | known.get("missing", {})
        self.info = ModelInfo(name=checkpoint.name, family=self.model.config.model_type,
                              revision=checkpoint.revision, dimension=0, methods=self.methods,
                              **known)

    def written_state(self, seen: Any, prompt: Any) -> Any:
        """The state with which a text was written last, if it was on this picture and prompt."""
        state = self._state
        return state if state is not None and state.seen is seen and state.prompt == prompt \
            else None

    def _begin(self, features: PictureFeatures, request: Request) -> Start:
        self._state = None  # the old one's room is free before the new one is made
        start = self.start(features, request)
        self._state = start.state
        return start

    @abstractmethod
    def start(self, features: PictureFeatures, request: Request) -> Start:
        """Where a caption or an answer begins, for this instruction or question."""

    # Texts

    def encode(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids of a text without special tokens, and each one's (start, end) in it.

        Raises:
            TextError: the text is too long.
        """
        encoding = self.tokenizer(text, return_offsets_mapping=True, verbose=False,
                                  add_special_tokens=False)
        ids = list(encoding["input_ids"])
        self.require_room(len(ids))
        return ids, list(encoding["offset_mapping"])

    def require_room(self, count: int) -> None:
        """Raise `TextError` where the model does not read so many tokens."""
        if count > self.most:
            raise TextError("typed.tokens", count=count, model=self.info.name, most=self.most)

    def refuse_marks(self, text: str, *marks: str) -> None:
        """Raise `TextError` where a person's text holds one of the model's own marks."""
        for mark in (*self.tokenizer.all_special_tokens, *marks):
            if len(mark) > 1 and mark in text:
                raise TextError("typed.mark", mark=mark)

    def text(self, ids: Sequence[int]) -> str:
        """What was written; a character that is not whole yet is left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).rstrip("�").strip()

    def tensor(self, ids: Sequence[int]) -> Tensor:
        """(1, T) on the model's device."""
        return torch.tensor([list(ids)], device=self.model.device)

    # Writing

    def generate(self, features: PictureFeatures, instruction: str, language: str,
                 decoding: Decoding) -> Iterator[Step]:
        """Words as they are written."""
        self.require("caption")
        self.require_language(language)
        start = self._begin(features, Request(instruction, "", language, "caption"))
        self.require_room(len(start.ids) + decoding.max_tokens)
        return steps(write(start.state, self.tensor(start.ids), start.end, decoding), start.text)

    def answer(self, features: PictureFeatures, question: str, language: str,
               count: int = 5) -> tuple[Candidate, ...]:
        """Beam search over answers; an answer's probability is that of its tokens and its end."""
        self.require("ask")
        self.require_language(language)
        if not question.strip():
            raise TextError("typed.empty", what=Message("typed.question"))
        start = self._begin(features, Request(question, "", language, "ask"))
        self.require_room(len(start.ids) + ANSWER_TOKENS)
        *_, drafts = search(start.state, self.tensor(start.ids), start.end,
                            Decoding(max_tokens=ANSWER_TOKENS, length_penalty=0), max(5, count))
        return best_answers(drafts, start.text, count)


@dataclass(frozen=True)
class Seen:
    """What is kept of one picture: the ``states`` (1, N, D) that a text looks at, which of them is
    which region, and where there are tiles, how many are real."""

    states: Tensor
    regions: Regions
    tiles: int = 1


@dataclass(frozen=True, kw_only=True)
class SeenTrace(WrittenTrace):
    """A text on a picture that was ``seen``, after a ``prompt``; ``state`` is the one that wrote on
    it last, None where there is none."""

    backend: Any
    seen: Seen
    prompt: Any
    state: Any = None

    def features(self) -> Tensor:
        """The states of the regions."""
        return self.seen.states[0, list(self.regions.places)]

    def states(self, rows: Rows) -> Tensor:
        """Each row's, fit for gradients: (R, N, D)."""
        seen = [one.data.states for one in rows.pictures] or [self.seen.states]
        states = torch.cat(seen).expand(rows.count, -1, -1)
        return with_offset(for_gradients(states), self.regions.places, rows.offset)


def one_stream(kind: Callable[..., Trace], task: str, whole: str, spans: Sequence[Span],
               first: int, start: int, question: Span, moved: tuple[int, int], /, **shared: Any
               ) -> tuple[Trace, ...]:
    """The traces of this ``kind`` where prompt and text, which are the ``whole``, stand in one
    stream: from token ``first`` and character ``start`` on it was written, the ``question`` stands
    from where to where. In the stream so many more tokens than in ``spans`` stand before the
    question and before what was written (``moved``)."""
    def trace(source: str, begin: int, end: int) -> Trace:
        written = source != "question"
        words, tokens, place = words_between(whole, spans, begin, end, first if written else None)
        return kind(text=whole[begin:end], source=source, written=written, words=words,
                    tokens=tokens, shift=place + moved[written] - written, **shared)

    if task == "caption":
        return (trace("caption", start, len(whole)),)
    return trace("question", *question), trace("answer", start, len(whole))


def words_between(text: str, spans: Sequence[Span], start: int, end: int, first: int | None = None
                  ) -> tuple[tuple[Word, ...], list[list[int]], int]:
    """The whole words of ``text[start:end]``, for each its tokens, counted from token ``first``,
    and this; None is the first token there."""
    inside = [n for n, (left, right) in enumerate(spans) if right > start and left < end]
    words, tokens = word_places(text[start:end], [
        (max(0, spans[n][0] - start), spans[n][1] - start) for n in inside])
    first = inside[0] if first is None and inside else first or 0
    return words, [[inside[token] - first for token in some] for some in tokens], first
