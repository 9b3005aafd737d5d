"""Answering questions: people's, and those that captions answer."""

import random
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from train.data.batch_sampler import Balanced, BatchSampler, Draw, Item, TextBatch
from train.data.questions import KINDS, made_examples
from train.data.reading import Question
from train.objectives.base import Objective, Options, Step
from train.objectives.writing import writing_loss
from vitdemo.models.vlm import VLM

_AGREED = 3  # people of ten who make an answer one to learn
HUMAN_SHARE = 0.6  # of questions that people asked, where both kinds are there
# How often a kind of made question is drawn; others: 1.
SHARES = {"yes_no": 3.0, **dict.fromkeys(KINDS, 2.0)}


class AnswerSettings(Options):
    """Answering questions."""

    loss_question: float = Field(1.0, ge=0, description="weight of answering")
    questions: int = Field(64, ge=0, description="questions to answer")
    unseen: float = Field(0.5, ge=0, lt=1, description=(
        "share of them for which the decoder reads no picture token, so that the fused words "
        "learn to bring what is asked for"))


ENOUGH = 500  # examples of an instruction, for it to be offered by what has learnt them


class Answering(Objective):
    """Writes answers."""

    Settings = AnswerSettings

    def __init__(self, settings: AnswerSettings, sampler: BatchSampler, start: VLM) -> None:
        super().__init__(settings, sampler, start)
        self.human = asked_by_people(sampler)
        self.made = made_examples(sampler.rows, sampler.seed)
        self.teaches = tuple(kind for kind in KINDS if len(self.made.get(kind, ())) >= ENOUGH)

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> TextBatch | None:
        """Pictures with a question and its answer."""
        count = self.settings.questions if len(self.human) or self.made else 0
        return self.sampler.text_batch([self._item(draw.maker) for _ in range(count)], draw)

    def loss(self, step: Step, batch: TextBatch) -> Tensor:
        """Negative log-likelihood a token."""
        return writing_loss(step, batch, "question", True, self.settings.unseen)

    def _item(self, maker: random.Random) -> Item:
        human = 1.0 if not self.made else HUMAN_SHARE if len(self.human) else 0.0
        if maker.random() < human:
            return self.human.draw(maker)
        [kind] = maker.choices(list(self.made), [SHARES.get(kind, 1.0) for kind in self.made])
        return maker.choice(self.made[kind])


def asked_by_people(sampler: BatchSampler) -> Balanced[Item]:
    """The rows' own questions, those of one data set and source a group."""
    asked = [(item, (row.source, question.source)) for i, row in enumerate(sampler.rows)
             for question in row.questions for item in items_of(i, question)]
    return Balanced([item for item, _ in asked], [group for _, group in asked])


def items_of(row: int, question: Question) -> list[Item]:
    """A question with its answer; where ten people answered, with each that at least three gave."""
    often = {answer for answer in question.answers if len(question.answers) >= 10
             and question.answers.count(answer) >= _AGREED}
    return [Item(row, question.question, (answer.replace("_", " ").lower(),), "en")
            for answer in (question.answer, *sorted(often - {question.answer}))]
