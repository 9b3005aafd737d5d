"""How the C library keeps the memory that a model gives back after every layer.

By default glibc returns large blocks to the system at once, which clears them page by page when the
next layer asks for as much again: a fifth and more of the encoder's time on the CPU. Kept, they are
there at once. Blocks of 32 MB and above, such as a camera's whole photograph, still go back.
"""

import ctypes
import os
import platform

# glibc's names for its parameters (mallopt(3))
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_SETTINGS = {
    _MMAP_THRESHOLD: 32 * 2**20,  # bytes, the most that glibc allows
    _TRIM_THRESHOLD: 2**31 - 1,
    _TOP_PAD: 64 * 2**20,
    _ARENA_MAX: 1,  # the other threads' arenas give back whatever they are set to
}


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for all threads; True where that is done.

    Only glibc can be told so, and one who set its MALLOC_... variables or another allocator
    (LD_PRELOAD) knows better.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("LD_PRELOAD") or any(
            name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) for name, value in _SETTINGS.items())
