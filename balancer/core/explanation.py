"""What the pool would do with a request, as a value: who stood for it, what spoke for or against each, and the outcome.

Made by `EndpointPool.explain`; decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balancer.core.endpoints import Endpoint, RouteRequest
from balancer.core.errors import NoEndpoint
from balancer.core.lane import Lane, Place
from balancer.core.reasons import describe, wait_seconds
from balancer.core.state import EndpointState

if TYPE_CHECKING:
    from balancer.core.pool import EndpointPool

_TRIED = "tried already"
_RESERVE = "a reserve: its share is 0, it serves only when no endpoint with a share can"
_DECLINED = "it refused this model lately: asked only when no other is left"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint before the decision.

    `reason`, with `reason_text` and `wait_seconds` until it may be gone, is why it may not take the request; None: it
    may. An eligible one that was passed over before any comparison has a `reason_text` alone. `score`: the lowest wins
    unless affinity decides; None where it was not compared. `share` and
    `virtual_time`: where the strategy has them and the endpoint serves the model. `affinity_preferred`: first in
    the order of the request's key, whatever its load.
    """

    state: EndpointState
    reason: str | None = None
    reason_text: str | None = None
    wait_seconds: float | None = None
    score: float | None = None
    share: float | None = None
    virtual_time: float | None = None
    affinity_preferred: bool = False

    @property
    def eligible(self) -> bool:
        """Whether it may take the request."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The outcome: an `endpoint`, with `panic` as in a lease, or a `refusal`; and every endpoint as a candidate."""

    strategy: str
    endpoint: Endpoint | None
    panic: bool
    refusal: NoEndpoint | None
    candidates: tuple[Candidate, ...]


def candidates(
    pool: EndpointPool,
    lane: Lane,
    request: RouteRequest,
    now: float,
    tried: Container[int],
    scores: Mapping[Place, float],
    preferred: Place | None,
) -> tuple[Candidate, ...]:
    """Every endpoint of `pool` as it stood in a decision: `lane` after it, `scores` of those that were compared."""
    found = []
    for eid, state in pool.states.items():
        place = lane.places.get(eid)
        score = scores.get(place) if place is not None else None
        reason, text, wait_seconds = _reason(pool, state, request, now, tried)
        if reason is None and score is None:
            # Eligible, yet not compared: the shortlist left it out.
            text = _DECLINED if place is not None and now < place.declined_until else _RESERVE
        timed = place if pool.strategy.share is not None else None
        found.append(
            Candidate(
                state,
                reason,
                text,
                wait_seconds,
                score,
                timed.share if timed is not None else None,
                timed.virtual_time if timed is not None else None,
                place is not None and place is preferred,
            )
        )
    return tuple(found)


def _reason(
    pool: EndpointPool, state: EndpointState, request: RouteRequest, now: float, tried: Container[int]
) -> tuple[str | None, str | None, float | None]:
    reason = pool.why_not(state, request, now)
    if reason is not None:
        return reason.value, describe(state, reason, now), wait_seconds(state, reason, now)
    if state.endpoint.id in tried:
        return _TRIED, _TRIED, None
    return None, None, None
