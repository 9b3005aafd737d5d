"""Captions that the model writes itself, and learns from how well they are judged.

Self-critical sequence training (Rennie et al. 2017, arXiv:1612.00563): several captions of a
picture are drawn, each is judged against people's, and those that are better than the others of
that picture become more likely (the mean of the others as the baseline: Luo 2020,
arXiv:2003.09971). The judge is CIDEr-D (Vedantam, Zitnick, Parikh 2015, arXiv:1411.5726, section 4
and its appendix), with the rows that are trained on as its corpus, and a share of BLEU-4 (Papineni
et al. 2002), whose brevity penalty keeps captions from becoming short. The end of a caption counts
as a word of CIDEr-D, or captions learn to stop in the middle of a phrase.

Captions are drawn from the model at a temperature below 1, which is also where they become more
likely: a caption drawn at 1 goes wrong somewhere, the sooner the longer it is, and so what would be
learnt is to be short.

What is liked must also be right: each of COCO's categories that a caption names and nobody else
named of the picture costs (CHAIR: Rohrbach et al. 2018, arXiv:1809.02156), a person among them, and
each content word that stands in it twice.

Shapes as in `batch_sampler`; K captions drawn of each picture, S tokens of each at most.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test
from pycocoevalcap.cider.cider_scorer import CiderScorer, precook
from pydantic import Field
from torch import Tensor

from train.data.batch_sampler import LANGUAGES, TARGET_TOKENS, BatchSampler, Draw, Item, TextBatch
from train.data.coco_words import categories
from train.data.reading import Row
from train.evaluation.metrics import caption_words
from train.objectives.base import Objective, Options, Step
from train.objectives.writing import (
    draw_captions,
    log_probabilities,
    memory_of,
    until_end,
)
from vitdemo.instructions import taught
from vitdemo.models.decoding import Vocabulary
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer
from vitdemo.words import broken_words, repeated_words

TEMPERATURE = 0.6  # of captions that are drawn and rewarded
TEXTS = 5  # captions that are drawn of each picture
BLEU = 3.0  # weight of BLEU-4 in the reward, where that of CIDEr-D is 1
FAULT = 0.4  # what a thing that nobody named, or a word said twice, takes off the reward
END = "</s>"  # of a caption, as a word; no word has these marks


class RewardSettings(Options):
    """Captions of the model's own, rewarded."""

    loss_reward: float = Field(0.0, ge=0, description=(
        "weight of describing as CIDEr-D and BLEU-4 reward it"))
    reward_pictures: int = Field(32, ge=0, description="pictures that the model describes itself")


@dataclass
class RewardBatch:
    """Pictures to describe in the model's own words, which are judged.

    The pictures and instructions of ``texts``, one text of each; ``draws`` (P, K, S), 0..1, by
    which K texts are drawn; ``references`` people's captions of each picture, the ``languages``
    they are in, and ``said`` what people said of it in any language.
    """

    texts: TextBatch
    draws: Tensor
    vocabulary: Vocabulary
    references: list[list[str]]
    languages: list[str]
    said: list[list[str]]


class SelfCritical(Objective):
    """Describes pictures that people described, too, the languages in turn."""

    Settings = RewardSettings

    def __init__(self, settings: RewardSettings, sampler: BatchSampler, start: VLM) -> None:
        super().__init__(settings, sampler, start)
        self.judge = Judge(sampler.rows, sampler.tokenizer, BLEU, FAULT)

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> RewardBatch | None:
        """Pictures with all that people said of them."""
        sampler, count = self.sampler, self.settings.reward_pictures
        if not count or not sampler.languages:
            return None
        items = []
        for i in range(count):
            language = sampler.languages[i % len(sampler.languages)]
            row = sampler.by_people[language].draw(draw.maker)
            items.append(Item(row, draw.maker.choice(taught()[language]["describe"]),
                              sampler.captions_of(row, language)[:1], language))
        texts = sampler.text_batch(items, draw)
        assert texts is not None
        references = [[*sampler.captions_of(item.row, item.language)] for item in items]
        said = [[*sampler.rows[item.row].captions, *sampler.rows[item.row].captions_zh]
                for item in items]
        return RewardBatch(texts, draw.uniform(count, TEXTS, TARGET_TOKENS + 1),
                           sampler.vocabulary(items), references,
                           [item.language for item in items], said)

    def loss(self, step: Step, batch: RewardBatch) -> Tensor:
        """Minus the mean reward; its gradient is that of `reward_loss`."""
        return reward_loss(step.model, batch, self.judge)


