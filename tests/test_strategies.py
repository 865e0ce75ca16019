"""The eight strategies, seen through the pool: who is chosen, in which proportion, and how ties rotate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.errors import AllBusy
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool
from balancer.core.strategies import ALIASES, STRATEGIES, resolve_strategy

CHAT = RouteRequest("chat", prompt_bytes=400)


def endpoint(eid: int, **fields: Any) -> Endpoint:
    return Endpoint(eid, f"e{eid}", f"http://host-{eid}/v1", **{"connected": True, **fields})


def pool_of(strategy: str, *endpoints: Endpoint, seed: int = 1) -> EndpointPool:
    pool = EndpointPool(strategy=strategy, rng=Random(seed))
    pool.apply(endpoints)
    return pool


def serve(pool: EndpointPool, now: float, *, request: RouteRequest = CHAT, first_byte: float = 0.1) -> int:
    """One request from beginning to end; the id of who served it."""
    lease = pool.acquire(request, now)
    lease.committed(now + first_byte)
    lease.release(Outcome.SUCCESS, now + first_byte, Usage(100, 100))
    return lease.endpoint.id


def served(pool: EndpointPool, requests: int, *, request: RouteRequest = CHAT) -> list[int]:
    return [serve(pool, float(second), request=request) for second in range(requests)]


# -- names -------------------------------------------------------------------------------------------------------------


def test_there_are_eight() -> None:
    assert list(STRATEGIES) == [
        "percentage",
        "priority",
        "round_robin",
        "weighted",
        "least_loaded",
        "random",
        "latency",
        "cost",
    ]
    assert set(ALIASES.values()) <= set(STRATEGIES)
    assert not set(ALIASES) & set(STRATEGIES)


@pytest.mark.parametrize(
    ("given_name", "canonical"),
    [*((name, name) for name in STRATEGIES), *ALIASES.items()],
)
def test_names_and_aliases_in_any_case_and_spelling(given_name: str, canonical: str) -> None:
    for spelling in (given_name, given_name.upper(), f" {given_name.title()}\n", given_name.replace("_", "-")):
        assert resolve_strategy(spelling) == canonical
        assert EndpointPool(strategy=spelling).strategy.name == canonical


@pytest.mark.parametrize("name", ["", "fastest", "percentages", "ｐriority"])
def test_an_unknown_name_is_told_what_is_valid(name: str) -> None:
    with pytest.raises(ValueError, match=r"valid are: percentage, priority, .*least_conn") as caught:
        resolve_strategy(name)
    assert repr(name) in str(caught.value)


def test_an_unknown_name_leaves_the_pool_as_it_was() -> None:
    pool = pool_of("priority", endpoint(1))
    with pytest.raises(ValueError, match="unknown strategy"):
        pool.apply([endpoint(2)], "fastest")
    assert (list(pool.states), pool.strategy.name) == ([1], "priority")


# -- ties --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["round_robin", "priority", "least_loaded", "cost"])
def test_equals_take_turns(strategy: str) -> None:
    pool = pool_of(strategy, *(endpoint(eid, price_per_million_input=1.0) for eid in range(5)))
    picks = served(pool, 25)
    assert sorted(picks[:5]) == [0, 1, 2, 3, 4]
    assert picks == picks[:5] * 5


def test_each_model_has_turns_of_its_own() -> None:
    """Two models asked for in turns must not fall into step, one endpoint taking all of one of them."""
    pool = pool_of("round_robin", endpoint(1), endpoint(2))
    picks: dict[str, Counter[int]] = {"chat": Counter(), "embeddings": Counter()}
    for second in range(20):
        for model in picks:
            picks[model][serve(pool, float(second), request=RouteRequest(model))] += 1
    assert picks == {"chat": {1: 10, 2: 10}, "embeddings": {1: 10, 2: 10}}


def test_models_asked_for_once_do_not_all_begin_with_the_same_endpoint() -> None:
    pool = pool_of("round_robin", *(endpoint(eid) for eid in range(4)))
    picks = Counter(serve(pool, float(k), request=RouteRequest(f"model-{k}")) for k in range(40))
    assert picks == {0: 10, 1: 10, 2: 10, 3: 10}


@settings(max_examples=40)
@given(changes=st.lists(st.sets(st.integers(0, 7), min_size=1), min_size=1, max_size=12))
def test_round_robin_is_exact_while_endpoints_come_and_go(changes: list[set[int]]) -> None:
    pool = EndpointPool(strategy="round_robin")
    for connected in changes:
        pool.apply([endpoint(eid, connected=eid in connected) for eid in range(8)])
        picks = served(pool, 3 * len(connected))
        for start in range(0, len(picks), len(connected)):
            assert set(picks[start : start + len(connected)]) == connected


def test_a_newcomer_is_next_and_then_one_of_many() -> None:
    pool = pool_of("round_robin", endpoint(1), endpoint(2))
    served(pool, 7)
    pool.apply([endpoint(1), endpoint(2), endpoint(3)])
    assert served(pool, 6) == [3, 2, 1, 3, 2, 1]


def test_round_robin_skips_the_one_that_is_out_and_owes_it_nothing() -> None:
    pool = pool_of("round_robin", endpoint(1), endpoint(2), endpoint(3))
    pool.states[2].healthy = False
    assert Counter(served(pool, 20)) == {1: 10, 3: 10}
    pool.states[2].healthy = True
    assert Counter(served(pool, 30)) == {1: 10, 2: 10, 3: 10}


# -- priority ----------------------------------------------------------------------------------------------------------


def test_priority_overflows_in_order_and_returns_at_once() -> None:
    pool = pool_of(
        "priority",
        endpoint(1, priority_order=20, max_concurrent=1),
        endpoint(2, priority_order=1, max_concurrent=2),
        endpoint(3, priority_order=30, max_concurrent=1),
    )
    leases = [pool.acquire(CHAT, 0.0) for _ in range(4)]
    assert [lease.endpoint.id for lease in leases] == [2, 2, 1, 3]
    with pytest.raises(AllBusy) as refusal:
        pool.acquire(CHAT, 0.0)
    assert refusal.value.retry_after
    leases[0].release(Outcome.SUCCESS, 1.0)
    assert pool.acquire(CHAT, 1.0).endpoint.id == 2


@settings(max_examples=60)
@given(
    caps=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from(Outcome)), max_size=60),
)
def test_priority_never_exceeds_a_cap_and_never_passes_over_a_better_one(
    caps: list[int], steps: list[tuple[bool, int, Outcome]]
) -> None:
    pool = EndpointPool(strategy="priority", fail_threshold=10_000)
    pool.apply([endpoint(eid, priority_order=eid, max_concurrent=cap) for eid, cap in enumerate(caps)])
    leases: list[Lease] = []
    for now, (taking, which, outcome) in enumerate(steps):
        if not taking and leases:
            leases.pop(which % len(leases)).release(outcome, now, retry_after_seconds=0.1)
        room = [eid for eid, cap in enumerate(caps) if pool.states[eid].inflight < cap]
        room = [eid for eid in room if now >= pool.states[eid].throttled_until]
        if not taking:
            continue
        try:
            leases.append(pool.acquire(CHAT, now))
        except AllBusy as busy:
            assert not room
            assert busy.retry_after is not None
        else:
            assert leases[-1].endpoint.id == room[0]
        assert all(pool.states[eid].inflight <= cap for eid, cap in enumerate(caps))


# -- by share of requests, load, chance --------------------------------------------------------------------------------


def test_weighted_shares_requests_whatever_their_tokens() -> None:
    pool = pool_of("weighted", endpoint(1, weight=5), endpoint(2, weight=3), endpoint(3, weight=2))
    rng = Random(3)
    picks: Counter[int] = Counter()
    for second in range(1000):
        lease = pool.acquire(CHAT, float(second))
        picks[lease.endpoint.id] += 1
        lease.release(Outcome.SUCCESS, float(second), Usage(0, rng.randrange(1, 100_000)))
    assert picks == {1: 500, 2: 300, 3: 200}


def test_weighted_heeds_no_usage_whether_reported_or_not() -> None:
    pool = pool_of("weighted", endpoint(1, weight=1), endpoint(2, weight=1))
    picks: Counter[int] = Counter()
    for second in range(100):
        lease = pool.acquire(CHAT, float(second))
        picks[lease.endpoint.id] += 1
        lease.release(Outcome.SUCCESS, float(second), Usage(1, 10**6) if lease.endpoint.id == 1 else None)
    assert picks == {1: 50, 2: 50}


def test_weight_zero_serves_only_when_nobody_else_can() -> None:
    for strategy in ("weighted", "least_loaded"):
        pool = pool_of(strategy, endpoint(1, weight=0), endpoint(2, weight=0.5, max_concurrent=2))
        assert [pool.acquire(CHAT, 0.0).endpoint.id for _ in range(4)] == [2, 2, 1, 1]


def test_least_loaded_weighs_the_work_under_way() -> None:
    pool = pool_of("least_loaded", endpoint(1, weight=3.0), endpoint(2, weight=1.0))
    for _ in range(40):
        pool.acquire(CHAT, 0.0)
    assert [pool.states[eid].inflight for eid in (1, 2)] == [30, 10]


def test_random_is_uniform_and_draws_from_the_rng_it_was_given() -> None:
    picks = served(pool_of("random", *(endpoint(eid) for eid in range(4)), seed=7), 4000)
    assert all(abs(count - 1000) < 100 for count in Counter(picks).values())
    assert picks == served(pool_of("random", *(endpoint(eid) for eid in range(4)), seed=7), 4000)
    assert picks != served(pool_of("random", *(endpoint(eid) for eid in range(4)), seed=8), 4000)


# -- latency -----------------------------------------------------------------------------------------------------------


def latencies(pool: EndpointPool, now: float, seconds: Sequence[float]) -> None:
    for state, sample in zip(pool.states.values(), seconds, strict=True):
        state.sample_latency(sample, now)


def test_latency_prefers_the_quick_one_and_spreads_what_waits() -> None:
    pool = pool_of("latency", endpoint(1), endpoint(2))
    latencies(pool, 0.0, [0.1, 0.3])
    for _ in range(40):
        pool.acquire(CHAT, 0.0)
    assert [pool.states[eid].inflight for eid in (1, 2)] == [30, 10]


def test_latency_is_time_to_the_first_byte_not_to_the_last() -> None:
    pool = pool_of("latency", endpoint(1), endpoint(2))
    for first_byte, last_byte in ((0.1, 50.0), (0.2, 0.2)):
        lease = pool.acquire(CHAT, 100.0)
        lease.committed(100.0 + first_byte)
        lease.release(Outcome.SUCCESS, 100.0 + last_byte)
    assert pool.states[1].fresh_latency(150.0) == pytest.approx(0.1)
    assert serve(pool, 150.0) == 1


def test_failing_fast_does_not_look_attractive() -> None:
    pool = pool_of("latency", endpoint(1), endpoint(2))
    latencies(pool, 0.0, [0.1, 0.5])
    lease = pool.acquire(CHAT, 30.0)
    assert lease.endpoint.id == 1
    lease.release(Outcome.FAILED, 30.001)
    assert [serve(pool, 31.0, first_byte=0.5) for _ in range(10)] == [2] * 10
    assert pool.states[1].fresh_latency(31.0) == pytest.approx(0.1 + 0.3 * (10.0 - 0.1))


def test_a_late_break_counts_no_more_than_a_quick_failure() -> None:
    pool = pool_of("latency", endpoint(1))
    lease = pool.acquire(CHAT, 0.0)
    lease.committed(0.1)
    lease.release(Outcome.FAILED, 50.0)
    fresh = pool.states[1].fresh_latency(50.0)
    assert fresh is not None
    assert fresh < 10.0


def test_what_is_not_known_or_too_old_is_explored_by_one_request_at_a_time() -> None:
    pool = pool_of("latency", endpoint(1), endpoint(2), endpoint(3))
    latencies(pool, 0.0, [0.2, 0.2, 0.9])
    later = 60.5
    pool.states[1].sample_latency(0.2, later)
    assert {pool.acquire(CHAT, later).endpoint.id for _ in range(3)} == {1, 2, 3}
    assert {pool.acquire(CHAT, later + 1.0).endpoint.id for _ in range(10)} == {1}
    assert [pool.acquire(CHAT, later + 10.0).endpoint.id for _ in range(4)] == [2, 3, 1, 1]


def test_an_unknown_latency_counts_as_the_best_and_where_none_is_known_load_decides() -> None:
    pool = pool_of("latency", endpoint(1), endpoint(2), endpoint(3))
    for _ in range(30):
        pool.acquire(CHAT, 0.0)
    assert [state.inflight for state in pool.states.values()] == [10, 10, 10]
    pool = pool_of("latency", endpoint(1), endpoint(2), endpoint(3))
    pool.states[1].sample_latency(0.2, 0.0)
    pool.states[2].sample_latency(0.9, 0.0)
    assert [pool.acquire(CHAT, 0.0).endpoint.id for _ in range(4)] == [1, 3, 1, 1]


def test_an_endpoint_that_never_gives_a_sample_does_not_attract_all_requests() -> None:
    """Its requests end without a verdict, say because its clients leave; it must not count as the best for ever."""
    pool = pool_of("latency", endpoint(1), endpoint(2))
    picks: Counter[int] = Counter()
    for tick in range(600):
        now = tick * 0.1
        lease = pool.acquire(CHAT, now)
        picks[lease.endpoint.id] += 1
        if lease.endpoint.id == 1:
            lease.release(Outcome.NEUTRAL, now + 0.01)
        else:
            lease.committed(now + 0.05)
            lease.release(Outcome.SUCCESS, now + 0.05)
    assert 2 <= picks[1] <= 10


# -- cost --------------------------------------------------------------------------------------------------------------


def test_cost_takes_the_cheapest_free_first_and_unknown_last() -> None:
    pool = pool_of(
        "cost",
        endpoint(1),
        endpoint(2, price_per_million_input=1.0, price_per_million_output=2.0, max_concurrent=1),
        endpoint(3, price_per_million_input=0.0, price_per_million_output=0.0, max_concurrent=1),
        endpoint(4, price_per_million_output=1.9, max_concurrent=1),
    )
    assert [pool.acquire(CHAT, 0.0).endpoint.id for _ in range(5)] == [3, 2, 4, 1, 1]


def test_cost_weighs_both_prices_by_what_the_request_needs() -> None:
    pool = pool_of(
        "cost",
        endpoint(1, price_per_million_input=1.0, price_per_million_output=10.0),
        endpoint(2, price_per_million_input=3.0, price_per_million_output=4.0),
    )
    for prompt_tokens, costs, cheapest in ((100, [2660, 1324], 2), (2000, [4560, 7024], 1)):
        request = RouteRequest("chat", prompt_bytes=4 * prompt_tokens)
        assert [each.score for each in pool.explain(request, 0.0).candidates] == costs
        assert serve(pool, 0.0, request=request) == cheapest


def test_answering_at_length_does_not_make_an_endpoint_dear() -> None:
    """The same request is compared at every price, not at every endpoint's own average."""
    pool = pool_of("cost", endpoint(1, price_per_million_input=1.0), endpoint(2, price_per_million_input=5.0))
    for second in range(10):
        lease = pool.acquire(CHAT, float(second))
        assert lease.endpoint.id == 1
        lease.release(Outcome.SUCCESS, float(second), Usage(1000, 50_000))
