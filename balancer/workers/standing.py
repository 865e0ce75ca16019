"""How an endpoint stands, as one worker found out by its requests and the others are told."""

from __future__ import annotations

from typing import NamedTuple

from balancer.core.breaker import CLOSED
from balancer.core.notices import Notice
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState

# A test that another worker makes has this long to say something before this one makes its own.
_TEST_SECONDS = 2.0


class Standing(NamedTuple):
    """One endpoint right after `notice`, a Notice's value. `base_url` tells which backend it was.

    `out`: its breaker was not closed. Times are monotonic, which is the machine's.
    """

    endpoint_id: int
    base_url: str
    notice: str
    out: bool
    failures: int
    open_until: float
    next_seconds: float
    credentials_refused: bool
    throttled_until: float
    last_error: str


def standing_of(state: EndpointState, notice: Notice) -> Standing:
    """How it stands now."""
    breaker, endpoint = state.breaker, state.endpoint
    return Standing(
        endpoint.id,
        endpoint.base_url,
        notice.value,
        breaker.state is not CLOSED,
        breaker.failures,
        breaker.open_until,
        breaker.next_seconds,
        state.credentials_refused,
        state.throttled_until,
        state.last_error,
    )


def troubles_of(pool: EndpointPool, now: float) -> list[Standing]:
    """How those stand that are kept out at `now`, for a worker that knows nothing yet."""
    return [
        standing_of(state, Notice.OPENED)
        for state in pool.states.values()
        if state.breaker.state is not CLOSED or state.throttled_until > now
    ]


def adopt(pool: EndpointPool, told: Standing, now: float) -> None:
    """Let what another worker found count here."""
    state = pool.states.get(told.endpoint_id)
    if state is None or state.endpoint.base_url != told.base_url:
        return  # it was changed or removed meanwhile
    if told.notice == Notice.RECOVERED.value:
        state.breaker.succeeded(state.breaker.issue(now))
        state.credentials_refused = False
        pool.room_made()
        return
    if told.notice == Notice.TESTED.value:
        state.breaker.hold(now + _TEST_SECONDS)
    elif told.out:
        state.breaker.follow(told.failures, told.open_until, told.next_seconds)
    state.credentials_refused = state.credentials_refused or told.credentials_refused
    state.throttled_until = max(state.throttled_until, told.throttled_until)
    state.last_error = told.last_error or state.last_error
    state.clear = False
