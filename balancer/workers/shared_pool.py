"""The pool of one process among several that balance the same endpoints: what the others have in flight counts too."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from balancer.core.breaker import Breaker
from balancer.core.endpoints import Endpoint, RouteRequest
from balancer.core.lane import Lane, Place
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.workers.seam import InFlight, Numbers


class SharedState(EndpointState):
    """An endpoint's state whose `inflight` counts what all processes have there: caps, strategies and figures see it.

    `+=` and `-=` change what this process has; what the others have is looked up each time `inflight` is read.
    """

    __slots__ = ("_elsewhere", "_own", "_shared")

    def __init__(self, endpoint: Endpoint, breaker: Breaker, shared: InFlight) -> None:
        self._shared = shared
        self._own = self._elsewhere = 0
        super().__init__(endpoint, breaker)

    @property
    def inflight(self) -> int:
        """In flight at the endpoint, by all processes."""
        self._elsewhere = self._shared.elsewhere()
        return self._own + self._elsewhere

    @inflight.setter
    def inflight(self, total: int) -> None:
        # Against what was read right before: the others may have changed theirs since.
        self._own = total - self._elsewhere
        self._shared.publish(self._own)


class SharedPool(EndpointPool):
    """A pool of such states, by `numbers`.

    Others fill an endpoint without a word, so whoever was chosen is looked at once more before it is granted. A cap is
    exceeded only by what several processes grant in the same moment: by one request for each other process at most.
    """

    def __init__(self, numbers: Numbers, **options: Any) -> None:
        super().__init__(
            make_state=lambda endpoint, breaker: SharedState(endpoint, breaker, numbers.endpoint(endpoint.id)),
            **options,
        )

    def _decide(
        self, lane: Lane, request: RouteRequest, now: float, tried: Container[int], may_panic: bool
    ) -> tuple[Place, list[Place]]:
        while True:
            place, compared = super()._decide(lane, request, now, tried, may_panic)
            state = place.state
            if not compared or not 0 < state.limit <= state.inflight:
                return place, compared
            state.clear = False  # others have filled it since it was asked last
