"""Random walks over the whole pool: whatever happens, in whatever order, nothing leaks and the predicate is true."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.errors import AllBusy, ModelNotFound, NoEndpoint, NoneEligible
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool
from balancer.core.reasons import Reason, describe
from balancer.core.state import EndpointState
from balancer.core.strategies import ALIASES, STRATEGIES

IDS = st.integers(1, 4)
MODES = st.sampled_from([*STRATEGIES, *ALIASES])
MODELS = st.sampled_from([None, "a", "b"])
GUESSES = {Reason.UNHEALTHY, Reason.COOLING_DOWN}
BUSY = {Reason.FULL, Reason.THROTTLED}


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    eid = draw(IDS)
    return Endpoint(
        eid,
        f"e{eid}",
        draw(st.sampled_from(["http://old", "http://new"])),
        enabled=draw(st.sampled_from([True] * 7 + [False])),
        connected=draw(st.sampled_from([True] * 7 + [False])),
        token_quota_percent=draw(st.sampled_from([0.0, 1.0, 50.0])),
        priority_order=draw(st.integers(1, 2)),
        max_concurrent=draw(st.integers(0, 2)),
        weight=draw(st.sampled_from([0.0, 1.0, 3.0])),
        models=draw(st.sampled_from([(), (), ("a",), ("a", "b")])),
        price_per_million_input=draw(st.sampled_from([None, 0.0, 2.0])),
    )


CONFIGURATIONS = st.lists(endpoints(), min_size=2, max_size=4, unique_by=lambda endpoint: endpoint.id)
REQUESTS = st.builds(RouteRequest, MODELS, st.integers(0, 4000), pinned_to=st.sampled_from([None, None, None, 1, 2]))
USAGES = st.none() | st.builds(Usage, st.integers(0, 10**4), st.integers(0, 10**6))


class PoolWalk(RuleBasedStateMachine):
    """Acquire, commit, release, reconfigure, wait. `held` is the naive truth about what is under way."""

    @initialize(
        configuration=CONFIGURATIONS,
        mode=MODES,
        threshold=st.integers(1, 3),
        max_connections=st.sampled_from([0, 0, 3]),
    )
    def start(self, configuration: list[Endpoint], mode: str, threshold: int, max_connections: int) -> None:
        self.now = 0.0
        self.held: list[tuple[Lease, EndpointState]] = []
        self.ended: list[Lease] = []
        self.seen: dict[int, EndpointState] = {}
        self.waiting = 0
        self.max_connections = max_connections
        self.pool = EndpointPool(
            strategy=mode,
            fail_threshold=threshold,
            cooldown_seconds=5.0,
            max_connections=max_connections,
            rng=Random(1),
        )
        self.pool.freed = self.hand_out
        self.pool.apply(configuration)

    # -- what happens --------------------------------------------------------------------------------------------------

    @rule(configuration=CONFIGURATIONS | st.just([]), mode=st.none() | MODES)
    def apply(self, configuration: list[Endpoint], mode: str | None) -> None:
        self.pool.apply(configuration, mode)

    @rule(eid=IDS, models=st.sampled_from([None, frozenset(), frozenset("a"), frozenset("ab")]))
    def discover(self, eid: int, models: frozenset[str] | None) -> None:
        if eid in self.pool.states:
            self.pool.states[eid].discovered_models = models
            self.pool.candidates_changed()

    @rule(eid=IDS, healthy=st.booleans())
    def probe(self, eid: int, healthy: bool) -> None:
        if eid in self.pool.states:
            self.pool.states[eid].healthy = healthy

    def check_passed_over(
        self, lease: Lease, request: RouteRequest, reasons: dict[int, Reason | None], tried: set[int]
    ) -> None:
        momentary = GUESSES | {Reason.FULL, Reason.THROTTLED, Reason.CREDENTIALS}
        others = {
            eid: (self.pool.states[eid].endpoint.name, reason)
            for eid, reason in reasons.items()
            if reason in momentary and eid != lease.endpoint.id and request.pinned_to is None
        }
        untried = {other for eid, other in others.items() if eid not in tried}
        assert untried <= set(lease.passed_over) <= set(others.values())

    @rule(seconds=st.sampled_from([0.01, 1.0, 2.5, 5.0, 20.0, 400.0]))
    def wait_a_while(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def queue_up(self) -> None:
        self.waiting = min(self.waiting + 1, 2)

    def hand_out(self) -> None:
        """What the admission queue does: a request that waits takes its chance at once, inside the release."""
        if self.waiting:
            try:
                lease = self.pool.acquire(RouteRequest("a"), self.now)
            except NoEndpoint:
                return
            self.waiting -= 1
            self.hold(lease)

    @rule(request=REQUESTS, tried=st.sets(IDS, max_size=3), may_panic=st.booleans())
    def acquire(self, request: RouteRequest, tried: set[int], may_panic: bool) -> None:
        pool, now = self.pool, self.now
        reasons = {eid: pool.why_not(state, request, now) for eid, state in pool.states.items()}
        eligible = {eid for eid, reason in reasons.items() if reason is None and eid not in tried}
        doubtful = {eid for eid, reason in reasons.items() if reason in GUESSES and eid not in tried}
        if any(reason is Reason.FULL and eid not in tried and self.trusted(eid) for eid, reason in reasons.items()):
            doubtful = set()
        try:
            lease = pool.acquire(request, now, tried, may_panic=may_panic)
        except NoEndpoint as refusal:
            assert not eligible
            assert not (may_panic and doubtful)
            self.check_refusal(refusal, request, reasons)
            return
        chosen = lease.endpoint
        assert lease.panic == (not eligible)
        assert chosen.id in (eligible or doubtful)
        assert pool.states[chosen.id].endpoint is chosen
        self.check_passed_over(lease, request, reasons, tried)
        if pool.strategy.name == "percentage" and not lease.panic and not chosen.token_quota_percent:
            assert not any(pool.states[eid].endpoint.token_quota_percent for eid in eligible)
        self.hold(lease)

    @rule(model=MODELS, count=st.integers(1, 6))
    def rush(self, model: str | None, count: int) -> None:
        for _ in range(count):
            self.acquire(RouteRequest(model), set(), True)

    @precondition(lambda self: self.held)
    @rule(outcomes=st.lists(st.sampled_from([*Outcome, Outcome.FAILED, Outcome.FAILED]), min_size=1, max_size=6))
    def end_the_oldest(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes[: len(self.held)]:
            lease, state = self.held.pop(0)
            self.seen[id(state)] = state
            lease.release(outcome, self.now, Usage(10, 100))
            self.acquire(RouteRequest(None), set(), False)

    def trusted(self, eid: int) -> bool:
        state = self.pool.states[eid]
        return state.healthy and state.breaker.admits(self.now)

    def hold(self, lease: Lease) -> None:
        state = self.pool.states[lease.endpoint.id]
        self.held.append((lease, state))
        caps = [cap for cap in (lease.endpoint.max_concurrent, self.max_connections) if cap]
        assert not caps or state.inflight <= min(caps)

    def check_refusal(self, refusal: NoEndpoint, request: RouteRequest, reasons: dict[int, Reason | None]) -> None:
        states = self.pool.states
        assert refusal.reasons.keys() == {state.endpoint.name for state in states.values()}
        assert refusal.retry_after is None or refusal.retry_after > 0
        busy = any(reason in BUSY and self.trusted(eid) for eid, reason in reasons.items())
        known = [state.known_models() for state in states.values()]
        listed = any(models is not None and request.model in models for models in known)
        if busy:
            assert type(refusal) is AllBusy
            assert refusal.retry_after is not None
        elif listed or request.model is None:
            assert type(refusal) is NoneEligible
        else:
            assert type(refusal) in (ModelNotFound, NoneEligible)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.held[data.draw(st.integers(0, len(self.held) - 1))][0].committed(self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), tokens=st.integers(0, 10**6))
    def progress(self, data: st.DataObject, tokens: int) -> None:
        self.held[data.draw(st.integers(0, len(self.held) - 1))][0].progressed(tokens)

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(Outcome),
        usage=USAGES,
        credentials=st.booleans(),
        declined=st.booleans(),
        retry_after=st.sampled_from([None, None, -1.0, 0.5, 10.0, 10.0**9]),
    )
    def release(
        self,
        data: st.DataObject,
        outcome: Outcome,
        usage: Usage | None,
        credentials: bool,
        declined: bool,
        retry_after: float | None,
    ) -> None:
        lease, state = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.seen[id(state)] = state
        self.ended.append(lease)
        lease.release(
            outcome,
            self.now,
            usage,
            error="words",
            credentials=credentials and outcome is Outcome.FAILED,
            declined=declined and outcome is Outcome.NEUTRAL,
            retry_after_seconds=retry_after,
        )

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def release_again(self, data: st.DataObject, outcome: Outcome) -> None:
        lease = self.ended[data.draw(st.integers(0, len(self.ended) - 1))]
        lease.committed(self.now)
        lease.release(outcome, self.now, Usage(1, 1), credentials=True)

    # -- what must hold ------------------------------------------------------------------------------------------------

    @rule(request=REQUESTS)
    def every_eligible_one_is_reached_and_no_other(self, request: RouteRequest) -> None:
        """What the lanes remember equals what the predicate says afresh."""
        fresh = {eid for eid, state in self.pool.states.items() if self.pool.why_not(state, request, self.now) is None}
        waiting, self.waiting = self.waiting, 0
        assert self.sweep(request) == fresh
        self.waiting = waiting

    def sweep(self, request: RouteRequest) -> set[int]:
        leases: dict[int, Lease] = {}
        while True:
            try:
                lease = self.pool.acquire(request, self.now, leases.keys(), may_panic=False)
            except NoEndpoint:
                break
            assert lease.endpoint.id not in leases
            leases[lease.endpoint.id] = lease
        for lease in leases.values():
            lease.release(Outcome.NEUTRAL, self.now)
        return set(leases)

    @invariant()
    def in_flight_is_what_is_held(self) -> None:
        held = Counter(id(state) for _, state in self.held)
        everyone = {id(state): state for _, state in self.held} | self.seen
        everyone |= {id(state): state for state in self.pool.states.values()}
        for key, state in everyone.items():
            assert state.inflight == held[key]

    @invariant()
    def the_words_never_fail(self) -> None:
        request: Any = RouteRequest("a")
        for state in self.pool.states.values():
            reason = self.pool.why_not(state, request, self.now)
            assert reason is None or describe(state, reason, self.now)
        assert repr(self.pool)

    def teardown(self) -> None:
        """When all is given back and time has passed, whoever is in service is admitted: no slot has leaked."""
        self.waiting = 0
        for lease, _ in self.held:
            lease.release(Outcome.NEUTRAL, self.now)
        self.held.clear()
        self.in_flight_is_what_is_held()
        self.now += 1000.0
        for state in self.pool.states.values():
            state.healthy = True
        in_service = {
            eid for eid, state in self.pool.states.items() if state.endpoint.enabled and state.endpoint.connected
        }
        assert self.sweep(RouteRequest(None)) == in_service


TestPoolWalk = PoolWalk.TestCase
TestPoolWalk.settings = settings(max_examples=100, stateful_step_count=50)
