"""Who gets how much: simulations in virtual time of shares, rejoining, credit, epochs and lanes."""

from __future__ import annotations

import gc
import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import pytest

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.errors import NoEndpoint
from balancer.core.lane import Lane
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool

CHAT = RouteRequest("chat", prompt_bytes=400)
TOKENS_PER_SECOND = 50.0
MINUTE = 60.0


def endpoint(eid: int, quota: float = 0.0, **fields: Any) -> Endpoint:
    return Endpoint(eid, f"e{eid}", f"http://host-{eid}", **{"connected": True, "token_quota_percent": quota, **fields})


def pool_of(*endpoints: Endpoint, strategy: str = "percentage", **options: Any) -> EndpointPool:
    pool = EndpointPool(strategy=strategy, rng=Random(1), **options)
    pool.apply(endpoints)
    return pool


class Running(NamedTuple):
    """An answer under way, ordered by its end."""

    ends_at: float
    order: int
    lease: Lease
    tokens: int


class Traffic:
    """A crowd of clients that keeps `in_flight` requests open; answers are of lognormal length, `spread` its sigma."""

    def __init__(
        self, pool: EndpointPool, seed: int, *, in_flight: int = 32, spread: float = 1.0, streamed: bool = False
    ) -> None:
        self.pool, self.rng = pool, Random(seed)
        self.in_flight, self.spread, self.streamed = in_flight, spread, streamed
        self.now, self.order = 0.0, 0
        self.running: list[Running] = []

    def admit(self) -> int:
        for running in self.running if self.streamed else ():
            lease = running.lease
            lease.progressed((self.now - lease.acquired_at) * TOKENS_PER_SECOND)
        lease = self.pool.acquire(CHAT, self.now)
        tokens = int(self.rng.lognormvariate(5.5, self.spread)) + 20
        self.order += 1
        heapq.heappush(self.running, Running(self.now + tokens / TOKENS_PER_SECOND, self.order, lease, tokens))
        return lease.endpoint.id

    def end_next(self) -> None:
        self.now, _, lease, tokens = heapq.heappop(self.running)
        lease.committed(self.now)
        lease.release(Outcome.SUCCESS, self.now, Usage(0, tokens))

    def requests(self, count: int) -> None:
        """So many requests, and wait for the last answer."""
        for _ in range(count):
            if len(self.running) == self.in_flight:
                self.end_next()
            self.admit()
        while self.running:
            self.end_next()

    def seconds(self, seconds: float) -> Counter[int]:
        """Go on for so long; who was picked how often."""
        picked: Counter[int] = Counter()
        end = self.now + seconds
        while self.now < end:
            while len(self.running) < self.in_flight:
                picked[self.admit()] += 1
            self.end_next()
        return picked


def shares(pool: EndpointPool) -> list[float]:
    tokens = [state.completion_tokens_total for state in pool.states.values()]
    return [100 * count / sum(tokens) for count in tokens]


def picks(pool: EndpointPool, count: int, now: float, *, tokens: int = 300, request: RouteRequest = CHAT) -> list[int]:
    """Requests one after the other, all of the same length."""
    chosen = []
    for _ in range(count):
        lease = pool.acquire(request, now)
        lease.release(Outcome.SUCCESS, now, Usage(0, tokens))
        chosen.append(lease.endpoint.id)
    return chosen


# -- accuracy ----------------------------------------------------------------------------------------------------------

QUOTAS = ([50, 50], [60, 30, 10], [70, 20, 5, 5], [90, 10])


def worst_errors(quotas: Iterable[float], *, spread: float, streamed: bool) -> list[float]:
    quotas = list(quotas)
    errors = []
    for seed in range(10):
        pool = pool_of(*(endpoint(eid, quota) for eid, quota in enumerate(quotas)))
        Traffic(pool, seed, spread=spread, streamed=streamed).requests(1000)
        errors.append(max(abs(share - quota) for share, quota in zip(shares(pool), quotas, strict=True)))
    return errors


