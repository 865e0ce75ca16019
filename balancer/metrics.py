"""Prometheus metrics, read from the live numbers when somebody scrapes; nothing is formatted on the request path.

Labels are bounded: endpoint names, operations, statuses. Never a client token, a URL or a model name from a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from balancer.core.endpoints import RouteRequest
from balancer.core.pool import EndpointPool
from balancer.core.reasons import Reason
from balancer.core.retries import RetryFigures
from balancer.core.state import EndpointState
from balancer.traffic import Histogram, Traffic

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ANYTHING = RouteRequest(None)


class BalancerCollector(Collector):
    """Turns pool and traffic into metric families at scrape time."""

    def __init__(
        self,
        pool: EndpointPool,
        traffic: Traffic,
        budget: RetryFigures,
        queue_depth: Callable[[], int],
        clock: Callable[[], float],
        version: str,
    ) -> None:
        self._pool = pool
        self._traffic = traffic
        self._budget = budget
        self._queue_depth = queue_depth
        self._clock = clock
        self._version = version
        self._started_at = clock()

    def collect(self) -> Iterable[Metric]:
        """All families, of this moment."""
        now = self._clock()
        yield from self._totals()
        yield from self._gauges(now)
        yield from self._per_endpoint(now)
        yield _histogram(
            "lb_time_to_first_byte_seconds", "Time until an answer could be relayed.", self._traffic.first_byte
        )
        yield _histogram(
            "lb_request_duration_seconds", "Time from a request's arrival to its end.", self._traffic.duration
        )
        yield _histogram("lb_overhead_seconds", "Time spent in the balancer itself.", self._traffic.overhead)

    def _totals(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "lb_requests", "Finished client requests; 499: the client left.", labels=["operation", "status"]
        )
        for (operation, status), count in self._traffic.requests.items():
            requests.add_metric([operation, str(status)], count)
        yield requests
        errors = CounterMetricFamily("lb_errors", "Requests that ended in trouble, by its class.", labels=["class"])
        for error_class, count in self._traffic.errors.items():
            errors.add_metric([error_class], count)
        yield errors
        refused = CounterMetricFamily("lb_retries_refused", "Retries the retry budget did not allow.")
        refused.add_metric([], self._budget.refused_total)
        yield refused

    def _gauges(self, now: float) -> Iterator[Metric]:
        rates = self._traffic.rates(now)
        inflight = sum(state.inflight for state in self._pool.states.values())
        build = GaugeMetricFamily("lb_build_info", "Always 1.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        yield GaugeMetricFamily("lb_uptime_seconds", "Time since the start.", now - self._started_at)
        yield GaugeMetricFamily("lb_inflight", "Requests under way at endpoints.", inflight)
        yield GaugeMetricFamily("lb_queue_depth", "Requests waiting for a full endpoint.", self._queue_depth())
        yield GaugeMetricFamily("lb_retries_active", "Retries under way.", self._budget.active_retries)
        yield GaugeMetricFamily("lb_retries_allowed", "Retries that may be under way now.", self._budget.limit)
        yield GaugeMetricFamily("lb_tokens_per_second", "Tokens over the last minute.", rates.tokens_per_second)
        yield GaugeMetricFamily("lb_requests_per_second", "Requests over the last minute.", rates.requests_per_second)

    def _per_endpoint(self, now: float) -> Iterator[Metric]:
        states = list(self._pool.states.values())
        names = {state.endpoint.id: state.endpoint.name for state in states}
        yield _gauge("lb_endpoint_inflight", "Requests under way.", states, lambda s: s.inflight)
        yield _gauge(
            "lb_endpoint_eligible", "1 if it takes requests now.", states, lambda s: self._reason(s, now) is None
        )
        yield _gauge("lb_endpoint_connected", "1 if it is wired to Incoming.", states, lambda s: s.endpoint.connected)
        yield _gauge("lb_endpoint_cooldown_seconds", "Time it stays out.", states, lambda s: self._cooldown(s, now))
        reasons = GaugeMetricFamily("lb_endpoint_excluded", "1 for why it takes none.", labels=["endpoint", "reason"])
        for state in states:
            reason = self._reason(state, now)
            if reason is not None:
                reasons.add_metric([state.endpoint.name, reason.value], 1)
        yield reasons
        breakers = GaugeMetricFamily("lb_endpoint_breaker", "1 for where it stands.", labels=["endpoint", "state"])
        panics = CounterMetricFamily(
            "lb_endpoint_panics", "Attempts let through in need, though it was thought to be down.", labels=["endpoint"]
        )
        for state in states:
            breakers.add_metric([state.endpoint.name, state.breaker.state.value], 1)
            panics.add_metric([state.endpoint.name], self._traffic.panics[state.endpoint.id])
        yield from (breakers, panics)
        attempts = CounterMetricFamily("lb_attempts", "Attempts by outcome.", labels=["endpoint", "outcome"])
        for (endpoint_id, outcome), count in self._traffic.attempts.items():
            if endpoint_id in names:
                attempts.add_metric([names[endpoint_id], outcome], count)
        yield attempts
        tokens = CounterMetricFamily("lb_tokens", "Tokens served.", labels=["endpoint", "kind", "provenance"])
        for (endpoint_id, kind, provenance), count in self._traffic.tokens.items():
            if endpoint_id in names:
                tokens.add_metric([names[endpoint_id], kind, provenance.value], count)
        yield tokens

    def _reason(self, state: EndpointState, now: float) -> Reason | None:
        return self._pool.why_not(state, _ANYTHING, now)

    def _cooldown(self, state: EndpointState, now: float) -> float:
        until = max(state.throttled_until, state.breaker.open_until)
        return max(0.0, until - now)


class ClientCollector(Collector):
    """Connections of clients: how many are open, were turned away, and were given up for what did not come."""

    def __init__(self, connections: Callable[[], int], refused: Mapping[str, int], given_up: Mapping[str, int]) -> None:
        self._connections = connections
        self._refused = refused
        self._given_up = given_up

    def collect(self) -> Iterable[Metric]:
        """All families, of this moment."""
        yield GaugeMetricFamily("lb_client_connections", "Connections of clients.", self._connections())
        refused = CounterMetricFamily(
            "lb_client_connections_refused", "Connections beyond a limit, by which.", labels=["limit"]
        )
        for limit, count in self._refused.items():
            refused.add_metric([limit], count)
        given_up = CounterMetricFamily(
            "lb_client_timeouts", "Requests given up, by what of them did not come.", labels=["part"]
        )
        for part, count in self._given_up.items():
            given_up.add_metric([part], count)
        yield from (refused, given_up)


def render(*collectors: Collector) -> bytes:
    """The text exposition format, version 0.0.4. Whole numbers have no fraction, as not all who read it expect one."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return b"\n".join(map(_whole, generate_latest(registry).split(b"\n")))


def _whole(line: bytes) -> bytes:
    name, _, value = line.rpartition(b" ")
    if line.startswith(b"#") or not name or not float(value).is_integer():
        return line
    return b"%b %d" % (name, float(value))


def _gauge(
    name: str, help_text: str, states: Iterable[EndpointState], value: Callable[[EndpointState], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=["endpoint"])
    for state in states:
        family.add_metric([state.endpoint.name], float(value(state)))
    return family


def _histogram(name: str, help_text: str, histogram: Histogram) -> HistogramMetricFamily:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, (float(count) for count in accumulate(histogram.counts)), strict=True))
    family = HistogramMetricFamily(name, help_text)
    family.add_metric([], buckets, sum_value=histogram.sum)
    return family
