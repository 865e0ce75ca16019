"""The statements behind the configuration: each function works inside the caller's transaction.

Knows tables and columns; which change is allowed is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from balancer.store.cipher import KeyCipher
from balancer.store.history import VERSIONED, Document, State, document
from balancer.store.records import (
    INCOMING_POSITION,
    Configuration,
    EndpointRecord,
    Position,
    RecordedChange,
    Revision,
)
from balancer.store.tables import configuration, endpoint_keys, endpoints, revision_changes, revisions

_FIRST_ENDPOINT_ID = 1


@dataclass(frozen=True, slots=True)
class Current:
    """What the database holds: as callers see it, and as the documents that changes are planned on."""

    configuration: Configuration
    state: State


async def read(connection: AsyncConnection, cipher: KeyCipher) -> Current | None:
    """The configuration as it stands; None in a database that never had one. Raises `WrongSecretKey`."""
    head = (await connection.execute(select(configuration))).mappings().one_or_none()
    if head is None:
        return None
    query = (
        select(endpoints, endpoint_keys.c.api_key, endpoint_keys.c.encrypted)
        .outerjoin(endpoint_keys, endpoint_keys.c.id == endpoints.c.api_key_id)
        .order_by(endpoints.c.id)
    )
    records = tuple(_record(row, cipher) for row in (await connection.execute(query)).mappings())
    incoming = (head["incoming_x"], head["incoming_y"])
    return Current(
        Configuration(head["revision"], head["routing_mode"], records, incoming),
        State(head["routing_mode"], {each.id: document(each) for each in records}, head["next_endpoint_id"]),
    )


async def begin(connection: AsyncConnection, routing_mode: str) -> Current:
    """Write the first configuration: revision 0, no endpoints."""
    x, y = INCOMING_POSITION
    await connection.execute(
        insert(configuration).values(
            id=1,
            revision=0,
            routing_mode=routing_mode,
            next_endpoint_id=_FIRST_ENDPOINT_ID,
            incoming_x=x,
            incoming_y=y,
        )
    )
    return Current(Configuration(0, routing_mode), State(routing_mode, {}, _FIRST_ENDPOINT_ID))


async def write_endpoints(connection: AsyncConnection, old: State, new: State, now: str) -> None:
    """Make the endpoints in the database those of `new`. `now` becomes the time of every change but a move."""
    gone = old.endpoints.keys() - new.endpoints.keys()
    if gone:
        await connection.execute(delete(endpoints).where(endpoints.c.id.in_(gone)))
    changed = {
        endpoint_id: values
        for endpoint_id in old.endpoints.keys() & new.endpoints.keys()
        if (values := _changed_values(old.endpoints[endpoint_id], new.endpoints[endpoint_id]))
    }
    await _park_names(connection, [endpoint_id for endpoint_id, values in changed.items() if "name" in values])
    for endpoint_id, values in changed.items():
        if not values.keys().isdisjoint(VERSIONED):
            values["updated_at"] = now
        await connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(values))
    added = [
        {**new.endpoints[endpoint_id], "id": endpoint_id, "updated_at": now}
        for endpoint_id in sorted(new.endpoints.keys() - old.endpoints.keys())
    ]
    if added:
        await connection.execute(insert(endpoints), added)


async def write_revision(connection: AsyncConnection, revision: Revision, target: State) -> None:
    """Record `revision` and make it the current one."""
    await connection.execute(
        insert(revisions).values(
            number=revision.number,
            created_at=revision.created_at,
            actor=revision.actor,
            summary=revision.summary,
        )
    )
    rows = [_change_row(revision.number, place, change) for place, change in enumerate(revision.changes)]
    await connection.execute(insert(revision_changes), rows)
    await connection.execute(
        update(configuration).values(
            revision=revision.number,
            routing_mode=target.routing_mode,
            next_endpoint_id=target.next_endpoint_id,
        )
    )


async def write_incoming(connection: AsyncConnection, position: Position) -> None:
    """Store where the incoming node stands."""
    x, y = position
    await connection.execute(update(configuration).values(incoming_x=x, incoming_y=y))


async def read_revisions(connection: AsyncConnection, limit: int, below: int) -> list[Revision]:
    """The newest `limit` revisions with a number less than `below`, newest first."""
    query = select(revisions).where(revisions.c.number < below).order_by(revisions.c.number.desc()).limit(limit)
    rows = (await connection.execute(query)).mappings().all()
    if not rows:
        return []
    changes = await _changes(connection, rows[-1]["number"], rows[0]["number"])
    return [Revision(**row, changes=tuple(changes.get(row["number"], ()))) for row in rows]


async def read_changes(connection: AsyncConnection, first: int, last: int) -> list[RecordedChange] | None:
    """What revisions `first` to `last` changed, the latest first; None when one of them is not kept."""
    kept = select(func.count()).where(revisions.c.number.between(first, last))
    if (await connection.execute(kept)).scalar_one() != last - first + 1:
        return None
    changes = await _changes(connection, first, last)
    return [change for number in sorted(changes, reverse=True) for change in changes[number]]


async def _changes(connection: AsyncConnection, first: int, last: int) -> dict[int, list[RecordedChange]]:
    query = (
        select(revision_changes)
        .where(revision_changes.c.revision.between(first, last))
        .order_by(revision_changes.c.revision, revision_changes.c.place)
    )
    found: dict[int, list[RecordedChange]] = {}
    for row in (await connection.execute(query)).mappings():
        change = RecordedChange(row["endpoint_id"], row["name"], row["before"], row["after"])
        found.setdefault(row["revision"], []).append(change)
    return found


async def _park_names(connection: AsyncConnection, renamed: Sequence[int]) -> None:
    # Two endpoints may swap their names in one change, but row by row the first would collide with the second.
    # No endpoint's name has a line break, so these are free.
    if len(renamed) > 1:
        parked = update(endpoints).where(endpoints.c.id == bindparam("endpoint")).values(name=bindparam("parked"))
        await connection.execute(parked, [{"endpoint": each, "parked": f"\n{each}"} for each in renamed])


def _changed_values(old: Document, new: Document) -> dict[str, Any]:
    return {name: value for name, value in new.items() if old[name] != value}


def _change_row(number: int, place: int, change: RecordedChange) -> dict[str, Any]:
    return {
        "revision": number,
        "place": place,
        "endpoint_id": change.endpoint_id,
        "name": change.name,
        "before": change.before,
        "after": change.after,
        "before_key_id": (change.before or {}).get("api_key_id"),
        "after_key_id": (change.after or {}).get("api_key_id"),
    }


def _record(row: RowMapping, cipher: KeyCipher) -> EndpointRecord:
    values = {**row, "models": tuple(row["models"]), "tags": tuple(row["tags"])}
    values["api_key"] = cipher.opened(values["api_key"] or "", bool(values.pop("encrypted")))
    return EndpointRecord(**values)
