"""Metrics in Prometheus's text format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, product

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.server.metrics import GAUGES, Metrics

# of the master and its workers together
CPU_SECONDS = "CPU seconds, of ended workers too."
PROCESS_GAUGES = {
    "process_resident_memory_bytes": "Memory; shared pages are counted once.",
    "process_open_fds": "Open files and sockets.",
    "process_start_time_seconds": "Start of the master, in seconds since 1970.",
}


def export(metrics: Metrics, model_info: Mapping[str, str]) -> tuple[bytes, str]:
    """Return the metrics as text, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Collector(metrics, model_info))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


@dataclass(eq=False)
class _Collector:
    """The library's interface to the sums over all slots."""

    metrics: Metrics
    model_info: Mapping[str, str]

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        totals = self.metrics.totals()
        yield from self._counters(totals)
        yield from self._histograms(totals)
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, totals[name,])
        n_workers = len(self.metrics.workers())
        yield GaugeMetricFamily("digits_workers", "Workers.", n_workers)
        if usage := self.metrics.usage():
            yield CounterMetricFamily("process_cpu_seconds", CPU_SECONDS, usage[0])
            for (name, text), value in zip(PROCESS_GAUGES.items(), usage[1:], strict=True):
                yield GaugeMetricFamily(name, text, value)
        info = GaugeMetricFamily(
            "digits_model_info", "The weights in service.", labels=list(self.model_info)
        )
        info.add_metric(list(self.model_info.values()), 1)
        yield info

    def _counters(self, totals: Mapping[tuple[str, ...], float]) -> Iterator[Metric]:
        for name, counter in self.metrics.counters.items():
            labels = list(counter.labels)
            family = CounterMetricFamily(name, counter.help, labels=labels)
            for values in product(*counter.labels.values()):
                # most label combinations never occur
                if totals[name, *values] or len(labels) < 2:
                    family.add_metric(values, totals[name, *values])
            yield family

    def _histograms(self, totals: Mapping[tuple[str, ...], float]) -> Iterator[Metric]:
        for name, histogram in self.metrics.histograms.items():
            labels = [histogram.label] if histogram.label else []
            family = HistogramMetricFamily(name, histogram.help, labels=labels)
            bounds = [*map(str, histogram.bounds), "+Inf"]
            for value in histogram.values:
                n = accumulate(totals[name, value, str(i)] for i in range(len(bounds)))
                buckets = list(zip(bounds, n, strict=True))
                total = totals[name, value, "sum"]
                family.add_metric([value] if labels else [], buckets, total)
            yield family