@pytest.mark.parametrize("quotas", QUOTAS, ids=str)
def test_streamed_answers_of_very_unequal_length_come_within_a_point_of_every_quota(quotas: list[float]) -> None:
    """Lognormal, sigma 0.7: one answer in a hundred has five times the median. 32 in flight, 1,000 requests."""
    assert max(worst_errors(quotas, spread=0.7, streamed=True)) < 1.0


@pytest.mark.parametrize("quotas", QUOTAS, ids=str)
def test_heavier_tails_are_off_by_little_more_than_what_is_in_flight_at_the_end(quotas: list[float]) -> None:
    """Sigma 1.0: one in a hundred has ten times the median; nobody can know the length of the last 32 beforehand."""
    streamed, whole = (worst_errors(quotas, spread=1.0, streamed=streamed) for streamed in (True, False))
    assert fmean(streamed) < 0.8
    assert fmean(whole) < 1.5
    assert fmean(streamed) < fmean(whole)


def test_quotas_are_relative() -> None:
    pool = pool_of(endpoint(1, 3), endpoint(2, 1))
    assert Counter(picks(pool, 400, 0.0)) == {1: 300, 2: 100}


def test_simultaneous_admissions_spread_before_any_answer_is_seen() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 30), endpoint(3, 20))
    burst = Counter(pool.acquire(CHAT, 0.0).endpoint.id for _ in range(100))
    assert burst == {1: 50, 2: 30, 3: 20}


def test_the_estimate_follows_what_answers_take() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    picks(pool, 2, 0.0, tokens=1)
    for _ in range(100):
        for eid, tokens in ((1, 1000), (2, 100)):
            pool.acquire(RouteRequest("chat", pinned_to=eid), 0.0).release(Outcome.SUCCESS, 0.0, Usage(0, tokens))
    burst = Counter(pool.acquire(CHAT, 0.0).endpoint.id for _ in range(110))
    assert abs(burst[1] - 10) <= 1


def test_answers_without_usage_share_by_the_estimate() -> None:
    pool = pool_of(endpoint(1, 75), endpoint(2, 25))
    chosen: Counter[int] = Counter()
    for _ in range(100):
        lease = pool.acquire(CHAT, 0.0)
        lease.release(Outcome.SUCCESS, 0.0)
        chosen[lease.endpoint.id] += 1
    assert chosen == {1: 75, 2: 25}


def test_a_failed_attempt_keeps_its_charge() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50), fail_threshold=10**6)
    failing: Counter[int] = Counter()
    for _ in range(100):
        lease = pool.acquire(CHAT, 0.0)
        failing[lease.endpoint.id] += 1
        lease.release(Outcome.FAILED if lease.endpoint.id == 1 else Outcome.SUCCESS, 0.0)
    assert failing == {1: 50, 2: 50}


def test_a_long_stream_is_charged_as_it_passes() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    stream = pool.acquire(CHAT, 0.0)
    assert stream.endpoint.id == 1
    stream.progressed(3_000_000)
    stream.progressed(10)
    assert set(picks(pool, 20, 60.0)) == {2}
    stream.release(Outcome.SUCCESS, 60.0, Usage(0, 10))
    assert set(picks(pool, 10, 60.0)) == {1}
    stream.progressed(10**9)
    assert set(picks(pool, 5, 60.0)) == {1}


# -- zero --------------------------------------------------------------------------------------------------------------


def test_all_quotas_zero_are_equal() -> None:
    pool = pool_of(endpoint(1), endpoint(2), endpoint(3))
    assert Counter(picks(pool, 90, 0.0)) == {1: 30, 2: 30, 3: 30}


