"""The processes of one run, and what they tell each other.

Row i of a step belongs to process i mod world. Each process works out its share of every loss: its
rows' terms, divided by what there is in all processes. The shares and their gradients add up to
those of one process that has all rows, however unevenly words and rows are spread. That is why
gradients are summed here and not left to a data-parallel wrapper, which takes the mean.
Every process draws the whole step and keeps its rows (`Share`).
Shapes: A rows in all processes, P own rows, A = sum of P.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor

from vitdemo.errors import ConfigError


def processes() -> PartialState:
    """What accelerate knows of the processes, before a run has its `Accelerator`; asked for in the
    same way, because the first to ask settles it for both."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


class _Gather(torch.autograd.Function):
    """Rows of all processes, with gradients: going back, each row's gradients of all processes are
    added up and brought to its owner. Several tensors are one node of the graph, so that all
    processes meet in the same order."""

    @staticmethod
    def forward(ctx: Any, team: "Team", total: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See `Team.gather`."""
        ctx.team = team
        return tuple(team.join(tensor.detach(), total) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The own rows of the sum over processes."""
        sums = [ctx.team.sum(gradient.float())[ctx.team.rank::ctx.team.world].to(gradient.dtype)
                for gradient in gradients]
        return None, None, *sums


class Team:
    """The processes of a run; ``rank`` is this one of ``world``. Alone, nothing is sent."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    def own(self, total: int, device: torch.device) -> Tensor:
        """Which of ``total`` rows are this process's: (P,)."""
        return torch.arange(self.rank, total, self.world, device=device)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, without gradients."""
        if self.world > 1:
            values = values.detach().clone().contiguous()
            dist.all_reduce(values)
        return values

    def join(self, rows: Tensor, total: int) -> Tensor:
        """Own rows (P, ...) to all rows (A, ...) in the order of the step, without gradients."""
        if self.world == 1:
            return rows
        most = -(-total // self.world)
        sent = rows.new_zeros((most, *rows.shape[1:]), dtype=torch.float32)
        sent[:len(rows)] = rows
        parts = [torch.empty_like(sent) for _ in range(self.world)]
        dist.all_gather(parts, sent)
        return torch.stack(parts, 1).flatten(0, 1)[:total].to(rows.dtype)  # (A, ...)

    def gather(self, total: int, *rows: Tensor) -> tuple[Tensor, ...]:
        """`join` with gradients: every process's use of a row reaches the process that owns it."""
        if self.world == 1:
            return rows
        joined: tuple[Tensor, ...] = _Gather.apply(self, total, *rows)
        return joined

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over processes. One that no process has stays None, as
        it would with one process, so that the optimizer leaves its weight alone."""
        if self.world == 1:
            return
        trained = list(parameters)
        has = self.sum(torch.tensor([float(p.grad is not None) for p in trained],
                                    device=trained[0].device))
        found = [p for p, count in zip(trained, has.tolist(), strict=True) if count]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float()
                          for p in found])
        parts = self.sum(flat).split([p.numel() for p in found])
        for parameter, part in zip(found, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)


@dataclass
class Share:
    """What a process draws its part of a step with: all of it, of which it keeps every
    ``world``-th row from ``rank`` on."""

    maker: random.Random
    noise: torch.Generator
    step: int
    rank: int
    world: int

    @classmethod
    def of(cls, seed: int, step: int, name: str, rank: int = 0, world: int = 1) -> "Share":
        """That of the objective ``name``: by the seed and the step alone, so that what others draw
        does not change it."""
        noise = torch.Generator()
        noise.manual_seed(random.Random(f"{seed}:{step}:{name}:noise").getrandbits(62))
        return cls(random.Random(f"{seed}:{step}:{name}"), noise, step, rank, world)

    @property
    def own(self) -> slice:
        """The rows of this process."""
        return slice(self.rank, None, self.world)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1, new ones at each call."""
        return torch.rand(*shape, generator=self.noise)

    def check(self, count: int, what: str) -> None:
        """Refuse fewer rows than processes.

        Raises:
            ConfigError: there are fewer.
        """
        if count < self.world:
            raise ConfigError(f"{what} comes to {count} a step, fewer than the {self.world} "
                              "processes; start fewer processes, or set it higher.")
