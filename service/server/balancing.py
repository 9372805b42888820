"""Slots of the memory that workers share, and which worker accepts a connection."""

from collections.abc import Iterable

from service.settings import MAX_WORKERS

SLOTS = 2 * MAX_WORKERS  # at a SIGHUP, the new workers start before the old ones end


def free_slot(taken: Iterable[int]) -> int:
    """Return the first slot that no worker has."""
    return min({*range(SLOTS)}.difference(taken))
