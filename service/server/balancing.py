"""Slots of shared memory, and the connection counts of all workers."""

import mmap
from collections.abc import Iterable
from math import inf

import numpy as np
import numpy.typing as npt

from service.settings import MAX_WORKERS

SLOTS = 2 * MAX_WORKERS  # after a SIGHUP, the old and the new workers run together
STALE_AFTER = 2.0  # seconds; live workers publish their counts every second


def free_slot(taken: Iterable[int]) -> int:
    """Return the first slot that no worker has; the last one if all are taken."""
    return min({*range(SLOTS)}.difference(taken), default=SLOTS - 1)


def shared_slots(n: int) -> tuple["memoryview[float]", npt.NDArray[np.float64]]:
    """Return shared memory of n values per slot, flat and as an array (SLOTS, n).

    The flat one is faster for single values.
    """
    memory = mmap.mmap(-1, SLOTS * n * np.dtype(np.float64).itemsize)
    return memoryview(memory).cast("d"), np.frombuffer(memory).reshape(SLOTS, n)


class ConnectionCounts:
    """Number of open connections per worker, in shared memory.

    Times are seconds of time.monotonic, which all processes share.
    """

    def __init__(self) -> None:
        self._values, self._rows = shared_slots(2)  # count, time

    def publish(self, slot: int, n: int, now: float) -> None:
        """Publish that the worker of a slot has n connections."""
        self._values[2 * slot], self._values[2 * slot + 1] = n, now

    def fewest_elsewhere(self, slot: int, now: float) -> float:
        """Return the fewest connections of another live worker, or inf without one."""
        counts, times = self._rows.T
        is_other = times > now - STALE_AFTER
        is_other[slot] = False
        return float(counts[is_other].min(initial=inf))
