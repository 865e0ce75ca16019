"""Session affinity: requests with the same key go to the same endpoint, so that what it has cached of them is used.

The rule. Each key ranks the endpoints in an order of its own (weighted rendezvous hashing: Thaler and Ravishankar 1998;
Schindelhauer and Schomaker 2005). It goes to the first in that order whose load allows it: after the request an
endpoint holds at most `load_factor` x its part, by weight, of all that is in flight at the candidates, rounded up
(bounded loads: Mirrokni, Thorup and Zadimoghaddam 2016). As the factor is at least 1, one always has room.

Nothing is remembered: the order follows from key and endpoint ids alone, so it survives a restart, is the same in
every replica and takes no memory however many sessions there are. An endpoint that leaves moves its own keys only,
one that joins takes its part from all others, and a request that was turned away by load comes back with the next turn.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import inf, log

from balancer.core.endpoints import Endpoint
from balancer.core.lane import Place

_BITS = 64
_MASK = (1 << _BITS) - 1


class KeySource(enum.StrEnum):
    """What of a request makes its key: nothing, the header `x-session-id`, the field `user`, the prompt's beginning."""

    OFF = "off"
    SESSION = "session"
    USER = "user"
    PROMPT = "prompt"


def key_of(text: bytes) -> int:
    """The key for `text`, of 64 bits."""
    return int.from_bytes(blake2b(text, digest_size=_BITS // 8).digest(), "big")


def choose(
    key: int, candidates: Sequence[Place], weight: Callable[[Endpoint], float], load_factor: float = inf
) -> Place:
    """The first of `candidates`, which are not empty, in the order of `key` whose load is within `load_factor` >= 1.

    An endpoint gets keys in proportion to its `weight`; of weight 0 none, unless all have 0, which are equal then.
    Without a `load_factor`: the first of all.
    """
    weighed = [(place, weight(place.state.endpoint)) for place in candidates]
    weighed = [each for each in weighed if each[1] > 0] or [(place, 1.0) for place in candidates]
    in_flight = 1 + sum(place.state.inflight for place, _ in weighed)
    # Compared without rounding up: a whole number is below the next whole number exactly when it is below this one.
    part = load_factor * in_flight / sum(each for _, each in weighed)
    with_room = [each for each in weighed if each[0].state.inflight < part * each[1]]
    return min(with_room, key=lambda each: _distance(key, each[0].state.endpoint.id) / each[1])[0]


def _distance(key: int, endpoint_id: int) -> float:
    """How far down an endpoint of weight 1 is in the order of a key: exponentially distributed, so that dividing by
    the weights makes each the least as often as its weight says.

    The endpoint's number in the sequence that SplitMix64 makes from the key (Steele, Lea and Flood 2014).
    """
    number = (key + endpoint_id * 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return -log(((number ^ (number >> 31)) + 1) / (_MASK + 1))
