"""How an endpoint is living: counters, averages, breaker. Memory of one event loop, no locks."""

from __future__ import annotations

from balancer.core.breaker import Breaker
from balancer.core.endpoints import FAILED, REJECTED, SUCCESS, Endpoint, Outcome, Usage
from balancer.core.probes import HealthStatus, Vitals

# A new sample of the time to first byte moves the average by this share.
_EWMA_WEIGHT = 0.3
# What a failure counts as, at least, in the average of latency routing: failing fast must not look attractive.
_FAILURE_PENALTY_SECONDS = 10.0
# What may stand in a list for a model that is served by its plain name too: Ollama's default tag, Google's path.
_LISTED_AS = ("{}:latest", "models/{}")
# Without a sample for this long the average says nothing about now.
LATENCY_STALE_SECONDS = 60.0


class EndpointState:
    """The live numbers of one endpoint. Lives on when its configuration is replaced; matched by id.

    Only the pool and its leases write `inflight`, `limit`, `clear`, `throttled_until` and the breaker.
    `limit` is the cap on `inflight`, 0 = none. `clear` remembers that nothing stood against the endpoint when the pool
    last asked, so that among many only the others are asked again; whatever may turn against it must unset it.
    `vitals` is None while nobody probes it. `listed_at` is Unix time when `discovered_models` came.
    """

    __slots__ = (
        "_healthy",
        "breaker",
        "clear",
        "completion_tokens_total",
        "credentials_refused",
        "discovered_models",
        "endpoint",
        "inflight",
        "last_error",
        "latency_at",
        "latency_seconds",
        "latency_sum_seconds",
        "limit",
        "listed_at",
        "picked",
        "picked_at",
        "prompt_tokens_total",
        "removed",
        "throttled_until",
        "total_failures",
        "total_requests",
        "total_success",
        "vitals",
    )

    def __init__(self, endpoint: Endpoint, breaker: Breaker) -> None:
        self.endpoint = endpoint
        self.breaker = breaker
        self.inflight = 0
        self.limit = 0
        self.clear = False
        self.picked = 0  # position in the order of picks
        self.picked_at = float("-inf")
        self.throttled_until = 0.0
        self._healthy = True
        self.vitals: Vitals | None = None
        self.credentials_refused = False
        self.removed = False
        self.discovered_models: frozenset[str] | None = None
        self.listed_at: float | None = None
        self.last_error = ""
        self.latency_seconds = 0.0
        self.latency_at = float("-inf")  # when it was last sampled
        self.reset_totals()

    def __repr__(self) -> str:
        return f"<EndpointState {self.endpoint.name!r}: {self.inflight} inflight, {self.breaker.state.value}>"

    def reset_totals(self) -> None:
        """Begin a new period of counting; inflight, virtual times and breaker stay."""
        self.total_requests = 0
        self.total_success = 0
        self.total_failures = 0
        self.prompt_tokens_total = 0
        self.completion_tokens_total = 0
        self.latency_sum_seconds = 0.0

    def count(self, outcome: Outcome, seconds: float, usage: Usage | None) -> None:
        """Add one attempt elsewhere, which took so long, to the totals: what a lease adds as it is released."""
        self.total_requests += 1
        if outcome is FAILED or outcome is REJECTED:
            self.total_failures += 1
        elif outcome is SUCCESS:
            self.total_success += 1
            self.latency_sum_seconds += seconds
        if usage is not None:
            self.prompt_tokens_total += usage.prompt_tokens
            self.completion_tokens_total += usage.completion_tokens

    def forgive(self, now: float) -> None:
        """No failures, no cooldown and no throttling, as if a request had just been answered."""
        self.breaker.succeeded(self.breaker.issue(now))
        self.throttled_until = 0.0
        self.credentials_refused = False
        self.last_error = ""

    @property
    def healthy(self) -> bool:
        """Whether probes find it alive; True before the first."""
        return self._healthy

    @healthy.setter
    def healthy(self, healthy: bool) -> None:
        self._healthy = healthy
        self.clear = False

    @property
    def health_status(self) -> HealthStatus:
        """How it stands by its probes."""
        return HealthStatus.OFF if self.vitals is None else self.vitals.status(healthy=self._healthy)

    @property
    def average_latency_ms(self) -> float:
        """Mean time to the end of successful answers in this period, in milliseconds; 0 without any."""
        return 1000 * self.latency_sum_seconds / self.total_success if self.total_success else 0.0

    def serves(self, model: str | None) -> bool:
        """Whether this endpoint serves `model`, as far as is known: an unknown list serves anything."""
        known = self.known_models()
        if known is None or model is None or model in self.endpoint.model_aliases:
            return True
        return any(spelling in known for spelling in (model, *(each.format(model) for each in _LISTED_AS)))

    def known_models(self) -> frozenset[str] | None:
        """The configured list, else the discovered one, else None."""
        if self.endpoint.models:
            return frozenset(self.endpoint.models)
        return self.discovered_models

    def sample_latency(self, seconds: float, now: float) -> None:
        """Record a time to first byte."""
        if now - self.latency_at > LATENCY_STALE_SECONDS:
            self.latency_seconds = seconds
        else:
            self.latency_seconds += _EWMA_WEIGHT * (seconds - self.latency_seconds)
        self.latency_at = now

    def penalise_latency(self, seconds: float, now: float) -> None:
        """Record a failure that took `seconds`."""
        self.sample_latency(max(seconds, _FAILURE_PENALTY_SECONDS), now)

    def fresh_latency(self, now: float) -> float | None:
        """The average time to first byte, None when unknown or too old to mean anything."""
        return None if now - self.latency_at > LATENCY_STALE_SECONDS else self.latency_seconds

    def become_another(self, breaker: Breaker) -> None:
        """Back to a clean slate: the backend behind this id is another one now."""
        self.breaker = breaker
        self.clear = False
        self.throttled_until = 0.0
        self._healthy = True
        self.vitals = None if self.vitals is None else Vitals()
        self.credentials_refused = False
        self.discovered_models = None
        self.listed_at = None
        self.last_error = ""
        self.latency_at = float("-inf")
