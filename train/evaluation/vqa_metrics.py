"""Questions and their figures: with the right picture, and with what should not do as well.

Conditions: a blank picture, a wrong picture (that of the row half the split further on), the right
picture with the question's words shuffled, and with parts of the model switched off (`ablations`).
What is lost by each is what the model gets from looking, from looking at this picture, from reading
and from these parts. Yes/no questions are made from captions, and balanced.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.data.mentions import ANSWERS, ask_for, things_absent, things_named
from train.data.reading import Question, Row
from train.evaluation.metrics import exact_match, mean_interval, vqa_score
from train.evaluation.predict import ModelPredictor
from vitdemo.words import is_chinese, segment_chinese


@dataclass(frozen=True)
class YesNo:
    """A question about the row at ``row``; ``there`` says whether yes is right."""

    row: int
    question: str
    there: bool


def make_yes_no(rows: Sequence[Row], language: str, seed: int = 0) -> list[YesNo]:
    """For each row one thing that its captions name, as a question, and the same question for a row
    without it, no row being asked in vain twice; a question without such a partner is left out.

    Only rows with English captions take part, and for Chinese questions with Chinese ones too. How
    they are drawn depends on the rows and the seed alone.
    """
    generator = random.Random(f"{seed}:{language}")
    usable = [i for i, row in enumerate(rows) if row.captions
              and (language == "en" or row.captions_zh)]
    free = generator.sample(usable, len(usable))
    absent = {i: things_absent(rows[i]) for i in usable}
    questions: list[YesNo] = []
    for i in generator.sample(usable, len(usable)):
        there = sorted(things_named(rows[i]))
        partners = ((thing, j) for thing in generator.sample(there, len(there)) for j in free
                    if thing in absent[j])
        thing, partner = next(partners, (0, None))
        if partner is None:
            continue
        free.remove(partner)
        question = ask_for(thing, generator)[language]
        questions += [YesNo(i, question, True), YesNo(partner, question, False)]
    return sorted(questions, key=lambda question: question.row)


CONDITIONS = ("blank", "wrong_picture", "shuffled", "no_fusion", "no_modulation")
_PEOPLE = 10  # answers to a question that the official VQA score needs


def shuffled(question: str) -> str:
    """The question's words in another order, fixed by the question; the mark at its end stays."""
    text = question.rstrip(" ?？")
    mark, between = question[len(text):], "" if is_chinese(text) else " "
    words = text.split() if between else segment_chinese(text)
    mixed, maker = list(words), random.Random(question)
    for _ in range(10):  # of two words, every other draw is the order they have
        maker.shuffle(mixed)
        if mixed != words:
            break
    return between.join(mixed) + mark


def wrong_pictures(rows: Sequence[Row]) -> dict[int, int]:
    """For each row with questions the one whose picture they are asked about instead: half the rows
    with questions further on, since neighbours are often of one scene. Empty where there is no
    other."""
    asked = [i for i, row in enumerate(rows) if row.questions]
    half = len(asked) // 2
    return dict(zip(asked, asked[half:] + asked[:half], strict=True)) if half else {}


def choice_scores(predictor: ModelPredictor, features: Any, places: Sequence[int],
                  questions: Sequence[Question]) -> list[list[float]]:
    """The scores of each question's choices, in their order, about the picture at its place."""
    flat = [(place, question.question, choice)
            for place, question in zip(places, questions, strict=True)
            for choice in question.choices]
    about, asked, answers = zip(*flat, strict=True)
    found = iter(predictor.answer_scores(features, about, asked, answers).tolist())
    return [[next(found) for _ in question.choices] for question in questions]


