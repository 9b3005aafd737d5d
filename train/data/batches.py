"""What a training step is made of.

Shapes: P pictures of this process, N picture tokens, n of them kept, C channels of the backbone,
K texts per picture, T text tokens, S decoder tokens, U different instructions. Where the backbone
learns, too, ``features`` are pixels, uint8 (P, 3, side, side), until `objectives.registry` makes
features of them.

All that is random about a picture comes with it, each use with numbers of its own: so a step is the
same on one process and on several.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")
_KEPT = 2  # batches that each process has ready


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
    them; targets and their mask (P * K, S), start and end tokens included, and of which of its
    text's whole words each token is a part, -1 of none (``words``); ``rows`` (P,) says which row
    of the data each picture is, ``everyone`` those of all processes; ``kept`` (P, n) are the
    picture tokens that are read; ``draws`` (P, 2), 0..1, by which names are swapped and
    pictures hidden.
    """

    features: Tensor
    instruction: Tensor
    instruction_mask: Tensor
    instruction_of: Tensor
    targets: Tensor
    target_mask: Tensor
    words: Tensor
    rows: Tensor
    everyone: list[int]
    kept: Tensor
    draws: Tensor
    totals: Totals


@dataclass
class StepBatch:
    """One step: what each objective drew, by its name; an objective that finds nothing of its kind
    in the data has no part."""

    parts: dict[str, Any] = field(default_factory=dict)

    def pictures(self) -> list[tuple[Tensor, Tensor]]:
        """(rows, features) of each part that has pictures."""
        return [(part.rows, part.features) for part in _with_pictures(self.parts)]


def to_device(part: T, device: torch.device) -> T:
    """A batch, or a part of one, on the device."""
    return cast("T", _changed(part, lambda name, value: value.to(device)))


def with_features(part: T, see: Callable[[Tensor], Tensor]) -> T:
    """A batch with what ``see`` makes of its ``features`` where they are none yet."""
    return cast("T", _changed(part, lambda name, value: see(value) if name == "features"
                              and value.dim() != 3 else value))


def _with_pictures(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        for value in part.values():
            yield from _with_pictures(value)
    elif dataclasses.is_dataclass(part):
        if hasattr(part, "features"):
            yield part
        for each in dataclasses.fields(part):
            yield from _with_pictures(getattr(part, each.name))


def _changed(part: Any, change: Callable[[str, Tensor], Tensor], name: str = "") -> Any:
    """The same with every tensor changed, also those of dictionaries and dataclasses inside."""
    if isinstance(part, Tensor):
        return change(name, part)
    if isinstance(part, dict):
        return {key: _changed(value, change, key) for key, value in part.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return dataclasses.replace(part, **{
            each.name: _changed(getattr(part, each.name), change, each.name)
            for each in dataclasses.fields(part)})
    return part


class _Steps(torch.utils.data.Dataset):
    def __init__(self, draw: Callable[[int], StepBatch]) -> None:
        self.draw = draw

    def __getitem__(self, number: int) -> StepBatch:
        return self.draw(number)


def drawn_ahead(draw: Callable[[int], StepBatch], numbers: range,
                workers: int) -> Iterator[StepBatch]:
    """The batches with these numbers, in order, drawn by ``workers`` other processes while this one
    learns: a GPU need not wait for pictures to be read. Who draws a step does not matter."""
    loader = torch.utils.data.DataLoader(
        _Steps(draw), sampler=list(numbers), batch_size=None, num_workers=workers,
        collate_fn=_unchanged,  # type: ignore[arg-type]  # of no batches, as batch_size says
        prefetch_factor=_KEPT)
    return iter(loader)


def _unchanged(batch: StepBatch) -> StepBatch:
    return batch
