"""Tuning of glibc's allocator for large arrays."""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
# bytes; the largest threshold that malloc takes, and the free memory at the top of the heap
# that it keeps: the arrays of a photo of 12 megapixels are smaller
LARGE_BLOCK, MAX_KEPT = 2**25, 2**26


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks until `return_freed_memory`.

    Each page that the system gives costs 2 µs, which is half of the reading of a photo
    if every array gets new ones. One arena serves all threads, which compute one at a
    time. Other C libraries ignore it.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(M_TRIM_THRESHOLD, MAX_KEPT)
        mallopt(M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Return the pages of freed blocks to the system, in 0.1 to 4 ms."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