def test_a_zero_beside_positives_takes_only_what_they_cannot() -> None:
    pool = pool_of(endpoint(1, 40, max_concurrent=2), endpoint(2, 0), endpoint(3, 0))
    leases = [pool.acquire(CHAT, 0.0) for _ in range(6)]
    assert [lease.endpoint.id for lease in leases] == [1, 1, 2, 3, 2, 3]
    leases[0].release(Outcome.SUCCESS, 0.0)
    assert picks(pool, 5, 0.0) == [1] * 5


def test_overflow_to_zeros_owes_and_is_owed_nothing() -> None:
    pool = pool_of(endpoint(1, 60), endpoint(2, 40), endpoint(3, 0))
    picks(pool, 100, 0.0)
    for eid in (1, 2):
        pool.states[eid].healthy = False
    assert set(picks(pool, 500, 1.0)) == {3}
    for eid in (1, 2):
        pool.states[eid].healthy = True
    assert Counter(picks(pool, 100, 2.0)) == {1: 60, 2: 40}


# -- rejoining ---------------------------------------------------------------------------------------------------------


def unhealthy(pool: EndpointPool, now: float, *, away: bool) -> None:
    pool.states[2].healthy = not away


def throttled(pool: EndpointPool, now: float, *, away: bool) -> None:
    if away:
        lease = pool.acquire(RouteRequest("chat", pinned_to=2), now)
        lease.release(Outcome.REJECTED, now, retry_after_seconds=5 * MINUTE)


def disconnected(pool: EndpointPool, now: float, *, away: bool) -> None:
    pool.apply([endpoint(1, 50), endpoint(2, 30, connected=not away), endpoint(3, 20)])


def deleted(pool: EndpointPool, now: float, *, away: bool) -> None:
    pool.apply([endpoint(1, 50), *(() if away else (endpoint(2, 30),)), endpoint(3, 20)])


@pytest.mark.parametrize(("leave", "minutes"), [(unhealthy, 30), (disconnected, 30), (deleted, 30), (throttled, 5)])
def test_back_from_half_an_hour_away_it_takes_its_share_and_no_more(leave: Callable[..., None], minutes: float) -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 30), endpoint(3, 20))
    traffic = Traffic(pool, seed=5, spread=0.5)
    traffic.seconds(10 * MINUTE)
    leave(pool, traffic.now, away=True)
    gone = traffic.seconds(minutes * MINUTE)
    assert gone[2] == 0
    assert gone[1] > 2 * gone[3] > 100
    leave(pool, traffic.now, away=False)
    back: Counter[int] = Counter()
    for _ in range(5):
        back += traffic.seconds(MINUTE)
        assert back[2] / back.total() < 1.5 * 0.30
    assert back[2] / back.total() > 0.25


def flee(pool: EndpointPool, now: float, *eids: int, healthy: bool = False) -> None:
    for eid in eids:
        pool.states[eid].healthy = healthy


def test_the_first_request_after_an_absence_may_be_a_retry() -> None:
    """The retry must not see the returning endpoint alone and let it in with half an hour's credit."""
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    flee(pool, 0.0, 2)
    picks(pool, 1000, 0.0)
    flee(pool, 1.0, 2, healthy=True)
    pool.acquire(CHAT, 1.0, tried={1}).release(Outcome.SUCCESS, 1.0, Usage(0, 300))
    assert Counter(picks(pool, 99, 1.0)) == {1: 50, 2: 49}


def test_the_one_that_stayed_may_be_full_when_the_other_returns() -> None:
    pool = pool_of(endpoint(1, 50, max_concurrent=1), endpoint(2, 50))
    flee(pool, 0.0, 2)
    picks(pool, 1000, 0.0)
    full = pool.acquire(CHAT, 1.0)
    flee(pool, 1.0, 2, healthy=True)
    assert picks(pool, 2, 1.0) == [2, 2]
    full.release(Outcome.SUCCESS, 1.0, Usage(0, 300))
    assert abs(Counter(picks(pool, 100, 1.0))[1] - 50) <= 2


