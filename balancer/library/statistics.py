"""What `get_stats` tells: of every endpoint how its attempts went, and the sums."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypedDict

from balancer.core.endpoints import Outcome
from balancer.core.state import EndpointState
from balancer.library.calls import ABANDONED
from balancer.library.values import BalancingStrategy, Endpoint
from balancer.traffic import AttemptRecord


class EndpointStats(TypedDict):
    """One endpoint. `is_healthy`: neither its probes nor its last requests speak against it. Times in seconds."""

    name: str
    url: str
    is_healthy: bool
    active_connections: int
    total_requests: int
    total_success: int
    total_failures: int
    success_rate: str
    last_response_time: float | None
    last_error: str | None
    last_check: str | None


class Stats(TypedDict):
    """All endpoints. Requests are attempts: one that failed over counts at both endpoints."""

    strategy: str
    total_endpoints: int
    healthy_endpoints: int
    total_requests: int
    total_success: int
    total_failures: int
    success_rate: str
    endpoints: list[EndpointStats]


class Tally:
    """How the attempts at one endpoint went. One that the caller ended is neither a success nor a failure."""

    __slots__ = ("failures", "last_error", "last_response_seconds", "requests", "success")

    def __init__(self) -> None:
        self.requests = 0
        self.success = 0
        self.failures = 0
        self.last_response_seconds: float | None = None
        self.last_error: str | None = None

    def count(self, record: AttemptRecord) -> None:
        """Count one attempt that has ended."""
        self.requests += 1
        if record.outcome == Outcome.SUCCESS.value:
            self.success += 1
            self.last_response_seconds = record.seconds
        elif record.result != ABANDONED:
            self.failures += 1
            self.last_error = record.result


def stats_of(
    strategy: BalancingStrategy,
    endpoints: Mapping[int, Endpoint],
    states: Mapping[int, EndpointState],
    tallies: Mapping[int, Tally],
    now: float,
) -> Stats:
    """The statistics at `now`, of the monotonic clock."""
    listed = [_endpoint_stats(endpoint, states[eid], tallies[eid], now) for eid, endpoint in endpoints.items()]
    success = sum(each["total_success"] for each in listed)
    failures = sum(each["total_failures"] for each in listed)
    return {
        "strategy": strategy.value,
        "total_endpoints": len(listed),
        "healthy_endpoints": sum(each["is_healthy"] for each in listed),
        "total_requests": sum(each["total_requests"] for each in listed),
        "total_success": success,
        "total_failures": failures,
        "success_rate": _rate(success, failures, without_any="N/A"),
        "endpoints": listed,
    }


def _endpoint_stats(endpoint: Endpoint, state: EndpointState, tally: Tally, now: float) -> EndpointStats:
    last = state.vitals.last if state.vitals is not None else None
    return {
        "name": endpoint.label,
        "url": endpoint.url,
        "is_healthy": state.healthy and state.breaker.admits(now),
        "active_connections": state.inflight,
        "total_requests": tally.requests,
        "total_success": tally.success,
        "total_failures": tally.failures,
        "success_rate": _rate(tally.success, tally.failures, without_any="100.00%"),
        "last_response_time": tally.last_response_seconds,
        "last_error": tally.last_error,
        "last_check": None if last is None else datetime.fromtimestamp(last.at, UTC).isoformat(),
    }


def _rate(success: int, failures: int, *, without_any: str) -> str:
    total = success + failures
    return f"{100 * success / total:.2f}%" if total else without_any