class Judge:
    """CIDEr-D by pycocoevalcap, with the captions of ``rows`` as the corpus, each language its own,
    and ``bleu`` times BLEU-4; less ``fault`` for each fault of a caption."""

    def __init__(self, rows: Sequence[Row], tokenizer: TextTokenizer, bleu: float = 0.0,
                 fault: float = 0.0) -> None:
        self.tokenizer, self.bleu, self.fault = tokenizer, bleu, fault
        self.scorers = {language: CiderScorer() for language in LANGUAGES}
        self.pictures: dict[str, int] = {}
        for language, scorer in self.scorers.items():
            for row in rows:
                if texts := row.texts(language):
                    scorer.cook_append(None, [*map(_ended, texts)])
            self.pictures[language] = len(scorer.crefs)
            scorer.document_frequency = Counter()  # which unknown phrases do not make longer
            scorer.compute_doc_freq()
            scorer.crefs = []

    def judge(self, words: Sequence[str], references: Sequence[str], language: str) -> float:
        """CIDEr-D of a caption, in the library's unit: 0 to 10, and most are below 2."""
        scorer = self.scorers[language]
        scorer.ctest = [precook(" ".join(words))]
        # It takes the number of references for that of the corpus' pictures.
        scorer.crefs = [[*map(_cooked, references)], *[None] * (self.pictures[language] - 1)]
        return float(scorer.compute_cider()[0])

    def judge_all(self, ids: Tensor, ended: Tensor, batch: RewardBatch) -> Tensor:
        """The reward of drawn captions, ids (P * K, S) with padding after the end: (P, K)."""
        each = len(ids) // len(batch.references)
        scores = []
        for i, (row, over) in enumerate(zip(ids.tolist(), ended.tolist(), strict=True)):
            stop = row.index(self.tokenizer.end) if over else len(row)
            text = self.tokenizer.decode(row[:stop])
            words = caption_words(text)
            people = batch.references[i // each]
            score = self.judge(words + [END] * over, people, batch.languages[i // each])
            if self.bleu:
                score += self.bleu * sentence_bleu(words, [*map(_cut, people)])
            if self.fault:
                score -= self.fault * faults(text, tuple(batch.said[i // each]))
            scores.append(score)
        return torch.tensor(scores).view(-1, each)


@lru_cache(maxsize=100_000)
def _cut(text: str) -> tuple[str, ...]:
    return tuple(caption_words(text))


def _ended(text: str) -> str:
    return " ".join((*_cut(text), END))


@lru_cache(maxsize=100_000)
def _cooked(text: str) -> dict[tuple[str, ...], int]:
    return precook(_ended(text))


def sentence_bleu(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of one caption, 0 to 1, with the brevity penalty against the references' mean length:
    against the closest one, as a whole corpus is measured, the shortest is learnt from each.

    One is added to both counts of a precision, but for single words: else a caption without a
    common phrase of four words is worth nothing (Lin, Och 2004, "ORANGE", section 4).
    """
    of = cook_test(" ".join(words), cook_refs([*map(" ".join, references)], eff="average"))
    right, said = of["correct"], of["guess"]
    if not right[0]:
        return 0.0
    precisions = [right[0] / said[0],
                  *((hit + 1) / (all_ + 1) for hit, all_ in zip(right[1:], said[1:], strict=True))]
    brevity = min(0.0, 1 - of["reflen"] / of["testlen"])
    return math.exp(brevity + sum(map(math.log, precisions)) / len(precisions))


def faults(text: str, references: tuple[str, ...]) -> int:
    """How many of COCO's categories a caption names that no reference names, and how many of its
    content words stand in it more than once or are broken off."""
    bad = (*repeated_words(text), *broken_words(text))
    return len(categories(text) - _named(references)) + len(bad)


@lru_cache(maxsize=64)
def _named(references: tuple[str, ...]) -> set[str]:
    return set().union(*map(categories, references))


def reward_loss(model: VLM, batch: RewardBatch, judge: Judge) -> Tensor:
    """The policy gradient, as a loss whose value is minus the mean reward of what was drawn: the
    gradient is that of -mean (r - b) log p(caption), b the mean reward of the picture's other
    captions, p at the temperature they are drawn at.
    """
    memory = memory_of(model, batch.texts, batch.texts.features)
    with torch.no_grad():
        ids, ended = draw_captions(model, memory, batch.vocabulary, batch.draws, TEMPERATURE)
        rewards = judge.judge_all(ids, ended, batch).to(ids.device)  # (P, K)
        each = rewards.shape[1]
        others = (rewards.sum(1, keepdim=True) - rewards) / (each - 1)
        gain = (rewards - others).flatten()  # (P * K,)
    real = until_end(ids, batch.vocabulary.end)
    start = batch.texts.targets[:, :1].repeat_interleave(each, 0)
    logits = log_probabilities(model, memory, torch.cat([start, ids[:, :-1]], 1), real)
    banned = torch.tensor(list(batch.vocabulary.banned), device=logits.device)
    every = (logits.index_fill(1, banned, -torch.inf) / TEMPERATURE).log_softmax(-1)
    chances = every.gather(1, ids[real][:, None]).squeeze(1)  # (tokens,)
    gains = gain[:, None].expand_as(ids)[real]
    surrogate = -(gains * chances).sum() / len(ids)
    return surrogate - surrogate.detach() - rewards.mean()
