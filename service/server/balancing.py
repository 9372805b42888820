"""A slot of the memory that all workers share, for each worker that runs."""

from collections.abc import Iterable

SLOTS = 256
MAX_WORKERS = SLOTS // 2  # at a SIGHUP, the new ones begin before the old ones end


def free_slot(taken: Iterable[int]) -> int:
    """Give the first slot that no worker has."""
    return min({*range(SLOTS)}.difference(taken))
