"""The instructions that the model is taught and that the app offers, in both languages.

`instructions.tsv` beside this file is the one place for them: a key (describe, short, things,
people, place, colours), a language, and phrasings with | between, of which the first is offered.
"""

import functools
from collections.abc import Callable, Container, Sequence
from importlib import resources

import numpy as np

# Cosine of two instructions that ask for the same. Of eleven that people might write, those that
# mean a taught one have 0.47 to 0.97 with it; "How many dogs?" has 0.14 with the nearest.
ALIKE = 0.4
OLDEST = ("describe", "short")  # what a checkpoint knows whose meta.json does not say


@functools.cache
def taught() -> dict[str, dict[str, tuple[str, ...]]]:
    """Language to key to phrasings, in the order of the file."""
    text = resources.files("vitdemo").joinpath("instructions.tsv").read_text(encoding="utf-8")
    rows: dict[str, dict[str, tuple[str, ...]]] = {}
    for line in text.splitlines()[1:]:
        key, language, phrasings = line.split("\t")
        rows.setdefault(language, {})[key] = tuple(phrasings.split("|"))
    return rows


def known(listed: object) -> tuple[str, ...]:
    """The keys that a checkpoint knows, by what its meta.json lists under "instructions"; every
    checkpoint knows how to describe."""
    keys = listed if isinstance(listed, list) else OLDEST
    return tuple(key for key in taught()["en"] if key == "describe" or key in keys)


def presets(language: str, keys: Container[str] = OLDEST) -> dict[str, str]:
    """The instructions with these keys as they are offered: key to text."""
    return {key: phrasings[0] for key, phrasings in taught()[language].items() if key in keys}


def default_instruction(language: str) -> str:
    """What the model is told where the user gives no instruction."""
    return taught()[language]["describe"][0]


def in_language(text: str, language: str) -> str:
    """An instruction that may be offered in this language, whatever language it is in; another
    stays as it is."""
    for offered in taught().values():
        for key, phrasings in offered.items():
            if text.strip() == phrasings[0]:
                return taught()[language][key][0]
    return text


def is_preset(text: str) -> bool:
    """Whether a text is, in any language, an instruction that may be offered."""
    return any(text.strip() == phrasings[0] for keys in taught().values()
               for phrasings in keys.values())


def nearest(own: str, language: str, keys: Container[str],
            embed: Callable[[Sequence[str]], np.ndarray]) -> str:
    """The key, one of ``keys``, of the instruction that a person's own is like enough; "" where it
    is like none. ``embed`` gives the unit vectors of texts, (M, E)."""
    offered = [(key, text) for key, texts in taught()[language].items() if key in keys
               for text in texts]
    for key, text in offered:
        if text == own.strip():
            return key
    vector, *known = embed([own, *(text for _, text in offered)])
    likeness = np.array(known) @ vector
    best = int(likeness.argmax())
    return offered[best][0] if likeness[best] >= ALIKE else ""
