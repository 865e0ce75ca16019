"""Why an endpoint may not take a request: every reason, in which order they count, how long they last, and in words."""

from __future__ import annotations

import enum

from balancer.core.breaker import CLOSED, HALF_OPEN
from balancer.core.state import EndpointState

# Nobody knows when a full endpoint has room again, or a probe ends; a second is soon enough to ask.
_SOON_SECONDS = 1.0


class Reason(enum.StrEnum):
    """Why an endpoint may not take a request. The last two are guesses, the others are facts."""

    DISABLED = "disabled"
    NOT_CONNECTED = "not connected"
    REMOVED = "removed"
    NOT_ASKED_FOR = "another endpoint was asked for"
    MODEL_NOT_SERVED = "model not served"
    THROTTLED = "throttled"
    CREDENTIALS = "credentials refused"
    FULL = "full"
    UNHEALTHY = "unhealthy"
    COOLING_DOWN = "cooling down"


BUSY = frozenset({Reason.FULL, Reason.THROTTLED})
GUESSES = frozenset({Reason.UNHEALTHY, Reason.COOLING_DOWN})


def never(state: EndpointState, model: str | None) -> Reason | None:
    """The reason that only a change of configuration or of known models changes."""
    if state.removed:
        return Reason.REMOVED
    if not state.endpoint.enabled:
        return Reason.DISABLED
    if not state.endpoint.connected:
        return Reason.NOT_CONNECTED
    if not state.serves(model):
        return Reason.MODEL_NOT_SERVED
    return None


def not_now(state: EndpointState, now: float) -> Reason | None:
    """The reason that changes by the moment. Facts before guesses: what a guess hides must be nothing but a guess."""
    if now < state.throttled_until:
        return Reason.THROTTLED
    breaker = state.breaker
    admitted = breaker.state is CLOSED or breaker.admits(now)
    if not admitted and state.credentials_refused:
        return Reason.CREDENTIALS
    if 0 < state.limit <= state.inflight:
        return Reason.FULL
    if not state.healthy:
        return Reason.UNHEALTHY
    return None if admitted else Reason.COOLING_DOWN


def trusted(state: EndpointState, now: float) -> bool:
    """Whether no guess stands against it: what keeps it out, if anything, is all there is."""
    return state.healthy and state.breaker.admits(now)


def wait_seconds(state: EndpointState, reason: Reason, now: float) -> float | None:
    """Seconds until `reason` may be gone; None when only somebody's act ends it."""
    match reason:
        case Reason.FULL:
            return _SOON_SECONDS
        case Reason.THROTTLED | Reason.CREDENTIALS | Reason.COOLING_DOWN:
            until = max(state.throttled_until, state.breaker.open_until)
            return until - now if until > now else _SOON_SECONDS
        case _:
            return None


def describe(state: EndpointState, reason: Reason, now: float) -> str:
    """The reason in words for an operator, with what led to it and how long it lasts."""
    wait = wait_seconds(state, reason, now)
    match reason:
        case Reason.THROTTLED:
            return f"throttled for {wait:.0f} s more: {state.last_error}"
        case Reason.COOLING_DOWN if state.breaker.state is HALF_OPEN:
            return f"half-open, a probe is under way: last failure: {state.last_error}"
        case Reason.COOLING_DOWN | Reason.CREDENTIALS:
            return f"{reason} for {wait:.0f} s more: {state.breaker.failures} failures, last: {state.last_error}"
        case Reason.FULL:
            return f"full: {state.inflight} in flight"
        case Reason.UNHEALTHY if state.vitals is not None and state.vitals.last is not None:
            return f"unhealthy: {state.vitals.last.reason}"
        case _:
            return str(reason)
