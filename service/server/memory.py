"""Tuning of glibc's allocator for large requests."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
LARGE_BLOCK = 2**20  # bytes; the arrays of a picture's reading are smaller


def return_freed_memory() -> None:
    """Make glibc return large blocks to the system as soon as they are freed.

    Its dynamic threshold would keep hundreds of MB after a few bodies of 16 MiB. One
    arena serves all threads, which compute one at a time. Other C libraries ignore it.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(parameter, LARGE_BLOCK)
        mallopt(M_ARENA_MAX, 1)
