"""What each training step sees: drawn from the seed and the step alone, so a run can go on exactly.

Shapes: P pictures, N picture tokens, C channels of the backbone, K texts per picture, T text
tokens, S decoder tokens, U different instructions.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.data import Row
from train.features import FeatureStore, View
from train.instructions import (
    DESCRIBE,
    SHORT,
    Example,
    human_questions,
    is_short,
    made_questions,
    mirrored,
    thing_counts,
)
from vitdemo.tokens import TextTokenizer

_LEAST = 8  # rows that must name a word before its place can be learnt
_UNSURE = 0.1  # weight of a word that nobody named of a picture without captions
_NOTHING = {"yes", "no", "none", "0", "nothing"}
_FUNCTION_WORDS = (
    "a an the of in on at and is are with to by what where how many much does do did his her its "
    "their it this that these those there from for as be near while has have having color colour "
    "who which why or he she they him them i you we was were been being not no yes can if into "
    "out up down off over under through . , ? ! ' s - \" : ; t 的 在 一 个 着 了 上 和 是 有 正 里 "
    "中 下 他 她 它 们 这 那 什 么 几 多 少 吗 ， 。 ？ 与 把 被 从 向 到 地 得 两 三").split()


@dataclass
class TextBatch:
    """Pictures, each with an instruction and K texts to write.

    features (P, N, C); instruction ids and mask (U, T); ``instruction_of`` (P,) picks one of
    them; targets and their mask (P * K, S), start and end tokens included; ``rows`` (P,) says
    which row of the data each picture is, ``clear`` bool (P,) which of them no cloud covers.
    """

    features: Tensor
    instruction: Tensor
    instruction_mask: Tensor
    instruction_of: Tensor
    targets: Tensor
    target_mask: Tensor
    rows: Tensor
    clear: Tensor


@dataclass
class CloudBatch:
    """Pictures to describe, whole in ``texts``, clouded (P, N, C), and which of their places the
    cloud covers, bool (P, N)."""

    texts: TextBatch
    clouded: Tensor
    hidden: Tensor


@dataclass
class WordBatch:
    """Which words belong to the pictures of the text batches, captions first, then questions.

    ids (W,) tokens; ``present`` (P, W) 1 where a text about the picture holds the token, else 0;
    ``weight`` (P, W) how sure that is: a picture with questions alone has many words that nobody
    asked about, and under a cloud nothing is sure. ``content`` (vocabulary,) bool: the tokens that
    can be seen at a place.
    """

    ids: Tensor
    present: Tensor
    weight: Tensor
    content: Tensor

    def to(self, device: torch.device) -> "WordBatch":
        """The same on a device."""
        return WordBatch(self.ids.to(device), self.present.to(device), self.weight.to(device),
                         self.content.to(device))


@dataclass
class PairBatch:
    """Pictures, each with one caption: features (P, N, C), ids and mask (P, T)."""

    features: Tensor
    ids: Tensor
    mask: Tensor


@dataclass
class StepBatch:
    """One step: captions to write, questions to answer, pairs to tell apart. A part is None where
    the data has nothing of the kind."""

    captions: TextBatch | None
    questions: TextBatch | None
    pairs: PairBatch | None
    words: WordBatch | None = None
    clouds: CloudBatch | None = None


@dataclass(frozen=True)
class MixtureConfig:
    """How much of what is in a step."""

    caption_pictures: int = 48  # pictures to describe
    texts_per_picture: int = 5  # captions of each
    short_share: float = 0.12  # of descriptions that are short
    questions: int = 64  # questions to answer
    human_share: float = 0.6  # of questions that people asked, where both kinds are there
    target_tokens: int = 20  # of a text to write; longer captions are left out where they can be
    pairs: int = 96  # pictures with a caption each, for the contrastive and the match loss
    words: int = 1500  # words looked for in the pictures of the step, there or not
    clouded_share: float = 0.35  # of pictures with regions blurred, where there are such views
    clouds: int = 0  # pictures to describe that are shown twice, whole and clouded (see clouds.py)


class Mixture:
    """Draws step batches from rows and their features."""

    def __init__(self, rows: Sequence[Row], store: FeatureStore, tokenizer: TextTokenizer,
                 config: MixtureConfig, seed: int, views: Sequence[View]) -> None:
        self.rows, self.store, self.tokenizer = list(rows), store, tokenizer
        self.config, self.seed = config, seed
        self.views = list(views)
        self.clear_views = [i for i, view in enumerate(views) if not view.clouded]
        self.clouded_views = [i for i, view in enumerate(views) if view.clouded]
        self.captioned = {language: [i for i, row in enumerate(self.rows) if _texts(row, language)]
                          for language in ("en", "zh")}
        everyone = sorted({i for places in self.captioned.values() for i in places})
        self.paired = everyone
        self.lengths = self._count_tokens()
        self.human = [e for i, row in enumerate(self.rows) for e in human_questions(i, row)]
        others = [self.rows[i] for i in everyone]
        counts, maker = thing_counts(others), random.Random(seed)
        self.made = [e for i in everyone
                     for e in made_questions(i, self.rows[i], others, counts, maker)]
        self.bags, self.seen_words = word_bags(self.rows, tokenizer)
        self.content = torch.zeros(tokenizer.size, dtype=torch.bool)
        self.content[self.seen_words] = True

    def draw(self, step: int, rank: int = 0, world: int = 1) -> StepBatch:
        """Step ``step`` of the run; with several processes each takes its share of it."""
        maker = random.Random(f"{self.seed}:{step}")
        captions = self._draw_captions(maker, rank, world)
        questions = self._draw_questions(maker, rank, world)
        pairs = self._draw_pairs(maker, rank, world)
        words = self._draw_words(maker, captions, questions)
        return StepBatch(captions, questions, pairs, words, self._draw_clouds(maker, rank, world))

    def _draw_words(self, maker: random.Random, *batches: TextBatch | None) -> WordBatch | None:
        """The words of the drawn pictures, and others up to the wanted number."""
        found = [batch for batch in batches if batch is not None]
        rows = [int(row) for batch in found for row in batch.rows]
        if not rows or not self.seen_words:
            return None
        words = self._words_of(maker, rows)
        words.weight *= torch.cat([batch.clear for batch in found])[:, None]
        return words

    def draw_words(self, maker: random.Random, pictures: int) -> tuple[Tensor, WordBatch]:
        """Features (P, N, C) of some pictures, none of them clouded, and their words."""
        rows = maker.sample(range(len(self.rows)), min(pictures, len(self.rows)))
        features = self.store.get([self.rows[row].path for row in rows],
                                  [maker.choice(self.clear_views) for _ in rows])
        return features.float(), self._words_of(maker, rows)

    def _words_of(self, maker: random.Random, rows: Sequence[int]) -> WordBatch:
        found = sorted(set().union(*(self.bags[row] for row in rows)))
        found = maker.sample(found, min(len(found), self.config.words))
        others = list(set(self.seen_words).difference(found))
        others.sort()
        ids = found + maker.sample(others, min(len(others), self.config.words - len(found)))
        place = {token: i for i, token in enumerate(ids)}
        present = torch.zeros(len(rows), len(ids))
        for i, row in enumerate(rows):
            present[i, [place[token] for token in self.bags[row] if token in place]] = 1
        captioned = torch.tensor([bool(self.rows[row].captions or self.rows[row].captions_zh)
                                  for row in rows])
        weight = torch.where(captioned[:, None], 1.0, _UNSURE + (1 - _UNSURE) * present)
        return WordBatch(torch.tensor(ids), present, weight, self.content)

    def _count_tokens(self) -> dict[str, int]:
        """Length in tokens of every caption."""
        texts = [text for places in self.captioned.items() for place in places[1]
                 for text in _texts(self.rows[place], places[0])]
        return {text: len(ids) for text, ids in
                zip(texts, self.tokenizer.batch_pieces(texts), strict=True)}

    def _fitting(self, texts: Sequence[str]) -> list[str]:
        """The captions that need not be cut; a cut one gets no end, and a model that sees many of
        those does not learn to stop. Where all are too long, the shortest."""
        limit = self.config.target_tokens
        return [text for text in texts if self.lengths[text] <= limit] or [
            min(texts, key=lambda text: self.lengths[text])]

    def _views(self, maker: random.Random, count: int) -> list[int]:
        share = self.config.clouded_share if self.clouded_views else 0.0
        return [maker.choice(self.clouded_views if maker.random() < share else self.clear_views)
                for _ in range(count)]

    def _say(self, text: str, view: int) -> str:
        return mirrored(text) if self.views[view].mirrored else text

    def _draw_captions(self, maker: random.Random, rank: int, world: int) -> TextBatch | None:
        items = self._descriptions(maker, self.config.caption_pictures)
        views = self._views(maker, len(items))
        return self._texts_batch(items[rank::world], views[rank::world]) if items else None

    def _draw_clouds(self, maker: random.Random, rank: int, world: int) -> CloudBatch | None:
        whole, clouded = View(), View(clouded=True)
        if not self.config.clouds or whole not in self.views or clouded not in self.views:
            return None
        items = self._descriptions(maker, self.config.clouds)[rank::world]
        if not items:
            return None
        texts = self._texts_batch(items, [self.views.index(whole)] * len(items))
        paths = [self.rows[item[0]].path for item in items]
        features = self.store.get(paths, [self.views.index(clouded)] * len(items))
        return CloudBatch(texts, features.float(), self.store.hidden(paths, clouded))

    def _descriptions(self, maker: random.Random,
                      count: int) -> list[tuple[int, str, list[str], str]]:
        """(row, instruction, texts, language) of pictures to describe, the languages in turn."""
        languages = [language for language, places in self.captioned.items() if places]
        items: list[tuple[int, str, list[str], str]] = []
        for i in range(count if languages else 0):
            language = languages[i % len(languages)]
            place = maker.choice(self.captioned[language])
            texts = self._fitting(_texts(self.rows[place], language))
            briefs = [text for text in texts if is_short(text, language)]
            short = bool(briefs) and maker.random() < self.config.short_share
            chosen = briefs if short else list(texts)
            each = self.config.texts_per_picture
            chosen = maker.sample(chosen, each) if len(chosen) >= each else \
                [maker.choice(chosen) for _ in range(each)]
            asked = maker.choice((SHORT if short else DESCRIBE)[language])
            items.append((place, asked, chosen, language))
        return items

    def _draw_questions(self, maker: random.Random, rank: int, world: int) -> TextBatch | None:
        if not self.human and not self.made:
            return None
        share = 1.0 if not self.made else self.config.human_share if self.human else 0.0
        examples: list[Example] = [
            maker.choice(self.human if maker.random() < share else self.made)
            for _ in range(self.config.questions)]
        views = self._views(maker, len(examples))
        items = [(e.row, e.instruction, [e.target], e.language) for e in examples]
        return self._texts_batch(items[rank::world], views[rank::world])

    def _draw_pairs(self, maker: random.Random, rank: int, world: int) -> PairBatch | None:
        if len(self.paired) < 2:
            return None
        places = maker.sample(self.paired, min(self.config.pairs, len(self.paired)))
        views, texts = self._views(maker, len(places)), []
        for place, view in zip(places, views, strict=True):
            row = self.rows[place]
            both = [found for found in (row.captions, row.captions_zh) if found]
            texts.append(self._say(maker.choice(maker.choice(both)), view))
        places, views, texts = places[rank::world], views[rank::world], texts[rank::world]
        ids, mask = self.tokenizer.encode(texts)
        features = self.store.get([self.rows[place].path for place in places], views)
        return PairBatch(features.float(), ids, mask)

    def _texts_batch(self, items: list[tuple[int, str, list[str], str]],
                     views: list[int]) -> TextBatch:
        asked = [self._say(item[1], view) for item, view in zip(items, views, strict=True)]
        different = sorted(set(asked))
        place = {text: i for i, text in enumerate(different)}
        instruction, mask = self.tokenizer.encode(different)
        targets = [self._say(text, view) for item, view in zip(items, views, strict=True)
                   for text in item[2]]
        languages = [item[3] for item in items for _ in item[2]]
        ids, target_mask = self.tokenizer.encode_targets(targets, languages)
        limit = self.config.target_tokens + 2  # start and end
        ids, target_mask = ids[:, :limit], target_mask[:, :limit]
        features = self.store.get([self.rows[item[0]].path for item in items], views)
        chosen = torch.tensor([place[text] for text in asked])
        rows = torch.tensor([item[0] for item in items])
        clear = torch.tensor([not self.views[view].clouded for view in views])
        return TextBatch(features.float(), instruction, mask, chosen, ids, target_mask, rows, clear)


def word_bags(rows: Sequence[Row], tokenizer: TextTokenizer) -> tuple[list[set[int]], list[int]]:
    """For each row the tokens that its texts name and a picture can show; and all of those.

    A token counts when at least `_LEAST` rows have it and it is no function word. Of questions,
    those answered with yes, no or nothing are left out: what they ask for may not be there.
    """
    texts = [_about(row) for row in rows]
    pieces = iter(tokenizer.batch_pieces([text for found in texts for text in found]))
    bags = [set().union(*(next(pieces) for _ in found)) for found in texts]
    counts = Counter(token for bag in bags for token in bag)
    function_words = {token for ids in tokenizer.batch_pieces(_FUNCTION_WORDS) for token in ids}
    kept = {token for token, count in counts.items()
            if count >= _LEAST and token not in function_words}
    return [bag & kept for bag in bags], sorted(kept)


def _about(row: Row) -> list[str]:
    asked = [f"{question.question} {question.answer}" for question in row.questions
             if question.answer.casefold() not in _NOTHING]
    return [text.lower() for text in (*row.captions, *row.captions_zh, *asked)]


def _texts(row: Row, language: str) -> tuple[str, ...]:
    return row.captions if language == "en" else row.captions_zh
