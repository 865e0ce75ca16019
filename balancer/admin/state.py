"""The state of the balancer as the admin API shows it: one look at memory, never at the database.

Synchronous, so that everything in one answer is of one moment. Provider keys end here, as previews.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from balancer.admin.answers import (
    EndpointView,
    HealthView,
    Position,
    QueueView,
    RetryBudgetView,
    State,
    Stats,
    TokenView,
)
from balancer.admin.configuration import LiveConfiguration
from balancer.auth import ClientToken, ClientTokens, preview
from balancer.core.breaker import OPEN
from balancer.core.endpoints import RouteRequest
from balancer.core.pool import EndpointPool
from balancer.core.reasons import describe, wait_seconds
from balancer.core.state import EndpointState
from balancer.dispatch.dispatcher import Dispatcher
from balancer.series import RATE_WINDOW_SECONDS
from balancer.store import EndpointRecord, UnknownEndpoint, iso_time
from balancer.traffic import Traffic

_ANY_REQUEST = RouteRequest(None)
_SHOWN_AS_STORED = (
    "id",
    "name",
    "base_url",
    "timeout",
    "verify_tls",
    "enabled",
    "connected",
    "token_quota_percent",
    "priority_order",
    "max_concurrent",
    "weight",
    "include_usage",
    "price_per_million_input",
    "price_per_million_output",
    "health_check",
    "discovered",
    "pos_x",
    "pos_y",
    "created_at",
    "updated_at",
)


class _Recent(NamedTuple):
    """The last minute of one endpoint."""

    tokens_per_second: float = 0.0
    requests_per_second: float = 0.0
    failures_per_second: float = 0.0
    ttfb_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StateReader:
    """Makes views of what is in memory. `clock` is monotonic, `wall_clock` Unix time; both in seconds."""

    configuration: LiveConfiguration
    pool: EndpointPool
    traffic: Traffic
    tokens: ClientTokens
    dispatcher: Dispatcher
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    version: str

    def state(self) -> State:
        """Everything."""
        current = self.configuration.current
        return State(
            revision=current.revision,
            version=self.version,
            routing_mode=current.routing_mode,
            endpoints=self.endpoints(current.endpoints),
            incoming_pos=Position(*current.incoming_pos),
            stats=self._stats(),
            client_tokens=self.client_tokens(),
            environment_tokens=[self.token(token) for token in self.tokens if token.id is None],
            open_to_all=self.tokens.open,
            retry_budget=self._retry_budget(),
            queue=QueueView(self.dispatcher.waiting(), self.dispatcher.queue.size),
            overhead_median_seconds=self.traffic.overhead.quantile(0.5),
        )

    def endpoints(self, records: Iterable[EndpointRecord]) -> list[EndpointView]:
        """Those endpoints. Raises UnknownEndpoint for one that is no longer in force."""
        now = self.clock()
        recent = {endpoint_id: self._recent(endpoint_id, now) for endpoint_id in self.pool.states}
        served_per_second = sum(each.tokens_per_second for each in recent.values())
        served_in_total = sum(_tokens_in_total(state) for state in self.pool.states.values())
        views = []
        for record in records:
            state = self.pool.states.get(record.id)
            if state is None:
                raise UnknownEndpoint(record.id)
            latest = recent[record.id]
            shares: dict[str, Any] = {
                "share_percent": _percent(latest.tokens_per_second, served_per_second),
                "total_share_percent": _percent(_tokens_in_total(state), served_in_total),
            }
            parts = (_configured(record), _totals(state), self._availability(state, now), _rates(latest), shares)
            views.append(EndpointView(**{name: value for part in parts for name, value in part.items()}))
        return views

    def health(self, endpoint_id: int) -> HealthView:
        """How one endpoint stands by its probes. Raises UnknownEndpoint for one that is no longer in force."""
        state = self.pool.states.get(endpoint_id)
        if state is None:
            raise UnknownEndpoint(endpoint_id)
        return _health(state)

    def client_tokens(self) -> list[TokenView]:
        """The stored client tokens in force."""
        return [self.token(token) for token in self.tokens if token.id is not None]

    def token(self, token: ClientToken) -> TokenView:
        """One client token."""
        return TokenView(
            id=token.id,
            name=token.name,
            token_preview=token.preview,
            created_at=None if token.created_at is None else iso_time(token.created_at),
            last_used_at=None if token.last_used_at is None else iso_time(token.last_used_at),
            pos_x=token.pos_x,
            pos_y=token.pos_y,
            total_requests=token.requests,
            prompt_tokens_total=token.prompt_tokens,
            completion_tokens_total=token.completion_tokens,
            requests_per_second=round(token.rate.per_second(self.clock()), 1),
            tokens_per_second=round(token.token_rate.per_second(self.clock()), 1),
        )

    def _stats(self) -> Stats:
        rates = self.traffic.rates(self.clock())
        ttfb_seconds = self.traffic.median_first_byte_seconds(self.wall_clock() - RATE_WINDOW_SECONDS)
        inflight = {str(endpoint_id): state.inflight for endpoint_id, state in self.pool.states.items()}
        return Stats(
            tokens_per_second=round(rates.tokens_per_second, 1),
            requests_per_second=round(rates.requests_per_second, 1),
            ttfb_median_seconds=None if ttfb_seconds is None else round(ttfb_seconds, 4),
            total_inflight=sum(inflight.values()),
            inflight_per_endpoint=inflight,
        )

    def _retry_budget(self) -> RetryBudgetView:
        budget = self.dispatcher.retry_figures
        return RetryBudgetView(budget.limit, budget.active_retries, budget.active_requests, budget.refused_total)

    def _recent(self, endpoint_id: int, now: float) -> _Recent:
        series = self.traffic.by_endpoint.get(endpoint_id)
        if series is None:
            return _Recent()
        rates = series.rates(now)
        failures, timed, seconds = 0, 0, 0.0
        for point in series.points(now, RATE_WINDOW_SECONDS):
            failures += point.failures
            timed += point.ttfb_count
            seconds += point.ttfb_sum_seconds
        ttfb_seconds = seconds / timed if timed else None
        return _Recent(*rates, failures / RATE_WINDOW_SECONDS, ttfb_seconds)

    def _availability(self, state: EndpointState, now: float) -> dict[str, Any]:
        reason = self.pool.why_not(state, _ANY_REQUEST, now)
        wait = None if reason is None else wait_seconds(state, reason, now)
        opens_at = state.breaker.open_until if state.breaker.state is OPEN else 0.0
        cooldown_seconds = max(0.0, max(opens_at, state.throttled_until) - now)
        return {
            "eligible": reason is None,
            "reason": None if reason is None else str(reason),
            "reason_text": None if reason is None else describe(state, reason, now),
            "wait_seconds": None if wait is None else round(wait, 1),
            "breaker": state.breaker.state.value,
            "consecutive_failures": state.breaker.failures,
            "panics": self.traffic.panics[state.endpoint.id],
            "cooldown_until": iso_time(self.wall_clock() + cooldown_seconds) if cooldown_seconds else None,
            "cooldown_remaining_s": round(cooldown_seconds, 1),
        }


def _health(state: EndpointState) -> HealthView:
    last = None if state.vitals is None else state.vitals.last
    if last is None:
        return HealthView(state.health_status, None, None, None)
    return HealthView(state.health_status, iso_time(last.at), round(1000 * last.latency_seconds, 1), last.reason)


def _configured(record: EndpointRecord) -> dict[str, Any]:
    return {
        **{name: getattr(record, name) for name in _SHOWN_AS_STORED},
        "api_key_preview": preview(record.api_key),
        "has_api_key": bool(record.api_key),
        "timeout_seconds": record.timeout,
        "models": list(record.models),
        "model_aliases": dict(record.model_aliases),
        "tags": list(record.tags),
    }


def _totals(state: EndpointState) -> dict[str, Any]:
    discovered = state.discovered_models
    return {
        "total_requests": state.total_requests,
        "total_success": state.total_success,
        "total_failures": state.total_failures,
        "avg_latency_ms": round(state.average_latency_ms, 1),
        "prompt_tokens_total": state.prompt_tokens_total,
        "completion_tokens_total": state.completion_tokens_total,
        "inflight": state.inflight,
        "healthy": state.healthy,
        "health": _health(state),
        "credentials_refused": state.credentials_refused,
        "discovered_models": None if discovered is None else sorted(discovered),
        "discovered_models_at": None if state.listed_at is None else iso_time(state.listed_at),
        "last_error": state.last_error,
    }


def _rates(recent: _Recent) -> dict[str, Any]:
    return {
        "tokens_per_second": round(recent.tokens_per_second, 1),
        "requests_per_second": round(recent.requests_per_second, 2),
        "failures_per_second": round(recent.failures_per_second, 2),
        "ttfb_seconds": None if recent.ttfb_seconds is None else round(recent.ttfb_seconds, 4),
    }


def _tokens_in_total(state: EndpointState) -> int:
    return state.prompt_tokens_total + state.completion_tokens_total


def _percent(part: float, whole: float) -> float | None:
    return round(100 * part / whole, 1) if whole > 0 else None