def choice_figures(asked: Sequence[tuple[int, Question]],
                   scores: dict[str, list[list[float]]]) -> dict[str, Any]:
    """"accuracy" in percent, "chance", "n" and the accuracy of each type of question; "blank" where
    they were also asked about a blank picture. A tie is the share of its answers that are right.
    ``asked`` are questions with the numbers of their pictures, which "ci" draws."""
    questions = [question for _, question in asked]

    def right(question: Question, of: list[float]) -> float:
        best = [choice for choice, score in zip(question.choices, of, strict=True)
                if score == max(of)]
        return best.count(question.answer) / len(best)

    found = {name: np.array([right(*each) for each in zip(questions, of, strict=True)])
             for name, of in scores.items()}
    figures: dict[str, Any] = {name: 100 * float(of.mean()) for name, of in found.items()}
    figures["accuracy"] = figures.pop("right")
    figures["ci"] = {"accuracy": mean_interval(found["right"], np.array([i for i, _ in asked]))}
    figures["chance"] = 100 * float(np.mean([1 / len(q.choices) for q in questions]))
    kinds = sorted({question.type for question in questions})
    types = np.array([question.type for question in questions])
    figures["by_type"] = {kind: 100 * float(found["right"][types == kind].mean())
                          for kind in kinds}
    return {**figures, "n": len(questions)}


def vqa_figures(asked: Sequence[tuple[int, Question]], answers: dict[str, list[str]],
                name: str) -> dict[str, Any]:
    """Over all questions, and by source (``name`` where a question does not say) and type.

    ``asked`` are questions with the numbers of their pictures, which "ci" draws. ``answers`` has
    those about the right picture as "right", and of each of `CONDITIONS` that was tried; an empty
    list is none.
    """
    figures = _accuracy(asked, answers, range(len(asked)))
    keys: tuple[tuple[str, Callable[[Question], str]], ...] = (
        ("by_source", lambda q: q.source or name), ("by_type", lambda q: q.type))
    for part, key in keys:
        groups: dict[str, list[int]] = {}
        for i, (_, question) in enumerate(asked):
            if key(question):
                groups.setdefault(key(question), []).append(i)
        figures[part] = {k: _accuracy(asked, answers, groups[k]) for k in sorted(groups)}
    return figures


def _accuracy(asked: Sequence[tuple[int, Question]], answers: dict[str, list[str]],
              places: Sequence[int]) -> dict[str, Any]:
    """"accuracy" and "n", "vqa_score" and "vqa_score_n" where ten people answered, with intervals
    in "ci"; each condition has the same scores and how much lower they are, "difference" and
    "vqa_score_difference"."""
    some = [asked[i] for i in places]
    found = {name: _right(some, [answers[name][i] for i in places])
             for name in ("right", *CONDITIONS) if answers.get(name)}
    scores = {name: {key: 100 * float(values.mean()) for key, (values, _) in of.items()}
              for name, of in found.items()}
    right = scores["right"]
    figures: dict[str, Any] = {**right, "n": len(some), "ci": {
        key: mean_interval(*of) for key, of in found["right"].items()}}
    if "vqa_score" in right:
        figures["vqa_score_n"] = len(found["right"]["vqa_score"][0])
    for condition in CONDITIONS:
        if condition in scores:
            of = scores[condition]
            names = {"accuracy": "difference", "vqa_score": "vqa_score_difference"}
            figures[condition] = {**of, **{names[key]: right[key] - of[key] for key in of}}
    return figures


def _right(asked: Sequence[tuple[int, Question]],
           answers: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """How right each answer is, 0..1 (R,), with its picture's number (R,), by each score."""
    pictures = np.array([picture for picture, _ in asked])
    found = {"accuracy": (np.array([float(exact_match(answer, question.answer)) for answer,
                                    (_, question) in zip(answers, asked, strict=True)]), pictures)}
    people = [(vqa_score(answer, question.answers), picture) for answer, (picture, question)
              in zip(answers, asked, strict=True) if len(question.answers) == _PEOPLE]
    if people:
        scores, of = zip(*people, strict=True)
        found["vqa_score"] = np.array(scores), np.array(of)
    return found


def yes_no_figures(questions: Sequence[YesNo], answers: Sequence[str],
                   language: str) -> dict[str, float]:
    """"accuracy", "n", "said_yes" and "neither" (nor no), in percent."""
    yes, no = ANSWERS[language]
    said_yes = np.array([exact_match(answer, yes) for answer in answers])
    said_no = np.array([exact_match(answer, no) for answer in answers])
    there = np.array([question.there for question in questions])
    return {"accuracy": 100 * float(np.where(there, said_yes, said_no).mean()),
            "said_yes": 100 * float(said_yes.mean()),
            "neither": 100 * float((~said_yes & ~said_no).mean()), "n": len(questions)}
