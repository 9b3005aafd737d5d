"""What all objectives draw their part of a step from: the rows, their pictures and their texts.

Everything is drawn from the seed and the step alone, so a run can go on exactly.

Shapes: P pictures, N picture tokens, n of them kept, C channels of the backbone, K texts per
picture, T text tokens, S decoder tokens, U different instructions.
Where the backbone learns, too, ``features`` are pixels, uint8 (P, 3, side, side), until
`train.objectives` makes features of them.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor

from train.data.features import Store
from train.data.mentions import word_bags
from train.data.reading import Row
from train.data.stand_ins import in_chinese, stand_ins
from vitdemo.models.decoding import Vocabulary
from vitdemo.tokens import TextTokenizer

T = TypeVar("T")
ALPHA = 0.5  # of a group's size, whose power is its share
LANGUAGES = ("en", "zh")
TARGET_TOKENS = 20  # of a text to write; longer captions are left out where they can be


class Draw:
    """What an objective draws its part of a step with: the seed, the step's number and its own name
    alone decide it, so that what others draw does not change it."""

    def __init__(self, seed: int, step: int, name: str) -> None:
        self.step, self.maker = step, random.Random(f"{seed}:{step}:{name}")
        self.noise = torch.Generator()
        self.noise.manual_seed(random.Random(f"{seed}:{step}:{name}:noise").getrandbits(62))

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1, new ones at each call."""
        return torch.rand(*shape, generator=self.noise)


@dataclass
class TextBatch:
    """Pictures, each with an instruction and K texts to write.

    features (P, N, C); instruction ids and mask (U, T); ``instruction_of`` (P,) picks one of
    them; targets and their mask (P * K, S), start and end tokens included, and of which of its
    text's whole words each token is a part, -1 of none (``words``); ``rows`` (P,) says which row
    of the data each picture is; ``kept`` (P, n) are the picture tokens that are read; ``draws``
    (P, 2), 0..1, by which names are swapped and pictures hidden.
    """

    features: Tensor
    instruction: Tensor
    instruction_mask: Tensor
    instruction_of: Tensor
    targets: Tensor
    target_mask: Tensor
    words: Tensor
    rows: Tensor
    kept: Tensor
    draws: Tensor


class Balanced(Generic[T]):
    """Items of several groups: the share of a group goes with the square root of how many texts it
    has, and within a group all texts are as likely (temperature sampling: Devlin 2018, multilingual
    BERT; Arivazhagan et al. 2019, arXiv:1907.05019, section 4.2)."""

    def __init__(self, items: Sequence[T], groups: Sequence[Hashable],
                 texts: Sequence[int] = ()) -> None:
        """``groups``: of each item, and how many ``texts`` it has; default: one."""
        texts = texts or [1] * len(items)
        sizes: Counter[Hashable] = Counter()
        for group, count in zip(groups, texts, strict=True):
            sizes[group] += count
        self.items = list(items)
        self.weights = [count * sizes[group] ** (ALPHA - 1)
                        for group, count in zip(groups, texts, strict=True)]
        self._sums = list(itertools.accumulate(self.weights))

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, maker: random.Random) -> T:
        """One item."""
        return maker.choices(self.items, cum_weights=self._sums)[0]

    def sample(self, maker: random.Random, count: int) -> list[T]:
        """Different items, at most as many as there are (Efraimidis, Spirakis 2006)."""
        waits = [maker.expovariate(weight) for weight in self.weights]
        chosen = heapq.nsmallest(count, range(len(waits)), waits.__getitem__)
        return [self.items[i] for i in chosen]


@dataclass(frozen=True)
class Item:
    """A picture of a row with an instruction and the texts to write, all in one language; ``kind``
    is what a made question asks for, or a key of `vitdemo/instructions.tsv`."""

    row: int
    instruction: str
    texts: Sequence[str]
    language: str
    kind: str = ""


