"""Figures before and after a run, on its own validation split and on another one: what was gained,
and what was forgotten."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from train.data.features import Store
from train.data.reading import Row
from train.evaluation.metrics import bleu, exact_match
from train.evaluation.predict import ModelPredictor
from train.evaluation.report_cli import table as figures_table
from train.evaluation.retrieval import retrieval_scores
from vitdemo.disk import replacing
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

FIGURES = "figures.json"
OWN = "own validation"
Figures = dict[str, dict[str, dict[str, float]]]  # by data set, before and after


@dataclass
class Held:
    """Rows that are held back: their name, the rows, and where a model finds their features."""

    name: str
    rows: Sequence[Row]
    store: Callable[[VLM], Store]


def measure(when: str, model: VLM, tokenizer: TextTokenizer, held: Sequence[Held],
            known: Figures) -> Figures:
    """Figures of the model that the run starts with ("before"), or of what is shipped ("after"),
    beside those that are known."""
    return {part.name: {**known.get(part.name, {}), when: validate(
        model, tokenizer, part.rows, part.store(model))} for part in held}


def read(file: Path) -> Figures:
    """The figures that the run began with, where they are still there."""
    found: Figures = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def write(file: Path, figures: Figures) -> None:
    """Write them as soon as they are known.

    Raises:
        DiskError: it cannot be written.
    """
    with replacing([file]) as (part,):
        part.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def table(figures: Figures) -> str:
    """Before, after and the difference, in percent, of every data set; and on which the model is
    worse than it was."""
    parts = {}
    for name, both in figures.items():
        change = {key: round(value - both["before"][key], 1) or 0.0
                  for key, value in both.get("after", {}).items() if key in both.get("before", {})}
        parts[name] = {"": {**both, "change": change}}
    return "\n".join([figures_table(parts), *worse(figures)])


def worse(figures: Figures) -> list[str]:
    """A sentence for each data set on which the model is worse than it was."""
    return [f"On {name} the model is worse than the one it started from, by "
            f"{both['before']['total'] - both['after']['total']:.1f} points in the mean. Try fewer "
            "--steps, a smaller --learning-rate or --train lora; the start is untouched."
            for name, both in figures.items() if "before" in both and "after" in both
            and both["after"]["total"] < both["before"]["total"]]


def validate(model: VLM, tokenizer: TextTokenizer, rows: Sequence[Row], store: Store,
             pictures: int = 250, questions: int = 600, batch: int = 50) -> dict[str, float]:
    """Quick figures in percent, over at most so many pictures and questions.

    "bleu4_en" and "bleu2_zh" with greedy decoding, recall@1 over all captioned rows, exact
    accuracy, and "total", their mean, by which the best weights are chosen.
    """
    predictor = ModelPredictor(model, tokenizer, beams=1, batch=batch)
    scores: dict[str, float] = {}

    def get(chosen: Sequence[Row]) -> Tensor:
        return store.get([row.path for row in chosen]).float().to(predictor.device)

    for language, name, order in (("en", "captions", "bleu4"), ("zh", "captions_zh", "bleu2")):
        captioned = [row for row in rows if getattr(row, name)]
        if not captioned:
            continue
        said: list[str] = []
        for start in range(0, min(pictures, len(captioned)), batch):
            chosen = captioned[start:start + batch]
            said += predictor.captions(get(chosen), range(len(chosen)), language)
        wanted = [getattr(row, name) for row in captioned[:len(said)]]
        scores[f"{order}_{language}"] = bleu(said, wanted)[order]
        vectors = np.concatenate([predictor.embed_pictures(get(captioned[start:start + batch]))
                                  for start in range(0, len(captioned), batch)])
        texts = [text for row in captioned for text in getattr(row, name)]
        owner = np.array([i for i, row in enumerate(captioned) for _ in getattr(row, name)])
        found = retrieval_scores(vectors, predictor.embed_texts(texts), owner)
        for way, short in (("text_to_image", "find"), ("image_to_text", "name")):
            scores[f"{short}_r1_{language}"] = found[way]["r1"]
    asked = [(row, question) for row in rows for question in row.questions]
    asked = asked[::max(1, len(asked) // questions)][:questions]
    right: dict[str, list[bool]] = {}
    for start in range(0, len(asked), batch):
        part = asked[start:start + batch]
        answers = predictor.answers(get([row for row, _ in part]), range(len(part)),
                                    [question.question for _, question in part])
        for text, (_, question) in zip(answers, part, strict=True):
            right.setdefault(question.source or "questions", []).append(
                exact_match(text, question.answer))
    for source, values in right.items():
        scores[f"accuracy_{source}"] = 100 * sum(values) / len(values)
    scores["total"] = sum(scores.values()) / len(scores)
    return scores
