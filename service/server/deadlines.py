"""Queue of connections in order of their deadlines."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from service.server.connection import Connection, State

SPARE = 64  # entries of closed connections that are kept


class DeadlineQueue:
    """Open connections in order of the time at which to check their deadlines.

    The entry of a connection is never later than its deadline. Bytes that extend the
    deadline leave the entry as it is; the check replaces it.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, Connection]] = []
        self._order = count()

    def schedule(self, connection: Connection) -> None:
        """Check a connection at its deadline, or earlier if that is scheduled."""
        deadline = connection.deadline
        if deadline < connection.check_at:
            connection.check_at = deadline
            heappush(self.entries, (deadline, next(self._order), connection))

    def expired(self, now: float) -> Iterator[Connection]:
        """Yield the connections whose deadline has passed."""
        while self.entries and self.entries[0][0] <= now:
            time, _, connection = heappop(self.entries)
            if time != connection.check_at:
                continue  # an earlier check has replaced this one
            connection.check_at = inf
            if connection.deadline <= now:
                yield connection
            else:
                self.schedule(connection)

    def shrink(self, n_open: int) -> None:
        """Remove the entries of closed connections once they are the majority."""
        if len(self.entries) > 2 * n_open + SPARE:
            self.entries = [e for e in self.entries if e[2].state is not State.CLOSED]
            heapify(self.entries)
