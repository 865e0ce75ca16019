"""Notices that a client has left, or takes nothing any more, and cancels the task that serves it.

To watch costs more than to route a request, so it begins only for those that take longer.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from balancer.proxy.answering import Answering

_LAZY_SECONDS = 0.03
_CHECK_SECONDS = 1.0
# Progress is looked at at least this often within the write timeout.
_CHECKS = 4


class Watched(Protocol):
    """Whoever serves a client."""

    def watch(self) -> object:
        """Begin to watch the client."""


class Watches:
    """Begins each watch whose request is not done within a few tens of milliseconds. Serves one event loop.

    One timer for all of them: most requests are done before, and a timer each would be a good part of what they cost.
    """

    __slots__ = ("_loop", "_timer", "_waiting", "_young")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._young: set[Watched] = set()  # came since the timer fired last
        self._waiting: set[Watched] = set()  # came before: due when it fires next
        self._timer: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running event loop. Looked up once: up to Python 3.11 that is a system call."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def add(self, watched: Watched) -> None:
        """Begin to watch after one to two periods, unless discarded before."""
        self._young.add(watched)
        if self._timer is None:
            self._set_timer()

    def discard(self, watched: Watched) -> None:
        """Do not begin."""
        self._young.discard(watched)
        self._waiting.discard(watched)

    def _set_timer(self) -> None:
        self._timer = self.loop.call_later(_LAZY_SECONDS, self._fire)

    def _fire(self) -> None:
        due, self._waiting, self._young = self._waiting, self._young, set()
        for watched in due:
            watched.watch()
        self._timer = None
        if self._waiting:
            self._set_timer()


class ClientWatch:
    """`gone`: the client closed its connection. `stalled`: it accepted no byte for `write_timeout_seconds`.

    `sends_begun` and `sends_done` are counted by whoever sends; a send that stays open while the transport's buffer
    does not shrink is a client that takes nothing.
    """

    __slots__ = (
        "_answering",
        "_check_seconds",
        "_closing",
        "_loop",
        "_moved_at",
        "_owner",
        "_progress",
        "_timer",
        "_write_timeout_seconds",
        "gone",
        "sends_begun",
        "sends_done",
        "stalled",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, answering: Answering, write_timeout_seconds: float) -> None:
        self.gone = False
        self.stalled = False
        self.sends_begun = 0
        self.sends_done = 0
        self._loop = loop
        self._answering = answering
        self._owner = answering.task
        self._write_timeout_seconds = write_timeout_seconds
        self._check_seconds = min(_CHECK_SECONDS, write_timeout_seconds / _CHECKS)
        self._closing = False
        self._progress: tuple[int, int] = (0, 0)
        self._moved_at = loop.time()
        self._timer = loop.call_later(self._check_seconds, self._check)
        answering.when_left(self._leave)

    @property
    def client_left(self) -> bool:
        """Whether the client is why the task was cancelled."""
        return self.gone or self.stalled

    async def until_gone(self) -> None:
        """Wait for a connection that we have closed to end, as for a send: ends by cancelling whoever called."""
        self._closing = True
        self.sends_begun += 1
        await self._loop.create_future()

    def stop(self) -> None:
        """End the watch; the task it watches for is done. Call before anything else can be cancelled."""
        self._owner = None
        self._answering.when_left(None)
        self._timer.cancel()

    def _leave(self) -> None:
        self.gone = True
        if self._owner is not None:
            self._owner.cancel()

    def _check(self) -> None:
        transport = self._answering.transport
        if transport is not None and transport.is_closing() and not self._closing:
            # With another request behind this one on the connection, the server tells only that one.
            self._leave()
            return
        if self._takes_nothing(self._loop.time()):
            self.stalled = True
            if transport is not None:
                transport.abort()
            if self._owner is not None:
                self._owner.cancel()
            return
        self._timer = self._loop.call_later(self._check_seconds, self._check)

    def _takes_nothing(self, now: float) -> bool:
        transport = self._answering.transport
        buffered = transport.get_write_buffer_size() if transport is not None else 0
        progress = (self.sends_done, buffered)
        if progress != self._progress or self.sends_begun == self.sends_done:
            self._progress, self._moved_at = progress, now
        return now - self._moved_at >= self._write_timeout_seconds
