"""Draws the batches of coming steps in other processes, while this one learns from earlier ones.

Reading and cropping the pictures of a step takes processor time, which a GPU would wait for. A
step's batch follows from its number alone (`batch_sampler`), so it does not matter who draws it.
"""

from collections.abc import Callable, Iterator

import torch

from train.data.batches import StepBatch

_KEPT = 2  # batches that each process has ready


class _Steps(torch.utils.data.Dataset):
    def __init__(self, draw: Callable[[int], StepBatch]) -> None:
        self.draw = draw

    def __getitem__(self, number: int) -> StepBatch:
        return self.draw(number)


def drawn_ahead(draw: Callable[[int], StepBatch], numbers: range,
                workers: int) -> Iterator[StepBatch]:
    """The batches with these numbers, in order, drawn by ``workers`` other processes."""
    loader = torch.utils.data.DataLoader(
        _Steps(draw), sampler=list(numbers), batch_size=None, num_workers=workers,
        collate_fn=_unchanged,  # type: ignore[arg-type]  # of no batches, as batch_size says
        prefetch_factor=_KEPT)
    return iter(loader)


def _unchanged(batch: StepBatch) -> StepBatch:
    return batch
