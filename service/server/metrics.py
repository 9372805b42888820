"""Per-worker counters in shared memory; any worker can export the totals."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from service.server.balancing import shared_slots

OTHER = "other"
REQUEST_LABELS = ("route", "method", "status")
HELP_OF_SECONDS = "Seconds from the last byte of a request to its reply."
SECONDS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1)
GAUGES = {
    "digits_requests_in_work": "Requests that have no reply yet.",
    "digits_connections": "Connections that are open.",
    "digits_workers": "Workers.",
}

Key = tuple[str, ...]


class Family(NamedTuple):
    """Counters, or histograms if there are bounds, that differ in their label values."""

    help: str
    labels: Mapping[str, Sequence[str]] = {}  # the possible values of each
    bounds: Sequence[float] = ()  # upper bounds of the buckets


class Metrics:
    """Counters, gauges and histograms in shared memory, one slot per worker.

    The slot of a worker that has ended keeps its counts, so that no sum over the slots
    ever decreases. `requests` has the known routes, methods and statuses of requests; any
    other value is counted as "other". `families` are those of the application.
    """

    def __init__(
        self, requests: Mapping[str, Sequence[str]] = {}, families: Mapping[str, Family] = {}
    ) -> None:
        labels = {name: (*requests.get(name, ()), OTHER) for name in REQUEST_LABELS}
        self._routes, self._methods, self._statuses = labels.values()
        self.families = {
            "digits_requests": Family("Requests answered.", labels),
            "digits_request_seconds": Family(HELP_OF_SECONDS, {"route": self._routes}, SECONDS),
            **families,
        }
        self._columns = {key: i for i, key in enumerate(self._keys())}
        self._values, self._slots = shared_slots(len(self._columns))
        self._own = 0  # index of this worker's slot in `_values`
        self._lock = threading.Lock()  # between the threads of a worker

    def _keys(self) -> Iterator[Key]:
        """Yield the key of every value in a slot."""
        for name, (_, labels, bounds) in self.families.items():
            axes = list(labels.values())
            if bounds:  # one bucket beyond the last one, and the sum
                axes.append([*map(str, range(len(bounds) + 1)), "sum"])
            yield from product([name], *axes)
        yield from product(GAUGES)

    def begin(self, slot: int) -> None:
        """Count in this slot from now on."""
        self._own = slot * len(self._columns)
        self.end(slot)
        self.set("digits_workers", 1)

    def end(self, slot: int) -> None:
        """Reset the gauges of a worker that has ended."""
        for name in GAUGES:
            self._slots[slot, self._columns[name,]] = 0

    def count(self, *key: str, by: float = 1) -> None:
        """Add to the counter of a name and its label values."""
        with self._lock:
            self._values[self._own + self._columns[key]] += by

    def set(self, name: str, value: float) -> None:
        """Set this worker's share of a gauge."""
        self._values[self._own + self._columns[name,]] = value

    def observe(self, value: float, *key: str) -> None:
        """Add a value to the histogram of a name and its label values."""
        bucket = bisect_left(self.families[key[0]].bounds, value)
        with self._lock:
            self._values[self._own + self._columns[*key, str(bucket)]] += 1
            self._values[self._own + self._columns[*key, "sum"]] += value

    def request(self, path: str, method: str, status: str, seconds: float) -> None:
        """Count a request that has its reply."""
        route = path if path in self._routes else OTHER
        method = method if method in self._methods else OTHER
        status = status if status in self._statuses else OTHER
        self.count("digits_requests", route, method, status)
        self.observe(seconds, "digits_request_seconds", route)

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
