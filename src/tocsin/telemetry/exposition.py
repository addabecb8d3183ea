"""Metrics as text: what a scrape gets. Only a scrape loads prometheus-client."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from tocsin.telemetry.families import FAMILIES, Family
from tocsin.telemetry.instruments import Buckets, Sample, Source

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Gathers samples from the parts of the service and writes them down.

    `sources` are read on the event loop and must be quick; `slow_sources` may touch files, and are
    read in a thread, as the text is made. One scrape is answered at a time.
    """

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.slow_sources: list[Source] = []
        self._turn = asyncio.Lock()

    async def text(self) -> bytes:
        """All metrics in the Prometheus text format."""
        async with self._turn:
            samples = [sample for source in self.sources for sample in source()]
            return await asyncio.to_thread(self._write, samples)

    def _write(self, samples: list[Sample]) -> bytes:
        # Only here, off the loop: it takes a tenth of a second and some MiB.
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        slow = [sample for source in self.slow_sources for sample in source()]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Gathered([*samples, *slow]))
        ProcessCollector(registry=registry)
        return generate_latest(registry)


class _Gathered:
    """The samples as prometheus-client takes them; a family without any is still described."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_family: dict[str, list[Sample]] = {family.name: [] for family in FAMILIES}
        for sample in _summed(samples):
            self._by_family[sample.family.name].append(sample)

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        metric: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
        for family in FAMILIES:
            if family.kind == "counter":
                metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
            elif family.kind == "gauge":
                metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            else:
                metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
            for sample in self._by_family[family.name]:
                value = sample.value
                if isinstance(value, Buckets):
                    assert isinstance(metric, HistogramMetricFamily)
                    metric.add_metric(sample.labels, _cumulated(family, value), value.total)
                else:
                    assert not isinstance(metric, HistogramMetricFamily)
                    metric.add_metric(sample.labels, value)
            yield metric


def _summed(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Numbers of several parts that count the same thing, as one."""
    totals: dict[tuple[str, tuple[str, ...]], tuple[Family, float]] = {}
    for sample in samples:
        if isinstance(sample.value, Buckets):
            yield sample
            continue
        place = (sample.family.name, sample.labels)
        _, before = totals.get(place, (sample.family, 0))
        totals[place] = (sample.family, before + sample.value)
    for (_, labels), (family, value) in totals.items():
        yield Sample(family, labels, value)


def _cumulated(family: Family, buckets: Buckets) -> list[tuple[str, float]]:
    bounds = [*map(str, family.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(buckets.counts)), strict=True))
