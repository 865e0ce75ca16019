"""The `ai_lb_*` metrics that dashboards of an older system read: its names, labels, buckets and spelling.

A node is a host and port; endpoints that share one are added up. Models that no endpoint is known to serve are
"other". Read when somebody scrapes, like all metrics.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from balancer.core.nodes import node_of
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.traffic import LEGACY_BUCKETS, Histogram, ModelTimes, Traffic

_BOUNDS = (*(f"{bound:g}" for bound in LEGACY_BUCKETS), "+Inf")


class LegacyCollector(Collector):
    """Turns pool and traffic into the older system's metric families at scrape time."""

    def __init__(self, pool: EndpointPool, traffic: Traffic) -> None:
        self._pool = pool
        self._traffic = traffic

    def collect(self) -> Iterable[Metric]:
        """All families, of this moment."""
        traffic = self._traffic
        yield _counter("ai_lb_requests", "Finished client requests.", traffic.finished)
        yield from self._nodes()
        failovers = _counter("ai_lb_failovers", "Further attempts.", traffic.failovers.total())
        for model, count in traffic.failovers.items():
            failovers.add_sample("ai_lb_failovers_total", {"model": model}, count)
        yield failovers
        yield _counter("ai_lb_hedges", "Always 0: no request is sent twice at once.", 0)
        yield self._histogram("latency", "Time to the end of whole answers.", lambda times: times.latency)
        yield self._histogram(
            "stream_ttfb", "Time to the first byte of streams.", lambda times: times.stream_first_byte
        )
        yield self._histogram("stream_duration", "Time to the end of streams.", lambda times: times.stream_duration)

    def _nodes(self) -> Iterator[Metric]:
        nodes: defaultdict[str, list[EndpointState]] = defaultdict(list)
        for state in self._pool.in_service():
            nodes[node_of(state.endpoint.base_url)].append(state)
        up = GaugeMetricFamily("ai_lb_up", "1 for each node that is up.", labels=["node"])
        inflight = GaugeMetricFamily("ai_lb_inflight", "Requests under way.", labels=["node"])
        failures = GaugeMetricFamily("ai_lb_failures", "Failures in a row.", labels=["node"])
        for node, states in nodes.items():
            if any(state.healthy for state in states):
                up.add_metric([node], 1)
            inflight.add_metric([node], sum(state.inflight for state in states))
            failures.add_metric([node], sum(state.breaker.failures for state in states))
        yield from (up, inflight, failures)

    def _histogram(self, name: str, help_text: str, of: Callable[[ModelTimes], Histogram]) -> Metric:
        family = HistogramMetricFamily(f"ai_lb_{name}_seconds", help_text, labels=["model", "node"])
        counts: defaultdict[tuple[str, str], list[Histogram]] = defaultdict(list)
        for (model, endpoint_id), times in self._traffic.times.items():
            state = self._pool.states.get(endpoint_id)
            if state is not None and any(of(times).counts):
                counts[model, node_of(state.endpoint.base_url)].append(of(times))
        for labels, histograms in counts.items():
            added = [float(sum(each)) for each in zip(*(histogram.counts for histogram in histograms), strict=True)]
            buckets = list(zip(_BOUNDS, accumulate(added), strict=True))
            family.add_metric(list(labels), buckets, sum_value=sum(histogram.sum for histogram in histograms))
        return family


def _counter(name: str, help_text: str, value: float) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[])
    family.add_metric([], value)
    return family
