"""One after the other, and each to its end: for what writes to the store and then to memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Turns:
    """Runs work in turn. A caller that is cancelled while it waits has done nothing; later its work runs on."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        # The event loop alone does not keep a task alive.
        self._running: asyncio.Task[object] | None = None

    async def take(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, run when everything begun before has ended. Raises what it raises."""
        await self._lock.acquire()
        task = asyncio.create_task(self._run(work))
        self._running = task
        return await asyncio.shield(task)

    async def settle(self) -> None:
        """Wait until everything begun before has ended."""
        async with self._lock:
            pass

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            self._lock.release()
