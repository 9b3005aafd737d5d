"""What the instructions steer: how far an answer to one agrees with what people said of that kind,
beside the plain description, which was asked for nothing.

What people said of a kind comes from their captions by `train.data.questions.parts`, as the
examples that the instructions are taught by do. Pictures of which nobody said anything of a kind
are left out of that kind.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.data.questions import KINDS, NOBODY, parts
from train.data.reading import Row
from train.evaluation.metrics import caption_words, mean_interval


def steering_figures(rows: Sequence[Row], language: str,
                     said: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """``said`` has by an instruction's key what the model said of each row; "describe" is there.

    Of each that asks for a part, one of `KINDS`: "f1", `agreement` with what people said of it, and
    of the plain description as "plain_f1", in percent, over so many "pictures"; of people also
    "nobody", how often it says that nobody is there where that is right, and of how many
    "empty_pictures". Of the short description its mean length in words, and that of the plain one.
    """
    plain = said["describe"]
    figures: dict[str, dict[str, Any]] = {}
    if "short" in said:
        figures["short"] = {"words": _mean_words(said["short"]), "plain_words": _mean_words(plain)}
    wanted = [parts(row, language) for row in rows]
    for kind in (kind for kind in KINDS if kind in said):
        empty = [i for i, of in enumerate(wanted) if of.get(kind) == [NOBODY[language]]]
        places = [i for i, of in enumerate(wanted) if of.get(kind) and i not in empty]
        if not places:
            continue
        scores, plain_scores = (
            np.array([agreement(texts[i], wanted[i][kind], kind) for i in places])
            for texts in (said[kind], plain))
        figures[kind] = {
            "f1": 100 * float(scores.mean()), "plain_f1": 100 * float(plain_scores.mean()),
            "pictures": len(places), "ci": {"f1": mean_interval(scores, np.arange(len(places)))}}
        if empty:
            right = [NOBODY[language] in said[kind][i] for i in empty]
            figures[kind] |= {"nobody": 100 * sum(right) / len(right), "empty_pictures": len(right)}
    return figures


def agreement(text: str, people: Sequence[str], kind: str) -> float:
    """`word_f1` of a text with what people said of a kind: with the whole list of things or
    colours, or with the better of the two commonest phrases."""
    if kind in ("things", "colours"):
        return word_f1(text, " , ".join(people))
    return max(word_f1(text, phrase) for phrase in people[:2])


def word_f1(text: str, other: str) -> float:
    """The harmonic mean of precision and recall of the words of a text in another, 0..1
    (Rajpurkar et al. 2016, section 6.1: SQuAD's F1)."""
    own, theirs = Counter(caption_words(text)), Counter(caption_words(other))
    common = (own & theirs).total()
    return 2 * common / (own.total() + theirs.total()) if common else 0.0


def _mean_words(texts: Sequence[str]) -> float:
    return sum(len(caption_words(text)) for text in texts) / max(1, len(texts))
