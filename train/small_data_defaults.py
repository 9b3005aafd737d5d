"""Settings that follow from how many pictures there are to train on.

The plain defaults are made for thousands of pictures. With fewer than `FEW`, a step of that size
would show each of them several times over, and 2,000 steps would be thousands of epochs; so what
nobody set is derived from the number of pictures.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

from train.data.reading import Row
from train.settings import Settings

FEW = 1000  # pictures
VERY_FEW = 300
_LOOKS = 5  # at the validation split in a run
_EPOCHS, _EPOCHS_FULL = 12, 4  # pixels are dear, and a backbone soon knows few pictures by heart
_RATES = {"frozen": 1e-4, "lora": 5e-4, "full": 1e-4}  # a trained checkpoint is to change gently


def scaled(settings: Settings, given: Collection[str],
           rows: Sequence[Row]) -> tuple[Settings, dict[str, Any]]:
    """The settings for these rows, and those that are not the plain defaults, by flag.

    ``given`` are the names of the flags that somebody set: they stay. With `FEW` rows or more
    nothing changes.
    """
    if len(rows) >= FEW:
        return settings, {}
    full = settings.run.train == "full"
    part = 12 if full else 6
    found: dict[str, Any] = settings.flat()

    def derive(name: str, value: float) -> None:
        if name not in given:
            found[name] = value

    derive("caption_pictures", _between(4, len(rows) // part, found["caption_pictures"]))
    derive("questions", _between(4, len(rows) // part, found["questions"]))
    derive("pairs", _between(4, 2 * len(rows) // part, found["pairs"]))
    each = min(found["texts_per_picture"], _captions_each(rows))
    derive("texts_per_picture", min(each, 3) if len(rows) < VERY_FEW else each)
    derive("learning_rate", _RATES[settings.run.train])
    shown = found["caption_pictures"] or found["questions"] or max(1, found["pairs"])
    epochs = _EPOCHS_FULL if full else _EPOCHS
    derive("steps", min(found["steps"], math.ceil(epochs * len(rows) / shown)))
    derive("validate_every", max(1, found["steps"] // _LOOKS))
    changed = {name: value for name, value in found.items() if value != settings.flat()[name]}
    return Settings.of(found), changed


def said(changed: dict[str, Any], count: int) -> str:
    """What was derived, for a person."""
    flags = ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in changed.items())
    return f"for {count} pictures: {flags} (set them yourself to have it otherwise)"


def _between(low: int, value: int, high: int) -> int:
    return min(max(low, value), high)


def _captions_each(rows: Sequence[Row]) -> int:
    """Captions of a row in one language, about: more texts than that would only repeat them."""
    counts = [len(texts) for row in rows for texts in (row.captions, row.captions_zh) if texts]
    return max(1, math.ceil(sum(counts) / len(counts))) if counts else 1

