"""Slots of shared memory, and the connection counts of all workers."""

import mmap
from collections.abc import Iterable
from math import inf

import numpy as np

from service.settings import MAX_WORKERS

SLOTS = 2 * MAX_WORKERS  # after a SIGHUP, the old and the new workers run together
STALE_AFTER = 2.0  # seconds; live workers publish their counts every second


def free_slot(taken: Iterable[int]) -> int:
    """Return the first slot that no worker has."""
    return min({*range(SLOTS)}.difference(taken))


class ConnectionCounts:
    """Number of open connections per worker, in shared memory.

    Times are seconds of time.monotonic, which all processes share.
    """

    def __init__(self) -> None:
        memory = mmap.mmap(-1, 2 * SLOTS * np.dtype(np.float64).itemsize)
        self._values = memoryview(memory).cast("d")  # faster than an array, one by one
        self._rows = np.frombuffer(memory).reshape(SLOTS, 2)  # count, time

    def publish(self, slot: int, n: int, now: float) -> None:
        """Publish that the worker of a slot has n connections."""
        self._values[2 * slot], self._values[2 * slot + 1] = n, now

    def fewest_elsewhere(self, slot: int, now: float) -> float:
        """Return the fewest connections of another live worker, or inf without one."""
        counts, times = self._rows.T
        is_other = times > now - STALE_AFTER
        is_other[slot] = False
        return float(counts[is_other].min(initial=inf))
