"""How long a failure counts towards the threshold: until a request that fails begins later than the memory lasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.breaker import CLOSED, OPEN, Breaker
from balancer.core.endpoints import Endpoint, Outcome, RouteRequest
from balancer.core.pool import EndpointPool

MEMORY = 30.0


def remembering(threshold: int = 3) -> Breaker:
    return Breaker(threshold, 20.0, memory_seconds=MEMORY)


def fail(breaker: Breaker, began_at: float, ended_at: float | None = None) -> None:
    breaker.failed(breaker.issue(began_at), began_at if ended_at is None else ended_at)


@pytest.mark.parametrize(("pause", "failures"), [(0.0, 2), (MEMORY, 2), (MEMORY + 0.001, 1), (1e6, 1)])
def test_a_failure_counts_for_so_long(pause: float, failures: int) -> None:
    breaker = remembering()
    fail(breaker, 100.0)
    fail(breaker, 100.0 + pause)
    assert (breaker.failures, breaker.state) == (failures, CLOSED)


def test_each_failure_is_remembered_from_its_own_end() -> None:
    breaker = remembering()
    for at in (0.0, 25.0, 50.0):
        fail(breaker, at)
    assert breaker.state is OPEN


def test_one_that_hangs_is_found_out_however_long_each_failure_takes() -> None:
    breaker, now = remembering(), 0.0
    for _ in range(3):
        fail(breaker, now, now + 10 * MEMORY)
        now += 10 * MEMORY + 1
    assert breaker.state is OPEN


def test_requests_of_before_a_failure_count_with_it() -> None:
    breaker = remembering(2)
    early = breaker.issue(0.0)
    fail(breaker, 0.0, 1000.0)
    breaker.failed(early, 1000.0)
    assert breaker.state is OPEN


def test_an_answer_that_began_does_not_make_its_request_younger() -> None:
    breaker = remembering()
    fail(breaker, 0.0)
    late = breaker.answered(breaker.issue(MEMORY + 1))
    breaker.failed(late, MEMORY + 2)
    assert breaker.failures == 1


def test_nothing_is_forgotten_while_it_is_open() -> None:
    breaker = remembering(1)
    fail(breaker, 0.0)
    fail(breaker, 1.0)
    assert breaker.failures == 2
    probe = breaker.issue(1e6)
    breaker.failed(probe, 1e6)
    assert (breaker.state, breaker.failures) == (OPEN, 3)
    assert breaker.open_until == 1e6 + 40.0


@given(pauses=st.lists(st.sampled_from([0.0, 10.0, MEMORY, MEMORY + 1, 100.0]), min_size=1, max_size=12))
def test_it_opens_exactly_when_so_many_in_a_row_were_close_enough(pauses: list[float]) -> None:
    breaker, now, in_a_row = remembering(), 0.0, 0
    for pause in pauses:
        now += pause
        fail(breaker, now)
        in_a_row = in_a_row + 1 if pause <= MEMORY else 1
        if in_a_row == 3:
            assert breaker.state is OPEN
            return
        assert (breaker.state, breaker.failures) == (CLOSED, in_a_row)


@pytest.mark.parametrize(("memory", "state"), [(MEMORY, CLOSED), (float("inf"), OPEN)])
def test_the_pool_hands_it_on(memory: float, state: object) -> None:
    pool = EndpointPool(fail_threshold=2, failure_memory_seconds=memory)
    pool.apply([Endpoint(1, "e", "http://h/v1", connected=True)])
    for now in (0.0, 1000.0):
        pool.acquire(RouteRequest(None), now).release(Outcome.FAILED, now)
    assert pool.states[1].breaker.state is state
