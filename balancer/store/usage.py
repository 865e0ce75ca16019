"""What was used, in the database: totals of endpoints and tokens, and one row a minute for each endpoint.

Numbers are absolute: a row is what memory holds, so that writing it twice does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import RowMapping, Table, bindparam, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from balancer.store.database import Database
from balancer.store.records import iso_time
from balancer.store.tables import client_tokens, endpoint_totals, usage_minutes

MINUTE_SECONDS = 60

# What a BIGINT column holds. An endpoint may report any number of tokens, and one absurd sum must not keep the
# numbers of all the others from being stored.
_LARGEST_COUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EndpointTotals:
    """Everything one endpoint has done since its numbers were last reset."""

    total_requests: int = 0
    total_success: int = 0
    total_failures: int = 0
    prompt_tokens_total: int = 0
    completion_tokens_total: int = 0
    latency_count: int = 0
    latency_sum_ms: float = 0.0

    @property
    def avg_latency_ms(self) -> float:
        """Mean latency in milliseconds, 0 when none was measured."""
        return self.latency_sum_ms / self.latency_count if self.latency_count else 0.0


@dataclass(frozen=True, slots=True)
class TokenTotals:
    """Everything one client token was used for. `last_used_at` is Unix time; None leaves what is stored."""

    total_requests: int = 0
    prompt_tokens_total: int = 0
    completion_tokens_total: int = 0
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True)
class MinuteUsage:
    """What one endpoint did from second `minute` of Unix time on: for 60 seconds, or for the step asked for."""

    minute: int
    endpoint_id: int
    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_count: int = 0
    latency_sum_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """What has changed since the last batch, as absolute values: by endpoint id, token id, (minute, endpoint id)."""

    endpoints: Mapping[int, EndpointTotals] = field(default_factory=dict)
    tokens: Mapping[int, TokenTotals] = field(default_factory=dict)
    minutes: Mapping[tuple[int, int], MinuteUsage] = field(default_factory=dict)

    def followed_by(self, newer: UsageBatch) -> UsageBatch:
        """Both in one; where both know a row, the newer one is true."""
        return UsageBatch(
            {**self.endpoints, **newer.endpoints},
            {**self.tokens, **newer.tokens},
            {**self.minutes, **newer.minutes},
        )


class UsageStore:
    """Reads and writes usage. `clock` gives Unix time in seconds. Every method raises `StoreError`."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def load_totals(self) -> dict[int, EndpointTotals]:
        """Totals by endpoint id; those of deleted endpoints too while a revision can bring them back."""

        async def read(connection: AsyncConnection) -> dict[int, EndpointTotals]:
            found = await connection.execute(select(endpoint_totals))
            return {row["endpoint_id"]: _totals(row) for row in found.mappings()}

        return await self._database.read(read)

    async def minutes(
        self, since_epoch: int, endpoint_id: int | None = None, *, step_seconds: int = MINUTE_SECONDS
    ) -> list[MinuteUsage]:
        """The series from `since_epoch` on, by time and endpoint, minutes without requests left out.

        `step_seconds`, a multiple of 60, adds minutes up; a step begins at a multiple of it. A caller that counts
        must begin with the numbers of the running minute: what it writes replaces them.
        """
        begin = (usage_minutes.c.minute - usage_minutes.c.minute % step_seconds).label("minute")
        sums = [func.sum(column).label(column.name) for column in usage_minutes.c if not column.primary_key]
        query = (
            select(begin, usage_minutes.c.endpoint_id, *sums)
            .where(usage_minutes.c.minute >= since_epoch)
            .group_by(begin, usage_minutes.c.endpoint_id)
            .order_by(begin, usage_minutes.c.endpoint_id)
        )
        if endpoint_id is not None:
            query = query.where(usage_minutes.c.endpoint_id == endpoint_id)

        async def read(connection: AsyncConnection) -> list[MinuteUsage]:
            return [MinuteUsage(**row) for row in (await connection.execute(query)).mappings()]

        return await self._database.read(read)

    async def write(self, batch: UsageBatch) -> None:
        """Store `batch` in one transaction, all or nothing."""
        now = iso_time(self._clock())
        totals = [
            {"endpoint_id": each, "updated_at": now, **_columns(row, endpoint_totals)}
            for each, row in batch.endpoints.items()
        ]
        minutes = [_columns(row, usage_minutes) for row in batch.minutes.values()]

        async def write(connection: AsyncConnection) -> None:
            await _upsert(connection, endpoint_totals, totals)
            await _upsert(connection, usage_minutes, minutes)
            await _update_tokens(connection, batch.tokens)

        await self._database.write_usage(write)


async def _upsert(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        statement = insert(table)
        changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
        keys = list(table.primary_key)
        await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


async def _update_tokens(connection: AsyncConnection, tokens: Mapping[int, TokenTotals]) -> None:
    if tokens:
        statement = (
            update(client_tokens)
            .where(client_tokens.c.id == bindparam("token_id"))
            .values(
                total_requests=bindparam("requests"),
                prompt_tokens_total=bindparam("prompt_tokens"),
                completion_tokens_total=bindparam("completion_tokens"),
                last_used_at=func.coalesce(bindparam("used_at"), client_tokens.c.last_used_at),
            )
        )
        await connection.execute(statement, [_token_values(each, row) for each, row in tokens.items()])


def _token_values(token_id: int, row: TokenTotals) -> dict[str, Any]:
    return {
        "token_id": token_id,
        "requests": _storable(row.total_requests),
        "prompt_tokens": _storable(row.prompt_tokens_total),
        "completion_tokens": _storable(row.completion_tokens_total),
        "used_at": None if row.last_used_at is None else iso_time(row.last_used_at),
    }


def _columns(row: EndpointTotals | MinuteUsage, table: Table) -> dict[str, Any]:
    return {column.name: _storable(getattr(row, column.name)) for column in table.c if hasattr(row, column.name)}


def _storable(count: float) -> float:
    return min(count, _LARGEST_COUNT)


def _totals(row: RowMapping) -> EndpointTotals:
    return EndpointTotals(**{name: row[name] for name in EndpointTotals.__slots__})
