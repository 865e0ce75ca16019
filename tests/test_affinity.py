"""Affinity: the properties of the order each key gives the endpoints, and simulations of what it gains and costs.

`python -m tests.test_affinity` prints the figures of the simulations.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from math import ceil
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.affinity import key_of
from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool
from balancer.core.strategies import STRATEGIES

FACTOR = 1.25
KEYS = st.integers(0, 2**64 - 1)
UNRANKED = ("percentage", "round_robin", "weighted", "least_loaded", "random", "latency")


def endpoint(eid: int, **fields: Any) -> Endpoint:
    return Endpoint(eid, f"e{eid}", f"http://host-{eid}", **{"connected": True, **fields})


def pool_of(endpoints: list[Endpoint], strategy: str = "percentage", **options: Any) -> EndpointPool:
    pool = EndpointPool(strategy=strategy, rng=Random(1), **{"affinity_load_factor": FACTOR, **options})
    pool.apply(endpoints)
    return pool


def chat(key: int | None) -> RouteRequest:
    return RouteRequest("chat", prompt_bytes=400, affinity=key)


def serve(pool: EndpointPool, request: RouteRequest, now: float = 0.0, tried: tuple[int, ...] = ()) -> int:
    lease = pool.acquire(request, now, tried)
    lease.release(Outcome.SUCCESS, now, Usage(100, 100))
    return lease.endpoint.id


# -- properties of the order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", UNRANKED)
@given(keys=st.lists(KEYS, min_size=1, max_size=20), count=st.integers(2, 9))
def test_a_key_stays_where_it_is_while_the_set_and_the_load_allow_it(
    strategy: str, keys: list[int], count: int
) -> None:
    pool = pool_of([endpoint(eid) for eid in range(1, count + 1)], strategy)
    first = {key: serve(pool, chat(key)) for key in keys}
    serve(pool, chat(None))
    assert {key: serve(pool, chat(key), 5.0) for key in reversed(keys)} == first


@given(keys=st.lists(KEYS, min_size=20, max_size=60), count=st.integers(2, 9), data=st.data())
def test_an_endpoint_that_goes_moves_its_own_keys_and_no_other(
    keys: list[int], count: int, data: st.DataObject
) -> None:
    endpoints = [endpoint(eid, weight=1.0 + eid % 3) for eid in range(1, count + 1)]
    gone = data.draw(st.sampled_from(endpoints))
    pool = pool_of(endpoints, "weighted")
    before = {key: serve(pool, chat(key)) for key in keys}
    second = {key: serve(pool, chat(key), 0.0, (gone.id,)) for key in keys}
    pool.apply([each for each in endpoints if each is not gone])
    after = {key: serve(pool, chat(key)) for key in keys}
    assert after == second
    assert {key for key in keys if after[key] != before[key]} == {key for key in keys if before[key] == gone.id}
    pool.apply(endpoints)
    assert {key: serve(pool, chat(key)) for key in keys} == before


def test_keys_are_spread_by_weight() -> None:
    shares = {1: 1.0, 2: 2.0, 3: 5.0}
    for strategy in ("weighted", "least_loaded"):
        pool = pool_of([endpoint(eid, weight=share) for eid, share in shares.items()], strategy)
        counts = Counter(serve(pool, chat(key_of(b"%d" % k))) for k in range(4000))
        assert {eid: round(8 * count / 4000, 1) for eid, count in counts.items()} == pytest.approx(shares, abs=0.25)


def test_the_endpoints_of_two_alike_keys_have_nothing_in_common() -> None:
    pool = pool_of([endpoint(eid) for eid in range(1, 9)])
    pairs = Counter((serve(pool, chat(key)), serve(pool, chat(key + 1))) for key in range(0, 12_800, 2))
    assert len(pairs) == 64
    assert all(50 < count < 160 for count in pairs.values())  # 100 expected


def test_without_a_share_beside_positive_ones_it_is_a_reserve_for_sessions_too() -> None:
    pool = pool_of([endpoint(1, token_quota_percent=50.0), endpoint(2)])
    assert {serve(pool, chat(key_of(b"%d" % k))) for k in range(100)} == {1}
    pool = pool_of([endpoint(1), endpoint(2)])
    assert {serve(pool, chat(key_of(b"%d" % k))) for k in range(100)} == {1, 2}


def test_a_factor_that_might_leave_nobody_is_refused() -> None:
    for factor in (0.99, float("nan")):
        with pytest.raises(ValueError, match="at least 1"):
            EndpointPool(affinity_load_factor=factor)


def test_a_ranking_is_kept_and_affinity_decides_among_equals() -> None:
    ranked = [endpoint(1, priority_order=1, max_concurrent=2), endpoint(2, priority_order=1), endpoint(3)]
    pool = pool_of(ranked, "priority")
    assert {serve(pool, chat(key_of(b"%d" % k))) for k in range(100)} == {1, 2}
    prices = {"price_per_million_input": 1.0}
    pool = pool_of([endpoint(1, **prices), endpoint(2), endpoint(3, **prices)], "cost")
    assert {serve(pool, chat(key_of(b"%d" % k))) for k in range(100)} == {1, 3}


# -- properties of every choice ----------------------------------------------------------------------------------------


@given(
    strategy=st.sampled_from([*STRATEGIES]),
    shares=st.lists(st.sampled_from([0.0, 1.0, 10.0, 60.0]), min_size=1, max_size=6),
    caps=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    keys=st.lists(st.integers(0, 3) | KEYS, min_size=1, max_size=25),
    tried=st.sets(st.integers(1, 6), max_size=3),
    factor=st.sampled_from([1.0, 1.25, 3.0]),
)
def test_never_an_ineligible_or_tried_one_and_never_above_the_bound(
    strategy: str, shares: list[float], caps: list[int], keys: list[int], tried: set[int], factor: float
) -> None:
    endpoints = [
        endpoint(eid, token_quota_percent=share, weight=share, max_concurrent=cap, priority_order=1 + int(share))
        for eid, (share, cap) in enumerate(zip(shares, caps, strict=False), 1)
    ]
    pool = pool_of(endpoints, strategy, affinity_load_factor=factor)
    for key in keys:
        request = chat(key)
        eligible = {
            eid for eid, state in pool.states.items() if eid not in tried and not pool.why_not(state, request, 0.0)
        }
        if not eligible:
            return
        equals = _equals(pool, eligible)
        parts = {eid: pool.strategy.part_of(pool.states[eid].endpoint) for eid in equals}
        parts = {eid: part for eid, part in parts.items() if part} or dict.fromkeys(equals, 1.0)
        in_flight = 1 + sum(pool.states[eid].inflight for eid in parts)
        lease = pool.acquire(request, 0.0, tried)
        assert lease.endpoint.id in eligible
        part = parts[lease.endpoint.id] / sum(parts.values())
        if len(parts) > 1:
            assert pool.states[lease.endpoint.id].inflight <= ceil(factor * in_flight * part * (1 + 1e-12))


def _equals(pool: EndpointPool, eligible: set[int]) -> set[int]:
    """Those of `eligible` among which affinity may choose, said another way."""
    endpoints = [pool.states[eid].endpoint for eid in eligible]
    if pool.strategy.name == "priority":
        best = min(each.priority_order for each in endpoints)
        return {each.id for each in endpoints if each.priority_order == best}
    if pool.strategy.name == "percentage":
        return {each.id for each in endpoints if each.token_quota_percent} or eligible
    if pool.strategy.name == "weighted":
        return {each.id for each in endpoints if each.weight} or eligible
    return eligible


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_off_means_as_if_it_were_not_there(strategy: str) -> None:
    """The factor, the only thing that is there when it is off, changes no decision."""
    runs = [Crowd(endpoints_by_quota(), strategy, keyed=False, factor=factor) for factor in (1.0, 50.0)]
    for run in runs:
        run.turns(400)
    assert runs[0].path == runs[1].path


# -- simulations -------------------------------------------------------------------------------------------------------

_CACHED_SESSIONS = 60  # that one endpoint's cache holds


class Event(NamedTuple):
    """A turn that ends (`lease`) or a session that goes on (None), ordered by time."""

    at: float
    order: int
    session: int
    turn: int
    lease: Lease | None = None
    tokens: int = 0


class Crowd:
    """`sessions` at a time, each of eight turns on average, with thinking between. A turn is a hit where the endpoint
    has the session in its cache. Answers stream 50 tokens a second; lengths are lognormal.
    """

    def __init__(
        self,
        endpoints: list[Endpoint],
        strategy: str,
        *,
        keyed: bool,
        sessions: int = 200,
        factor: float = FACTOR,
        seed: int = 1,
    ) -> None:
        self.pool = pool_of(endpoints, strategy, affinity_load_factor=factor)
        self.keyed, self.seed, self.rng = keyed, seed, Random(seed)
        self.caches: dict[int, OrderedDict[int, None]] = {each.id: OrderedDict() for each in endpoints}
        self.hits = self.further_turns = self.order = self.begun = 0
        self.tokens: Counter[int] = Counter()
        self.worst = 0.0
        self.path: list[int] = []
        self.events: list[Event] = []
        for _ in range(sessions):
            self._begin(0.0)

    def _push(self, at: float, session: int, turn: int, lease: Lease | None = None, tokens: int = 0) -> None:
        self.order += 1
        heapq.heappush(self.events, Event(at, self.order, session, turn, lease, tokens))

    def _begin(self, now: float) -> None:
        self.begun += 1
        self._push(now + self.rng.expovariate(1 / 10), self.begun, 1)

    def turns(self, count: int) -> None:
        while len(self.path) < count:
            event = heapq.heappop(self.events)
            if event.lease is None:
                self._turn(event)
                continue
            event.lease.release(Outcome.SUCCESS, event.at, Usage(0, event.tokens))
            if self.rng.random() < 1 / 8:
                self._begin(event.at)
            else:
                self._push(event.at + self.rng.expovariate(1 / 10), event.session, event.turn + 1)

    def _turn(self, event: Event) -> None:
        request = chat(key_of(b"%d of %d" % (event.session, self.seed)) if self.keyed else None)
        lease = self.pool.acquire(request, event.at)
        eid, states = lease.endpoint.id, self.pool.states.values()
        tokens = int(self.rng.lognormvariate(5.5, 1.0)) + 20
        self._push(event.at + tokens / 50, event.session, event.turn, lease, tokens)
        cache = self.caches[eid]
        if event.turn > 1:
            self.further_turns += 1
            self.hits += event.session in cache
        cache.pop(event.session, None)
        cache[event.session] = None
        if len(cache) > _CACHED_SESSIONS:
            cache.popitem(last=False)
        self.path.append(eid)
        self.tokens[eid] += tokens
        part = self.pool.strategy.part_of
        mean = sum(state.inflight for state in states) / sum(part(state.endpoint) or 1.0 for state in states)
        mine = self.pool.states[eid]
        # How many more than the factor allows; at most 1, by rounding up.
        self.worst = max(self.worst, mine.inflight - FACTOR * mean * (part(mine.endpoint) or 1.0))

    @property
    def hit_rate(self) -> float:
        return self.hits / self.further_turns

    def share_error(self) -> float:
        """The largest distance from a quota, in percentage points of all tokens."""
        quotas = {eid: state.endpoint.token_quota_percent for eid, state in self.pool.states.items()}
        total, asked = sum(self.tokens.values()), sum(quotas.values())
        return max(abs(100 * self.tokens[eid] / total - 100 * quota / asked) for eid, quota in quotas.items())


def endpoints_by_quota() -> list[Endpoint]:
    return [endpoint(eid, token_quota_percent=quota) for eid, quota in enumerate((40, 30, 20, 10), 1)]


def equal_endpoints(count: int) -> list[Endpoint]:
    return [endpoint(eid, token_quota_percent=100 / count) for eid in range(1, count + 1)]


class Figures(NamedTuple):
    """Of some runs: mean hit rate and share error, and the most that an endpoint ever had above the bound."""

    hits_percent: float
    above: float
    share_error: float


def figures(endpoints: list[Endpoint], *, keyed: bool, sessions: int, seeds: range, turns: int = 10_000) -> Figures:
    runs = [Crowd(endpoints, "percentage", keyed=keyed, sessions=sessions, seed=seed) for seed in seeds]
    for run in runs:
        run.turns(turns)
    return Figures(
        100 * fmean(run.hit_rate for run in runs),
        max(run.worst for run in runs),
        fmean(run.share_error() for run in runs),
    )


@pytest.mark.parametrize("count", [4, 8])
def test_what_it_gains_and_that_no_endpoint_becomes_hot(count: int) -> None:
    off, on = (
        figures(equal_endpoints(count), keyed=keyed, sessions=200, seeds=range(2), turns=4000)
        for keyed in (False, True)
    )
    assert off.hits_percent < 40
    assert on.hits_percent > 85
    assert on.above <= 1.0 < off.above


@pytest.mark.parametrize("sessions", [20, 200])
def test_what_it_costs_of_the_shares(sessions: int) -> None:
    """Sessions are spread by quota, so that shares hold on average, and the bound keeps them near it under load."""
    off, on = (figures(endpoints_by_quota(), keyed=keyed, sessions=sessions, seeds=range(2)) for keyed in (False, True))
    assert off.share_error < 0.5 < on.share_error < 4.0
    assert on.above <= 1.0


def test_requests_without_a_key_make_up_for_what_sessions_took() -> None:
    """One heavy session takes more than its endpoint's quota; virtual time gives the others the rest."""
    pool, counts = (
        pool_of([endpoint(1, token_quota_percent=50.0), endpoint(2, token_quota_percent=50.0)]),
        Counter[int](),
    )
    for k in range(1000):
        counts[serve(pool, chat(1 if k % 3 == 0 else None))] += 1
    assert abs(counts[1] - 500) <= 5


def main() -> None:
    """Print the figures."""
    print(f"{'':28}   hits off / on      above the bound   share error in points")
    setups = {"4 equal": equal_endpoints(4), "8 equal": equal_endpoints(8), "40/30/20/10": endpoints_by_quota()}
    for name, endpoints in setups.items():
        for sessions in (20, 200):
            off, on = (figures(endpoints, keyed=keyed, sessions=sessions, seeds=range(5)) for keyed in (False, True))
            print(
                f"{name:12} {sessions:4} sessions   {off.hits_percent:5.1f} / {on.hits_percent:5.1f} %"
                f"    {off.above:6.2f} / {on.above:5.2f}     {off.share_error:5.2f} / {on.share_error:5.2f}"
            )


if __name__ == "__main__":
    main()
