"""The pool one rule at a time: the predicate, refusals, panic, configuration. Random walks: test_pool_walk.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from balancer.core.breaker import CLOSED, OPEN
from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.errors import AllBusy, ModelNotFound, NoEndpoint, NoneEligible
from balancer.core.pool import EndpointPool
from balancer.core.reasons import Reason, describe, wait_seconds

CHAT = RouteRequest("chat", prompt_bytes=400)
COOLDOWN = 20.0


def endpoint(eid: int, **fields: Any) -> Endpoint:
    given = {"name": f"e{eid}", "base_url": f"http://host-{eid}", "api_key": "sk-secret", "connected": True, **fields}
    return Endpoint(eid, **given)


def pool_of(*endpoints: Endpoint, strategy: str = "round_robin", **options: Any) -> EndpointPool:
    pool = EndpointPool(strategy=strategy, fail_threshold=3, cooldown_seconds=COOLDOWN, **options)
    pool.apply(endpoints)
    return pool


def only(eid: int) -> RouteRequest:
    return RouteRequest("chat", pinned_to=eid)


def fail(pool: EndpointPool, eid: int, now: float = 0.0, times: int = 3, **details: Any) -> None:
    """Open the breaker of one endpoint by failures."""
    for _ in range(times):
        pool.acquire(only(eid), now).release(Outcome.FAILED, now, error="connection refused", **details)


def serve(pool: EndpointPool, now: float) -> int:
    lease = pool.acquire(CHAT, now)
    lease.release(Outcome.SUCCESS, now, Usage(0, 300))
    return lease.endpoint.id


def refusal(pool: EndpointPool, now: float, request: RouteRequest = CHAT, **options: Any) -> NoEndpoint:
    with pytest.raises(NoEndpoint) as caught:
        pool.acquire(request, now, **options)
    return caught.value


# -- what stands against an endpoint -----------------------------------------------------------------------------------


def disable(pool: EndpointPool) -> None:
    pool.apply([endpoint(1, enabled=False)])


def disconnect(pool: EndpointPool) -> None:
    pool.apply([endpoint(1, connected=False)])


def serve_something_else(pool: EndpointPool) -> None:
    pool.states[1].discovered_models = frozenset({"other"})
    pool.candidates_changed()


def throttle(pool: EndpointPool) -> None:
    pool.acquire(CHAT, 0.0).release(Outcome.REJECTED, 0.0, retry_after_seconds=30.0)


def refuse_credentials(pool: EndpointPool) -> None:
    fail(pool, 1, credentials=True)


def fill(pool: EndpointPool) -> None:
    pool.apply([endpoint(1, max_concurrent=1)])
    pool.acquire(CHAT, 0.0)


def fill_the_process(pool: EndpointPool) -> None:
    for _ in range(50):
        pool.acquire(CHAT, 0.0)


def fall_ill(pool: EndpointPool) -> None:
    pool.states[1].healthy = False


def cool_down(pool: EndpointPool) -> None:
    fail(pool, 1)


FACTS: list[tuple[Callable[[EndpointPool], None], Reason, type[NoEndpoint], float | None]] = [
    (disable, Reason.DISABLED, NoneEligible, None),
    (disconnect, Reason.NOT_CONNECTED, NoneEligible, None),
    (serve_something_else, Reason.MODEL_NOT_SERVED, ModelNotFound, None),
    (throttle, Reason.THROTTLED, AllBusy, 30.0),
    (refuse_credentials, Reason.CREDENTIALS, NoneEligible, COOLDOWN),
    (fill, Reason.FULL, AllBusy, 1.0),
    (fill_the_process, Reason.FULL, AllBusy, 1.0),
]
GUESSES: list[tuple[Callable[[EndpointPool], None], Reason, type[NoEndpoint], float | None]] = [
    (fall_ill, Reason.UNHEALTHY, NoneEligible, None),
    (cool_down, Reason.COOLING_DOWN, NoneEligible, COOLDOWN),
]


@pytest.mark.parametrize(("trouble", "reason", "error", "retry_after"), [*FACTS, *GUESSES])
def test_every_reason_and_its_refusal(
    trouble: Callable[[EndpointPool], None], reason: Reason, error: type[NoEndpoint], retry_after: float | None
) -> None:
    pool = pool_of(endpoint(1), max_connections=50)
    state = pool.states[1]
    assert pool.why_not(state, CHAT, 0.0) is None
    trouble(pool)
    assert pool.why_not(state, CHAT, 0.0) is reason
    refused = refusal(pool, 0.0, may_panic=False)
    assert type(refused) is error
    assert refused.model == "chat"
    assert list(refused.reasons) == ["e1"]
    assert refused.reasons["e1"] == describe(state, reason, 0.0)
    assert refused.reasons["e1"].startswith(str(reason))
    assert refused.retry_after == retry_after
    assert wait_seconds(state, reason, 0.0) == retry_after
    assert "secret" not in f"{refused} {pool} {state} {refused.reasons}"


@pytest.mark.parametrize(("trouble", "reason", "_error", "_wait"), FACTS)
def test_need_passes_through_no_fact(
    trouble: Callable[[EndpointPool], None], reason: Reason, _error: Any, _wait: Any
) -> None:
    pool = pool_of(endpoint(1), max_connections=50)
    trouble(pool)
    refusal(pool, 0.0)
    pool.states[1].healthy = False
    refusal(pool, 0.0)


@pytest.mark.parametrize(("trouble", "reason", "_error", "_wait"), GUESSES)
def test_need_passes_through_guesses(
    trouble: Callable[[EndpointPool], None], reason: Reason, _error: Any, _wait: Any
) -> None:
    pool = pool_of(endpoint(1), max_connections=50)
    trouble(pool)
    lease = pool.acquire(CHAT, 0.0)
    assert lease.panic
    assert "panic" in repr(lease)
    lease.release(Outcome.SUCCESS, 1.0)
    assert pool.states[1].breaker.state is CLOSED


def test_a_reason_in_words_says_how_long_and_what_led_to_it() -> None:
    pool = pool_of(endpoint(1))
    fail(pool, 1)
    words = refusal(pool, 5.0, may_panic=False).reasons["e1"]
    assert words == "cooling down for 15 s more: 3 failures, last: connection refused"
    probe = pool.acquire(CHAT, COOLDOWN)
    assert "a probe is under way" in refusal(pool, COOLDOWN, may_panic=False).reasons["e1"]
    assert refusal(pool, COOLDOWN, may_panic=False).retry_after == 1.0
    probe.release(Outcome.NEUTRAL, COOLDOWN)


def test_pinned_requests_go_there_or_nowhere() -> None:
    pool = pool_of(endpoint(1, max_concurrent=1), endpoint(2))
    assert {pool.acquire(only(2), 0.0).endpoint.id for _ in range(5)} == {2}
    pool.acquire(only(1), 0.0)
    refused = refusal(pool, 0.0, only(1))
    assert isinstance(refused, AllBusy)
    assert refused.reasons["e2"] == "another endpoint was asked for"
    refusal(pool, 0.0, only(2), tried={2})
    refusal(pool, 0.0, only(99))


# -- refusals of many --------------------------------------------------------------------------------------------------


def test_nothing_configured() -> None:
    refused = refusal(pool_of(), 0.0)
    assert type(refused) is NoneEligible
    assert "none configured" in str(refused)


@pytest.mark.parametrize(
    ("endpoints", "error"),
    [
        ([endpoint(1, models=("a",)), endpoint(2, models=("b",))], ModelNotFound),
        ([endpoint(1, models=("a",)), endpoint(2, models=("chat",), connected=False)], NoneEligible),
        ([endpoint(1, models=("a",)), endpoint(2, models=("chat",), enabled=False)], NoneEligible),
        ([endpoint(1, models=("a",)), endpoint(2, connected=False)], ModelNotFound),
        ([endpoint(1, models=("a",), connected=False)], NoneEligible),
    ],
)
def test_a_model_is_not_found_only_where_every_known_list_leaves_it_out(
    endpoints: list[Endpoint], error: type[NoEndpoint]
) -> None:
    assert type(refusal(pool_of(*endpoints), 0.0)) is error


def test_an_unknown_list_in_service_may_hold_any_model() -> None:
    pool = pool_of(endpoint(1, models=("a",)), endpoint(2))
    fail(pool, 2)
    assert type(refusal(pool, 0.0, may_panic=False)) is NoneEligible


def test_the_smallest_wait_of_all_is_told() -> None:
    pool = pool_of(endpoint(1), endpoint(2), endpoint(3))
    for eid, seconds in ((1, 50.0), (2, 10.0)):
        pool.acquire(only(eid), 0.0).release(Outcome.REJECTED, 0.0, retry_after_seconds=seconds)
    fail(pool, 3, credentials=True)
    refused = refusal(pool, 4.0)
    assert isinstance(refused, AllBusy)
    assert refused.retry_after == pytest.approx(6.0)
    assert set(refused.reasons) == {"e1", "e2", "e3"}


def test_busy_is_who_is_nothing_but_busy() -> None:
    """Full of requests let through in need, an endpoint that is down is still down: 503, not 429."""
    pool = pool_of(endpoint(1, max_concurrent=1))
    fail(pool, 1)
    pool.acquire(CHAT, 1.0)
    assert type(refusal(pool, 1.0)) is NoneEligible


def test_throttled_and_down_waits_for_both() -> None:
    pool = pool_of(endpoint(1))
    fail(pool, 1, retry_after_seconds=5.0, times=1)
    fail(pool, 1, now=5.0, times=2)
    pool.states[1].throttled_until = 10.0
    refused = refusal(pool, 6.0)
    assert type(refused) is NoneEligible
    assert refused.retry_after == pytest.approx(5.0 + COOLDOWN - 6.0)


def test_one_that_was_tried_is_not_asked_again_and_says_why() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    pool.acquire(only(1), 0.0).release(Outcome.FAILED, 0.0, error="answered 500")
    pool.acquire(only(2), 0.0).release(Outcome.REJECTED, 0.0, retry_after_seconds=7.0, error="answered 429")
    refused = refusal(pool, 0.0, tried={1, 2})
    assert isinstance(refused, AllBusy)
    assert refused.retry_after == 7.0
    assert refused.reasons["e1"] == "tried: answered 500"
    assert "answered 429" in refused.reasons["e2"]


def test_no_more_than_twenty_are_noted_as_passed_over() -> None:
    pool = pool_of(*(endpoint(eid) for eid in range(1, 32)))
    for eid in range(1, 31):
        pool.states[eid].healthy = False
    lease = pool.acquire(CHAT, 0.0)
    assert lease.endpoint.id == 31
    assert lease.passed_over == tuple((f"e{eid}", Reason.UNHEALTHY) for eid in range(1, 21))


# -- need --------------------------------------------------------------------------------------------------------------


def test_need_takes_the_one_that_recovers_first_then_turns() -> None:
    pool = pool_of(endpoint(1), endpoint(2), endpoint(3))
    for eid, now in ((2, 0.0), (1, 5.0), (3, 5.0)):
        fail(pool, eid, now=now)
    pool.acquire(only(2), 5.0).release(Outcome.NEUTRAL, 5.0)
    assert pool.acquire(CHAT, 6.0).endpoint.id == 2
    assert [pool.acquire(CHAT, 6.0, {2}).endpoint.id for _ in range(4)] == [1, 3, 1, 3]


def test_endpoints_that_may_recover_at_any_moment_take_turns() -> None:
    """What a breaker remembers of a cooldown that is over must not make one look better than another."""
    pool = pool_of(endpoint(1), endpoint(2))
    fail(pool, 1)
    probe = pool.acquire(only(1), COOLDOWN)
    assert not probe.panic
    pool.states[2].healthy = False
    assert sorted(pool.acquire(CHAT, 100.0).endpoint.id for _ in range(4)) == [1, 1, 2, 2]


def test_need_respects_what_was_tried_and_the_word_of_the_caller() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    for eid in (1, 2):
        fail(pool, eid)
    assert pool.acquire(CHAT, 0.0, {1}).endpoint.id == 2
    refusal(pool, 0.0, tried={1, 2})
    refusal(pool, 0.0, may_panic=False)


def test_need_respects_caps() -> None:
    pool = pool_of(endpoint(1, max_concurrent=2))
    fail(pool, 1)
    leases = [pool.acquire(CHAT, 0.0), pool.acquire(CHAT, 0.0)]
    refusal(pool, 0.0)
    leases[0].release(Outcome.FAILED, 0.0)
    assert pool.acquire(CHAT, 0.0).panic


def test_overflow_of_one_that_serves_does_not_go_to_one_that_is_down() -> None:
    """One of two is dead, so the other is full: the answer is 429 or the queue, not waiting for the dead one."""
    pool = pool_of(endpoint(1, max_concurrent=1), endpoint(2))
    fail(pool, 2)
    lease = pool.acquire(CHAT, 0.0)
    assert isinstance(refusal(pool, 0.0), AllBusy)
    assert pool.acquire(CHAT, 0.0, {1}).endpoint.id == 2
    lease.release(Outcome.REJECTED, 0.0)
    assert pool.acquire(CHAT, 0.0).panic


def test_one_that_is_down_and_full_is_nothing_to_wait_for() -> None:
    pool = pool_of(endpoint(1, max_concurrent=1), endpoint(2))
    for eid in (1, 2):
        fail(pool, eid)
    assert [pool.acquire(CHAT, 0.0).endpoint.id for _ in range(3)] == [1, 2, 2]


def test_need_during_a_probe_leaves_the_slot_to_the_probe() -> None:
    pool = pool_of(endpoint(1))
    fail(pool, 1)
    probe, needy = pool.acquire(CHAT, COOLDOWN), pool.acquire(CHAT, COOLDOWN)
    assert (probe.panic, needy.panic) == (False, True)
    needy.release(Outcome.NEUTRAL, COOLDOWN)
    assert pool.acquire(CHAT, COOLDOWN).panic
    probe.release(Outcome.NEUTRAL, COOLDOWN)
    assert not pool.acquire(CHAT, COOLDOWN).panic


def test_what_turned_against_an_endpoint_while_others_were_served_is_seen() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    leases = [pool.acquire(only(1), 0.0) for _ in range(3)]
    assert pool.acquire(CHAT, 0.0).endpoint.id == 2
    for lease in leases:
        lease.release(Outcome.FAILED, 0.0)
    assert {pool.acquire(CHAT, 0.0).endpoint.id for _ in range(4)} == {2}


def test_nobody_in_need_while_somebody_is_eligible() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    fail(pool, 1)
    assert {pool.acquire(CHAT, 0.0).endpoint.id for _ in range(5)} == {2}


# -- declining ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["least_loaded", "round_robin", "percentage", "latency"])
def test_one_that_never_has_the_model_does_not_attract_it(strategy: str) -> None:
    """A quick 404 is no fault, so the breaker stays closed; it must not be the least loaded one for ever."""
    pool = pool_of(endpoint(1, token_quota_percent=50.0), endpoint(2, token_quota_percent=50.0), strategy=strategy)
    declined, running = 0, []
    for tick in range(200):
        now = tick * 0.1
        lease = pool.acquire(CHAT, now)
        if lease.endpoint.id == 1:
            declined += 1
            lease.release(Outcome.NEUTRAL, now, declined=True)
            lease = pool.acquire(CHAT, now, {1})
        lease.committed(now)
        running.append(lease)
    assert 1 <= declined <= 6
    assert pool.acquire(RouteRequest("other"), 20.0).endpoint.id == 1


def test_one_that_declined_is_still_asked_when_nobody_else_can_and_forgiven_when_it_answers() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    for _ in range(3):
        pool.acquire(only(1), 0.0).release(Outcome.NEUTRAL, 0.0, declined=True)
    assert [pool.acquire(CHAT, 0.0).endpoint.id for _ in range(3)] == [2, 2, 2]
    assert pool.why_not(pool.states[1], CHAT, 0.0) is None
    pool.acquire(CHAT, 0.0, {2}).release(Outcome.SUCCESS, 0.0)
    assert {pool.acquire(CHAT, 0.0).endpoint.id for _ in range(2)} == {1, 2}


def test_declining_now_and_then_changes_nothing() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    for tick in range(40):
        lease = pool.acquire(CHAT, 0.0)
        assert lease.endpoint.id == 1 + tick % 2
        served = tick % 6
        lease.release(Outcome.SUCCESS if served else Outcome.NEUTRAL, 0.0, declined=not served)


def test_while_declined_no_credit_gathers() -> None:
    pool = pool_of(endpoint(1, token_quota_percent=50), endpoint(2, token_quota_percent=50), strategy="percentage")
    for _ in range(3):
        pool.acquire(only(1), 0.0).release(Outcome.NEUTRAL, 0.0, declined=True)
    assert {serve(pool, 5.0) for _ in range(100)} == {2}
    assert [serve(pool, 10.0) for _ in range(20)].count(1) == 10


# -- configuration -----------------------------------------------------------------------------------------------------


def test_live_numbers_stay_with_the_id() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    state, lease = pool.states[1], pool.acquire(only(1), 0.0)
    fail(pool, 1)
    pool.apply([endpoint(1, name="renamed", max_concurrent=5), endpoint(3)], "priority")
    assert pool.states[1] is state
    assert (state.endpoint.name, state.inflight, state.breaker.state) == ("renamed", 1, OPEN)
    assert lease.endpoint.name == "e1"
    assert list(pool.states) == [1, 3]


def test_a_new_mode_and_a_new_cap_take_effect_at_once() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    held = pool.acquire(only(1), 0.0)
    assert repr(pool) == "<EndpointPool round_robin: 2 endpoints, 2 eligible, 1 inflight>"
    assert pool.acquire(CHAT, 0.0).endpoint.id == 2
    pool.apply([endpoint(1, max_concurrent=1), endpoint(2, priority_order=20)], "failover")
    assert [pool.acquire(CHAT, 0.0).endpoint.id for _ in range(3)] == [2, 2, 2]
    held.release(Outcome.SUCCESS, 0.0)
    assert pool.acquire(CHAT, 0.0).endpoint.id == 1
    assert repr(pool) == "<EndpointPool priority: 2 endpoints, 1 eligible, 5 inflight>"


@pytest.mark.parametrize("change", [{"base_url": "http://new"}, {"api_key": "sk-new"}, {"verify_tls": False}])
def test_another_backend_behind_the_id_begins_clean_and_hears_nothing_of_the_old_one(change: dict[str, Any]) -> None:
    pool = pool_of(endpoint(1))
    state = pool.states[1]
    old = [pool.acquire(CHAT, 0.0) for _ in range(6)]
    fail(pool, 1, credentials=True, retry_after_seconds=0.0)
    state.healthy, state.discovered_models = False, frozenset({"chat"})
    pool.apply([endpoint(1, **change)])
    assert pool.why_not(state, CHAT, 0.0) is None
    for lease in old[:3]:
        lease.release(Outcome.FAILED, 1.0, error="old trouble", credentials=True)
    old[3].release(Outcome.REJECTED, 1.0, retry_after_seconds=100.0)
    old[4].committed(1.0)
    old[5].release(Outcome.SUCCESS, 1.0, Usage(1, 2))
    assert pool.why_not(state, CHAT, 1.0) is None
    assert (state.inflight, state.last_error, state.credentials_refused) == (1, "", False)
    assert state.fresh_latency(1.0) is None
    assert (state.total_requests, state.total_failures, state.completion_tokens_total) == (8, 7, 2)


def test_a_late_release_after_removal_is_harmless() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    state, lease = pool.states[1], pool.acquire(only(1), 0.0)
    pool.apply([endpoint(2)])
    assert pool.why_not(state, CHAT, 0.0) is Reason.REMOVED
    assert {pool.acquire(CHAT, 0.0).endpoint.id for _ in range(3)} == {2}
    lease.committed(1.0)
    lease.release(Outcome.FAILED, 1.0, Usage(1, 1))
    assert state.inflight == 0
    pool.apply([endpoint(1), endpoint(2)])
    assert pool.states[1] is not state


def test_undoing_a_delete_counts_on_where_it_was() -> None:
    """Requests of before the delete still run there: a cap of one must not become two."""
    pool = pool_of(endpoint(1, max_concurrent=1))
    lease = pool.acquire(CHAT, 0.0)
    pool.apply([])
    pool.apply([endpoint(2, connected=False)])
    pool.apply([endpoint(1, max_concurrent=1)])
    assert isinstance(refusal(pool, 0.0), AllBusy)
    lease.release(Outcome.SUCCESS, 0.0, Usage(5, 5))
    assert pool.acquire(CHAT, 0.0).endpoint.id == 1
    assert pool.states[1].completion_tokens_total == 5


def test_a_configuration_that_breaks_half_way_changes_nothing() -> None:
    def breaking() -> Iterator[Endpoint]:
        yield endpoint(1, enabled=False)
        raise RuntimeError

    pool = pool_of(endpoint(1))
    with pytest.raises(RuntimeError):
        pool.apply(breaking())
    assert pool.acquire(CHAT, 0.0).endpoint.enabled


def test_models_are_those_of_connected_endpoints_aliases_included() -> None:
    pool = pool_of(
        endpoint(1, models=("a", "b"), model_aliases={"alias": "a"}),
        endpoint(2),
        endpoint(3, models=("c",), connected=False),
        endpoint(4, models=("d",), enabled=False),
    )
    assert pool.models() == {"a", "b", "alias"}
    pool.states[2].discovered_models = frozenset({"e"})
    assert pool.models() == {"a", "b", "alias", "e"}
    assert pool_of().models() == frozenset()
    lease = pool.acquire(RouteRequest("alias"), 0.0)
    assert lease.endpoint.upstream_model("alias") == "a"
    assert lease.endpoint.upstream_model("b") == "b"
    assert lease.endpoint.upstream_model(None) is None


def test_whoever_waits_is_told_when_something_may_have_changed() -> None:
    pool, told = pool_of(endpoint(1)), []
    pool.freed = lambda: told.append(pool.states[1].inflight)
    lease = pool.acquire(CHAT, 0.0)
    lease.committed(0.0)
    assert told == []
    lease.release(Outcome.NEUTRAL, 0.0)
    assert told == [0]
    pool.candidates_changed()
    pool.apply([endpoint(1)])
    assert len(told) == 3
    fail(pool, 1)
    told.clear()
    pool.acquire(CHAT, 0.0).committed(0.0)
    assert told == [1]
