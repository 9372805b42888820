"""What the service has done, counted in memory that all workers share."""

import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from typing import Any

import numpy as np
import numpy.typing as npt

from service.classifier import ALL_CLASSES, Classifier
from service.server.balancing import SLOTS
from service.server.process_stats import Usage, usage

BYTES_EACH = np.dtype(np.float64).itemsize

OTHER = "other"
ROUTES = (
    *("/predict", "/livez", "/readyz", "/model", "/metrics", "/openapi.json", "/docs"),
    *("/", "/script.js", "/style.css", OTHER),
)
METHODS = ("GET", "POST", "HEAD", OTHER)
ANSWERED = (200, 304, 400, 401, 404, 405, 408, 413, 414, 415, 417, 422, 431, 500, 503)
STATUSES = (*map(str, ANSWERED), OTHER)
OUTCOMES = ("read", "refused", "unknown")
DIGITS = tuple(map(str, ALL_CLASSES))
SECONDS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1)
PROBABILITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)

Key = tuple[str, ...]
# name: (help, the names of its labels, all values of each)
COUNTERS: dict[str, tuple[str, Sequence[str], Sequence[Sequence[str]]]] = {
    "digits_requests": (
        "Requests answered.",
        ("route", "method", "status"),
        (ROUTES, METHODS, STATUSES),
    ),
    "digits_pictures": ("Pictures by what came of them.", ("outcome",), (OUTCOMES,)),
    "digits_predictions": ("Images answered with each digit.", ("digit",), (DIGITS,)),
    "digits_model_reloads": ("Newer weights taken into service.", (), ()),
    "digits_model_failures": ("Newer weights that could not be served.", (), ()),
}
# name: (help, the name of its label, all values, upper bounds of its buckets)
HISTOGRAMS: dict[str, tuple[str, str, Sequence[str], Sequence[float]]] = {
    "digits_request_seconds": (
        "Seconds from a whole request to its reply.",
        "route",
        ROUTES,
        SECONDS,
    ),
    "digits_top_probability": (
        "Probability of the digit that was answered.",
        "",
        ("",),
        PROBABILITIES,
    ),
}
GAUGES = {
    "digits_requests_in_work": "Requests that have no reply yet.",
    "digits_connections": "Connections that are open.",
}


