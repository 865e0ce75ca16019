"""The circuit breaker: every row of its table, and a random walk beside a model that is too simple to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from balancer.core.breaker import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    TRANSITIONS,
    Breaker,
    BreakerEvent,
    BreakerState,
    Ticket,
)

THRESHOLD = 3
COOLDOWN = 20.0
LONGEST = 100.0
LATER = 1_000.0


def closed() -> Breaker:
    return Breaker(THRESHOLD, COOLDOWN, LONGEST)


def opened(now: float = 0.0) -> Breaker:
    breaker = closed()
    for _ in range(THRESHOLD):
        breaker.failed(breaker.issue(now), now)
    return breaker


def half_open() -> tuple[Breaker, Ticket]:
    breaker = opened()
    return breaker, breaker.issue(COOLDOWN)


# -- the table ---------------------------------------------------------------------------------------------------------


def trip(breaker: Breaker) -> None:
    """Threshold failures of requests that hold no probe slot."""
    for _ in range(THRESHOLD):
        breaker.failed(Ticket(breaker.issue(0.0).era, is_probe=False), 0.0)


def admit_probe(breaker: Breaker) -> None:
    breaker.issue(LATER)


def fail_probe(breaker: Breaker) -> None:
    breaker.failed(Ticket(breaker.issue(0.0).era, is_probe=True), LATER)


def answer(breaker: Breaker) -> None:
    breaker.answered(breaker.issue(0.0))


CAUSES: dict[BreakerEvent, Callable[[Breaker], None]] = {
    BreakerEvent.TRIPPED: trip,
    BreakerEvent.PROBE_ADMITTED: admit_probe,
    BreakerEvent.PROBE_FAILED: fail_probe,
    BreakerEvent.ANSWERED: answer,
}
MAKERS: dict[BreakerState, Callable[[], Breaker]] = {CLOSED: closed, OPEN: opened, HALF_OPEN: lambda: half_open()[0]}


@pytest.mark.parametrize(("state", "event"), list(product(BreakerState, BreakerEvent)), ids=str)
def test_the_table_and_nothing_else_moves_it(state: BreakerState, event: BreakerEvent) -> None:
    breaker = MAKERS[state]()
    assert breaker.state is state
    CAUSES[event](breaker)
    assert breaker.state is TRANSITIONS.get((state, event), state)


# -- one rule at a time ------------------------------------------------------------------------------------------------


def test_an_exchange_that_ended_well_forgives_but_one_that_merely_began_does_not() -> None:
    breaker = closed()
    for _ in range(THRESHOLD - 1):
        breaker.failed(breaker.issue(0.0), 0.0)
    begun = breaker.answered(breaker.issue(0.0))
    assert breaker.failures == THRESHOLD - 1
    breaker.succeeded(begun)
    assert breaker.failures == 0


def test_an_endpoint_that_breaks_every_answer_half_way_is_found_out() -> None:
    breaker = closed()
    for _ in range(THRESHOLD):
        assert breaker.admits(0.0)
        breaker.failed(breaker.answered(breaker.issue(0.0)), 0.0)
    assert breaker.state is OPEN


def test_open_admits_nobody_until_the_time_is_up_and_then_one_at_a_time() -> None:
    breaker = opened()
    assert not breaker.admits(COOLDOWN - 0.001)
    assert breaker.admits(COOLDOWN)
    probe = breaker.issue(COOLDOWN)
    assert probe.is_probe
    assert not breaker.admits(LATER)
    breaker.no_verdict(probe)
    assert breaker.state is HALF_OPEN
    assert breaker.admits(LATER)
    assert breaker.issue(LATER).is_probe


def test_the_slot_is_given_back_only_by_the_one_that_holds_it() -> None:
    breaker, probe = half_open()
    let_through = breaker.issue(LATER)
    assert not let_through.is_probe
    breaker.no_verdict(let_through)
    breaker.no_verdict(Ticket(probe.era - 1, is_probe=True))
    assert not breaker.admits(LATER)


@pytest.mark.parametrize("result", ["answered", "succeeded", "failed", "no_verdict"])
def test_results_from_before_the_last_transition_say_nothing(result: str) -> None:
    breaker = closed()
    stale = breaker.issue(0.0)
    trip(breaker)
    breaker.issue(COOLDOWN)
    before = repr(breaker), breaker.failures, breaker.admits(LATER)
    if result == "failed":
        breaker.failed(stale, LATER)
    else:
        getattr(breaker, result)(stale)
    assert (repr(breaker), breaker.failures, breaker.admits(LATER)) == before
    assert not breaker.counts(stale)


def test_an_answer_to_a_request_let_through_in_need_closes_at_once() -> None:
    breaker = opened()
    breaker.succeeded(breaker.issue(1.0))
    assert breaker.state is CLOSED
    assert breaker.open_until == 0.0
    assert breaker.failures == 0


def test_failures_let_through_in_need_lengthen_nothing() -> None:
    breaker = opened()
    for second in range(10):
        breaker.failed(breaker.issue(second), second)
    assert breaker.open_until == COOLDOWN
    probe = breaker.issue(COOLDOWN)
    breaker.failed(breaker.issue(COOLDOWN), COOLDOWN)
    assert breaker.state is HALF_OPEN
    breaker.failed(probe, COOLDOWN)
    assert breaker.open_until == COOLDOWN + 2 * COOLDOWN


def test_only_failed_probes_lengthen_the_cooldown_up_to_the_cap_and_success_resets_it() -> None:
    breaker, now, waits = opened(), COOLDOWN, []
    for _ in range(5):
        breaker.failed(breaker.issue(now), now)
        waits.append(breaker.open_until - now)
        now = breaker.open_until
    assert waits == [40.0, 80.0, 100.0, 100.0, 100.0]
    breaker.succeeded(breaker.issue(now))
    for _ in range(THRESHOLD):
        breaker.failed(breaker.issue(now), now)
    assert breaker.open_until == now + COOLDOWN


def test_the_longest_cooldown_is_never_shorter_than_the_first() -> None:
    breaker = Breaker(1, 50.0, longest_seconds=10.0)
    breaker.failed(breaker.issue(0.0), 0.0)
    breaker.failed(breaker.issue(50.0), 50.0)
    assert breaker.open_until == 100.0


# -- a random walk -----------------------------------------------------------------------------------------------------


class BreakerWalk(RuleBasedStateMachine):
    """Tickets are issued and ended in any order, also out of need, beside a model that keeps plain facts."""

    @initialize(threshold=st.integers(1, 4), cooldown=st.sampled_from([1.0, 7.0]), longest=st.sampled_from([0.5, 20.0]))
    def start(self, threshold: int, cooldown: float, longest: float) -> None:
        self.breaker = Breaker(threshold, cooldown, longest)
        self.threshold, self.cooldown, self.longest = threshold, cooldown, max(cooldown, longest)
        self.now = 0.0
        self.state = "closed"
        self.failures = 0
        self.until = 0.0
        self.wait = cooldown
        self.moves = 0
        self.probe: dict[str, Any] | None = None
        self.open_tickets: list[dict[str, Any]] = []

    def move(self, state: str) -> None:
        self.state, self.probe, self.moves = state, None, self.moves + 1

    def admits(self) -> bool:
        free = self.state == "half-open" and self.probe is None
        return self.state == "closed" or (self.state == "open" and self.now >= self.until) or free

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0, 50.0]))
    def wait_a_while(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def issue(self) -> None:
        if self.state == "open" and self.now >= self.until:
            self.move("half-open")
        mine: dict[str, Any] = {"moves": self.moves}
        if self.state == "half-open" and self.probe is None:
            self.probe = mine
        mine["ticket"] = self.breaker.issue(self.now)
        assert mine["ticket"].is_probe == (self.probe is mine)
        self.open_tickets.append(mine)

    def take(self, data: st.DataObject) -> dict[str, Any]:
        return self.open_tickets.pop(data.draw(st.integers(0, len(self.open_tickets) - 1)))

    def model_answered(self, mine: dict[str, Any]) -> None:
        if mine["moves"] != self.moves:
            return
        if self.state != "closed":
            self.move("closed")
            self.failures, self.wait, self.until = 0, self.cooldown, 0.0
        mine["moves"] = self.moves

    @precondition(lambda self: self.open_tickets)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        mine = self.take(data)
        mine["ticket"] = self.breaker.answered(mine["ticket"])
        self.model_answered(mine)
        self.open_tickets.append(mine)

    @precondition(lambda self: self.open_tickets)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        mine = self.take(data)
        self.breaker.succeeded(mine["ticket"])
        self.model_answered(mine)
        if mine["moves"] == self.moves:
            self.failures = 0

    @precondition(lambda self: self.open_tickets)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        mine = self.take(data)
        self.breaker.failed(mine["ticket"], self.now)
        if mine["moves"] != self.moves:
            return
        self.failures += 1
        if self.state == "closed" and self.failures >= self.threshold:
            self.move("open")
            self.until = self.now + self.wait
        elif self.probe is mine:
            self.move("open")
            self.wait = min(2 * self.wait, self.longest)
            self.until = self.now + self.wait

    @precondition(lambda self: self.open_tickets)
    @rule(data=st.data())
    def end_without_verdict(self, data: st.DataObject) -> None:
        mine = self.take(data)
        self.breaker.no_verdict(mine["ticket"])
        if self.probe is mine:
            self.probe = None

    @invariant()
    def agrees(self) -> None:
        breaker = self.breaker
        assert breaker.state.value == self.state
        assert breaker.failures == self.failures
        assert breaker.open_until == self.until
        assert breaker.admits(self.now) == self.admits()

    def teardown(self) -> None:
        """A probe slot never leaks: with all tickets back, time alone lets somebody in."""
        while self.open_tickets:
            self.breaker.no_verdict(self.open_tickets.pop()["ticket"])
        assert self.breaker.admits(self.now + self.longest)


TestBreakerWalk = BreakerWalk.TestCase
TestBreakerWalk.settings = settings(max_examples=60, stateful_step_count=40)
