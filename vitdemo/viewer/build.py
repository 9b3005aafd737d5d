"""What the viewer is fed, as JSON; the module above tells the format of a payload.

Every number is finite: what is none becomes 0 in weights and null elsewhere, as JSON has no NaN.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vitdemo.attention.dependence import first_word, unsure_words
from vitdemo.attention.faithfulness import (
    always_on,
    evidence_sentence,
    percent,
    share_sentence,
)
from vitdemo.attention.methods import label_of
from vitdemo.records import (
    Curve,
    Evidence,
    Explanation,
    Outline,
    PictureShare,
    SmallestPart,
    WhatIf,
)
from vitdemo.texts import phrase
from vitdemo.words import language_of

PARTS = ("fusion", "decoder", "cross-attention", "layer")  # of models, which have layers
FINE_VALUES = 500_000  # up to this many weights travel as 16 bits each, more as 8


def texts(explanations: Sequence[Explanation], others: Sequence[Explanation] = (),
          evidence: Sequence[Evidence] = (),
          shares: Sequence[PictureShare] = ()) -> list[dict[str, Any]]:
    """The ``texts`` of a payload: one for each explanation, with what belongs to it of ``others``
    (the same words by other methods), ``evidence`` and ``shares``."""
    return [{**_text(one), **additions(one, [one, *others], evidence, shares)}
            for one in explanations]


def patch(explanations: Sequence[Explanation], others: Sequence[Explanation] = (),
          evidence: Sequence[Evidence] = (), shares: Sequence[PictureShare] = (),
          matter: WhatIf | None = None,
          smallest: SmallestPart | None = None) -> list[dict[str, Any]]:
    """The ``patch`` of a payload: what to add to the texts on screen, which are those of
    ``explanations``."""
    entries = []
    for one in explanations:
        entry = additions(one, others, evidence, shares)
        if smallest is not None and smallest.source == one.source:
            entry["smallest"] = _smallest(smallest, one)
        if matter is not None and matter.source == one.source:
            entry["matter"] = _matter(matter, one)
        if entry:
            entries.append({"source": one.source, "text": one.text, **entry})
    return entries


def additions(explanation: Explanation, looks: Sequence[Explanation],
              evidence: Sequence[Evidence], shares: Sequence[PictureShare]) -> dict[str, Any]:
    """What a text of a payload can have beside its own maps; ``looks`` may hold the explanation
    itself. What belongs to another text is left out."""
    mine = [look for look in looks if look.source == explanation.source
            and look.weights.shape[2:] == explanation.weights.shape[2:]]
    found: dict[str, Any] = {}
    if others := [_look(look) for look in mine if look.method != explanation.method]:
        found["others"] = others
    if always := {look.method: [int(k) for k in always_on(look)] for look in mine}:
        found["always_on"] = always
    checked: dict[str, list[Any]] = {}
    for one in evidence:
        if one.source == explanation.source and 0 <= one.word < len(explanation.words):
            row = checked.setdefault(one.method, [None] * len(explanation.words))
            row[one.word] = _evidence(one)
    if checked:
        found["evidence"] = checked
    for share in shares:
        if share.source == explanation.source and len(share.attention) == len(explanation.words):
            found["share"] = _share(share, explanation)
    return found


def quantise(weights: np.ndarray) -> tuple[int, float, str]:
    """Weights of any shape, 0 or more -> (bits, scale, base64): a weight is
    ``scale * (q / (2**bits - 1)) ** 2``, q little-endian. What is no number becomes 0.

    The error is at most ``scale / 65535`` of a weight with 16 bits and ``scale / 255`` with 8.
    """
    weights = np.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)
    bits = 16 if weights.size <= FINE_VALUES else 8
    scale = float(weights.max(initial=0.0))
    roots = np.sqrt(np.clip(weights / (scale or 1.0), 0.0, 1.0))
    whole = np.rint(roots * (2**bits - 1)).astype("<u2" if bits == 16 else "u1")
    return bits, scale, base64.b64encode(whole.tobytes()).decode("ascii")


def _text(explanation: Explanation) -> dict[str, Any]:
    width, height = explanation.picture_size
    return {
        "source": explanation.source,
        "title": phrase(f"source.{explanation.source}"),
        "language": language_of(explanation.text),
        "text": explanation.text,
        "words": [[word.start, word.end] for word in explanation.words],
        "boxes": np.round(explanation.boxes.astype(float), 2).ravel().tolist(),
        "grid": list(explanation.grid),
        "width": width,
        "height": height,
        "probabilities": _numbers(explanation.word_probabilities),
        "rivals": [[[one.text, _number(one.probability)] for one in rivals]
                   for rivals in explanation.rivals],
        "unread": [phrase(f"unread.{why}.reason") if why else "" for why in explanation.unread],
        "unsure": unsure_words(explanation),
        "first": first_word(explanation),
        **_look(explanation),
    }


def _look(explanation: Explanation) -> dict[str, Any]:
    """One method's maps of a text."""
    bits, scale, weights = quantise(explanation.weights)
    return {
        "method": explanation.method,
        "label": label_of(explanation.method),
        "shape": list(explanation.weights.shape),
        "bits": bits,
        "scale": scale,
        "weights": weights,
        "layers": [_layer(name) for name in explanation.layer_names],
        "gates": _numbers(explanation.gates),
        "note": explanation.note,
    }


