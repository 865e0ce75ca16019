"""The eight strategies: a strategy is a score, the lowest wins, ties go to the least recently picked.

The pool filters first; a score never asks whether an endpoint may be used. `percentage` and `weighted` are stride
scheduling (Waldspurger and Weihl, 1995): each pick advances the endpoint's virtual time by cost / share, and the one
furthest behind is next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from random import Random
from typing import NamedTuple, Protocol

from balancer.core.endpoints import TYPICAL_COMPLETION_TOKENS, Endpoint, RouteRequest
from balancer.core.state import LATENCY_STALE_SECONDS, EndpointState

# An endpoint without a fresh sample of its latency gets one request in this time, until it gives one.
_EXPLORE_EVERY_SECONDS = 10.0
# Meanwhile it sorts behind all that are known, however loaded those are.
_EXPLORED_SECONDS = 1e6


class Candidate(Protocol):
    """What a score may look at: the endpoint's state and its virtual time in this model's queue."""

    state: EndpointState
    virtual_time: float


class Situation(NamedTuple):
    """What all candidates of one decision have in common. (A tuple: one is made for each decision.)"""

    now: float
    rng: Random
    request: RouteRequest
    candidates: Sequence[Candidate]


Score = Callable[[Candidate], float]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A named score: `score(situation)` is the function that scores one candidate of that decision.

    `share` makes it stride scheduling; `in_tokens`: charged by tokens rather than by request. `weight`: what an
    endpoint can bear, where that is not its share. `ranks`: the best score is the operator's will, also for affinity.
    `fixed`: what `score` returns, where that is the same in every situation.
    """

    name: str
    score: Callable[[Situation], Score]
    share: Callable[[Endpoint], float] | None = None
    in_tokens: bool = False
    weight: Callable[[Endpoint], float] | None = None
    ranks: bool = False
    fixed: Score | None = None

    def part_of(self, endpoint: Endpoint) -> float:
        """How much of the sessions an endpoint is meant to have, relative to the others'."""
        measure = self.share or self.weight
        return measure(endpoint) if measure is not None else 1.0


_by_virtual_time: Score = attrgetter("virtual_time")
_by_priority: Score = attrgetter("state.endpoint.priority_order")


def _all_equal(_: Candidate) -> float:
    return 0.0


def _fixed(
    name: str,
    score: Score,
    share: Callable[[Endpoint], float] | None = None,
    *,
    in_tokens: bool = False,
    ranks: bool = False,
) -> Strategy:
    return Strategy(name, lambda _: score, share, in_tokens, ranks=ranks, fixed=score)


def _load(_: Situation) -> Score:
    def score(candidate: Candidate) -> float:
        weight = candidate.state.endpoint.weight
        return (candidate.state.inflight + 1) / weight if weight else inf

    return score


def _chance(situation: Situation) -> Score:
    draw = situation.rng.random
    return lambda _candidate: draw()


def _latency(situation: Situation) -> Score:
    now = situation.now
    stale_before, explored_after = now - LATENCY_STALE_SECONDS, now - _EXPLORE_EVERY_SECONDS
    known = [c.state.latency_seconds for c in situation.candidates if c.state.latency_at >= stale_before]
    best = min(known, default=1.0)

    def score(candidate: Candidate) -> float:
        state = candidate.state
        if state.latency_at >= stale_before:
            return state.latency_seconds * (state.inflight + 1)
        # Assumed as good as the best, but for one request at a time: it may be slow, or never give a sample at all.
        return (_EXPLORED_SECONDS if state.picked_at > explored_after else best) * (state.inflight + 1)

    return score


def _cost(situation: Situation) -> Score:
    # The same estimate for all: an endpoint's own average would make the one that answers at length look dear, and
    # equal prices never tie.
    prompt_tokens = situation.request.prompt_estimate_tokens

    def score(candidate: Candidate) -> float:
        endpoint = candidate.state.endpoint
        price_in, price_out = endpoint.price_per_million_input, endpoint.price_per_million_output
        # Where one price is missing the other stands for both.
        price_in = price_out if price_in is None else price_in
        price_out = price_in if price_out is None else price_out
        if price_in is None or price_out is None:
            return inf
        return prompt_tokens * price_in + TYPICAL_COMPLETION_TOKENS * price_out

    return score


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        _fixed("percentage", _by_virtual_time, share=lambda endpoint: endpoint.token_quota_percent, in_tokens=True),
        _fixed("priority", _by_priority, ranks=True),
        _fixed("round_robin", _all_equal),
        _fixed("weighted", _by_virtual_time, share=lambda endpoint: endpoint.weight),
        Strategy("least_loaded", _load, weight=lambda endpoint: endpoint.weight),
        Strategy("random", _chance),
        Strategy("latency", _latency),
        Strategy("cost", _cost, ranks=True),
    )
}

ALIASES: dict[str, str] = {
    "failover": "priority",
    "least_connections": "least_loaded",
    "least_conn": "least_loaded",
    "load_balanced": "least_loaded",
    "latency_optimized": "latency",
    "cost_optimized": "cost",
}


def resolve_strategy(name: str) -> str:
    """The canonical name for `name`, in any case and spelling of the systems this one replaces.

    Raises ValueError naming it and listing what is valid.
    """
    folded = name.strip().lower().replace("-", "_")
    canonical = ALIASES.get(folded, folded)
    if canonical not in STRATEGIES:
        valid = ", ".join((*STRATEGIES, *ALIASES))
        raise ValueError(f"unknown strategy {name!r}; valid are: {valid}")
    return canonical
