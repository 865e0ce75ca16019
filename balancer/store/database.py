"""The opened database: two engines on one file and the only ways to a transaction.

Nothing on the path of a request comes here. SQLite runs in the driver's threads, never in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from balancer.store.engines import create_file, database_path, reading, sqlite_engine, store_error
from balancer.store.migration import needs_upgrade, upgrade, version_of

_T = TypeVar("_T")
# What is done inside a transaction.
Work = Callable[[AsyncConnection], Awaitable[_T]]

# Long enough for any transaction of ours elsewhere, short enough for somebody who waits for an answer.
BUSY_TIMEOUT_SECONDS = 5.0
# Usage is tried again soon anyway, and must not stand in the way of the configuration for long.
_USAGE_BUSY_TIMEOUT_SECONDS = 1.0
# One writes, the others read: pages and exports beside a running change.
_CONFIGURATION_CONNECTIONS = 4


class Database:
    """One SQLite file. Open it with `Database.open`; close it when everything that uses it has ended."""

    def __init__(self, path: Path, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self.path = path
        self._configuration = sqlite_engine(
            path,
            synchronous="FULL",
            busy_timeout_seconds=busy_timeout_seconds,
            pool_size=_CONFIGURATION_CONNECTIONS,
        )
        self._usage = sqlite_engine(
            path,
            synchronous="NORMAL",
            busy_timeout_seconds=min(busy_timeout_seconds, _USAGE_BUSY_TIMEOUT_SECONDS),
        )
        self._reading = reading(self._configuration)
        # SQLite has one writer at a time. Queueing here is fair and immediate; its own lock is polled.
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Database {self.path}>"

    @classmethod
    async def open(cls, url: str, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> Database:
        """Open the database `url` names, made and migrated if need be, and prove that it can be written.

        Waits `busy_timeout_seconds` at most for another process that holds it. Raises `DatabaseTooNew` for a version
        this program does not know, which is then left untouched, and `StoreError` for all else that can go wrong.
        """
        path = database_path(url)
        await asyncio.to_thread(create_file, path)
        version = await asyncio.to_thread(version_of, path, busy_timeout_seconds)
        if needs_upgrade(path, version):
            try:
                await upgrade(path, busy_timeout_seconds)
            except (SQLAlchemyError, OSError) as error:
                raise store_error(error, path) from error
        database = cls(path, busy_timeout_seconds=busy_timeout_seconds)
        try:
            await database.write(_nothing)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Let running transactions end, then close all connections; the last one folds the log into the file."""
        if self._running:
            await asyncio.wait(self._running)
        await self._usage.dispose()
        await self._configuration.dispose()

    async def read(self, work: Work[_T]) -> _T:
        """Run `work` in a transaction that reads: everything it sees is of one moment. Raises `StoreError`."""
        return await self._uninterrupted(self._transaction(self._reading, work))

    async def write(self, work: Work[_T]) -> _T:
        """Run `work` in a transaction that is on the disk when this returns. Raises `StoreError`.

        Whatever `work` raises undoes all of it. A caller that is cancelled does not stop it. `work` must not write
        in another transaction: there is one at a time, and it would wait for itself.
        """
        return await self._uninterrupted(self._in_turn(self._configuration, work))

    async def write_usage(self, work: Work[_T]) -> _T:
        """As `write`, for numbers that are written again soon: a power failure may undo the last ones."""
        return await self._uninterrupted(self._in_turn(self._usage, work))

    async def _uninterrupted(self, transaction: Coroutine[Any, Any, _T]) -> _T:
        # A cancellation between BEGIN and COMMIT, while the driver's thread is at work, can leave the transaction
        # open and with it the write lock taken. So it always runs to its end, in a task of its own.
        task = asyncio.create_task(transaction)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, engine: AsyncEngine, work: Work[_T]) -> _T:
        async with self._turn:
            return await self._transaction(engine, work)

    async def _transaction(self, engine: AsyncEngine, work: Work[_T]) -> _T:
        try:
            async with engine.begin() as connection:
                return await work(connection)
        except (SQLAlchemyError, OSError) as error:
            raise store_error(error, self.path) from error
        except (UnicodeError, OverflowError) as error:
            # Not chained: the first of them carries the text it could not encode.
            raise store_error(error, self.path) from None


async def _nothing(_connection: AsyncConnection) -> None:
    """Work that only proves that a transaction is possible."""