def _layer(name: str) -> str:
    """ "fusion 2" in the current language; what is no part of a model stays as it is."""
    part, _, number = name.rpartition(" ")
    return phrase(f"layer.{part}", number=number) if part in PARTS else name


def _evidence(one: Evidence) -> dict[str, Any]:
    return {
        "verdict": one.verdict,
        "sentence": evidence_sentence(one),
        "deletion": _curve(one.deletion),
        "insertion": _curve(one.insertion),
        "random_deletion": _numbers(one.random_deletion),
        "random_insertion": _numbers(one.random_insertion),
        "centre_deletion": _number(one.centre_deletion),
        "centre_insertion": _number(one.centre_insertion),
        "probability": _number(one.probability),
        "blank": _number(one.blank),
        "others": [{"text": other.text, "deletion": _number(other.deletion),
                    "insertion": _number(other.insertion)} for other in one.others],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return {"hidden": _numbers(curve.hidden), "probability": _numbers(curve.probability),
            "area": _number(curve.area)}


def _share(share: PictureShare, explanation: Explanation) -> dict[str, Any]:
    return {
        "gate": _number(share.gate),
        "attention": _numbers(share.attention),
        "probability": _numbers(share.probability),
        "blank": _numbers(share.blank),
        "anyway": [bool(one) for one in share.anyway],
        "sentences": [share_sentence(share, word) for word in range(len(explanation.words))],
    }


def _matter(found: WhatIf, explanation: Explanation) -> dict[str, Any]:
    numbers = ("probability", "probability_after", "probability_random")
    return {**asdict(found), "hidden": [int(k) for k in found.hidden],
            "random": [int(k) for k in found.random],
            **{name: _number(getattr(found, name)) for name in numbers},
            "sentence": matter_sentence(found, explanation)}


def matter_sentence(found: WhatIf, explanation: Explanation) -> str:
    """What blurring the strongest places did, for a person."""
    word = explanation.words[found.word].text
    drop = found.probability - found.probability_after
    chance = found.probability - found.probability_random
    if found.after != found.before and found.after_random == found.before:
        return phrase("matter.other_words")
    if drop > 0.05 and drop > 2 * max(chance, 0.0):
        return phrase("matter.less_likely", word=word)
    if found.after != found.before:
        return phrase("matter.anyway")
    return phrase("matter.hardly", word=word)


def _smallest(part: SmallestPart, explanation: Explanation) -> dict[str, Any]:
    word = explanation.words[part.word].text
    kind = part.source if part.source in ("question", "text") else "word"
    subject = phrase(f"smallest.of.{kind}", word=word)
    said = phrase("smallest.found" if part.enough else "smallest.anyway", subject=subject,
                  enough=percent(part.enough_area), needed=percent(part.needed_area),
                  whole=percent(part.probability), blank=percent(part.blank),
                  kept=percent(part.kept), left=percent(part.left))
    return {"word": part.word, "enough": _path(part.enough), "needed": _path(part.needed),
            "sentence": said}


def _path(lines: Outline) -> str:
    """Closed lines as an SVG path."""
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line) + "Z" for line in lines)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]
