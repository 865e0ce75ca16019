"""The operator's admission queue: requests that wait for a full endpoint, first in, first out.

A waiting request is a future. Whoever makes room hands over a lease at once, synchronously, so that no newcomer can
slip in between; a client that leaves takes its place with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from balancer.core.endpoints import Outcome, RouteRequest
from balancer.core.errors import AllBusy, NoEndpoint
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool


class _Waiting(NamedTuple):
    request: RouteRequest
    granted: asyncio.Future[Lease]


class AdmissionQueue:
    """At most `size` requests wait, each at most `timeout_seconds`. Size 0: nobody waits."""

    def __init__(self, pool: EndpointPool, size: int, timeout_seconds: float, clock: Callable[[], float]) -> None:
        self._pool = pool
        self.size = size
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._waiting: dict[int, _Waiting] = {}  # in order of arrival
        self._arrivals = 0
        if size:
            pool.freed = self._hand_out

    def __repr__(self) -> str:
        return f"<AdmissionQueue {len(self._waiting)} of {self.size}>"

    @property
    def depth(self) -> int:
        """Requests waiting at this moment."""
        return len(self._waiting)

    async def admit(self, request: RouteRequest) -> Lease:
        """A lease at once, or after waiting for room. Raises NoEndpoint as the pool does, also when time is up."""
        try:
            return self._pool.acquire(request, self._clock())
        except AllBusy as busy:
            if len(self._waiting) >= self.size:
                raise
            return await self._wait(request, busy)

    async def _wait(self, request: RouteRequest, busy: AllBusy) -> Lease:
        loop = asyncio.get_running_loop()
        self._arrivals += 1
        place = self._arrivals
        granted: asyncio.Future[Lease] = loop.create_future()
        self._waiting[place] = _Waiting(request, granted)
        deadline = loop.call_later(self._timeout_seconds, _expire, granted, busy)
        # A throttled endpoint becomes free by the clock; no release announces it.
        retry = loop.call_later((busy.retry_after or 0.0) + 0.001, self._hand_out)
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().release(Outcome.NEUTRAL, self._clock())
            raise
        finally:
            self._waiting.pop(place, None)
            deadline.cancel()
            retry.cancel()

    def _hand_out(self) -> None:
        now = self._clock()
        refused: set[str | None] = set()
        for place, (request, granted) in list(self._waiting.items()):
            if granted.done() or request.model in refused:
                continue
            try:
                lease = self._pool.acquire(request, now)
            except AllBusy:
                refused.add(request.model)
                continue
            except NoEndpoint as error:
                granted.set_exception(error)
            else:
                granted.set_result(lease)
            del self._waiting[place]


def _expire(granted: asyncio.Future[Lease], busy: AllBusy) -> None:
    if not granted.done():
        granted.set_exception(busy)
