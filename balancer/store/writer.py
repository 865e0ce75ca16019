"""Writes usage behind the requests: collects what has changed and stores it, a few times a second.

A database that fails costs nothing but memory, and that is bounded; the numbers are written when it works again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from balancer.store.database import Database
from balancer.store.errors import StoreError
from balancer.store.retention import prune
from balancer.store.usage import UsageBatch, UsageStore

_log = logging.getLogger(__name__)

_PRUNE_SECONDS = 3600.0
# Rows of minutes kept while the database fails: a day of 34 busy endpoints, some 10 MB.
MOST_PENDING_MINUTES = 50_000


class UsageWriter:
    """One task that writes what `collect` gives; `collect` returns None when nothing has changed since its last call.

    `collect` is called in the event loop and must be quick. Old rows are pruned at the start and then every hour.
    `clock` gives Unix time in seconds.
    """

    def __init__(
        self,
        database: Database,
        collect: Callable[[], UsageBatch | None],
        *,
        interval_seconds: float = 0.25,
        retention_days: int = 30,
        most_pending_minutes: int = MOST_PENDING_MINUTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lost = 0
        self._database = database
        self._store = UsageStore(database, clock=clock)
        self._collect = collect
        self._interval_seconds = interval_seconds
        self._retention_days = retention_days
        self._most_pending_minutes = most_pending_minutes
        self._clock = clock
        self._pending: UsageBatch | None = None
        self._trouble: str | None = None
        self._pruned_at: float | None = None
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def failing(self) -> str | None:
        """Why usage is not being written, in words; None when all is well. `lost` counts rows of minutes given up."""
        if self._task is not None and self._task.done() and not self._stopping.is_set():
            return "the usage writer has stopped"
        return self._trouble

    async def start(self) -> None:
        """Begin to write. Once only."""
        if self._task is not None:
            raise RuntimeError("the usage writer was started before")
        self._task = asyncio.create_task(self._run(), name="usage writer")

    async def flush(self) -> bool:
        """Write everything collected so far, now. False when the database fails: then it is kept for later."""
        async with self._turn:
            newer = self._collect()
            if newer is not None:
                self._pending = self._bounded(self._pending.followed_by(newer) if self._pending else newer)
            if self._pending is None:
                return True
            try:
                await self._store.write(self._pending)
            except StoreError as error:
                self._begin_trouble(str(error))
                return False
            # Only now: a write that failed or was cancelled is tried again, and doing it twice does no harm.
            self._pending = None
            self._end_trouble()
            return True

    async def stop(self) -> None:
        """Write what is left and end. A caller that is cancelled meanwhile does not interrupt the last write."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self.flush()
            await self._prune_if_due()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._interval_seconds)
        if not await self.flush():
            _log.error("the last usage is lost: %s", self._trouble)

    async def _prune_if_due(self) -> None:
        now = self._clock()
        if self._pruned_at is not None and abs(now - self._pruned_at) < _PRUNE_SECONDS:
            return
        self._pruned_at = now
        try:
            await prune(self._database, now, self._retention_days)
        except StoreError as error:
            _log.warning("old rows could not be deleted, next try in an hour: %s", error)

    def _bounded(self, batch: UsageBatch) -> UsageBatch:
        excess = len(batch.minutes) - self._most_pending_minutes
        if excess <= 0:
            return batch
        self.lost += excess
        newest = sorted(batch.minutes)[excess:]
        return replace(batch, minutes={key: batch.minutes[key] for key in newest})

    def _begin_trouble(self, words: str) -> None:
        if self._trouble is None:
            _log.error("usage is kept in memory and written later: %s", words)
        self._trouble = words

    def _end_trouble(self) -> None:
        if self._trouble is not None:
            _log.warning("usage is written again")
        self._trouble = None
