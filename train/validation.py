"""A quick look at the validation split during training; `evaluate` gives the full figures.

Shapes as in `vlm`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from train.data import Row
from train.features import FeatureStore
from train.metrics import bleu, exact_match, retrieval_scores
from vitdemo.config import Decoding
from vitdemo.instructions import default_instruction
from vitdemo.models.decoding import Vocabulary, write_all
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer
from vitdemo.words import language_of


@torch.inference_mode()
def write_texts(model: VLM, tokenizer: TextTokenizer, features: Tensor,
                instructions: Sequence[str], languages: Sequence[str],
                decoding: Decoding) -> list[str]:
    """The best text for each of B pictures with its instruction; features (B, N, C)."""
    device = features.device
    ids, mask = (part.to(device) for part in tokenizer.encode(instructions))
    words, z = model.encode_text(ids, mask)
    memory = model.fuse(model.vision.tokens(features), words, mask, z)
    starts = [tokenizer.language_start[language] for language in languages]
    vocabulary = Vocabulary(starts, tokenizer.end, tokenizer.banned)
    return [tokenizer.decode(texts[0].ids)
            for texts in write_all(model.decoder, memory, vocabulary, decoding)]


@torch.inference_mode()
def embed_pictures(model: VLM, features: Tensor) -> Tensor:
    """Unit vectors (P, E) of features (P, N, C)."""
    return model.picture_head(features)


@torch.inference_mode()
def embed_texts(model: VLM, tokenizer: TextTokenizer, texts: Sequence[str],
                batch: int = 256) -> Tensor:
    """Unit vectors (M, E)."""
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(texts), batch):
        ids, mask = tokenizer.encode(texts[start:start + batch])
        found.append(model.encode_text(ids.to(device), mask.to(device))[1])
    return torch.cat(found)


def validate(model: VLM, tokenizer: TextTokenizer, rows: Sequence[Row], store: FeatureStore,
             pictures: int = 250, questions: int = 600, batch: int = 50) -> dict[str, float]:
    """Quick figures in percent, over at most so many pictures and questions.

    "bleu4_en" and "bleu2_zh" with greedy decoding, recall@1 over all captioned rows, exact
    accuracy, and "total", their mean, by which the best weights are chosen.
    """
    device = next(model.parameters()).device
    scores: dict[str, float] = {}

    def get(chosen: Sequence[Row]) -> Tensor:
        return store.get([row.path for row in chosen], [0] * len(chosen)).float().to(device)

    for language, name, order in (("en", "captions", "bleu4"), ("zh", "captions_zh", "bleu2")):
        captioned = [row for row in rows if getattr(row, name)]
        some, said = captioned[:pictures], []
        for start in range(0, len(some), batch):
            chosen = some[start:start + batch]
            said += write_texts(model, tokenizer, get(chosen),
                                [default_instruction(language)] * len(chosen),
                                [language] * len(chosen), Decoding(strategy="greedy"))
        if some:
            wanted = [getattr(row, name) for row in some]
            scores[f"{order}_{language}"] = bleu(said, wanted)[order]
        if captioned:
            vectors = torch.cat([embed_pictures(model, get(captioned[start:start + batch]))
                                 for start in range(0, len(captioned), batch)])
            texts = [text for row in captioned for text in getattr(row, name)]
            owner = np.array([i for i, row in enumerate(captioned) for _ in getattr(row, name)])
            found = retrieval_scores(vectors.cpu().numpy(),
                                     embed_texts(model, tokenizer, texts).cpu().numpy(), owner)
            for way, short in (("text_to_image", "find"), ("image_to_text", "name")):
                scores[f"{short}_r1_{language}"] = found[way]["r1"]
    asked = [(row, question) for row in rows for question in row.questions]
    asked = asked[::max(1, len(asked) // questions)][:questions]
    right: dict[str, list[bool]] = {}
    for start in range(0, len(asked), batch):
        part = asked[start:start + batch]
        questions_asked = [question.question for _, question in part]
        said = write_texts(model, tokenizer, get([row for row, _ in part]), questions_asked,
                           [language_of(text) for text in questions_asked],
                           Decoding(strategy="greedy", max_tokens=12))
        for text, (_, question) in zip(said, part, strict=True):
            right.setdefault(question.source or "questions", []).append(
                exact_match(text, question.answer))
    for source, values in right.items():
        scores[f"accuracy_{source}"] = 100 * sum(values) / len(values)
    scores["total"] = sum(scores.values()) / len(scores)
    return scores
