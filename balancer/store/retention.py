"""What is deleted, and when: old minutes, old revisions, and what only they still needed."""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from balancer.store.database import Database
from balancer.store.records import iso_time
from balancer.store.tables import (
    configuration,
    endpoint_keys,
    endpoint_totals,
    endpoints,
    revision_changes,
    revisions,
    usage_minutes,
)

# The last changes can be taken back however long ago they were; a script that changes all day cannot fill the disk.
FEWEST_REVISIONS = 100
MOST_REVISIONS = 5000

_DAY_SECONDS = 86_400


async def prune(database: Database, now_epoch: float, retention_days: int) -> None:
    """Delete what is older than `retention_days`, then provider keys and totals that nothing refers to any more.

    Of the revisions, the newest 100 stay whatever their age, and never more than 5,000. `now_epoch` is Unix time in
    seconds. Raises `StoreError`.
    """
    cutoff = max(0.0, now_epoch - retention_days * _DAY_SECONDS)

    async def delete_a_day(connection: AsyncConnection) -> bool:
        return await _delete_a_day(connection, int(cutoff))

    async def delete_the_rest(connection: AsyncConnection) -> None:
        await _delete_revisions(connection, iso_time(cutoff))
        await _delete_unused(connection)

    while await database.write_usage(delete_a_day):
        pass
    await database.write_usage(delete_the_rest)


async def _delete_a_day(connection: AsyncConnection, cutoff: int) -> bool:
    """Delete the oldest day of minutes before `cutoff`; whether there was any.

    One day in one transaction: after a shorter retention was set there may be millions of rows, and nobody else can
    write while they go.
    """
    oldest = (await connection.execute(select(func.min(usage_minutes.c.minute)))).scalar()
    if oldest is None or oldest >= cutoff:
        return False
    until = min(oldest + _DAY_SECONDS, cutoff)
    await connection.execute(delete(usage_minutes).where(usage_minutes.c.minute < until))
    return True


async def _delete_revisions(connection: AsyncConnection, cutoff: str) -> None:
    newest = (await connection.execute(select(configuration.c.revision))).scalar()
    if newest is None:
        return
    young = select(func.min(revisions.c.number)).where(revisions.c.created_at >= cutoff)
    first_young: int = (await connection.execute(young)).scalar() or newest + 1
    # Always the oldest ones without a gap: a configuration is found by undoing everything after it.
    first_kept = max(min(first_young, newest + 1 - FEWEST_REVISIONS), newest + 1 - MOST_REVISIONS)
    await connection.execute(delete(revisions).where(revisions.c.number < first_kept))


async def _delete_unused(connection: AsyncConnection) -> None:
    used = (endpoints.c.api_key_id, revision_changes.c.before_key_id, revision_changes.c.after_key_id)
    await connection.execute(delete(endpoint_keys).where(*_in_none_of(endpoint_keys.c.id, *used)))
    known = (endpoints.c.id, revision_changes.c.endpoint_id)
    await connection.execute(delete(endpoint_totals).where(*_in_none_of(endpoint_totals.c.endpoint_id, *known)))


def _in_none_of(column: ColumnElement[int], *others: ColumnElement[int | None]) -> list[ColumnElement[bool]]:
    # Nulls must stay out: nothing is ever "not in" a list that has one.
    return [column.not_in(select(other).where(other.is_not(None))) for other in others]
