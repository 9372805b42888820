"""Metrics in Prometheus's text format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, product

from prometheus_client import core, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from service.server.metrics import GAUGES, Family, Metrics

Totals = Mapping[tuple[str, ...], float]


def export(metrics: Metrics, model_info: Mapping[str, str]) -> tuple[bytes, str]:
    """Return the metrics as text, and its content type."""
    return generate_latest(_Totals(metrics, model_info)), CONTENT_TYPE_PLAIN_0_0_4


@dataclass(eq=False)
class _Totals(Collector):
    """The library's interface to the sums over all slots."""

    metrics: Metrics
    model_info: Mapping[str, str]

    def collect(self) -> Iterator[core.Metric]:
        """Yield all families."""
        totals = self.metrics.totals()
        for name, family in self.metrics.families.items():
            yield (_histogram if family.bounds else _counter)(name, family, totals)
        for name, text in GAUGES.items():
            yield core.GaugeMetricFamily(name, text, totals[name,])
        info = dict(self.model_info)
        yield core.InfoMetricFamily("digits_model", "The weights in service.", info)


def _counter(name: str, family: Family, totals: Totals) -> core.Metric:
    metric = core.CounterMetricFamily(name, family.help, labels=list(family.labels))
    for values in product(*family.labels.values()):
        # most label combinations never occur
        if totals[name, *values] or len(values) < 2:
            metric.add_metric(values, totals[name, *values])
    return metric


def _histogram(name: str, family: Family, totals: Totals) -> core.Metric:
    metric = core.HistogramMetricFamily(name, family.help, labels=list(family.labels))
    bounds = [*map(str, family.bounds), "+Inf"]
    for values in product(*family.labels.values()):
        n = accumulate(totals[name, *values, str(i)] for i in range(len(bounds)))
        metric.add_metric(values, list(zip(bounds, n, strict=True)), totals[name, *values, "sum"])
    return metric
