"""What each process draws a step with: every process draws all of it and keeps its rows."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from vitdemo.errors import ConfigError


@dataclass
class Share:
    """A process's share of step ``step``: every ``world``-th row from ``rank`` on."""

    maker: random.Random
    noise: torch.Generator
    step: int
    rank: int
    world: int

    @classmethod
    def of(cls, seed: int, step: int, rank: int, world: int) -> "Share":
        """What the step is drawn with, by the seed and the step alone."""
        noise = torch.Generator()
        noise.manual_seed(random.Random(f"{seed}:{step}:noise").getrandbits(62))
        return cls(random.Random(f"{seed}:{step}"), noise, step, rank, world)

    @property
    def own(self) -> slice:
        """The rows of this process."""
        return slice(self.rank, None, self.world)

    def check(self, count: int, what: str) -> None:
        """Refuse fewer rows than processes.

        Raises:
            ConfigError: there are fewer.
        """
        if count < self.world:
            raise ConfigError(f"{what} comes to {count} a step, fewer than the {self.world} "
                              "processes; start fewer processes, or set it higher.")


def numbers(given: Tensor) -> Tensor:
    """Features as float32; pixels stay uint8 until they are looked at."""
    return given if given.dtype == torch.uint8 else given.float()
