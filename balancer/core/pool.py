"""The endpoint pool: one predicate for "may be used", one decision, and leases that are counted out exactly once.

Synchronous throughout: nothing here can be interrupted, so nothing needs a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from math import inf
from random import Random

from balancer.core import affinity
from balancer.core.breaker import Breaker
from balancer.core.endpoints import Endpoint, RouteRequest
from balancer.core.errors import AllBusy, ModelNotFound, NoEndpoint, NoneEligible
from balancer.core.explanation import Explanation, candidates
from balancer.core.lane import Lane, Place
from balancer.core.lease import Lease
from balancer.core.model_names import nearest
from balancer.core.notices import Notice
from balancer.core.reasons import BUSY, GUESSES, Reason, describe, never, not_now, trusted, wait_seconds
from balancer.core.state import EndpointState
from balancer.core.strategies import STRATEGIES, Situation, Strategy, resolve_strategy

# Model names come from clients: remember the virtual times of this many, the least recently used go first.
_MOST_LANES = 1024
# The request log remembers no more for each attempt.
_MOST_PASSED_OVER = 20


class EndpointPool:
    """All endpoints, the strategy and the decision who takes a request.

    `max_connections` caps every endpoint's requests in flight, whatever its own `max_concurrent` says; 0 = no cap.
    `strategy` is a name or an alias; an unknown one raises ValueError. `freed`, when set, is called after anything that
    may let a waiting request in, except the passing of time. `applied`, when set, is called when a new configuration is
    in force, before it lets anybody in. `noticed`, when set, is told of every turn in an endpoint's life; it must not
    raise. A failure older than `failure_memory_seconds` no longer counts towards `fail_threshold`.
    `affinity_load_factor` bounds what affinity may put on one endpoint; below 1, where nobody might have room, it is
    a ValueError. `make_state` makes the state of an endpoint that joins. `forgiven`, when set, is called after
    `start_afresh`. `now` must never be less than in an earlier call.
    """

    def __init__(
        self,
        *,
        strategy: str = "percentage",
        fail_threshold: int = 3,
        cooldown_seconds: float = 20.0,
        failure_memory_seconds: float = inf,
        max_connections: int = 0,
        affinity_load_factor: float = 1.25,
        rng: Random | None = None,
        make_state: Callable[[Endpoint, Breaker], EndpointState] = EndpointState,
    ) -> None:
        self.strategy: Strategy = STRATEGIES[resolve_strategy(strategy)]
        self.states: dict[int, EndpointState] = {}
        self.freed: Callable[[], None] | None = None
        self.applied: Callable[[], None] | None = None
        self.noticed: Callable[[EndpointState, Notice, float], None] | None = None
        self.forgiven: Callable[[], None] | None = None
        self._make_state = make_state
        self._fail_threshold = fail_threshold
        self._cooldown_seconds = cooldown_seconds
        self._failure_memory_seconds = failure_memory_seconds
        self._max_connections = max_connections
        if not affinity_load_factor >= 1:
            raise ValueError(f"affinity_load_factor must be at least 1, not {affinity_load_factor}")
        self._affinity_load_factor = affinity_load_factor
        self._rng = rng or Random()
        self._leaving: dict[int, EndpointState] = {}
        self._lanes: OrderedDict[str | None, Lane] = OrderedDict()
        self._version = 0  # of the candidates: lanes of another one are rebuilt
        self.epoch = 0  # of the shares: virtual times of another one are void, different ones must not be mixed
        self._models: tuple[int, frozenset[str]] = (0, frozenset())  # and the version they are of
        self._picks = 0

    def __repr__(self) -> str:
        eligible = sum(
            self.why_not(state, RouteRequest(None), now=float("inf")) is None for state in self.states.values()
        )
        inflight = sum(state.inflight for state in self.states.values())
        counts = f"{len(self.states)} endpoints, {eligible} eligible, {inflight} inflight"
        return f"<EndpointPool {self.strategy.name}: {counts}>"

    # -- configuration ---------------------------------------------------------------------------------------------

    def apply(self, endpoints: Iterable[Endpoint], strategy: str | None = None) -> None:
        """Replace the configuration as a whole. Live numbers of endpoints that stay, by id, are kept.

        One that is added again before its last request has ended counts on where it was.
        """
        wanted = {endpoint.id: endpoint for endpoint in endpoints}
        mode = self.strategy if strategy is None else STRATEGIES[resolve_strategy(strategy)]
        shares_before = {eid: _shares(state.endpoint) for eid, state in self.states.items()}
        known = {eid: state for eid, state in self._leaving.items() if state.inflight} | self.states
        self.states = {eid: self._adopt(known.get(eid), endpoint) for eid, endpoint in wanted.items()}
        self._leaving = {eid: state for eid, state in known.items() if eid not in wanted}
        for state in self._leaving.values():
            state.removed = True
        if mode is not self.strategy or any(
            shares_before.get(eid, _shares(endpoint)) != _shares(endpoint) for eid, endpoint in wanted.items()
        ):
            self.epoch += 1
        self.strategy = mode
        if self.applied is not None:
            self.applied()
        self.candidates_changed()

    def _adopt(self, state: EndpointState | None, endpoint: Endpoint) -> EndpointState:
        breaker = Breaker(self._fail_threshold, self._cooldown_seconds, memory_seconds=self._failure_memory_seconds)
        if state is None:
            state = self._make_state(endpoint, breaker)
        elif _backend(state.endpoint) != _backend(endpoint):
            state.become_another(breaker)
        state.endpoint = endpoint
        state.removed = False
        state.limit = min((cap for cap in (endpoint.max_concurrent, self._max_connections) if cap > 0), default=0)
        state.clear = False
        return state

    def start_afresh(self, now: float) -> None:
        """Zero every total and forgive every failure; what is in flight and the shares stay."""
        for state in self.states.values():
            state.reset_totals()
            state.forgive(now)
        self.room_made()
        if self.forgiven is not None:
            self.forgiven()

    def candidates_changed(self) -> None:
        """Say that which endpoint serves which model may have changed."""
        self._version += 1
        self.room_made()

    def find(self, endpoint_id: int) -> EndpointState | None:
        """The state of that endpoint, also of one that was removed and may have requests under way."""
        return self.states.get(endpoint_id) or self._leaving.get(endpoint_id)

    # -- the predicate ---------------------------------------------------------------------------------------------

    def why_not(self, state: EndpointState, request: RouteRequest, now: float) -> Reason | None:
        """Why this endpoint may not take this request at `now`; None: it may."""
        if request.pinned_to is not None and request.pinned_to != state.endpoint.id:
            return Reason.NOT_ASKED_FOR
        return never(state, request.model) or not_now(state, now)

    # -- the decision ----------------------------------------------------------------------------------------------

    def acquire(
        self, request: RouteRequest, now: float, tried: Container[int] = (), *, may_panic: bool = True
    ) -> Lease:
        """Choose an endpoint and count the request in. The lease must be released, whatever happens.

        `tried` holds ids that are not asked again. `may_panic`: when nothing else is left, not even one that is merely
        full, pass through cooldowns and failed probes, which are guesses. Raises ModelNotFound, AllBusy or
        NoneEligible.
        """
        lane = self._lane(request.model)
        place, compared = self._decide(lane, request, now, tried, may_panic)
        lease = self._grant(place, lane, request, now, not compared)
        if len(compared) < len(lane.places) and request.pinned_to is None:
            lease.passed_over = _passed_over(lane, place, now)
        return lease

    def explain(
        self, request: RouteRequest, now: float, tried: Container[int] = (), *, may_panic: bool = True
    ) -> Explanation:
        """What `acquire` would do and why, without doing it: the same decision, on a copy of all that it changes."""
        lane = self._rehearsed(request.model)
        clear, chance = [(state, state.clear) for state in self.states.values()], self._rng.getstate()
        place: Place | None = None
        compared: list[Place] = []
        refusal: NoEndpoint | None = None
        try:
            place, compared = self._decide(lane, request, now, tried, may_panic)
            self._rng.setstate(chance)  # the scores that are shown shall be those that were compared
            scores = self._scores(compared, request, now)
        except NoEndpoint as nobody:
            refusal, scores = nobody, {}
        finally:
            self._rng.setstate(chance)
            for state, was_clear in clear:
                state.clear = was_clear
        preferred = self._preferred(compared, scores, request)
        return Explanation(
            self.strategy.name,
            place.state.endpoint if place is not None else None,
            place is not None and not compared,
            refusal,
            candidates(self, lane, request, now, tried, scores, preferred),
        )

    def _scores(self, places: list[Place], request: RouteRequest, now: float) -> dict[Place, float]:
        score = self.strategy.score(Situation(now, self._rng, request, places))
        return {place: score(place) for place in places}

    def _preferred(self, compared: list[Place], scores: dict[Place, float], request: RouteRequest) -> Place | None:
        """Whom affinity would choose if it were not for load."""
        if request.affinity is None or not compared:
            return None
        return affinity.choose(request.affinity, self._equals(compared, scores.__getitem__), self.strategy.part_of)

    def _decide(
        self, lane: Lane, request: RouteRequest, now: float, tried: Container[int], may_panic: bool
    ) -> tuple[Place, list[Place]]:
        """The place for a request, and those it was compared with; nothing to compare is need."""
        plain = request.pinned_to is None and tried == ()
        asked = lane.places.values() if plain else self._asked(lane, request, tried)
        eligible = self._eligible(lane, asked, now)
        if eligible:
            doubts = lane.absent or lane.mixed or now < lane.declined_until
            compared = self._shortlist(lane, eligible, request, now) if doubts else eligible
            return self._best(compared, request, now), compared
        desperate = self._least_doubtful(asked, now) if may_panic else None
        if desperate is not None:
            return desperate, []
        raise self._refusal(request, now, tried)

    def _asked(self, lane: Lane, request: RouteRequest, tried: Container[int]) -> Iterable[Place]:
        """The places that this request may use at all, in the order of picks."""
        if request.pinned_to is not None:
            place = lane.places.get(request.pinned_to)
            return () if place is None or request.pinned_to in tried else (place,)
        return [place for eid, place in lane.places.items() if eid not in tried]

    def _eligible(self, lane: Lane, asked: Iterable[Place], now: float) -> list[Place]:
        eligible = []
        for place in asked:
            state = place.state
            if not state.clear:
                reason = not_now(state, now)
                if reason is not None:
                    lane.mark_absent(place, away=reason is not Reason.FULL)
                    continue
                state.clear = True
            eligible.append(place)
        return eligible

    def _shortlist(self, lane: Lane, eligible: list[Place], request: RouteRequest, now: float) -> list[Place]:
        """Those of `eligible` that come into question while better ones than the rest are there."""
        strategy = self.strategy
        if strategy.share is not None:
            if lane.absent:
                lane.readmit(strategy, request.first_estimate_tokens)
            if lane.mixed:
                # A share of zero beside positive ones is served only when none of those can.
                eligible = [place for place in eligible if place.share > 0] or eligible
        if now < lane.declined_until:
            eligible = lane.willing(eligible, now)
        return eligible

    def _best(self, places: list[Place], request: RouteRequest, now: float) -> Place:
        if len(places) == 1:
            return places[0]
        strategy, key = self.strategy, request.affinity
        score = strategy.fixed or strategy.score(Situation(now, self._rng, request, places))
        if key is None:
            return min(places, key=score)
        equals = self._equals(places, score)
        return affinity.choose(key, equals, strategy.part_of, self._affinity_load_factor)

    def _equals(self, places: list[Place], score: Callable[[Place], float]) -> list[Place]:
        """Those among which affinity may choose: where the strategy ranks the endpoints, only the best."""
        if not self.strategy.ranks:
            return places
        best = min(map(score, places))
        return [place for place in places if score(place) == best]

    def _least_doubtful(self, asked: Iterable[Place], now: float) -> Place | None:
        """Of those kept out by a guess alone, the one that recovers first; None while another is merely full.

        What is full serves, and has room again soon: better to say so than to send the overflow to the dead.
        """
        doubtful = []
        for place in asked:
            reason = not_now(place.state, now)
            if reason is Reason.FULL and trusted(place.state, now):
                return None
            if reason in GUESSES:
                doubtful.append(place)
        return min(doubtful, key=lambda place: max(now, place.state.breaker.open_until), default=None)

    def _grant(self, place: Place, lane: Lane, request: RouteRequest, now: float, panic: bool) -> Lease:
        tokens, strategy = place.average_tokens or request.first_estimate_tokens, self.strategy
        # Whom the client picked by name is not the strategy's choice: the others are owed nothing for it.
        charged = strategy.share is not None and request.pinned_to is None
        if charged:
            place.virtual_time += place.charge(strategy, tokens)
        lane.picked(place)
        self._picks += 1
        state = place.state
        state.picked, state.picked_at = self._picks, now
        state.inflight += 1
        state.clear = False
        charged_tokens = tokens if charged and strategy.in_tokens else 0.0
        return Lease(self, lane, place, charged_tokens, now, panic)

    def _lane(self, model: str | None) -> Lane:
        lane = self._lanes.get(model)
        if lane is not None and lane.version == self._version:
            if len(self._lanes) > 1:
                self._lanes.move_to_end(model)
            return lane
        lane = lane or Lane()
        lane.rebuild(self._serving(model), self.strategy, self._version, self.epoch)
        if lane.places:  # nonsense names must not push out the lanes that are in use
            self._lanes[model] = lane
            self._lanes.move_to_end(model)
            if len(self._lanes) > _MOST_LANES:
                self._lanes.popitem(last=False)
        return lane

    def _rehearsed(self, model: str | None) -> Lane:
        """The lane as `_lane` would give it, but a copy, of which nobody knows."""
        known = self._lanes.get(model)
        lane = known.copy() if known is not None else Lane()
        if known is None or lane.version != self._version:
            lane.rebuild(self._serving(model), self.strategy, self._version, self.epoch)
        return lane

    def _serving(self, model: str | None) -> Iterable[EndpointState]:
        return (state for state in self.states.values() if never(state, model) is None)

    # -- refusal ---------------------------------------------------------------------------------------------------

    def _refusal(self, request: RouteRequest, now: float, tried: Container[int]) -> NoEndpoint:
        reasons: dict[str, str] = {}
        waits: list[float] = []
        busy = False
        for state in self.states.values():
            reason = self.why_not(state, request, now)
            if reason is None:
                reasons[state.endpoint.name] = f"tried: {state.last_error}" if state.last_error else "tried"
                continue
            reasons[state.endpoint.name] = describe(state, reason, now)
            busy = busy or (reason in BUSY and trusted(state, now))
            wait = wait_seconds(state, reason, now)
            if wait is not None:
                waits.append(wait)
        retry_after = min(waits, default=None)
        if busy:
            return AllBusy(request.model, reasons, retry_after)
        if self._nobody_serves(request.model):
            return ModelNotFound(request.model, reasons, nearest=nearest(request.model or "", self.models()))
        return NoneEligible(request.model, reasons, retry_after)

    def _nobody_serves(self, model: str | None) -> bool:
        """Whether every list that is known leaves `model` out, and those in service all have one."""
        in_service = self.in_service()
        elsewhere = (s for s in self.states.values() if s.known_models() is not None)
        return bool(in_service) and not any(s.serves(model) for s in (*in_service, *elsewhere))

    def models(self) -> frozenset[str]:
        """Every model name that a connected endpoint is known to serve, aliases included."""
        return frozenset().union(
            *((s.known_models() or frozenset()) | s.endpoint.model_aliases.keys() for s in self.in_service())
        )

    def lists(self, model: str) -> bool:
        """Whether `model` was among `models()` at the last change; cheap enough to be asked for every request."""
        version, names = self._models
        if version != self._version:
            names = self.models()
            self._models = (self._version, names)
        return model in names

    @property
    def version(self) -> int:
        """Changes whenever which endpoint serves which model may have changed."""
        return self._version

    def in_service(self) -> list[EndpointState]:
        """The endpoints that take traffic by the operator's will, in the order they were given."""
        return [s for s in self.states.values() if s.endpoint.enabled and s.endpoint.connected]

    # -- what leases call ------------------------------------------------------------------------------------------

    def notice(self, state: EndpointState, notice: Notice, now: float) -> None:
        """Tell of a turn in an endpoint's life."""
        if self.noticed is not None:
            self.noticed(state, notice, now)

    def room_made(self) -> None:
        """Say that a waiting request may get in now."""
        if self.freed is not None:
            self.freed()


def _passed_over(lane: Lane, chosen: Place, now: float) -> tuple[tuple[str, Reason], ...]:
    """Right after a decision: the others that serve the model and could not be used, by name."""
    found = []
    for place in lane.places.values():
        if not place.state.clear and place is not chosen:
            reason = not_now(place.state, now)
            if reason is not None:
                found.append((place.state.endpoint.name, reason))
    return tuple(found[:_MOST_PASSED_OVER])


def _shares(endpoint: Endpoint) -> tuple[float, float]:
    return endpoint.token_quota_percent, endpoint.weight


def _backend(endpoint: Endpoint) -> tuple[str, str, bool]:
    """What makes it another backend, whose past troubles say nothing."""
    return endpoint.base_url, endpoint.api_key, endpoint.verify_tls
