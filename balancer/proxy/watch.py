"""Notices that a client has left, or takes nothing any more, and cancels the task that serves it.

A task that waits for `receive()` costs more than routing a request, so it starts only when the answer is not there
within a few tens of milliseconds.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive

_LAZY_SECONDS = 0.03
# Progress is looked at this often within the write timeout; so it is noticed late by at most this share of it.
_CHECKS = 4


class ClientWatch:
    """`gone`: the client closed its connection. `stalled`: it accepted no byte for `write_timeout_seconds`.

    `sends_begun` and `sends_done` are counted by whoever sends; a send that stays open while the transport's buffer
    does not shrink is a client that takes nothing.
    """

    __slots__ = (
        "_loop",
        "_owner",
        "_progress",
        "_receive",
        "_stands_still",
        "_task",
        "_timer",
        "_transport",
        "_write_timeout_seconds",
        "gone",
        "sends_begun",
        "sends_done",
        "stalled",
    )

    def __init__(self, receive: Receive, transport: Any, write_timeout_seconds: float) -> None:
        self.gone = False
        self.stalled = False
        self.sends_begun = 0
        self.sends_done = 0
        self._receive = receive
        self._transport = transport
        self._write_timeout_seconds = write_timeout_seconds
        self._stands_still = 0
        self._progress: tuple[int, int] = (0, 0)
        self._task: asyncio.Task[None] | None = None
        self._owner = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_LAZY_SECONDS, self._begin)

    @property
    def client_left(self) -> bool:
        """Whether the client is why the task was cancelled."""
        return self.gone or self.stalled

    async def until_gone(self) -> None:
        """Wait for the connection to end, as a send that nothing completes: ends by cancelling whoever called."""
        self.sends_begun += 1
        await self._loop.create_future()

    def stop(self) -> None:
        """End the watch; the task it watches for is done. Call before anything else can be cancelled."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._owner = None

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._listen())
        self._timer = self._loop.call_later(self._write_timeout_seconds / _CHECKS, self._check_progress)

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._cancel_owner()

    def _check_progress(self) -> None:
        buffered = self._transport.get_write_buffer_size() if self._transport is not None else 0
        progress = (self.sends_done, buffered)
        waiting = self.sends_begun > self.sends_done
        self._stands_still = self._stands_still + 1 if waiting and progress == self._progress else 0
        if self._stands_still >= _CHECKS:
            self.stalled = True
            if self._transport is not None:
                self._transport.abort()
            self._cancel_owner()
            return
        self._progress = progress
        self._timer = self._loop.call_later(self._write_timeout_seconds / _CHECKS, self._check_progress)

    def _cancel_owner(self) -> None:
        if self._owner is not None:
            self._owner.cancel()
