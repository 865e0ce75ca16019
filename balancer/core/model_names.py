"""Names of models: which one "auto" stands for, and which come near to one that nobody serves.

Knows the pool and what endpoints are known to serve; never asks an endpoint.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from balancer.core.endpoints import RouteRequest
from balancer.core.errors import ModelNotFound
from balancer.core.state import EndpointState

if TYPE_CHECKING:
    from balancer.core.pool import EndpointPool

_MOST_NEAR = 3
# How much two names must have in common to be near, of 1.
_NEARNESS = 0.5
# A thorough comparison may take 0.2 ms and the balancer serves nobody meanwhile: only what shares most pairs of letters
# is worth it, and of endless lists the beginning must do.
_MOST_COMPARED = 24
_MOST_LOOKED_AT = 1000
_LONGEST_COMPARED = 80


def nearest(name: str, known: Collection[str]) -> tuple[str, ...]:
    """At most three of `known` that look like `name`, in any case, the most similar first."""
    wanted = name.lower()[:_LONGEST_COMPARED]
    pairs = _pairs(wanted)
    folded = {each.lower()[:_LONGEST_COMPARED]: each for each in sorted(known)[:_MOST_LOOKED_AT]}
    likely = heapq.nlargest(_MOST_COMPARED, folded, key=lambda each: len(pairs & _pairs(each)) / len(each or " "))
    return tuple(folded[each] for each in difflib.get_close_matches(wanted, likely, _MOST_NEAR, _NEARNESS))


def _pairs(text: str) -> set[str]:
    return {text[at : at + 2] for at in range(len(text))}


class _Choice(NamedTuple):
    model: str
    servers: tuple[EndpointState, ...]


class AutoModel:
    """Decides which model serves a request that leaves it open, by one of `sentinels` or by naming none.

    Of the models that connected endpoints are known to serve, those that one of them could take now come first. Among
    them: with `intersection_first` those that all serve whose list is known; then `preferred` in this order; then the
    order of the endpoints and of their lists (a configured list as it stands, a discovered one by name; aliases last).
    When none could be taken now the same order holds among all, and the refusal will say why.

    A sentinel that an endpoint was given as a model or an alias by its operator is a name like any other there. One
    that merely stands in a discovered list is not.
    """

    def __init__(
        self,
        sentinels: Iterable[str] = ("auto", "default"),
        preferred: Sequence[str] = (),
        *,
        intersection_first: bool = False,
    ) -> None:
        self._sentinels = frozenset(name.strip().lower() for name in sentinels)
        self._preferred = tuple(name for name in preferred if not self.is_asked(name))
        self._intersection_first = intersection_first
        self._seen: tuple[object, int] = (None, 0)  # the pool and its version that the rest was made from
        self._choices: list[_Choice] = []
        self._given: dict[str, list[int]] = {}  # sentinels that operators gave a meaning: endpoint ids

    def __repr__(self) -> str:
        return f"<AutoModel {sorted(self._sentinels)}: prefers {list(self._preferred)}>"

    def is_asked(self, model: str | None) -> bool:
        """Whether a request that names `model` leaves the choice open."""
        return model is None or model.strip().lower() in self._sentinels

    def choose(self, pool: EndpointPool, asked: str | None, now: float, pinned_to: int | None = None) -> str | None:
        """The model for a request that leaves it open; `pinned_to`: of those that this endpoint serves.

        Where no list is known, the first preferred model is taken on trust. Without one, a request that named no model
        goes on without (None), as an endpoint may know what to do; one that named a sentinel cannot. Raises
        ModelNotFound. Where no endpoint is connected the answer does not matter: `asked`.
        """
        self._follow(pool)
        if any(pinned_to in (None, endpoint_id) for endpoint_id in self._given.get(asked or "", ())):
            return asked
        anything = RouteRequest(None, pinned_to=pinned_to)
        able: dict[EndpointState, bool] = {}  # endpoints stand in many places
        first: str | None = None
        for model, servers in self._choices:
            for state in servers:
                if pinned_to not in (None, state.endpoint.id):
                    continue
                if state not in able:
                    able[state] = pool.why_not(state, anything, now) is None
                if able[state]:
                    return model
                first = first or model
        return first or self._on_trust(pool, asked, pinned_to)

    def _on_trust(self, pool: EndpointPool, asked: str | None, pinned_to: int | None) -> str | None:
        in_service = [state for state in pool.in_service() if pinned_to in (None, state.endpoint.id)]
        if not in_service:
            return asked
        if any(state.known_models() is None for state in in_service):
            if self._preferred:
                return self._preferred[0]
            if asked is None:
                return None
        raise ModelNotFound(None)

    def _follow(self, pool: EndpointPool) -> None:
        """Rank anew when which endpoint serves which model may have changed."""
        if self._seen == (pool, pool.version):
            return
        self._seen = (pool, pool.version)
        in_service = pool.in_service()
        self._choices = self._rank(in_service)
        self._given = {}
        for state in in_service:
            for name in (*state.endpoint.models, *state.endpoint.model_aliases):
                if self.is_asked(name):
                    self._given.setdefault(name, []).append(state.endpoint.id)

    def _rank(self, in_service: Collection[EndpointState]) -> list[_Choice]:
        told = [state for state in in_service if state.known_models() is not None]
        servers: dict[str, dict[EndpointState, None]] = {}
        for name in self._preferred:
            servers[name] = dict.fromkeys(state for state in told if state.serves(name))
        for state in in_service:
            for name in _names(state):
                if not self.is_asked(name):
                    servers.setdefault(name, {})[state] = None
        choices = [_Choice(name, tuple(known)) for name, known in servers.items() if known]
        if self._intersection_first:
            listed = set(told)
            choices.sort(key=lambda choice: not listed <= set(choice.servers))
        return choices


def _names(state: EndpointState) -> Iterator[str]:
    yield from state.endpoint.models or sorted(state.discovered_models or ())
    yield from state.endpoint.model_aliases
