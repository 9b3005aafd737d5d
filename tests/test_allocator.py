"""Freed memory stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

from vitdemo import allocator

GLIBC = platform.libc_ver()[0] == "glibc"
# Page faults of 10 turns through layers of 4 to 30 MB, each made while the one before is held,
# in the main thread and in another.
TURNS = """
import resource, sys, threading
import torch
from vitdemo.allocator import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else False)
def turn():
    for _ in range(2):  # the first warms up
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            layer = None
            for size in (4, 8, 16, 24, 30, 30, 30):
                layer = torch.empty(size * 2**18).fill_(1.0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
turn()
other = threading.Thread(target=turn)
other.start()
other.join()
"""


def faults(how: str, **settings: str) -> tuple[bool, int, int]:
    plain = {name: value for name, value in os.environ.items()
             if not name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    done = subprocess.run([sys.executable, "-c", TURNS, how], check=True, text=True,
                          stdout=subprocess.PIPE, env={**plain, **settings})
    kept, main, other = done.stdout.split()
    return kept == "True", int(main), int(other)


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told to keep what is freed")
def test_freed_memory_is_taken_again_without_a_page_fault() -> None:
    kept, main, other = faults("keep")
    assert kept and main < 1_000 and other < 1_000
    assert max(faults("plain")[1:]) > 10 * max(main, other, 100)


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told to keep what is freed")
def test_the_users_own_settings_stand() -> None:
    assert not faults("keep", MALLOC_ARENA_MAX="4")[0]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_freed_memory()
