"""What a training step is made of.

Shapes: P pictures of this process, N picture tokens, C channels of the backbone, K texts per
picture, T text tokens, S decoder tokens, U different instructions, W words. Where the backbone
learns, too, ``features`` are pixels, uint8 (P, 3, side, side), or what its first stages made of
them (P, c, h, w), and `losses` makes features of them.

All that is random about a picture comes with it, as ``noise``: so a step is the same on one process
and on several.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from train.objectives.claim_matching import ClaimBatch
from vitdemo.models.decoding import Vocabulary

Part = TypeVar("Part")


@dataclass(frozen=True)
class Totals:
    """What the processes hold together, by which sums become means: pictures, tokens to write,
    and words that are looked for where they are written and where they are read."""

    pictures: int
    tokens: int = 0
    written: int = 0
    read: int = 0


@dataclass
class TextBatch:
    """Pictures, each with an instruction and K texts to write.

    features (P, N, C); instruction ids and mask (U, T); ``instruction_of`` (P,) picks one of
    them; targets and their mask (P * K, S), start and end tokens included; ``rows`` (P,) says
    which row of the data each picture is, ``clear`` bool (P,) which of them no cloud covers;
    ``noise`` (P, N), 0..1.
    """

    features: Tensor
    instruction: Tensor
    instruction_mask: Tensor
    instruction_of: Tensor
    targets: Tensor
    target_mask: Tensor
    rows: Tensor
    clear: Tensor
    noise: Tensor
    totals: Totals


@dataclass
class CloudBatch:
    """Pictures to describe, whole in ``texts``, clouded (P, N, C), and which of their places the
    cloud covers, bool (P, N).

    The first p of them get a cloud along the map of one of their words in place of that one, for
    which there are their pixels, sharp and blurred (p, 2, 3, side, side), p from 0 to P. Of those
    that are ``own``, bool (P,), the model writes the K captions itself, by ``draws`` (P, K, S),
    0..1.
    """

    texts: TextBatch
    clouded: Tensor
    hidden: Tensor
    pixels: Tensor
    own: Tensor
    draws: Tensor
    vocabulary: Vocabulary


@dataclass
class RewardBatch:
    """Pictures to describe in the model's own words, which are judged.

    The pictures and instructions of ``texts``, one text of each; ``draws`` (P, K, S), 0..1, by
    which K texts are drawn; ``references`` people's captions of each picture, the
    ``languages`` they are in, and ``said`` what people said of it in any language.
    """

    texts: TextBatch
    draws: Tensor
    vocabulary: Vocabulary
    references: list[list[str]]
    languages: list[str]
    said: list[list[str]]


@dataclass
class WordBatch:
    """Which words belong to the pictures of the text batches, captions first, then questions.

    ids (W,) tokens; ``present`` (P, W) 1 where a text about the picture holds the token, else 0;
    ``weight`` (P, W) how sure that is: a picture with questions alone has many words that nobody
    asked about, and under a cloud nothing is sure. ``content`` (vocabulary,) bool: the tokens that
    can be seen at a place.
    """

    ids: Tensor
    present: Tensor
    weight: Tensor
    content: Tensor


@dataclass
class PairBatch:
    """Pictures, each with one caption, all in one ``language``: features (P, N, C), ids and mask
    (P, T), ``rows`` (P,), ``noise`` (P, N) and ``picks`` (P, 2), 0..1, by which a wrong text and a
    wrong picture are chosen."""

    features: Tensor
    ids: Tensor
    mask: Tensor
    rows: Tensor
    noise: Tensor
    picks: Tensor
    totals: Totals
    language: str


@dataclass
class StepBatch:
    """One step: captions to write, questions to answer, pairs to tell apart, pictures shown whole
    and clouded, captions to be judged, claims to tell apart. A part is None where the data has
    nothing of the kind. ``stage``: that of the backbone which goes on from the features, where they
    are of the stages before it."""

    captions: TextBatch | None
    questions: TextBatch | None
    pairs: PairBatch | None
    words: WordBatch | None = None
    clouds: CloudBatch | None = None
    rewards: RewardBatch | None = None
    stage: int = 0
    claims: ClaimBatch | None = None

    def pictures(self) -> list[tuple[Tensor, Tensor]]:
        """(rows, features) of each part that has pictures."""
        parts = (self.captions, self.questions, self.pairs, self.claims)
        found = [(part.rows, part.features) for part in parts if part is not None]
        if self.rewards is not None:
            found.append((self.rewards.texts.rows, self.rewards.texts.features))
        if self.clouds is not None:
            texts = self.clouds.texts
            found += [(texts.rows, texts.features), (texts.rows, self.clouds.clouded)]
        return found

    @property
    def rows(self) -> list[int]:
        """Every row of the data that this step looks at, each once."""
        return sorted({int(row) for rows, _ in self.pictures() for row in rows})


def to_device(part: Part, device: torch.device) -> Part:
    """A batch, or a part of one, on the device."""
    return cast("Part", _moved(part, device))


def _moved(part: Any, device: torch.device) -> Any:
    if isinstance(part, Tensor):
        return part.to(device)
    if not isinstance(part, TextBatch | CloudBatch | RewardBatch | WordBatch | PairBatch |
                      ClaimBatch | StepBatch):
        return part
    return type(part)(**{field.name: _moved(getattr(part, field.name), device)
                         for field in dataclasses.fields(part)})
