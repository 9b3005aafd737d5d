"""A quick look at the validation split during training; `evaluate` gives the full figures.

Shapes as in `vlm`.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from train.data.features import Store
from train.data.reading import Row
from train.evaluation.metrics import bleu, exact_match, retrieval_scores
from train.evaluation.predict import ModelPredictor
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer


def validate(model: VLM, tokenizer: TextTokenizer, rows: Sequence[Row], store: Store,
             pictures: int = 250, questions: int = 600, batch: int = 50) -> dict[str, float]:
    """Quick figures in percent, over at most so many pictures and questions.

    "bleu4_en" and "bleu2_zh" with greedy decoding, recall@1 over all captioned rows, exact
    accuracy, and "total", their mean, by which the best weights are chosen.
    """
    predictor = ModelPredictor(model, tokenizer, beams=1, batch=batch)
    scores: dict[str, float] = {}

    def get(chosen: Sequence[Row]) -> Tensor:
        features = store.get([row.path for row in chosen], [0] * len(chosen))
        return features.float().to(predictor.device)

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