def test_when_nobody_stayed_all_begin_equal_whoever_is_back_first() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 25), endpoint(3, 25))
    flee(pool, 0.0, 3)
    picks(pool, 1000, 0.0)
    flee(pool, 1.0, 1, 2)
    with pytest.raises(NoEndpoint):
        pool.acquire(CHAT, 1.0, may_panic=False)
    flee(pool, 2.0, 3, healthy=True)
    picks(pool, 10, 2.0)
    flee(pool, 3.0, 1, 2, healthy=True)
    assert all(abs(Counter(picks(pool, 100, 3.0))[eid] - quota) <= 4 for eid, quota in ((1, 50), (2, 25), (3, 25)))


def test_a_high_cap_gives_no_credit_for_an_absence() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50, max_concurrent=100))
    picks(pool, 10, 0.0)
    flee(pool, 0.0, 2)
    picks(pool, 1000, 0.0)
    flee(pool, 1.0, 2, healthy=True)
    assert Counter(picks(pool, 20, 1.0)) == {1: 10, 2: 10}


def test_it_comes_back_level_with_the_one_furthest_behind() -> None:
    pool = pool_of(endpoint(1, 40), endpoint(2, 40), endpoint(3, 20))
    flee(pool, 0.0, 3)
    ahead = pool.acquire(CHAT, 0.0)
    ahead.release(Outcome.SUCCESS, 0.0, Usage(0, 10**6))
    picks(pool, 100, 0.0)
    flee(pool, 1.0, 3, healthy=True)
    counted = Counter(picks(pool, 30, 1.0))
    assert (counted[3], counted[ahead.endpoint.id]) == (10, 0)


def test_a_newcomer_begins_with_the_others() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    picks(pool, 1000, 0.0)
    pool.apply([endpoint(1, 50), endpoint(2, 50), endpoint(3, 50)])
    assert Counter(picks(pool, 90, 0.0)) == {1: 30, 2: 30, 3: 30}


# -- full is not absence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", ["of the endpoint", "of the process"])
@pytest.mark.parametrize("usage", [Usage(0, 300), None], ids=["average known", "average unknown"])
def test_full_keeps_its_credit_up_to_its_limit_of_average_requests(usage: Usage | None, cap: str) -> None:
    if cap == "of the endpoint":
        pool = pool_of(endpoint(1, 50, max_concurrent=4), endpoint(2, 50))
    else:
        pool = pool_of(endpoint(1, 50), endpoint(2, 50), max_connections=4)

    def one_by_one(count: int) -> list[int]:
        chosen = []
        for _ in range(count):
            lease = pool.acquire(CHAT, 0.0)
            lease.release(Outcome.SUCCESS, 0.0, usage)
            chosen.append(lease.endpoint.id)
        return chosen

    one_by_one(20)
    held: list[Lease] = []
    while pool.states[1].inflight < 4:
        held.append(pool.acquire(RouteRequest("chat", pinned_to=1), 0.0))
    one_by_one(200)
    for lease in held:
        lease.release(Outcome.SUCCESS, 0.0, usage)
    after = one_by_one(24)
    assert set(after[:4]) == {1}
    assert abs(Counter(after)[1] - 14) <= 1


