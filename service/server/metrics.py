"""Per-worker counters in shared memory; any worker can export the totals."""

import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from service.server.balancing import SLOTS
from service.server.process_stats import Usage, usage

BYTES_EACH = np.dtype(np.float64).itemsize

OTHER = "other"
HELP_OF_SECONDS = "Seconds from the last byte of a request to its reply."
SECONDS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1)
GAUGES = {
    "digits_requests_in_work": "Requests that have no reply yet.",
    "digits_connections": "Connections that are open.",
}

Key = tuple[str, ...]


class Counter(NamedTuple):
    """A family of counters: its help text and the possible values of each label."""

    help: str
    labels: Mapping[str, Sequence[str]] = {}


class Histogram(NamedTuple):
    """A family of histograms: help text, upper bounds of the buckets, one label."""

    help: str
    bounds: Sequence[float]
    label: str = ""
    values: Sequence[str] = ("",)


class Metrics:
    """Counters, gauges and histograms in shared memory, one slot per worker.

    The slot of a worker that has ended keeps its counts, so that no sum over the slots
    ever decreases. `routes`, `methods` and `statuses` are the label values of requests;
    any other value is counted as "other". `counters` and `histograms` are families of
    the application.
    """

    def __init__(
        self,
        routes: Sequence[str] = (),
        methods: Sequence[str] = (),
        statuses: Sequence[str] = (),
        counters: Mapping[str, Counter] = {},
        histograms: Mapping[str, Histogram] = {},
    ) -> None:
        self._routes = (*routes, OTHER)
        self._methods, self._statuses = (*methods, OTHER), (*statuses, OTHER)
        of = {"route": self._routes, "method": self._methods, "status": self._statuses}
        seconds = Histogram(HELP_OF_SECONDS, SECONDS, "route", self._routes)
        self.counters = {"digits_requests": Counter("Requests answered.", of)}
        self.counters.update(counters)
        self.histograms = {"digits_request_seconds": seconds, **histograms}
        keys = list(self._keys())
        self._columns = {key: i for i, key in enumerate(keys)}
        memory = mmap.mmap(-1, SLOTS * len(keys) * BYTES_EACH)
        self._values = memoryview(memory).cast("d")
        self._slots = np.frombuffer(memory, np.float64).reshape(SLOTS, len(keys))
        self._own = 0  # index of this worker's slot in `_values`
        # process ids of the workers; CPU seconds of the master and all workers
        self._pids = memoryview(mmap.mmap(-1, SLOTS * BYTES_EACH)).cast("q")
        self._seconds = memoryview(mmap.mmap(-1, BYTES_EACH)).cast("d")
        self._master = os.getpid()
        self._lock = threading.Lock()  # between the threads of a worker

    def _keys(self) -> Iterator[Key]:
        """Yield the key of every value in a slot."""
        for name, counter in self.counters.items():
            for values in product(*counter.labels.values()):
                yield (name, *values)
        for name, histogram in self.histograms.items():
            for label in histogram.values:
                # one bucket beyond the last bound
                for i in range(len(histogram.bounds) + 1):
                    yield (name, label, str(i))
                yield (name, label, "sum")
        for name in GAUGES:
            yield (name,)

    def begin(self, slot: int) -> None:
        """Count in this slot from now on."""
        self._own = slot * len(self._columns)
        self.end(slot)
        self._pids[slot] = os.getpid()

    def end(self, slot: int) -> None:
        """Reset the gauges of a worker that has ended."""
        for name in GAUGES:
            self._slots[slot, self._columns[name,]] = 0
        self._pids[slot] = 0

    def count(self, *key: str, by: float = 1) -> None:
        """Add to the counter of a name and its label values."""
        with self._lock:
            self._values[self._own + self._columns[key]] += by

    def set(self, name: str, value: float) -> None:
        """Set this worker's share of a gauge."""
        self._values[self._own + self._columns[name,]] = value

    def observe(self, name: str, label: str, value: float) -> None:
        """Add a value to a histogram."""
        bucket = bisect_left(self.histograms[name].bounds, value)
        with self._lock:
            self._values[self._own + self._columns[name, label, str(bucket)]] += 1
            self._values[self._own + self._columns[name, label, "sum"]] += value

    def request(self, path: str, method: str, status: str, seconds: float) -> None:
        """Count a request that has its reply."""
        route = path if path in self._routes else OTHER
        method = method if method in self._methods else OTHER
        status = status if status in self._statuses else OTHER
        self.count("digits_requests", route, method, status)
        self.observe("digits_request_seconds", route, seconds)

    def text(self, model_info: Mapping[str, str]) -> tuple[bytes, str]:
        """Export all counts in Prometheus's text format; return its content type too.

        model_info: the labels of the gauge digits_model_info
        """
        # only a worker that is scraped loads the library
        from service.server.exposition import export

        return export(self, model_info)

    def totals(self) -> dict[Key, float]:
        """Return the sum of every value over all slots."""
        return dict(zip(self._columns, self._slots.sum(axis=0).tolist(), strict=True))

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [pid for pid in self._pids.tolist() if pid]

    def usage(self) -> Usage | None:
        """Return the resources that the master and all workers use."""
        used = usage([self._master, *self.workers()])
        if used:
            # neither a worker that is about to end nor the master reports its time
            self._seconds[0] = max(self._seconds[0], used.cpu_seconds)
            used = used._replace(cpu_seconds=self._seconds[0])
        return used
