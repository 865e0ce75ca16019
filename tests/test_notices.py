"""Turns in an endpoint's life: each is told once, when it happens, and the log does not repeat what flaps."""

from __future__ import annotations

import logging

import pytest

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest
from balancer.core.notices import Notice
from balancer.core.pool import EndpointPool
from balancer.core.retries import RetryBudget
from balancer.core.state import EndpointState
from balancer.dispatch.journal import Journal

COOLDOWN = 20.0


class Life:
    """One endpoint, and what is told of it."""

    def __init__(self, threshold: int = 2) -> None:
        self.pool = EndpointPool(fail_threshold=threshold, cooldown_seconds=COOLDOWN)
        self.pool.apply([Endpoint(1, "gpu-1", "http://h/v1", connected=True)])
        self.pool.noticed = self.note
        self.told: list[Notice] = []

    def note(self, state: EndpointState, notice: Notice, now: float) -> None:
        assert state is self.pool.states[1]
        self.told.append(notice)

    def request(self, outcome: Outcome, now: float, *, credentials: bool = False, wait: float | None = None) -> None:
        lease = self.pool.acquire(RouteRequest(None), now)
        lease.release(outcome, now, error="broke", credentials=credentials, retry_after_seconds=wait)

    def fresh(self) -> list[Notice]:
        told, self.told = self.told, []
        return told


def test_good_requests_and_those_without_a_verdict_are_nothing_to_tell_of() -> None:
    life = Life()
    for outcome in (Outcome.SUCCESS, Outcome.NEUTRAL, Outcome.SUCCESS):
        life.request(outcome, 0.0)
    assert life.fresh() == []


def test_out_tested_out_again_tested_and_back() -> None:
    life = Life()
    life.request(Outcome.FAILED, 0.0)
    assert life.fresh() == [], "one failure is none yet"
    life.request(Outcome.FAILED, 0.0)
    assert life.fresh() == [Notice.OPENED]
    life.request(Outcome.FAILED, 1.0)
    assert life.fresh() == [], "let through in need: nothing new"
    life.request(Outcome.FAILED, COOLDOWN)
    assert life.fresh() == [Notice.TESTED, Notice.OPENED]
    life.request(Outcome.SUCCESS, 4 * COOLDOWN)
    assert life.fresh() == [Notice.TESTED, Notice.RECOVERED]
    life.request(Outcome.SUCCESS, 4 * COOLDOWN)
    assert life.fresh() == []


def test_an_answer_in_need_is_a_recovery() -> None:
    life = Life(threshold=1)
    life.request(Outcome.FAILED, 0.0)
    life.request(Outcome.SUCCESS, 1.0)
    assert life.fresh() == [Notice.OPENED, Notice.RECOVERED]


def test_refused_credentials_at_the_first_refusal_and_when_it_is_out() -> None:
    life = Life()
    for _ in range(2):
        life.request(Outcome.FAILED, 0.0, credentials=True)
    assert life.fresh() == [Notice.REFUSED_CREDENTIALS, Notice.OPENED]
    life.request(Outcome.SUCCESS, COOLDOWN)
    assert life.fresh() == [Notice.TESTED, Notice.RECOVERED]
    life.request(Outcome.FAILED, COOLDOWN, credentials=True)
    life.request(Outcome.SUCCESS, COOLDOWN)
    assert life.fresh() == [Notice.REFUSED_CREDENTIALS, Notice.RECOVERED]


def test_throttled_once_for_as_long_as_it_lasts() -> None:
    life = Life()
    leases = [life.pool.acquire(RouteRequest(None), 0.0) for _ in range(3)]
    for lease in leases:
        lease.release(Outcome.REJECTED, 0.0, retry_after_seconds=30)
    assert life.fresh() == [Notice.THROTTLED]
    life.request(Outcome.REJECTED, 30.0, wait=5)
    assert life.fresh() == [Notice.THROTTLED]
    life.request(Outcome.FAILED, 35.0, wait=5)
    assert life.fresh() == [Notice.THROTTLED], "a 503 may ask for a pause too"


def test_what_another_backend_did_is_not_told_of_this_one() -> None:
    life = Life(threshold=1)
    lease = life.pool.acquire(RouteRequest(None), 0.0)
    life.pool.apply([Endpoint(1, "gpu-1", "http://another/v1", connected=True)])
    lease.release(Outcome.FAILED, 0.0)
    assert life.fresh() == []


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="balancer")
    return caplog


def test_what_flaps_is_counted_rather_than_repeated(log: pytest.LogCaptureFixture) -> None:
    life = Life()
    Journal(life.pool)
    for now in range(0, 18, 2):
        life.request(Outcome.REJECTED, float(now), wait=1)
    throttled = "endpoint 'gpu-1' takes no requests: throttled for 1 s more: broke"
    assert log.messages == [throttled, f"{throttled} (7 more since the last line)"]


def test_other_turns_and_other_endpoints_are_not_held_back(log: pytest.LogCaptureFixture) -> None:
    life = Life(threshold=1)
    Journal(life.pool)
    life.pool.apply([Endpoint(n, f"gpu-{n}", f"http://h-{n}/v1", connected=True) for n in (1, 2)])
    for number in (1, 2):
        lease = life.pool.acquire(RouteRequest(None, pinned_to=number), 0.0)
        lease.release(Outcome.FAILED, 0.0, error="broke")
    life.request(Outcome.SUCCESS, 1.0)
    assert [message.split(":")[0] for message in log.messages] == [
        "endpoint 'gpu-1' takes no requests",
        "endpoint 'gpu-2' takes no requests",
        "endpoint 'gpu-1' serves again",
    ]


def test_what_is_remembered_of_the_log_is_bounded(log: pytest.LogCaptureFixture) -> None:
    life = Life()
    journal = Journal(life.pool)
    breaker = life.pool.states[1].breaker
    states = [EndpointState(Endpoint(number, "e", "http://h/v1"), breaker) for number in range(1500)]
    for state in (*states, states[-1]):
        journal.noticed(state, Notice.RECOVERED, 0.0)
    assert len(log.messages) == 1500, "what was just said is not said again"
    journal.noticed(states[0], Notice.RECOVERED, 0.0)
    assert len(log.messages) == 1501, "what was said a thousand lines ago is forgotten"


def test_control_characters_of_an_endpoint_do_not_reach_the_log(log: pytest.LogCaptureFixture) -> None:
    life = Life(threshold=1)
    Journal(life.pool)
    life.pool.acquire(RouteRequest(None), 0.0).release(
        Outcome.FAILED, 0.0, error="a\nERROR forged\x1b[31m" + "x" * 5000
    )
    (message,) = log.messages
    assert message.isprintable()
    assert len(message) <= 1000


def test_the_retry_budget(log: pytest.LogCaptureFixture) -> None:
    journal, budget = Journal(EndpointPool()), RetryBudget(20.0)
    while budget.try_retry():
        pass
    for now in (0.0, 1.0, 20.0):
        journal.retry_refused(budget, now)
    first, second = log.messages
    assert first.startswith("the retry budget is spent: 3 retries under way, 3 allowed;")
    assert second == f"{first} (1 more since the last line)"
