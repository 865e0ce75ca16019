"""Permission to use an endpoint once: the only way to change `inflight`, counted out exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balancer.core.breaker import CLOSED, OPEN, Breaker
from balancer.core.endpoints import FAILED, REJECTED, SUCCESS, Endpoint, Outcome, Usage
from balancer.core.lane import Lane, Place
from balancer.core.notices import Notice
from balancer.core.reasons import Reason
from balancer.core.state import EndpointState

if TYPE_CHECKING:
    from balancer.core.pool import EndpointPool

# How long a 429 without a Retry-After keeps an endpoint out.
_DEFAULT_RETRY_AFTER_SECONDS = 2.0
# A backend must not take itself out for a day by one header.
_LONGEST_RETRY_AFTER_SECONDS = 300.0


class Lease:
    """One request's hold on one endpoint. Keeps the endpoint's configuration as it was when granted.

    `panic`: granted although the endpoint is thought to be down, because nothing else was left. `passed_over`: some of
    the others that serve the model, by name, and why they could not be used.
    """

    __slots__ = (
        "_breaker",
        "_charged_tokens",
        "_committed",
        "_epoch",
        "_lane",
        "_place",
        "_pool",
        "_ticket",
        "acquired_at",
        "endpoint",
        "panic",
        "passed_over",
        "released",
    )

    def __init__(
        self, pool: EndpointPool, lane: Lane, place: Place, charged_tokens: float, now: float, panic: bool
    ) -> None:
        state = place.state
        self.endpoint: Endpoint = state.endpoint
        self.acquired_at = now
        self.panic = panic
        self.passed_over: tuple[tuple[str, Reason], ...] = ()
        self.released = False
        self._pool = pool
        self._lane = lane
        self._place = place
        self._charged_tokens = charged_tokens
        self._epoch = pool.epoch
        self._committed = False
        # The id may come to stand for another backend while this runs; what this one did says nothing about that.
        self._breaker = state.breaker
        self._ticket = state.breaker.issue(now)
        if self._ticket.is_probe:
            pool.notice(state, Notice.TESTED, now)

    def __repr__(self) -> str:
        return f"<Lease {self.endpoint.name!r}{' panic' if self.panic else ''}{' released' if self.released else ''}>"

    def committed(self, now: float) -> None:
        """The good verdict: the endpoint began a usable answer at `now`. A later break is a failure of its own."""
        if self.released or self._committed:
            return
        self._committed = True
        place, breaker = self._place, self._breaker
        state = place.state
        if place.declines:
            place.accepted()
        if breaker.state is not CLOSED:
            self._prove(breaker, state, now)
        elif breaker is state.breaker:
            state.sample_latency(now - self.acquired_at, now)
            if state.credentials_refused and breaker.counts(self._ticket):
                state.credentials_refused = False
                self._pool.notice(state, Notice.RECOVERED, now)

    def _prove(self, breaker: Breaker, state: EndpointState, now: float) -> None:
        """An endpoint that was thought to be down answers."""
        counts = breaker.counts(self._ticket)
        self._ticket = breaker.answered(self._ticket)
        if breaker is not state.breaker:
            return
        state.sample_latency(now - self.acquired_at, now)
        if counts:
            state.credentials_refused = False
            self._pool.notice(state, Notice.RECOVERED, now)
        self._pool.room_made()

    def progressed(self, tokens: float) -> None:
        """So many tokens have passed in all, until now: what exceeds the estimate is charged at once, not at the end.

        Long streams would otherwise look idle to the others' shares for minutes.
        """
        if tokens > self._charged_tokens and not self.released:
            self._charge(tokens)

    def release(
        self,
        outcome: Outcome,
        now: float,
        usage: Usage | None = None,
        *,
        error: str = "",
        credentials: bool = False,
        declined: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Count the request out with its verdict; a second call is a no-op. SUCCESS is a good verdict by itself.

        `error` says in words what went wrong. `credentials`: the endpoint refused its key. `declined`: no fault, but it
        would not serve this model. `retry_after_seconds`: it asked to be left alone that long.
        """
        if self.released:
            return
        if outcome is SUCCESS and not self._committed:
            self.committed(now)
        self.released = True
        pool, state = self._pool, self._place.state
        blamed = outcome is FAILED or outcome is REJECTED
        troubles = _troubles(state, now) if blamed else ()
        state.clear = False
        state.inflight -= 1
        state.total_requests += 1
        if outcome is SUCCESS:
            state.total_success += 1
            state.latency_sum_seconds += now - self.acquired_at
            self._breaker.succeeded(self._ticket)
        else:
            self._judge(outcome, now, blamed=blamed, credentials=credentials)
        if declined:
            self._lane.declined(self._place, now)
        if self._breaker is state.breaker:
            state.last_error = error or state.last_error
            if outcome is REJECTED or retry_after_seconds is not None:
                self._throttle(outcome, retry_after_seconds, now)
        if usage is not None:
            self._settle(usage)
        for notice in _troubles(state, now) if blamed else ():
            if notice not in troubles:
                pool.notice(state, notice, now)
        if pool.freed is not None:
            pool.freed()

    def _judge(self, outcome: Outcome, now: float, *, blamed: bool, credentials: bool) -> None:
        """The verdict of what did not end well."""
        breaker, ticket, state = self._breaker, self._ticket, self._place.state
        state.total_failures += blamed
        if outcome is FAILED:
            if breaker is state.breaker:
                state.credentials_refused = credentials or (state.credentials_refused and not breaker.counts(ticket))
                state.penalise_latency(0.0 if self._committed else now - self.acquired_at, now)
            breaker.failed(ticket, now)
        elif self._committed:
            breaker.succeeded(ticket)
        else:
            breaker.no_verdict(ticket)

    def _throttle(self, outcome: Outcome, retry_after_seconds: float | None, now: float) -> None:
        if outcome is REJECTED and not (retry_after_seconds and retry_after_seconds > 0):
            # "Now" would make the endpoint that refuses fastest the least loaded one.
            retry_after_seconds = _DEFAULT_RETRY_AFTER_SECONDS
        wait = min(max(retry_after_seconds or 0.0, 0.0), _LONGEST_RETRY_AFTER_SECONDS)
        state = self._place.state
        state.throttled_until = max(state.throttled_until, now + wait)

    def _settle(self, usage: Usage) -> None:
        """Count what was really used, and exchange the charged estimate for it; without usage the estimate stands."""
        prompt, completion, _ = usage
        state = self._place.state
        state.prompt_tokens_total += prompt
        state.completion_tokens_total += completion
        self._place.learn(prompt + completion)
        self._charge(prompt + completion)

    def _charge(self, tokens: float) -> None:
        """Correct the virtual time to `tokens` in all, unless it is another epoch's or was not charged in tokens."""
        if self._charged_tokens and self._epoch == self._lane.epoch == self._pool.epoch:
            self._place.virtual_time += self._place.charge(self._pool.strategy, tokens - self._charged_tokens)
            self._charged_tokens = tokens


def _troubles(state: EndpointState, now: float) -> list[Notice]:
    """What is wrong with an endpoint at this moment, as a failure may have left it."""
    found = {
        Notice.REFUSED_CREDENTIALS: state.credentials_refused,
        Notice.OPENED: state.breaker.state is OPEN,
        Notice.THROTTLED: now < state.throttled_until,
    }
    return [notice for notice, holds in found.items() if holds]
