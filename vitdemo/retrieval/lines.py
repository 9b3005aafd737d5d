"""Picture to text: which of many lines fit a picture, the best first."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vitdemo.config import LIMITS
from vitdemo.errors import TextError
from vitdemo.preprocess import Picture
from vitdemo.records import Match
from vitdemo.retrieval.query import Embedder


class Reader(Embedder, Protocol):
    """What compares a picture with lines: the engine."""

    def match(self, picture: Picture, texts: Sequence[str]) -> list[Match]:
        """How well each text fits, in the order given."""


def rank_lines(reader: Reader, picture: Picture, lines: Sequence[str]) -> list[Match]:
    """The lines that fit best, by the match head's score, the best first.

    Of more than `LIMITS.max_sentences` lines the vectors choose so many that the match head is
    asked about; the others are left out. Those of which no word was read come last.

    Raises:
        TextError: there are no lines, too many, or one of them cannot be read.
    """
    if not lines:
        raise TextError("lines.none")
    if len(lines) > LIMITS.max_lines:
        raise TextError("lines.many", count=len(lines), most=LIMITS.max_lines)
    chosen = list(lines)
    if len(chosen) > LIMITS.max_sentences:
        chosen = [line for line in dict.fromkeys(chosen) if not reader.unread(line).nothing]
        if not chosen:
            raise TextError("lines.unknown")
        near = reader.embed_texts(chosen) @ reader.embed_pictures([picture])[0]  # (M,)
        best = np.argsort(-near, kind="stable")[:LIMITS.max_sentences]
        chosen = [chosen[place] for place in best]
    return sorted(reader.match(picture, chosen), key=lambda match: (match.unread.nothing,
                                                                    -match.score))
