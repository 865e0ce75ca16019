"""One lease from grant to release: what each verdict does to its endpoint, and that it does so once."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.breaker import CLOSED, HALF_OPEN, OPEN
from balancer.core.endpoints import Endpoint, Outcome, Provenance, RouteRequest, Usage
from balancer.core.errors import NoEndpoint
from balancer.core.pool import EndpointPool
from balancer.core.reasons import Reason
from balancer.core.state import EndpointState

CHAT = RouteRequest("chat")
COOLDOWN = 20.0


def pool_of_one(**fields: Any) -> tuple[EndpointPool, EndpointState]:
    pool = EndpointPool(fail_threshold=3, cooldown_seconds=COOLDOWN)
    pool.apply([Endpoint(1, "e1", "http://host-1", **{"connected": True, "api_key": "sk-secret", **fields})])
    return pool, pool.states[1]


def facts(state: EndpointState) -> dict[str, object]:
    slots = {name: getattr(state, name) for name in state.__slots__}
    return slots | {"breaker": repr(state.breaker), "failures": state.breaker.failures}


def fail(pool: EndpointPool, now: float = 0.0, **details: Any) -> None:
    for _ in range(3):
        pool.acquire(CHAT, now).release(Outcome.FAILED, now, **details)


# -- once --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", Outcome)
@pytest.mark.parametrize("second", Outcome)
def test_whatever_comes_after_the_release_changes_nothing(first: Outcome, second: Outcome) -> None:
    pool, state = pool_of_one()
    lease = pool.acquire(CHAT, 0.0)
    lease.release(first, 1.0, Usage(1, 1))
    before = facts(state)
    lease.release(second, 2.0, Usage(10, 10), error="late", credentials=True, declined=True, retry_after_seconds=9)
    lease.committed(2.0)
    lease.progressed(10**6)
    assert facts(state) == before
    assert lease.released
    assert state.inflight == 0


def test_a_second_commit_changes_nothing() -> None:
    pool, state = pool_of_one()
    lease = pool.acquire(CHAT, 0.0)
    lease.committed(1.0)
    before = facts(state)
    lease.committed(50.0)
    assert facts(state) == before


@pytest.mark.parametrize(
    ("outcome", "successes", "failures", "strikes"),
    [
        (Outcome.SUCCESS, 1, 0, 0),
        (Outcome.FAILED, 0, 1, 1),
        (Outcome.REJECTED, 0, 1, 0),
        (Outcome.NEUTRAL, 0, 0, 0),
    ],
)
def test_what_each_outcome_counts(outcome: Outcome, successes: int, failures: int, strikes: int) -> None:
    pool, state = pool_of_one()
    pool.acquire(CHAT, 100.0).release(outcome, 100.5, Usage(3, 4, Provenance.PARTIAL), error="words")
    assert (state.total_requests, state.total_success, state.total_failures) == (1, successes, failures)
    assert state.breaker.failures == strikes
    assert (state.prompt_tokens_total, state.completion_tokens_total) == (3, 4)
    assert state.last_error == "words"
    assert state.average_latency_ms == 500.0 * successes


def test_the_lease_keeps_the_configuration_it_was_granted_under() -> None:
    pool, _ = pool_of_one(timeout=5.0)
    lease = pool.acquire(CHAT, 0.0)
    pool.apply([])
    assert lease.endpoint.timeout == 5.0
    assert "secret" not in repr(lease) + repr(lease.endpoint)


# -- commit ------------------------------------------------------------------------------------------------------------


def test_a_good_beginning_closes_the_breaker_and_frees_the_probe_slot() -> None:
    pool, state = pool_of_one()
    fail(pool)
    probe = pool.acquire(CHAT, COOLDOWN)
    assert state.breaker.state is HALF_OPEN
    probe.committed(COOLDOWN + 1)
    assert state.breaker.state is CLOSED
    assert not pool.acquire(CHAT, COOLDOWN + 1).panic


def test_success_without_a_commit_is_a_verdict_too() -> None:
    pool, state = pool_of_one()
    fail(pool, credentials=True)
    pool.acquire(CHAT, COOLDOWN).release(Outcome.SUCCESS, COOLDOWN + 1)
    assert state.breaker.state is CLOSED
    assert state.latency_at == COOLDOWN + 1
    assert not state.credentials_refused


def test_a_break_after_the_commit_is_a_failure_of_its_own() -> None:
    pool, state = pool_of_one()
    fail(pool)
    probe = pool.acquire(CHAT, COOLDOWN)
    probe.committed(COOLDOWN)
    probe.release(Outcome.FAILED, COOLDOWN + 5)
    assert (state.breaker.state, state.breaker.failures) == (CLOSED, 1)


def test_an_endpoint_that_breaks_every_answer_is_taken_out() -> None:
    pool, state = pool_of_one()
    for second in range(3):
        assert pool.why_not(state, CHAT, second) is None
        lease = pool.acquire(CHAT, second)
        lease.committed(second)
        lease.release(Outcome.FAILED, second)
    assert pool.why_not(state, CHAT, 2.0) is Reason.COOLING_DOWN


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.NEUTRAL])
def test_an_answer_that_did_not_break_forgives_earlier_failures(outcome: Outcome) -> None:
    """Also where its client left half-way: the endpoint did well until then."""
    pool, state = pool_of_one()
    for _ in range(5):
        pool.acquire(CHAT, 0.0).release(Outcome.FAILED, 0.0)
        lease = pool.acquire(CHAT, 0.0)
        lease.committed(0.0)
        lease.release(outcome, 0.0)
    assert (state.breaker.state, state.breaker.failures) == (CLOSED, 0)


def test_a_client_that_leaves_before_the_commit_says_nothing() -> None:
    pool, state = pool_of_one()
    for _ in range(2):
        pool.acquire(CHAT, 0.0).release(Outcome.FAILED, 0.0)
    pool.acquire(CHAT, 0.0).release(Outcome.NEUTRAL, 0.0)
    assert state.breaker.failures == 2


@pytest.mark.parametrize("outcome", [Outcome.NEUTRAL, Outcome.REJECTED])
def test_a_probe_without_a_verdict_gives_its_slot_back(outcome: Outcome) -> None:
    pool, state = pool_of_one()
    fail(pool)
    now = COOLDOWN
    for _ in range(5):
        probe = pool.acquire(CHAT, now)
        assert not probe.panic
        probe.release(outcome, now)
        now = max(now, state.throttled_until)
    assert state.breaker.state is HALF_OPEN


def test_results_of_before_the_cooldown_do_not_end_it() -> None:
    pool, state = pool_of_one()
    early = [pool.acquire(CHAT, 0.0) for _ in range(2)]
    fail(pool)
    early[0].committed(1.0)
    early[0].release(Outcome.SUCCESS, 1.0)
    early[1].release(Outcome.FAILED, 1.0)
    assert (state.breaker.state, state.breaker.failures, state.breaker.open_until) == (OPEN, 3, COOLDOWN)


# -- throttling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (None, 2.0),
        (0.0, 2.0),
        (-60.0, 2.0),
        (float("nan"), 2.0),
        (0.2, 0.2),
        (30.0, 30.0),
        (86_400.0, 300.0),
        (float("inf"), 300.0),
    ],
)
def test_how_long_a_429_keeps_an_endpoint_out(asked: float | None, kept: float) -> None:
    pool, state = pool_of_one()
    pool.acquire(CHAT, 100.0).release(Outcome.REJECTED, 100.0, retry_after_seconds=asked)
    assert state.throttled_until - 100.0 == pytest.approx(kept)
    assert pool.why_not(state, CHAT, 99.9 + kept) is Reason.THROTTLED
    assert pool.why_not(state, CHAT, 100.1 + kept) is None
    assert state.breaker.failures == 0


def test_a_later_shorter_wait_does_not_shorten_an_earlier_longer_one() -> None:
    pool, state = pool_of_one()
    leases = [pool.acquire(CHAT, 0.0) for _ in range(3)]
    for lease, seconds in zip(leases, (60.0, 5.0, None), strict=True):
        lease.release(Outcome.REJECTED, 1.0, retry_after_seconds=seconds)
    assert state.throttled_until == 61.0


def test_a_failure_may_ask_for_a_pause_but_needs_none() -> None:
    pool, state = pool_of_one()
    pool.acquire(CHAT, 0.0).release(Outcome.FAILED, 0.0)
    assert pool.why_not(state, CHAT, 0.0) is None
    pool.acquire(CHAT, 0.0).release(Outcome.FAILED, 0.0, retry_after_seconds=9.0)
    assert pool.why_not(state, CHAT, 8.0) is Reason.THROTTLED


# -- credentials -------------------------------------------------------------------------------------------------------


def test_refused_credentials_are_a_fact_until_an_answer_proves_otherwise() -> None:
    pool, state = pool_of_one()
    fail(pool, credentials=True)
    with pytest.raises(NoEndpoint):
        pool.acquire(CHAT, 1.0)
    probe = pool.acquire(CHAT, COOLDOWN)
    with pytest.raises(NoEndpoint):
        pool.acquire(CHAT, COOLDOWN)
    probe.committed(COOLDOWN)
    assert not state.credentials_refused
    assert pool.why_not(state, CHAT, COOLDOWN) is None


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.FAILED, Outcome.NEUTRAL, Outcome.REJECTED])
def test_requests_of_before_the_refusal_do_not_hide_it(outcome: Outcome) -> None:
    pool, state = pool_of_one()
    early = pool.acquire(CHAT, 0.0)
    fail(pool, credentials=True)
    if outcome is Outcome.SUCCESS:
        early.committed(1.0)
    early.release(outcome, 1.0)
    assert state.credentials_refused
    with pytest.raises(NoEndpoint):
        pool.acquire(CHAT, COOLDOWN - 1)


def test_a_failure_of_another_kind_is_not_about_credentials() -> None:
    pool, state = pool_of_one()
    for credentials in (True, True, False):
        pool.acquire(CHAT, 0.0).release(Outcome.FAILED, 0.0, credentials=credentials)
    assert pool.why_not(state, CHAT, 0.0) is Reason.COOLING_DOWN


# -- totals ------------------------------------------------------------------------------------------------------------


def test_a_new_period_of_counting_moves_nothing_that_routes() -> None:
    pool, state = pool_of_one()
    fail(pool, error="gone")
    running = pool.acquire(CHAT, 0.0)
    pool.acquire(CHAT, 0.0).release(Outcome.REJECTED, 0.0, Usage(5, 5), retry_after_seconds=7)
    counted = {
        "total_requests",
        "total_success",
        "total_failures",
        "prompt_tokens_total",
        "completion_tokens_total",
        "latency_sum_seconds",
    }
    before = facts(state)
    state.reset_totals()
    after = facts(state)
    assert {name: after[name] for name in counted} == dict.fromkeys(counted, 0)
    assert {k: v for k, v in after.items() if k not in counted} == {k: v for k, v in before.items() if k not in counted}
    assert state.average_latency_ms == 0.0
    running.release(Outcome.SUCCESS, 4.0, Usage(1, 2))
    assert (state.total_requests, state.completion_tokens_total, state.average_latency_ms) == (1, 2, 4000.0)


def test_a_new_period_of_counting_leaves_the_shares_alone() -> None:
    pool = EndpointPool()
    pool.apply([Endpoint(eid, f"e{eid}", "http://x", connected=True, token_quota_percent=50.0) for eid in (1, 2)])
    lease = pool.acquire(CHAT, 0.0)
    lease.release(Outcome.SUCCESS, 0.0, Usage(0, 10**6))
    for state in pool.states.values():
        state.reset_totals()
    assert {pool.acquire(CHAT, 0.0).endpoint.id for _ in range(20)} == {3 - lease.endpoint.id}
