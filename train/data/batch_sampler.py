"""What each training step sees: drawn from the seed and the step alone, so a run can go on exactly.

Several processes draw the same step and each takes every world-th row of it, so that together they
see what one would. Shapes as in `batches`; A pictures of all processes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.data.batches import (
    CloudBatch,
    PairBatch,
    RewardBatch,
    StepBatch,
    TextBatch,
    Totals,
    WordBatch,
)
from train.data.caption_questions import answered_things, caption_questions, yes_no_questions
from train.data.cocoqa_captions import restored_captions
from train.data.features import Store, View
from train.data.instructions import (
    Example,
    human_questions,
    is_short,
    made_questions,
    mirrored,
    thing_counts,
)
from train.data.reading import Row
from train.data.steered import KINDS, steered
from train.data.word_bags import word_bags
from train.objectives.claim_matching import ClaimBatch, ClaimMaker
from train.shares import Share, numbers
from vitdemo.errors import ConfigError
from vitdemo.instructions import taught
from vitdemo.models.decoding import Vocabulary
from vitdemo.tokens import TextTokenizer

_Item = tuple[int, str, list[str], str]  # row, instruction, texts, language
_OF_A_KIND = 2  # questions of a kind that are made of a picture's captions
# How often a kind of made question is drawn; others: 1.
_SHARES = {"yes_no": 3.0, "match": 2.0, **dict.fromkeys(KINDS, 2.0)}
_UNSURE = 0.1  # weight of a word that nobody named of a picture without captions


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
    word_clouds: float = 0.0  # share of those that are clouded along the map of one of their words
    own_words: float = 0.0  # share of those whose captions the model writes itself (own_words.py)
    reward_pictures: int = 0  # pictures that the model describes itself, to be judged (reward.py)
    reward_texts: int = 5  # captions that it writes of each
    claims: int = 0  # questions whose answers the match head learns to tell (see claims.py)
    restored_share: float = 0.0  # of English descriptions and pairs, by captions of restored.py

    def __post_init__(self) -> None:
        if not 0 <= self.restored_share < 1:
            raise ConfigError(f"restored_share is {self.restored_share}; it must be at least 0 and "
                              "below 1.")
        if self.reward_texts < 2:
            raise ConfigError(f"reward_texts is {self.reward_texts}; it must be 2 or above, as a "
                              "caption is compared with the picture's others.")


class Mixture:
    """Draws step batches from rows and their features."""

    def __init__(self, rows: Sequence[Row], store: Store, tokenizer: TextTokenizer,
                 config: MixtureConfig, seed: int, views: Sequence[View]) -> None:
        self.rows, self.store, self.tokenizer = list(rows), store, tokenizer
        self.config, self.seed = config, seed
        self.views = list(views)
        self.clear_views = [i for i, view in enumerate(views) if not view.clouded]
        self.clouded_views = [i for i, view in enumerate(views) if view.clouded]
        self.captioned = {language: [i for i, row in enumerate(self.rows) if _texts(row, language)]
                          for language in ("en", "zh")}
        self.folders = {language: by_folder([self.rows[i].source for i in places], places)
                        for language, places in self.captioned.items()}
        everyone = sorted({i for places in self.captioned.values() for i in places})
        self.restored = {i: texts for i, row in enumerate(self.rows)
                         if not row.captions and (texts := restored_captions(row))}
        self.restored_places = list(self.restored)
        self.languages = [language for language, places in self.captioned.items() if places]
        self.lengths = self._count_tokens()
        self.human = [e for i, row in enumerate(self.rows) for e in human_questions(i, row)]
        self.made = self._make_questions(everyone)
        self.claims = ClaimMaker(
            [*self.human, *(e for found in self.made.values() for e in found)], self.rows) \
            if config.claims else None
        self.bags, self.seen_words = word_bags(self.rows, tokenizer)
        self.content = torch.zeros(tokenizer.size, dtype=torch.bool)
        self.content[self.seen_words] = True

    def _make_questions(self, captioned: Sequence[int]) -> dict[str, list[Example]]:
        """What captions and COCO-QA's questions answer, by kind."""
        others = [self.rows[i] for i in captioned]
        counts, maker = thing_counts(others), random.Random(self.seed)
        made = [e for i in captioned
                for e in made_questions(i, self.rows[i], others, counts, maker)]
        for i in captioned:
            made += [Example(i, *found[:2], "en", found[2]) for found in caption_questions(
                self.rows[i].captions, _OF_A_KIND, maker)]
        things = answered_things(self.rows)
        for i, row in enumerate(self.rows):
            made += [Example(i, *found, "en", "yes_no")
                     for found in yes_no_questions(row, things, maker)]
            made += steered(i, row, maker)
        kinds: dict[str, list[Example]] = {}
        for example in made:
            kinds.setdefault(example.kind, []).append(example)
        return kinds

    def draw(self, step: int, rank: int = 0, world: int = 1) -> StepBatch:
        """Step ``step`` of the run; with several processes each takes its share of it.

        Raises:
            ConfigError: there are more processes than rows of some part.
        """
        share = Share.of(self.seed, step, rank, world)
        captions, shown = self._draw_captions(share)
        questions, asked = self._draw_questions(share)
        pairs = self._draw_pairs(share)
        words = None
        if (shown or asked) and self.seen_words:
            own = [*shown[rank::world], *asked[rank::world]]
            words = self._words_of(share.maker, [*shown, *asked], own)
            clear = [part.clear for part in (captions, questions) if part is not None]
            words.weight *= torch.cat(clear)[:, None]
        return StepBatch(captions, questions, pairs, words, self._draw_clouds(share),
                         self._draw_rewards(share), self.store.stage, self._draw_claims(share))

    def draw_words(self, maker: random.Random, pictures: int) -> tuple[Tensor, WordBatch]:
        """Features (P, N, C) of some pictures, none of them clouded, and their words."""
        rows = maker.sample(range(len(self.rows)), min(pictures, len(self.rows)))
        features = self.store.get([self.rows[row].path for row in rows],
                                  [maker.choice(self.clear_views) for _ in rows])
        return features.float(), self._words_of(maker, rows, rows)

    def _words_of(self, maker: random.Random, rows: Sequence[int],
                  own: Sequence[int]) -> WordBatch:
        """The words of the drawn pictures, and others up to the wanted number, for the own."""
        found = sorted(set().union(*(self.bags[row] for row in rows)))
        found = maker.sample(found, min(len(found), self.config.words))
        others = list(set(self.seen_words).difference(found))
        others.sort()
        ids = found + maker.sample(others, min(len(others), self.config.words - len(found)))
        place = {token: i for i, token in enumerate(ids)}
        present = torch.zeros(len(own), len(ids))
        for i, row in enumerate(own):
            present[i, [place[token] for token in self.bags[row] if token in place]] = 1
        captioned = torch.tensor([bool(self.rows[row].captions or self.rows[row].captions_zh)
                                  for row in own])
        weight = torch.where(captioned[:, None], 1.0, _UNSURE + (1 - _UNSURE) * present)
        return WordBatch(torch.tensor(ids), present, weight, self.content)

    def _count_tokens(self) -> dict[str, int]:
        """Length in tokens of every caption."""
        texts = [text for places in self.captioned.items() for place in places[1]
                 for text in _texts(self.rows[place], places[0])]
        texts += [text for found in self.restored.values() for text in found]
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

    def _draw_captions(self, share: Share) -> tuple[TextBatch | None, list[int]]:
        items = self._descriptions(share.maker, self.config.caption_pictures)
        return self._texts_batch(items, share, "caption_pictures"), [item[0] for item in items]

    def _draw_clouds(self, share: Share) -> CloudBatch | None:
        whole, clouded = View(), View(clouded=True)
        if not self.config.clouds or whole not in self.views or clouded not in self.views:
            return None
        items = self._descriptions(share.maker, self.config.clouds)
        texts = self._texts_batch(items, share, "clouds", [self.views.index(whole)] * len(items))
        if texts is None:
            return None
        paths = [self.rows[item[0]].path for item in items[share.own]]
        features = self.store.get(paths, [self.views.index(clouded)] * len(paths), share.step)
        count = round(self.config.word_clouds * len(items))  # of all processes' pictures
        by_word = paths[:len(range(share.rank, count, share.world))]
        pixels = self.store.sharp_and_blurred(by_word) if by_word else torch.zeros(0)
        own = share.own
        written = torch.rand(len(items), generator=share.noise) < self.config.own_words
        draws = torch.rand(len(items), self.config.texts_per_picture,
                           self.config.target_tokens + 1, generator=share.noise)
        return CloudBatch(texts, numbers(features), self.store.hidden(paths, clouded, share.step),
                          pixels, written[own], draws[own], self._vocabulary(items[own]))

    def _vocabulary(self, items: Sequence[_Item]) -> Vocabulary:
        starts = [self.tokenizer.language_start[item[3]] for item in items]
        return Vocabulary(starts, self.tokenizer.end, self.tokenizer.banned)

    def _draw_rewards(self, share: Share) -> RewardBatch | None:
        count, each = self.config.reward_pictures, self.config.reward_texts
        if not count or not self.languages:
            return None
        items: list[_Item] = []
        for i in range(count):
            language = self.languages[i % len(self.languages)]
            place = self._draw_place(share.maker, language)
            items.append((place, share.maker.choice(taught()[language]["describe"]),
                          [_texts(self.rows[place], language)[0]], language))
        views = [share.maker.choice(self.clear_views) for _ in items]
        texts = self._texts_batch(items, share, "reward_pictures", views)
        assert texts is not None
        draws = torch.rand(count, each, self.config.target_tokens + 1, generator=share.noise)
        own = share.own
        references = [[self._say(text, view) for text in _texts(self.rows[place], language)]
                      for (place, _, _, language), view in zip(items, views, strict=True)]
        said = [[*self.rows[item[0]].captions, *self.rows[item[0]].captions_zh] for item in items]
        return RewardBatch(texts, draws[own], self._vocabulary(items[own]), references[own],
                           [item[3] for item in items][own], said[own])

    def _descriptions(self, maker: random.Random, count: int) -> list[_Item]:
        """Pictures to describe, the languages in turn."""
        items: list[_Item] = []
        restores = self._restores()
        for i in range(count if self.languages else 0):
            language = self.languages[i % len(self.languages)]
            if language == "en" and restores and maker.random() < self.config.restored_share:
                place = maker.choice(self.restored_places)
            else:
                place = self._draw_place(maker, language)
            texts = self._fitting(self._texts(place, language))
            briefs = [text for text in texts if is_short(text, language)]
            short = bool(briefs) and maker.random() < self.config.short_share
            chosen = briefs if short else list(texts)
            each = self.config.texts_per_picture
            chosen = maker.sample(chosen, each) if len(chosen) >= each else \
                [maker.choice(chosen) for _ in range(each)]
            asked = maker.choice(taught()[language]["short" if short else "describe"])
            items.append((place, asked, chosen, language))
        return items

    def _draw_place(self, maker: random.Random, language: str) -> int:
        folders, weights = self.folders[language]
        return maker.choice(maker.choices(folders, weights)[0])

    def _restores(self) -> bool:
        return self.config.restored_share > 0 and bool(self.restored)

    def captions_of(self, place: int, language: str) -> Sequence[str]:
        """People's captions of a row, in one language."""
        return _texts(self.rows[place], language)

    def _texts(self, place: int, language: str) -> Sequence[str]:
        """A picture's captions, people's or, where it has none, restored ones."""
        found = _texts(self.rows[place], language)
        return found or (self.restored.get(place, ()) if language == "en" else ())

    def _draw_questions(self, share: Share) -> tuple[TextBatch | None, list[int]]:
        examples = self._examples(share.maker, self.config.questions)
        items = [(e.row, e.instruction, [e.target], e.language) for e in examples]
        return self._texts_batch(items, share, "questions"), [item[0] for item in items]

    def _examples(self, maker: random.Random, count: int) -> list[Example]:
        if not self.human and not self.made:
            return []
        human = 1.0 if not self.made else self.config.human_share if self.human else 0.0
        return [maker.choice(self.human) if maker.random() < human else self._made(maker)
                for _ in range(count)]

    def _draw_claims(self, share: Share) -> ClaimBatch | None:
        examples = self._examples(share.maker, self.config.claims)
        if not examples or self.claims is None:
            return None
        share.check(len(examples), "claims")
        views = self._views(share.maker, len(examples))
        said = [self.claims.claims(example, share.maker) for example in examples]
        noise = torch.rand(len(examples), self.store.tokens, generator=share.noise)
        rows = [example.row for example in examples][share.own]
        own = list(zip(said, views, strict=True))[share.own]
        ids, mask = self.tokenizer.encode([self._say(text, view) for of, view in own
                                           for text, _ in of])
        features = self.store.get([self.rows[row].path for row in rows], views[share.own],
                                  share.step)
        about = [i for i, (of, _) in enumerate(own) for _ in of]
        right = [float(true) for of, _ in own for _, true in of]
        return ClaimBatch(numbers(features), torch.tensor(rows), noise[share.own], ids, mask,
                          torch.tensor(about), torch.tensor(right), sum(map(len, said)))

    def _made(self, maker: random.Random) -> Example:
        [kind] = maker.choices(list(self.made), [_SHARES.get(kind, 1.0) for kind in self.made])
        return maker.choice(self.made[kind])

    def _draw_pairs(self, share: Share) -> PairBatch | None:
        """Pictures with a caption each, all of one language: of two, a text's language alone would
        tell it from half of the others. The languages take turns."""
        if not self.languages:
            return None
        language = self.languages[share.step % len(self.languages)]
        count = min(self.config.pairs, len(self.captioned[language]))
        if count < 2:
            return None
        share.check(count, "pairs")
        others = round(count * self.config.restored_share) if self._restores() else 0
        others = min(others, len(self.restored)) if language == "en" else 0
        places = share.maker.sample(self.captioned[language], count - others)
        places += share.maker.sample(self.restored_places, others)
        views = self._views(share.maker, count)
        texts = [self._say(share.maker.choice(self._texts(place, language)), view)
                 for place, view in zip(places, views, strict=True)]
        ids, mask = self.tokenizer.encode(texts)
        noise = torch.rand(count, self.store.tokens, generator=share.noise)
        picks = torch.rand(count, 2, generator=share.noise)
        own = share.own
        features = self.store.get([self.rows[place].path for place in places[own]], views[own],
                                  share.step)
        return PairBatch(numbers(features), ids[own], mask[own], torch.tensor(places)[own],
                         noise[own], picks[own], Totals(count), language)

    def _texts_batch(self, items: list[_Item], share: Share, what: str,
                     views: Sequence[int] | None = None) -> TextBatch | None:
        """The own ones of the items; ``views``: of each, in place of drawn ones."""
        if not items:
            return None
        share.check(len(items), what)
        views = self._views(share.maker, len(items)) if views is None else views
        asked = [self._say(item[1], view) for item, view in zip(items, views, strict=True)]
        targets = [self._say(text, view) for item, view in zip(items, views, strict=True)
                   for text in item[2]]
        languages = [item[3] for item in items for _ in item[2]]
        ids, real = self.tokenizer.encode_targets(targets, languages)
        limit = self.config.target_tokens + 2  # start and end
        ids, real = (x[:, :limit].unflatten(0, (len(items), -1)) for x in (ids, real))  # (A, K, S)
        clear = torch.tensor([not self.views[view].clouded for view in views])
        noise = torch.rand(len(items), self.store.tokens, generator=share.noise)
        own = share.own
        different = sorted(set(asked))
        words, words_mask = self.tokenizer.encode(different)
        place = {text: i for i, text in enumerate(different)}
        which = torch.tensor([place[text] for text in asked])
        totals = Totals(
            len(items), int(real[..., 1:].sum()),
            int((real & self.content[ids] & clear[:, None, None])[..., 1:].sum()),
            int((words_mask & self.content[words])[which[clear]].sum()))
        features = self.store.get([self.rows[item[0]].path for item in items[own]], views[own],
                                  share.step)
        used, which = which[own].unique(return_inverse=True)
        return TextBatch(numbers(features), words[used], words_mask[used], which,
                         ids[own].flatten(0, 1), real[own].flatten(0, 1),
                         torch.tensor([item[0] for item in items])[own], clear[own], noise[own],
                         totals)


def by_folder(folders: Sequence[object],
              places: Sequence[int]) -> tuple[list[list[int]], list[float]]:
    """Places by folder, and how often each is drawn: by the square root of its size."""
    found: dict[object, list[int]] = {}
    for folder, place in zip(folders, places, strict=True):
        found.setdefault(folder, []).append(place)
    return list(found.values()), [len(group) ** 0.5 for group in found.values()]


def _texts(row: Row, language: str) -> tuple[str, ...]:
    return row.captions if language == "en" else row.captions_zh
