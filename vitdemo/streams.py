"""Passes of a model side by side on the CPU, each in a thread of its own.

One pass with every core waits, after each layer, until the slowest core has done its part, and what
lies between the layers keeps a single core busy. Passes that each have a core to themselves wait
for nothing.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST_STREAMS = 8  # each has the activations of its own pass

Item = TypeVar("Item")
Result = TypeVar("Result")


def width() -> int:
    """How many passes `side_by_side` runs at a time."""
    return min(torch.get_num_threads(), MOST_STREAMS)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``work`` of every item, in order. It must not depend on the thread it runs in, such as on
    `torch.inference_mode` around the call."""
    return _streams(torch.get_num_threads(), os.getpid()).map(work, items)


@functools.cache
def _streams(cores: int, process: int) -> ThreadPoolExecutor:
    """Threads that share this process's cores; a process that was forked needs its own."""
    count = min(cores, MOST_STREAMS)
    begun = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes over the program's number when it first looks
        torch.set_num_threads(max(1, cores // count))
        begun.wait()

    pool = ThreadPoolExecutor(count, "stream", initializer=begin)
    for _ in range(count):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(cores)  # threads that start later take over what was said last
    return pool