class BatchSampler:
    """The rows of a run and what is drawn from them.

    ``captioned``: by language, the rows that people described; ``described`` and ``by_people``: the
    same to draw from, a small data set more often than its size says, the first with rows for whose
    captions something stands in.
    """

    def __init__(self, rows: Sequence[Row], store: Store, tokenizer: TextTokenizer, seed: int,
                 kept_tokens: float = 1.0) -> None:
        self.rows, self.store, self.tokenizer = list(rows), store, tokenizer
        self.seed, self.kept_tokens = seed, kept_tokens
        self.stand_ins = {i: texts for i, row in enumerate(self.rows)
                         if not row.captions and (texts := stand_ins(row))}
        self.captioned = {language: [i for i in range(len(self.rows))
                                     if self.captions_of(i, language)] for language in LANGUAGES}
        self.by_people = {language: self._balanced(places, language)
                          for language, places in self.captioned.items()}
        self.described = {language: self._balanced(range(len(self.rows)), language)
                          for language in LANGUAGES}
        self.languages = [language for language in LANGUAGES if self.captioned[language]]
        self.lengths = self._count_tokens()
        self.bags, self.seen_words = word_bags(self.rows, tokenizer)

    @cached_property
    def content(self) -> Tensor:
        """bool (vocabulary,): the tokens that can be seen at a place."""
        found = torch.zeros(self.tokenizer.size, dtype=torch.bool)
        found[self.seen_words] = True
        return found

    def captions_of(self, row: int, language: str) -> Sequence[str]:
        """People's captions of a row, in one language."""
        return self.rows[row].texts(language)

    def texts_of(self, row: int, language: str) -> Sequence[str]:
        """A row's captions, people's or, where it has none, what stands in for them."""
        if people := self.captions_of(row, language):
            return people
        english = self.captions_of(row, "en") or self.stand_ins.get(row, ())
        return english if language == "en" else in_chinese(english)

    def fitting(self, texts: Sequence[str]) -> list[str]:
        """The captions that need not be cut; a cut one gets no end, and a model that sees many of
        those does not learn to stop. Where all are too long, the shortest."""
        return [text for text in texts if self.lengths[text] <= TARGET_TOKENS] or [
            min(texts, key=lambda text: self.lengths[text])]

    def features(self, rows: Sequence[int]) -> Tensor:
        """The pictures of rows; what is no picture's pixels as float32."""
        given = self.store.get([self.rows[row].path for row in rows])
        return given if given.dtype == torch.uint8 else given.float()

    def draw_kept(self, draw: Draw, count: int) -> Tensor:
        """A random part of the places of so many pictures, in place of dropout: (count, n)."""
        tokens = len(self.store.boxes)
        kept = min(tokens, max(1, round(tokens * self.kept_tokens)))
        return draw.uniform(count, tokens).argsort(1)[:, :kept]

    def vocabulary(self, items: Sequence[Item]) -> Vocabulary:
        """To write a text for each of these."""
        starts = [self.tokenizer.language_start[item.language] for item in items]
        return Vocabulary(starts, self.tokenizer.end, self.tokenizer.banned)

    def text_batch(self, items: Sequence[Item], draw: Draw) -> TextBatch | None:
        """The items' pictures and texts; None where there is no item."""
        if not items:
            return None
        targets = [text for item in items for text in item.texts]
        ids, real = self.tokenizer.encode_targets(
            targets, [item.language for item in items for _ in item.texts])
        parts = self.tokenizer.word_numbers(targets, ids.shape[1])
        limit = TARGET_TOKENS + 2  # start and end
        asked = sorted({item.instruction for item in items})
        rows = [item.row for item in items]
        return TextBatch(self.features(rows), *self.tokenizer.encode(asked),
                         torch.tensor([asked.index(item.instruction) for item in items]),
                         ids[:, :limit], real[:, :limit], parts[:, :limit], torch.tensor(rows),
                         self.draw_kept(draw, len(items)), draw.uniform(len(items), 2))

    def _balanced(self, rows: Sequence[int], language: str) -> Balanced[int]:
        """Of these rows those with captions in a language, or with what stands in for them."""
        counts = {row: count for row in rows if (count := len(self.texts_of(row, language)))}
        return Balanced([*counts], [self.rows[row].source for row in counts], [*counts.values()])

    def _count_tokens(self) -> dict[str, int]:
        """Length in tokens of every caption."""
        texts = [text for language, places in self.described.items() for place in places.items
                 for text in self.texts_of(place, language)]
        return {text: len(ids) for text, ids in
                zip(texts, self.tokenizer.batch_pieces(texts), strict=True)}
