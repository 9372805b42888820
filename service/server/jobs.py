"""Deferred requests: their threads, admission by cost, and cancellation when the client leaves."""

import contextlib
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

MAX_WORKING = 64  # requests in threads, or queued for the one that reads single pictures
# Cost of the requests in threads, in small pictures; a worker computes about 300 per
# second. One request is admitted whatever its cost if it is alone.
MAX_COST = 10_000
HIGH = 0.75  # share of either bound, beyond which the server is not ready
PROBE = b"HTTP/1."  # the beginning of every reply
PROBE_PAUSE = 0.25  # seconds from the first probe to the second; then it doubles
GONE = select.POLLHUP | select.POLLERR
READABLE = select.POLLIN | getattr(select, "POLLRDHUP", 0)  # POLLRDHUP: only on Linux


class Threads:
    """Calls short functions in order in one thread, and each other function in a new one.

    With a thread for each picture, 16 clients get a tenth fewer requests/s.
    """

    def __init__(self) -> None:
        self._short: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._start(self._call_short)

    def call(self, function: Callable[[], None], is_short: bool) -> None:
        """Call a function in a thread."""
        if is_short:
            self._short.put(function)
        else:
            self._start(function)

    def _call_short(self) -> None:
        while True:
            try:
                self._short.get()()
            except BaseException:  # it ends a thread of its own; others wait for this one
                sys.excepthook(*sys.exc_info())

    def _start(self, function: Callable[[], None]) -> None:
        # the process does not wait for daemon threads when it exits
        threading.Thread(target=function, daemon=True).start()


@dataclass(eq=False)
class Workload:
    """The number of deferred requests of a worker, and their cost."""

    n: int = 0
    cost: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_high(self) -> bool:
        """Whether requests will soon be refused."""
        return self.n > HIGH * MAX_WORKING or self.cost > HIGH * MAX_COST


class Job:
    """A deferred request, whose client is watched while a thread computes the reply.

    The loop leaves the socket to the thread until the job is done. The WSGI environ refers
    to the job, so a job that referred to its request would keep the reply in memory.
    """

    def __init__(self, sock: socket.socket, workload: Workload, cost: float | None = None) -> None:
        """Count a request; admit it, if its cost in small pictures is known."""
        self.sock, self.workload, self.cost = sock, workload, 0
        self.is_gone = False  # the client has left
        self.n_probes, self.next_probe = 0, 0.0
        self._poller = select.poll()
        self._poller.register(sock, READABLE)
        with workload.lock:
            workload.n += 1
        # None: the cost of a function that is not short is known later
        self.is_admitted = None if cost is None else self.admit(cost)

    def ask(self, cost: float) -> bool:
        """Return whether a cost is admitted; one that was known is not added again."""
        return self.admit(cost) if self.is_admitted is None else self.is_admitted

    def admit(self, cost: float) -> bool:
        """Add to the cost of this request; return False if the worker has too much."""
        added = round(cost)  # sums of fractions would not return to 0
        with self.workload.lock:
            is_alone = self.workload.cost == self.cost
            is_admitted = is_alone or self.workload.cost + added <= MAX_COST
            if is_admitted:
                self.workload.cost += added
                self.cost += added
        return is_admitted

    def release(self) -> None:
        """Subtract the request and its cost from the workload."""
        with self.workload.lock:
            self.workload.n -= 1
            self.workload.cost -= self.cost

    def is_cancelled(self) -> bool:
        """Return whether the client has closed its connection.

        A FIN does not distinguish a client that has left from one that has only finished
        sending, and unread bytes may hide a FIN. The first bytes of the reply, which are
        the same for every reply, do: a closed socket answers them with a reset.
        """
        events = self._events()
        if events and not events & GONE and time.monotonic() >= self.next_probe:
            with contextlib.suppress(OSError):  # blocked, or reset because the client has left
                self.n_probes += self.sock.send(PROBE[self.n_probes : self.n_probes + 1])
            self.next_probe = time.monotonic() + PROBE_PAUSE * 2**self.n_probes
            events = self._events()
        self.is_gone = self.is_gone or bool(events & GONE)
        return self.is_gone

    def _events(self) -> int:
        return sum(event for _, event in self._poller.poll(0))
