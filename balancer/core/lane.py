"""The candidates of one model with their virtual times: who has how much credit, and who rejoins at which.

Virtual time is kept per (model, endpoint), so that a scarce model does not distort the shares of a common one.

Rules of rejoining:

* An endpoint that was out of service comes back at the smallest virtual time of those that stayed. Otherwise it
  would be owed everything served while it was away, and take every request until that is paid.
* Being full is not being away. Its credit is kept, but no more than its limit of average requests' worth.
* When nobody stayed, the one furthest ahead stands for them: all begin equal.
* Those who stayed are all others in the lane, also those a request may not use because it tried them already.
* Endpoints with a share and endpoints without keep different times; they are compared only among themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from balancer.core.state import EndpointState
from balancer.core.strategies import Strategy

# A new answer moves the average of tokens per request by this share.
_AVERAGE_WEIGHT = 0.1
# Where all shares are zero they are equal; the charge is then per token or per request.
_EQUAL_SHARE = 1.0
# So many refusals in a row say that an endpoint does not serve the model after all; it is then asked last, for a while.
_DECLINES = 3
_DECLINED_SECONDS = 10.0


class Place:
    """One endpoint's place in one lane. `share`: by the strategy, 0 = takes only what no other can."""

    __slots__ = ("average_tokens", "away", "declined_until", "declines", "share", "state", "virtual_time")

    def __init__(self, state: EndpointState) -> None:
        self.state = state
        self.share = 0.0
        self.virtual_time = 0.0
        self.average_tokens: float | None = None
        self.away = True
        self.declines = 0
        self.declined_until = 0.0

    def __repr__(self) -> str:
        return f"<Place {self.state.endpoint.name!r} at {self.virtual_time:.3f}{' away' if self.away else ''}>"

    def charge(self, strategy: Strategy, tokens: float) -> float:
        """How far one request of `tokens` advances the virtual time."""
        return (tokens if strategy.in_tokens else 1.0) / (self.share or _EQUAL_SHARE)

    def learn(self, tokens: float) -> None:
        """Let an answer of `tokens` move the average."""
        if self.average_tokens is None:
            self.average_tokens = tokens
        else:
            self.average_tokens += _AVERAGE_WEIGHT * (tokens - self.average_tokens)

    def accepted(self) -> None:
        """The endpoint serves this model."""
        self.declines = 0
        self.declined_until = 0.0


class Lane:
    """All endpoints that serve one model by configuration. `version` and `epoch`: the pool's when it was built.

    `places`, by endpoint id, are in the order of picks: the first was not picked for longest, so that taking the first
    of equals rotates. `absent` are those that could not be used when last looked at; a full one is absent, not away.
    `mixed`: some have a share and some have none. `declined_until`: until then at least one place is asked last.
    """

    __slots__ = ("absent", "declined_until", "epoch", "mixed", "places", "version")

    def __init__(self) -> None:
        self.version = -1
        self.epoch = -1
        self.mixed = False
        self.declined_until = 0.0
        self.places: dict[int, Place] = {}
        self.absent: dict[Place, None] = {}

    def __repr__(self) -> str:
        return f"<Lane epoch {self.epoch}: {list(self.places.values())}>"

    def copy(self) -> Lane:
        """A lane that may change without changing this one. The endpoints' states are the same."""
        twin = Lane()
        twin.places = {eid: copy(place) for eid, place in self.places.items()}
        twin.absent = {twin.places[place.state.endpoint.id]: None for place in self.absent}
        twin.version, twin.epoch = self.version, self.epoch
        twin.mixed, twin.declined_until = self.mixed, self.declined_until
        return twin

    def rebuild(self, states: Iterable[EndpointState], strategy: Strategy, version: int, epoch: int) -> None:
        """Take `states` as the candidates; known ones keep their place, in a new epoch all virtual times are equal."""
        served = {state.endpoint.id: state for state in states}
        kept = {eid: place for eid, place in self.places.items() if served.get(eid) is place.state}
        joining = [state for eid, state in served.items() if eid not in kept]
        joining.sort(key=lambda state: state.picked)
        self.places = {state.endpoint.id: Place(state) for state in joining} | kept
        self.absent = {place: None for place in self.places.values() if place.away or place in self.absent}
        for place in self.places.values():
            place.share = strategy.share(place.state.endpoint) if strategy.share is not None else 0.0
            if epoch != self.epoch:
                place.virtual_time = 0.0
        self.mixed = len({place.share > 0 for place in self.places.values()}) > 1
        self.version, self.epoch = version, epoch

    def picked(self, place: Place) -> None:
        """Send `place` to the end of the order of picks."""
        eid = place.state.endpoint.id
        self.places[eid] = self.places.pop(eid)

    def declined(self, place: Place, now: float) -> None:
        """The endpoint at `place` would not serve this model."""
        place.declines += 1
        if place.declines >= _DECLINES:
            self.declined_until = place.declined_until = now + _DECLINED_SECONDS

    def willing(self, eligible: list[Place], now: float) -> list[Place]:
        """Those of `eligible` that did not decline lately, or all; the others gather no credit meanwhile."""
        willing = [place for place in eligible if now >= place.declined_until]
        if not willing or len(willing) == len(eligible):
            return eligible
        for place in eligible:
            if now < place.declined_until:
                self.mark_absent(place, away=True)
        return willing

    def mark_absent(self, place: Place, *, away: bool) -> None:
        """Note that `place` cannot be used now; `away`: not merely because it is full."""
        place.away = place.away or away
        self.absent[place] = None

    def readmit(self, strategy: Strategy, first_estimate_tokens: float) -> None:
        """Bring those who can be used again to a fair virtual time before they are compared."""
        returning = [place for place in self.absent if place.state.clear]
        floors = {has_share: self._floor(has_share) for has_share in {place.share > 0 for place in returning}}
        for place in returning:
            credit = 0.0 if place.away else _most_credit(place, strategy, first_estimate_tokens)
            place.virtual_time = max(place.virtual_time, floors[place.share > 0] - credit)
            place.away = False
            del self.absent[place]

    def _floor(self, has_share: bool) -> float:
        peers = [place for place in self.places.values() if (place.share > 0) is has_share]
        staying = [place.virtual_time for place in peers if place not in self.absent]
        return min(staying) if staying else max(place.virtual_time for place in peers)


def _most_credit(place: Place, strategy: Strategy, first_estimate_tokens: float) -> float:
    tokens = place.average_tokens or first_estimate_tokens
    return (place.state.limit or 1) * place.charge(strategy, tokens)
