"""What all exchanges share: the pool, the connections, the limits on retries, what endpoints are known to reject."""

from __future__ import annotations

import time
from collections.abc import Callable

from balancer.core.endpoints import Endpoint, RouteRequest
from balancer.core.pool import EndpointPool
from balancer.core.retries import RetryBudget, RetryFigures
from balancer.dispatch.journal import Journal
from balancer.dispatch.queue import AdmissionQueue, Neighbours
from balancer.traffic import AttemptRecord
from balancer.upstream.connections import Connections


class UsageOption:
    """Which endpoints take `stream_options.include_usage`, as their answers have shown. By id and base URL."""

    __slots__ = ("_accepts",)

    def __init__(self) -> None:
        self._accepts: dict[int, tuple[str, bool]] = {}

    def wanted(self, endpoint: Endpoint) -> bool:
        """Whether to ask this endpoint for usage in streams."""
        return endpoint.include_usage and self._known(endpoint) is not False

    def unknown(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint has neither accepted nor rejected the option yet."""
        return self._known(endpoint) is None

    def accepted(self, endpoint: Endpoint) -> None:
        """A request with the option was answered."""
        if self._known(endpoint) is not True:
            self._accepts[endpoint.id] = (endpoint.base_url, True)

    def rejected(self, endpoint: Endpoint) -> None:
        """A request was answered only after the option was taken out."""
        self._accepts[endpoint.id] = (endpoint.base_url, False)

    def _known(self, endpoint: Endpoint) -> bool | None:
        base_url, accepts = self._accepts.get(endpoint.id, ("", None))
        return accepts if base_url == endpoint.base_url else None


class Dispatcher:
    """What exchanges are made with.

    `ping_seconds` None: no pings, a stream is held until its first event or the timeout.
    `on_model_miss`, when set, is told of each model that nobody is known to serve (None: any would have done), or that
    one endpoint, by id, answered 404 for: whoever keeps the lists may want to ask again. It returns at once.
    `on_attempt`, when set, is told of each attempt when it has ended; it returns at once and does not raise.
    `neighbours` are the queues of other processes. `retry_figures` are for those who look: those of all processes where
    there are others. `cut_elsewhere`, when set, cuts off an endpoint in them.
    """

    def __init__(
        self,
        pool: EndpointPool,
        connections: Connections,
        *,
        max_retries: int = 2,
        retry_budget_percent: float = 20.0,
        retry_on_timeout: bool = True,
        queue_size: int = 0,
        queue_timeout_seconds: float = 10.0,
        ping_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.pool = pool
        self.connections = connections
        self.max_retries = max_retries
        self.retry_on_timeout = retry_on_timeout
        self.ping_seconds = ping_seconds
        self.clock = clock
        self.wall_clock = wall_clock
        self.budget = RetryBudget(retry_budget_percent)
        self.retry_figures: RetryFigures = self.budget
        self.queue = AdmissionQueue(pool, queue_size, queue_timeout_seconds, clock, neighbours)
        self.cut_elsewhere: Callable[[int], int] | None = None
        self._neighbours = neighbours
        self.usage_option = UsageOption()
        self.journal = Journal(pool)
        self.on_model_miss: Callable[[str | None, int | None], None] | None = None
        self.on_attempt: Callable[[AttemptRecord], None] | None = None

    def why_final(self, tried: int, request: RouteRequest) -> str | None:
        """Why a request that failed at `tried` endpoints is sent to no other; None: it may be, if a first retry is
        within the budget.
        """
        if request.pinned_to is not None:
            return "it is bound to one endpoint"
        if tried > self.max_retries:
            return f"at most {1 + self.max_retries} endpoints are tried"
        return None

    def cut(self, endpoint_id: int) -> int:
        """End at once what is in flight at that endpoint; how many exchanges that were.

        Answers that had begun break off, requests without one yet go to another endpoint. No fault of the endpoint.
        """
        elsewhere = self.cut_elsewhere(endpoint_id) if self.cut_elsewhere is not None else 0
        return self.connections.cut(endpoint_id) + elsewhere

    def waiting(self) -> int:
        """Requests in the queue at this moment."""
        return self.queue.depth + (self._neighbours.waiting_elsewhere() if self._neighbours is not None else 0)

    def model_missed(self, model: str | None, endpoint_id: int | None = None) -> None:
        """Say that nobody serves `model`, or that this endpoint does not after all."""
        if self.on_model_miss is not None:
            self.on_model_miss(model, endpoint_id)
