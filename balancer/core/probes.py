"""What active probes tell of an endpoint: when the next is due, and what several in a row make of it. Pure.

A probe asks for the list of models, which costs no tokens. Rules:

1. Unknown counts as healthy: what was never probed is used like any other.
2. `fall` failures in a row make an endpoint unhealthy, `rise` answers in a row make it healthy again.
3. That it answers is what counts, not what: without such a list (404), or with the key refused (401), it is alive.
   Whether it takes the key is for a request to find out; many ask for it in one place and not in the other.
4. A passed probe leaves the breaker alone. Requests opened it, and an endpoint that lists models may fail them still:
   out of memory, a wedged worker. Its cooldown ends by itself, with one request as the test.
5. In doubt, after a failure as well as while down, probes come faster: both the outage and its end are seen sooner.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from random import Random

# The first probe of an endpoint comes within this, at a random moment, so that a fleet is not asked all at once.
_FIRST_WITHIN_SECONDS = 1.0
# Later ones deviate by this share of the interval, so that they drift apart and stay so.
_JITTER = 0.1


class Finding(enum.Enum):
    """What one probe says of its endpoint."""

    ALIVE = "alive"
    CREDENTIALS = "credentials"  # alive, and it refuses the key
    FAILED = "failed"


class HealthStatus(enum.StrEnum):
    """How an endpoint stands by its probes."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"  # it has not answered yet, nor failed often enough
    OFF = "off"  # it is not probed
    CREDENTIALS = "credentials"  # up, but the last probe found the key refused


@dataclass(frozen=True, slots=True)
class Probe:
    """How one probe went. `at` is Unix time of its end, `reason` is for an operator and holds no secret."""

    finding: Finding
    reason: str
    at: float
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class ProbeRules:
    """When probes are made, and how many in a row count. `interval_seconds` 0: none are made."""

    interval_seconds: float = 10.0
    down_interval_seconds: float = 2.0
    rise: int = 2
    fall: int = 3

    def first_pause_seconds(self, rng: Random) -> float:
        """How long after its creation an endpoint is probed."""
        return rng.uniform(0.0, min(_FIRST_WITHIN_SECONDS, self.interval_seconds))

    def pause_seconds(self, vitals: Vitals, rng: Random, *, healthy: bool) -> float:
        """How long after a probe the next one comes; `healthy` is the endpoint as that probe left it."""
        if vitals.failures or not healthy:
            interval_seconds = min(self.interval_seconds, self.down_interval_seconds)
        else:
            interval_seconds = self.interval_seconds
        # All were first asked within a second: the second probe spreads them over a whole interval.
        earliest = _JITTER if vitals.count == 1 else 1 - _JITTER
        return interval_seconds * rng.uniform(earliest, 1 + _JITTER)


class Vitals:
    """What the probes of one backend have told. A new one begins when another backend stands behind the endpoint.

    `passes` and `failures` are those in a row. `proven`: it has answered at least once.
    """

    __slots__ = ("count", "failures", "last", "passes", "proven")

    def __init__(self) -> None:
        self.count = 0
        self.passes = 0
        self.failures = 0
        self.proven = False
        self.last: Probe | None = None

    def __repr__(self) -> str:
        return f"<Vitals {self.count} probes: {self.passes} passes, {self.failures} failures in a row>"

    def take(self, probe: Probe, rules: ProbeRules, *, healthy: bool) -> bool:
        """Count `probe`; returns whether the endpoint, which was `healthy` or not, is so now."""
        self.last = probe
        self.count += 1
        if probe.finding is Finding.FAILED:
            self.passes = 0
            self.failures += 1
            return healthy and self.failures < rules.fall
        self.failures = 0
        self.passes += 1
        self.proven = True
        return healthy or self.passes >= rules.rise

    def status(self, *, healthy: bool) -> HealthStatus:
        """The standing of an endpoint that is `healthy` or not."""
        if not healthy:
            return HealthStatus.DOWN
        if self.last is None or not self.proven:
            return HealthStatus.UNKNOWN
        return HealthStatus.CREDENTIALS if self.last.finding is Finding.CREDENTIALS else HealthStatus.UP
