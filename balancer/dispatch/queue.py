"""The operator's admission queue: requests that wait for a full endpoint, first in, first out.

A waiting request is a future. Whoever makes room hands over a lease at once, synchronously, so that no newcomer can
slip in between; a client that leaves takes its place with it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Callable
from random import Random
from typing import NamedTuple, Protocol

from balancer.core.endpoints import Outcome, RouteRequest
from balancer.core.errors import AllBusy, NoEndpoint
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool

_CLOCK_STEP_SECONDS = 0.001  # loops round timers to this
# Room that other processes make is announced by nobody.
_NEIGHBOURS_SECONDS = 0.01


# What decides who may serve a request: as long as the first one that wants this is refused, so are all others.
_Wanted = tuple[str | None, int | None]


class _Waiting(NamedTuple):
    request: RouteRequest
    granted: asyncio.Future[Lease]


class Neighbours(Protocol):
    """The queues of other processes for the same endpoints."""

    def waiting_elsewhere(self) -> int:
        """Requests that wait there."""

    def publish_waiting(self, own: int) -> None:
        """Tell them how many wait here."""


class AdmissionQueue:
    """At most `size` requests wait, each at most `timeout_seconds`. Size 0: nobody waits.

    With `neighbours` that is the sum of all. Order of arrival holds in each queue; between queues chance decides, so
    that the one that makes most room does not keep all of it.
    """

    def __init__(
        self,
        pool: EndpointPool,
        size: int,
        timeout_seconds: float,
        clock: Callable[[], float],
        neighbours: Neighbours | None = None,
    ) -> None:
        self._neighbours = neighbours
        self._rng = Random()
        self._pool = pool
        self.size = size
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._lines: dict[_Wanted, OrderedDict[int, _Waiting]] = {}  # each in order of arrival, none of them empty
        self._arrivals = 0
        self.depth = 0  # requests waiting at this moment
        self._alarm: asyncio.TimerHandle | None = None
        if size:
            pool.freed = self._hand_out if neighbours is None else self._take_chance

    def __repr__(self) -> str:
        return f"<AdmissionQueue {self.depth} of {self.size}>"

    async def admit(self, request: RouteRequest) -> Lease:
        """A lease at once, or after waiting for room. Raises NoEndpoint as the pool does, also when time is up."""
        if self._lines:
            self._hand_out()  # time alone may have made room, and it is theirs who came first
        try:
            return self._pool.acquire(request, self._clock())
        except AllBusy as busy:
            if self.depth + self._elsewhere() >= self.size:
                raise
            return await self._wait(request, busy)

    async def _wait(self, request: RouteRequest, busy: AllBusy) -> Lease:
        loop = asyncio.get_running_loop()
        self._arrivals += 1
        place, wanted = self._arrivals, (request.model, request.pinned_to)
        granted: asyncio.Future[Lease] = loop.create_future()
        self._lines.setdefault(wanted, OrderedDict())[place] = _Waiting(request, granted)
        self._count(1)
        deadline = loop.call_later(self._timeout_seconds, _expire, granted, busy)
        self._look_again(busy.retry_after)
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().release(Outcome.NEUTRAL, self._clock())
            raise
        finally:
            self._leave(wanted, place)
            deadline.cancel()

    def _leave(self, wanted: _Wanted, place: int) -> None:
        """Wait no more; may be repeated."""
        line = self._lines.get(wanted)
        if line is not None and line.pop(place, None) is not None:
            self._count(-1)
            if not line:
                del self._lines[wanted]

    def _count(self, more: int) -> None:
        self.depth += more
        if self._neighbours is not None:
            self._neighbours.publish_waiting(self.depth)

    def _elsewhere(self) -> int:
        return 0 if self._neighbours is None else self._neighbours.waiting_elsewhere()

    def _take_chance(self) -> None:
        """Room was made here: where others wait elsewhere, it goes to whoever looks first."""
        if self._elsewhere():
            if self._lines:
                self._look_again(self._rng.uniform(0.0, _NEIGHBOURS_SECONDS))
        else:
            self._hand_out()

    def _look_again(self, seconds: float | None) -> None:
        """A throttled endpoint becomes free by the clock; no release announces it."""
        loop = asyncio.get_running_loop()
        if self._neighbours is not None:
            seconds = min(seconds or 0.0, self._rng.uniform(0.5, 1.0) * _NEIGHBOURS_SECONDS)
        at = loop.time() + (seconds or 0.0) + _CLOCK_STEP_SECONDS
        if self._alarm is not None:
            if self._alarm.when() <= at:
                return
            self._alarm.cancel()
        self._alarm = loop.call_at(at, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._hand_out()

    def _hand_out(self) -> None:
        now = self._clock()
        firsts = [(next(iter(line)), wanted) for wanted, line in self._lines.items()]
        heapq.heapify(firsts)  # places differ, so that what is wanted is never compared
        while firsts:
            place, wanted = heapq.heappop(firsts)
            line = self._lines[wanted]
            request, granted = line[place]
            try:
                if not granted.done():
                    granted.set_result(self._pool.acquire(request, now))
            except AllBusy as busy:
                self._look_again(busy.retry_after)
                continue
            except NoEndpoint as error:
                granted.set_exception(error)
            self._leave(wanted, place)
            if line:
                heapq.heappush(firsts, (next(iter(line)), wanted))


def _expire(granted: asyncio.Future[Lease], busy: AllBusy) -> None:
    if not granted.done():
        granted.set_exception(busy)
