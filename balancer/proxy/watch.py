"""Notices that a client has left, or takes nothing any more, and cancels the task that serves it.

A task that waits for `receive()` costs more than routing a request, so it starts only for those that take longer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive

_LAZY_SECONDS = 0.03
_CHECK_SECONDS = 1.0
# Progress is looked at at least this often within the write timeout.
_CHECKS = 4


class Watches:
    """Begins each watch whose request is not done within a few tens of milliseconds. Serves one event loop.

    One timer for all of them: most requests are done before, and a timer each would be a good part of what they cost.
    """

    __slots__ = ("_loop", "_timer", "_waiting", "_young")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._young: set[ClientWatch] = set()  # came since the timer fired last
        self._waiting: set[ClientWatch] = set()  # came before: due when it fires next
        self._timer: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running event loop. Looked up once: up to Python 3.11 that is a system call."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def add(self, watch: ClientWatch) -> None:
        """Begin `watch` after one to two periods, unless it is discarded before."""
        self._young.add(watch)
        if self._timer is None:
            self._set_timer()

    def discard(self, watch: ClientWatch) -> None:
        """Do not begin `watch`."""
        self._young.discard(watch)
        self._waiting.discard(watch)

    def _set_timer(self) -> None:
        self._timer = self.loop.call_later(_LAZY_SECONDS, self._fire)

    def _fire(self) -> None:
        due, self._waiting, self._young = self._waiting, self._young, set()
        for watch in due:
            watch.begin()
        self._timer = None
        if self._waiting:
            self._set_timer()


class ClientWatch:
    """`gone`: the client closed its connection. `stalled`: it accepted no byte for `write_timeout_seconds`.

    `sends_begun` and `sends_done` are counted by whoever sends; a send that stays open while the transport's buffer
    does not shrink is a client that takes nothing.
    """

    __slots__ = (
        "_check_seconds",
        "_closing",
        "_loop",
        "_moved_at",
        "_owner",
        "_progress",
        "_receive",
        "_task",
        "_timer",
        "_transport",
        "_watches",
        "_write_timeout_seconds",
        "gone",
        "sends_begun",
        "sends_done",
        "stalled",
    )

    def __init__(self, watches: Watches, receive: Receive, transport: Any, write_timeout_seconds: float) -> None:
        self.gone = False
        self.stalled = False
        self.sends_begun = 0
        self.sends_done = 0
        self._watches = watches
        self._receive = receive
        self._transport = transport
        self._write_timeout_seconds = write_timeout_seconds
        self._check_seconds = min(_CHECK_SECONDS, write_timeout_seconds / _CHECKS)
        self._closing = False
        self._progress: tuple[int, int] = (0, 0)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = watches.loop
        self._owner = asyncio.current_task(self._loop)
        watches.add(self)

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
        if self._task is None:
            self._watches.discard(self)
            return
        self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def begin(self) -> None:
        """Watch from now on; `Watches` calls this."""
        self._task = self._loop.create_task(self._listen())
        self._moved_at = self._loop.time()
        self._timer = self._loop.call_later(self._check_seconds, self._check)

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._cancel_owner()

    def _check(self) -> None:
        transport = self._transport
        if transport is not None and transport.is_closing() and not self._closing:
            # With another request behind this one on the connection, the server tells only that one.
            self.gone = True
            self._cancel_owner()
            return
        if self._takes_nothing(self._loop.time()):
            self.stalled = True
            if transport is not None:
                transport.abort()
            self._cancel_owner()
            return
        self._timer = self._loop.call_later(self._check_seconds, self._check)

    def _takes_nothing(self, now: float) -> bool:
        buffered = self._transport.get_write_buffer_size() if self._transport is not None else 0
        progress = (self.sends_done, buffered)
        if progress != self._progress or self.sends_begun == self.sends_done:
            self._progress, self._moved_at = progress, now
        return now - self._moved_at >= self._write_timeout_seconds

    def _cancel_owner(self) -> None:
        if self._owner is not None:
            self._owner.cancel()