class Metrics:
    """Counts what workers do, each in a slot of its own, for whichever is asked.

    The slot of a worker that has ended keeps what it counted, so that no sum over the
    slots ever falls.
    """

    def __init__(self) -> None:
        keys: list[Key] = [
            (name, *labels)
            for name, (_, _, values) in COUNTERS.items()
            for labels in product(*values)
        ]
        for name, (_, _, labels, bounds) in HISTOGRAMS.items():
            for label in labels:
                # one bucket beyond the last bound, and the sum
                keys += [(name, label, str(i)) for i in range(len(bounds) + 1)]
                keys.append((name, label, "sum"))
        keys += [(name,) for name in GAUGES]
        self._columns = {key: i for i, key in enumerate(keys)}
        memory = mmap.mmap(-1, SLOTS * len(keys) * BYTES_EACH)
        self._values = memoryview(memory).cast("d")
        self._slots = np.frombuffer(memory, np.float64).reshape(SLOTS, len(keys))
        self._own = 0
        # the processes of the workers, then what they and the master have computed
        self._pids = memoryview(mmap.mmap(-1, SLOTS * BYTES_EACH)).cast("q")
        self._seconds = memoryview(mmap.mmap(-1, BYTES_EACH)).cast("d")
        self._master = os.getpid()
        self._lock = threading.Lock()  # of the worker's threads

    def begin(self, slot: int) -> None:
        """Count in this slot from now on."""
        self._own = slot * len(self._columns)
        self.end(slot)
        self._pids[slot] = os.getpid()

    def end(self, slot: int) -> None:
        """Forget what the worker of a slot had in work."""
        for name in GAUGES:
            self._slots[slot, self._columns[name,]] = 0
        self._pids[slot] = 0

    def count(self, *key: str, by: float = 1) -> None:
        """Add to a counter, which is named and labelled by its key."""
        with self._lock:
            self._values[self._own + self._columns[key]] += by

    def set(self, name: str, value: float) -> None:
        """Set this worker's share of a gauge."""
        self._values[self._own + self._columns[name,]] = value

    def observe(self, name: str, label: str, value: float) -> None:
        """Put a value into its bucket of a histogram."""
        bucket = bisect_left(HISTOGRAMS[name][3], value)
        with self._lock:
            self._values[self._own + self._columns[name, label, str(bucket)]] += 1
            self._values[self._own + self._columns[name, label, "sum"]] += value

    def request(self, path: str, method: str, status: str, seconds: float) -> None:
        """Count a request that was answered."""
        route = path if path in ROUTES else OTHER
        method = method if method in METHODS else OTHER
        self.count(
            "digits_requests", route, method, status if status in STATUSES else OTHER
        )
        self.observe("digits_request_seconds", route, seconds)

    def predictions(
        self, classes: Sequence[int], probabilities: npt.NDArray[np.floating[Any]]
    ) -> None:
        """Count images that were answered with probabilities (n, K)."""
        best = probabilities.argmax(axis=1)
        top = probabilities.max(axis=1)
        for i, probability in zip(best.tolist(), top.tolist(), strict=True):
            self.count("digits_predictions", DIGITS[classes[i]])
            self.observe("digits_top_probability", "", probability)

    def text(self, classifier: Classifier) -> tuple[bytes, str]:
        """Write all that was counted for Prometheus; give its content type too."""
        # loaded by who is scraped, and by no other worker
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

        registry = CollectorRegistry()
        workers = [pid for pid in self._pids.tolist() if pid]
        registry.register(
            _Collector(
                self._slots.sum(axis=0),
                self._columns,
                classifier,
                self._usage(workers),
                len(workers),
            )
        )
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def _usage(self, workers: list[int]) -> Usage | None:
        used = usage([self._master, *workers])
        if used:
            # of one that ends meanwhile, neither it nor the master tells the time
            self._seconds[0] = max(self._seconds[0], used.cpu_seconds)
            used = used._replace(cpu_seconds=self._seconds[0])
        return used


class _Collector:
    """Gives the sums over all slots in the library's terms."""

    def __init__(
        self,
        sums: Any,
        columns: dict[Key, int],
        classifier: Classifier,
        used: Usage | None,
        n_workers: int,
    ) -> None:
        self.sums, self.columns = sums.tolist(), columns
        self.classifier, self.used, self.n_workers = classifier, used, n_workers

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for name, (text, label_names, values) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=label_names)
            for combination in product(*values):
                value = self.sums[self.columns[(name, *combination)]]
                # of many labels, most go together never
                if value or len(label_names) < 2:
                    counter.add_metric(combination, value)
            yield counter
        for name, (text, label_name, labels, bounds) in HISTOGRAMS.items():
            names = [label_name] if label_name else []
            histogram = HistogramMetricFamily(name, text, labels=names)
            for label in labels:
                first = self.columns[name, label, "0"]
                counts = self.sums[first : first + len(bounds) + 1]
                buckets = zip(
                    [*map(str, bounds), "+Inf"], accumulate(counts), strict=True
                )
                total = self.sums[self.columns[name, label, "sum"]]
                histogram.add_metric(
                    [label] if label_name else [], list(buckets), total
                )
            yield histogram
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=self.sums[self.columns[name,]])
        yield GaugeMetricFamily("digits_workers", "Workers.", value=self.n_workers)
        if self.used:
            yield CounterMetricFamily(
                "process_cpu_seconds",
                "CPU seconds of the master and all workers there ever were.",
                value=self.used.cpu_seconds,
            )
            yield GaugeMetricFamily(
                "process_resident_memory_bytes",
                "Memory of the master and its workers, shared pages counted once.",
                value=self.used.memory_bytes,
            )
            yield GaugeMetricFamily(
                "process_open_fds",
                "Files and sockets that the master and its workers have open.",
                value=self.used.open_files,
            )
            yield GaugeMetricFamily(
                "process_start_time_seconds",
                "When the master started, in seconds since 1970.",
                value=self.used.started,
            )
        info = GaugeMetricFamily(
            "digits_model_info", "The weights in service.", labels=("model", "features")
        )
        info.add_metric((self.classifier.version, self.classifier.features), 1)
        yield info