# -- epochs ------------------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[list[Endpoint], str]] = {
    "quota": ([endpoint(1, 75), endpoint(2, 25)], "percentage"),
    "weight": ([endpoint(1, 50, weight=2.0), endpoint(2, 50)], "percentage"),
    "mode": ([endpoint(1, 50, weight=1.0), endpoint(2, 50)], "weighted"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_new_epoch_begins_equal_and_old_leases_do_not_disturb_it(change: str) -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    ahead, old = pool.acquire(CHAT, 0.0), pool.acquire(CHAT, 0.0)
    ahead.release(Outcome.SUCCESS, 0.0, Usage(0, 10**7))
    pool.apply(*CHANGES[change])
    assert Counter(picks(pool, 100, 1.0)) == ({1: 75, 2: 25} if change == "quota" else {1: 50, 2: 50})
    old.progressed(10**8)
    old.release(Outcome.SUCCESS, 2.0, Usage(0, 10**9))
    assert pool.states[old.endpoint.id].completion_tokens_total >= 10**9
    assert set(picks(pool, 4, 2.0)) == {1, 2}


def test_a_lease_of_an_older_epoch_released_before_the_next_decision_disturbs_nothing_either() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    old = pool.acquire(CHAT, 0.0)
    pool.apply([endpoint(1, 60), endpoint(2, 60)])
    old.release(Outcome.SUCCESS, 2.0, Usage(0, 10**9))
    assert set(picks(pool, 4, 2.0)) == {1, 2}


def test_what_changes_no_share_keeps_the_epoch() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    lease = pool.acquire(CHAT, 0.0)
    pool.apply([endpoint(1, 50, max_concurrent=9, timeout=5), endpoint(2, 50)], "Percentage")
    lease.release(Outcome.SUCCESS, 0.0, Usage(0, 30_000))
    assert set(picks(pool, 50, 0.0)) == {2}


# -- lanes -------------------------------------------------------------------------------------------------------------


def test_models_do_not_disturb_one_another() -> None:
    pool = pool_of(endpoint(1, 50, models=("chat", "rare")), endpoint(2, 50, models=("chat",)))
    assert set(picks(pool, 500, 0.0, request=RouteRequest("rare"))) == {1}
    assert Counter(picks(pool, 100, 0.0)) == {1: 50, 2: 50}


def lanes() -> int:
    gc.collect()
    return sum(type(thing) is Lane for thing in gc.get_objects())


@pytest.mark.usefixtures("fresh_heap")
def test_model_names_of_clients_do_not_fill_the_memory() -> None:
    before = lanes()
    pool = pool_of(endpoint(1, 60), endpoint(2, 40))
    for k in range(1500):
        pool.acquire(RouteRequest(f"model-{k}"), 0.0).release(Outcome.NEUTRAL, 0.0)
    assert lanes() - before == 1024


def test_names_that_nobody_serves_do_not_push_out_those_in_use() -> None:
    pool = pool_of(endpoint(1, 50, models=("chat",)), endpoint(2, 50, models=("chat",)))
    lease = pool.acquire(CHAT, 0.0)
    for k in range(2000):
        with pytest.raises(NoEndpoint):
            pool.acquire(RouteRequest(f"nonsense-{k}"), 0.0)
    lease.release(Outcome.SUCCESS, 0.0, Usage(0, 30_000))
    assert set(picks(pool, 50, 0.0)) == {3 - lease.endpoint.id}


def test_a_model_in_use_keeps_its_lane_and_a_new_one_gets_one() -> None:
    pool = pool_of(endpoint(1, 75), endpoint(2, 25))
    lease = pool.acquire(CHAT, 0.0)
    lease.release(Outcome.SUCCESS, 0.0, Usage(0, 10**7))
    for k in range(3000):
        pool.acquire(RouteRequest(f"model-{k}"), 0.0).release(Outcome.NEUTRAL, 0.0)
        if k % 500 == 0:
            assert picks(pool, 1, 0.0) == [3 - lease.endpoint.id]
    assert Counter(picks(pool, 100, 0.0, request=RouteRequest("new"))) == {1: 75, 2: 25}


def test_requests_for_one_endpoint_by_name_are_not_charged_to_it() -> None:
    pool = pool_of(endpoint(1, 50), endpoint(2, 50))
    picks(pool, 10, 0.0)
    assert set(picks(pool, 300, 0.0, request=RouteRequest("chat", pinned_to=2))) == {2}
    assert Counter(picks(pool, 20, 0.0)) == {1: 10, 2: 10}
