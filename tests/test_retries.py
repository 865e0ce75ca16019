"""The retry budget: a share of what is under way, with a floor."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.retries import RetryBudget


@pytest.mark.parametrize(
    ("percent", "active", "limit"), [(20, 0, 3), (20, 15, 3), (20, 19, 3), (20, 20, 4), (20, 100, 20), (0, 1000, 3)]
)
def test_the_limit_is_a_share_of_active_requests_but_never_below_the_floor(
    percent: float, active: int, limit: int
) -> None:
    budget = RetryBudget(percent)
    budget.active_requests = active
    assert budget.limit == limit
    assert [budget.try_retry() for _ in range(limit + 2)] == [True] * limit + [False] * 2
    assert (budget.active_retries, budget.refused_total) == (limit, 2)
    assert f"at most {limit}" in repr(budget)


def test_what_is_given_back_can_be_taken_again() -> None:
    budget = RetryBudget(100, floor=1)
    assert budget.try_retry()
    assert not budget.try_retry()
    budget.retry_ended()
    assert budget.try_retry()


def test_fewer_requests_make_the_limit_smaller_but_take_nothing_back() -> None:
    budget = RetryBudget(50, floor=0)
    budget.active_requests = 10
    assert all(budget.try_retry() for _ in range(5))
    budget.active_requests = 2
    assert not budget.try_retry()
    for _ in range(4):
        budget.retry_ended()
    assert not budget.try_retry()
    budget.retry_ended()
    assert budget.try_retry()


@settings(max_examples=50)
@given(percent=st.floats(0, 100), floor=st.integers(0, 5), steps=st.lists(st.sampled_from("+-r."), max_size=60))
def test_no_retry_is_let_in_above_the_limit_and_none_is_refused_below(
    percent: float, floor: int, steps: list[str]
) -> None:
    budget = RetryBudget(percent, floor)
    for step in steps:
        if step == "+":
            budget.active_requests += 1
        elif step == "-" and budget.active_requests:
            budget.active_requests -= 1
        elif step == "r":
            below = budget.active_retries < max(floor, int(budget.active_requests * percent / 100))
            assert budget.try_retry() is below
        elif step == "." and budget.active_retries:
            budget.retry_ended()
