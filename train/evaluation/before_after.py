"""Figures before and after a run, on its own validation split and on another one: what was gained,
and what was forgotten."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from train.data.features import Store
from train.data.reading import Row
from train.evaluation.metrics import bleu, exact_match
from train.evaluation.predict import ModelPredictor
from train.evaluation.retrieval import retrieval_scores
from vitdemo.disk import replacing
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

FIGURES = "figures.json"
OWN = "own validation"
Scores = dict[str, float]


@dataclass
class Held:
    """Rows that are held back: their name, the rows, and where a model finds their features."""

    name: str
    rows: Sequence[Row]
    store: Callable[[VLM], Store]


class Comparison:
    """Figures by data set, "before" and "after", written to figures.json as soon as they are
    known."""

    def __init__(self, out: Path) -> None:
        self.file = out / FIGURES
        self.figures: dict[str, dict[str, Scores]] = {}

    def measure(self, when: str, model: VLM, tokenizer: TextTokenizer,
                held: Sequence[Held]) -> None:
        """Measure the model that the run starts with ("before"), or what is shipped ("after")."""
        for part in held:
            self.figures.setdefault(part.name, {})[when] = validate(
                model, tokenizer, part.rows, part.store(model))

    def read(self) -> None:
        """Take the figures before from the file that the run began."""
        if self.file.is_file():
            self.figures = json.loads(self.file.read_text(encoding="utf-8"))

    def write(self) -> None:
        """Write figures.json.

        Raises:
            DiskError: it cannot be written.
        """
        with replacing([self.file]) as (part,):
            part.write_text(json.dumps(self.figures, indent=2) + "\n", encoding="utf-8")


def worse(figures: Mapping[str, Mapping[str, Scores]]) -> list[str]:
    """A sentence for each data set on which the model is worse than it was."""
    return [f"On {name} the model is worse than the one it started from, by "
            f"{both['before']['total'] - both['after']['total']:.1f} points in the mean. Try fewer "
            "--steps, a smaller --learning-rate or --train lora; the start is untouched."
            for name, both in figures.items() if "before" in both and "after" in both
            and both["after"]["total"] < both["before"]["total"]]


def table(figures: Mapping[str, Mapping[str, Scores]]) -> str:
    """Before, after and the difference, in percent, of every data set."""
    lines = []
    for name, both in figures.items():
        before, after = both.get("before", {}), both.get("after", {})
        lines.append(f"{name:28}{'before':>8}{'after':>8}{'change':>8}")
        for figure in after or before:
            old, new = before.get(figure), after.get(figure)
            change = None if old is None or new is None else round(new - old, 1) or 0.0
            lines.append(f"  {figure:26}" + "".join(
                f"{'-':>8}" if value is None else f"{value:{sign}8.1f}"
                for value, sign in ((old, ""), (new, ""), (change, "+"))))
    return "\n".join(lines)


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
