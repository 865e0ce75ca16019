"""Between what is counted in memory and what the store keeps: collects what changed, restores it at the start.

Everything goes over as absolute totals, so that a batch written twice, or late, does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.store import EndpointTotals, MinuteUsage, TokenTotals, UsageBatch
from balancer.traffic import MinuteCounts, Traffic


class UsageFeed:
    """Hands the usage writer what has changed. Endpoints that were deleted keep their totals until they come back."""

    def __init__(self, pool: EndpointPool, traffic: Traffic) -> None:
        self._pool = pool
        self._traffic = traffic
        self._present: dict[int, EndpointState] = {}
        self._absent: dict[int, EndpointState | EndpointTotals] = {}

    def restore(self, totals: Mapping[int, EndpointTotals], running_minute: Iterable[MinuteUsage]) -> None:
        """Take over what the store holds, once, before the first request."""
        self._absent = dict(totals)
        for row in running_minute:
            counts = self._traffic.minute(row.minute, row.endpoint_id)
            for name in MinuteCounts.__slots__:
                setattr(counts, name, getattr(row, name))
        self._reconcile()

    def collect(self) -> UsageBatch | None:
        """What has changed since the last call; None when nothing has."""
        self._reconcile()
        traffic = self._traffic
        for eid in traffic.by_endpoint.keys() - self._present.keys():
            traffic.forget(eid)
        if not (traffic.changed_endpoints or traffic.changed_clients or traffic.changed_minutes):
            return None
        batch = UsageBatch(
            endpoints={eid: self._totals(eid) for eid in traffic.changed_endpoints},
            tokens={
                client.id: TokenTotals(
                    client.requests, client.prompt_tokens, client.completion_tokens, client.last_used_at
                )
                for client in traffic.changed_clients
                if client.id is not None
            },
            minutes={key: _minute_usage(key, traffic.minutes[key]) for key in traffic.changed_minutes},
        )
        newest = max((minute for minute, _ in traffic.changed_minutes), default=0)
        for key in [key for key in traffic.minutes if key[0] < newest]:
            del traffic.minutes[key]
        traffic.earliest_minute = max(traffic.earliest_minute, newest)
        traffic.changed_endpoints.clear()
        traffic.changed_clients.clear()
        traffic.changed_minutes.clear()
        return batch

    def _reconcile(self) -> None:
        """Notice endpoints that came or went since the last look."""
        states = self._pool.states
        if states is self._present:
            return
        for eid, state in self._present.items():
            if states.get(eid) is not state:
                self._absent[eid] = state  # its last requests may still be running and count into it
        for eid, state in states.items():
            kept = self._absent.pop(eid, None) if self._present.get(eid) is not state else None
            if kept is not None and kept is not state:  # the pool itself revives a state that still has requests
                _add(state, _totals_of(kept) if isinstance(kept, EndpointState) else kept)
        self._present = states

    def _totals(self, endpoint_id: int) -> EndpointTotals:
        kept = self._present.get(endpoint_id) or self._absent.get(endpoint_id, EndpointTotals())
        return _totals_of(kept) if isinstance(kept, EndpointState) else kept


def _totals_of(state: EndpointState) -> EndpointTotals:
    return EndpointTotals(
        total_requests=state.total_requests,
        total_success=state.total_success,
        total_failures=state.total_failures,
        prompt_tokens_total=state.prompt_tokens_total,
        completion_tokens_total=state.completion_tokens_total,
        latency_count=state.total_success,
        latency_sum_ms=1000 * state.latency_sum_seconds,
    )


def _add(state: EndpointState, totals: EndpointTotals) -> None:
    state.total_requests += totals.total_requests
    state.total_success += totals.total_success
    state.total_failures += totals.total_failures
    state.prompt_tokens_total += totals.prompt_tokens_total
    state.completion_tokens_total += totals.completion_tokens_total
    state.latency_sum_seconds += totals.latency_sum_ms / 1000


def _minute_usage(key: tuple[int, int], counts: MinuteCounts) -> MinuteUsage:
    minute, endpoint_id = key
    return MinuteUsage(minute, endpoint_id, **{name: getattr(counts, name) for name in MinuteCounts.__slots__})
