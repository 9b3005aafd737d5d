"""Records as plain lists and dictionaries, for the JSON of the command line and of the app's API.

Their keys are part of the interface: keys may be added, none goes or changes its meaning. Boxes are
xyxy in pixels of the original; a number that is not known is null.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vitdemo.attention.faithfulness import evidence_sentence, share_sentence
from vitdemo.overlay import where
from vitdemo.records import Evidence, Explanation, PictureShare

DIGITS = 6  # of a weight


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation without its layers and heads. "map" of a word has one weight for each box: the
    mean over layers and heads."""
    means = explanation.mean_map()
    words = []
    for number in range(len(explanation.words)):
        summary, sentence = where(explanation, number, means[number])
        words.append({**word_json(explanation, number), "where": sentence,
                      "on_picture": round(summary.total, DIGITS), "map": rounded(means[number])})
    return {"source": explanation.source, "text": explanation.text, "method": explanation.method,
            "note": explanation.note, "picture_size": list(explanation.picture_size),
            "grid": list(explanation.grid), "boxes": rounded(explanation.boxes, 2),
            "words": words}


def word_json(explanation: Explanation, number: int) -> dict[str, Any]:
    """A word's text and place, its probability, "rivals" (see `Explanation`), and why it was not
    read."""
    chances, unread = explanation.word_probabilities, explanation.unread
    return {**asdict(explanation.words[number]),
            "probability": chances[number] if chances else None,
            "rivals": [asdict(one) for one in explanation.rivals[number]]
            if explanation.rivals else [],
            "unread": unread[number] or None if unread else None}


def layers_json(explanation: Explanation) -> dict[str, Any]:
    """Its layers and heads: "weights" is [layer][head][word][region]."""
    return {"layer_names": list(explanation.layer_names), "gates": list(explanation.gates),
            "weights": rounded(explanation.weights)}


def evidence_json(evidence: Sequence[Evidence], shares: Sequence[PictureShare]) -> dict[str, Any]:
    """"evidence" has one entry for each word (counted from 0) of each explanation, "shares" one
    for each explanation, with a list by word."""
    return {"evidence": [{**asdict(one), "sentence": evidence_sentence(one)} for one in evidence],
            "shares": [{**asdict(one), "sentences": [share_sentence(one, word) for word in
                                                     range(len(one.probability))]}
                       for one in shares]}


def rounded(values: Any, digits: int = DIGITS) -> Any:
    """Numbers of any shape as lists."""
    return np.asarray(values, np.float64).round(digits).tolist()


def without_nan(value: Any) -> Any:
    """The same with None for each nan or infinity: JSON has neither."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
