"""The configuration in the database: read it, change it as a revision, go back to an earlier one.

Every change is one transaction and on the disk when it returns. Values are checked by the caller; here only what the
database alone can know: names, ids, revisions.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from balancer.store import keys, rows
from balancer.store.cipher import KeyCipher
from balancer.store.database import Database
from balancer.store.errors import (
    RevertRefused,
    RevisionConflict,
    UnknownEndpoint,
    UnknownRevision,
    UnknownToken,
)
from balancer.store.history import State, changed_again, difference, planned, undone
from balancer.store.records import (
    Change,
    Configuration,
    CreateEndpoint,
    FieldChange,
    LostKeys,
    Position,
    RecordedChange,
    Revision,
    UpdateEndpoint,
    iso_time,
)
from balancer.store.rows import Current
from balancer.store.tables import client_tokens, endpoints
from balancer.store.words import summary

# Above every revision there can be: what "before" means when the caller does not say.
_NO_REVISION = 2**31 - 1


# What the configuration becomes: given what it is, and the time.
_Plan = Callable[[AsyncConnection, Current, str], Awaitable[State]]


class ConfigurationStore:
    """Endpoints, routing mode, canvas and the revisions that led there.

    `initial_routing_mode` counts only until the database knows one. `cipher` is what provider keys are stored by.
    `clock` gives Unix time in seconds.
    A change once begun is stored even when its caller is cancelled while waiting for it.
    """

    def __init__(
        self,
        database: Database,
        *,
        initial_routing_mode: str = "percentage",
        cipher: KeyCipher | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._initial_routing_mode = initial_routing_mode
        self._cipher = cipher or KeyCipher()
        self._clock = clock

    async def load(self) -> Configuration:
        """The configuration as it is now. Raises `StoreError`, of which `WrongSecretKey` is one."""
        current = await self._database.read(lambda connection: rows.read(connection, self._cipher))
        if current is None:
            current = await self._database.write(self._read_or_begin)
        return current.configuration

    async def commit(
        self, changes: Sequence[Change], *, actor: str, expected_revision: int | None = None
    ) -> Configuration:
        """Store all of `changes` as one revision, or nothing. Changes of positions alone make no revision.

        Raises `RevisionConflict` when `expected_revision` is given and another is current, `NameTaken`,
        `UnknownEndpoint`, `StoreError`.
        """

        async def plan(connection: AsyncConnection, current: Current, now: str) -> State:
            by_key_id = [await self._with_key_id(connection, change) for change in changes]
            return planned(current.state, by_key_id, now)

        return await self._change(plan, actor, expected_revision)

    async def restore(self, number: int, *, actor: str, expected_revision: int | None = None) -> Configuration:
        """Make the configuration what it was right after revision `number`; that is a new revision.

        Positions stay as they are. Raises `UnknownRevision`, `RevisionConflict`, `StoreError`.
        """

        async def plan(connection: AsyncConnection, current: Current, _now: str) -> State:
            await _require_revision(connection, current, number)
            later = await rows.read_changes(connection, number + 1, current.configuration.revision)
            if later is None:
                raise UnknownRevision(number)
            return undone(current.state, later)

        return await self._change(plan, actor, expected_revision, f"restored revision {number}: ")

    async def revert(self, number: int, *, actor: str, expected_revision: int | None = None) -> Configuration:
        """Take back what revision `number` changed and nothing else; that is a new revision.

        Raises `RevertRefused` when something of it has changed again since, `NameTaken` when a name it brings back
        is another's now, `UnknownRevision`, `RevisionConflict`, `StoreError`.
        """

        async def plan(connection: AsyncConnection, current: Current, _now: str) -> State:
            changes = await _require_revision(connection, current, number)
            again = changed_again(current.state, changes)
            if again:
                raise RevertRefused(number, again)
            return undone(current.state, changes)

        return await self._change(plan, actor, expected_revision, f"undid revision {number}: ")

    async def unreadable_keys(self) -> LostKeys:
        """Which provider keys no secret opens. Raises `StoreError`."""

        async def find(connection: AsyncConnection) -> LostKeys:
            lost = await keys.unreadable_keys(connection, self._cipher)
            query = select(endpoints.c.name).where(endpoints.c.api_key_id.in_(lost)).order_by(endpoints.c.id)
            return LostKeys(len(lost), tuple((await connection.execute(query)).scalars()))

        return await self._database.read(find)

    async def drop_unreadable_keys(self, *, actor: str) -> Configuration:
        """Take the keys that no secret opens away from their endpoints, as one revision, and empty them for good.

        An older revision that is brought back brings its endpoint without a key then. Raises `StoreError`.
        """

        async def drop(connection: AsyncConnection) -> Configuration:
            now = iso_time(self._clock())
            lost = await keys.unreadable_keys(connection, self._cipher)
            await keys.empty_keys(connection, lost)
            current = await self._read_or_begin(connection)
            without = [
                UpdateEndpoint(endpoint_id, {"api_key_id": None})
                for endpoint_id, document in current.state.endpoints.items()
                if document["api_key_id"] in lost
            ]
            target = planned(current.state, without, now)
            return await self._store(connection, current, target, actor, now, "keys that no secret opens: ")

        return await self._database.write(drop)

    async def revisions(self, limit: int = 50, before: int | None = None) -> list[Revision]:
        """The newest `limit` revisions, newest first; only those with a number below `before` when it is given.

        Raises `StoreError`.
        """
        below = _NO_REVISION if before is None else min(before, _NO_REVISION)
        return await self._database.read(lambda connection: rows.read_revisions(connection, limit, below))

    async def set_positions(
        self,
        positions: Mapping[int, Position],
        *,
        incoming: Position | None = None,
        tokens: Mapping[int, Position] | None = None,
    ) -> None:
        """Store where endpoints, the incoming node and client tokens stand; all or nothing, and no revision.

        Raises `UnknownEndpoint`, `UnknownToken`, `StoreError`.
        """

        async def move(connection: AsyncConnection) -> None:
            await self._read_or_begin(connection)
            unknown = await _move(connection, endpoints, positions)
            if unknown:
                raise UnknownEndpoint(min(unknown))
            unknown = await _move(connection, client_tokens, tokens or {})
            if unknown:
                raise UnknownToken(min(unknown))
            if incoming is not None:
                await rows.write_incoming(connection, incoming)

        await self._database.write(move)

    async def _change(self, plan: _Plan, actor: str, expected_revision: int | None, origin: str = "") -> Configuration:
        async def change(connection: AsyncConnection) -> Configuration:
            now = iso_time(self._clock())
            current = await self._read_or_begin(connection)
            if expected_revision is not None and expected_revision != current.configuration.revision:
                changed = await _changed_since(connection, current, expected_revision)
                raise RevisionConflict(current.configuration, changed)
            target = await plan(connection, current, now)
            return await self._store(connection, current, target, actor, now, origin)

        return await self._database.write(change)

    async def _read_or_begin(self, connection: AsyncConnection) -> Current:
        current = await rows.read(connection, self._cipher)
        return current or await rows.begin(connection, self._initial_routing_mode)

    async def _store(
        self, connection: AsyncConnection, current: Current, target: State, actor: str, now: str, origin: str
    ) -> Configuration:
        """Write what leads from `current` to `target`; a revision only when more than positions differ."""
        changes = difference(current.state, target)
        await rows.write_endpoints(connection, current.state, target, now)
        if changes:
            number = current.configuration.revision + 1
            revision = Revision(number, now, actor, origin + summary(changes), changes)
            await rows.write_revision(connection, revision, target)
        stored = await rows.read(connection, self._cipher)
        return stored.configuration if stored else current.configuration

    async def _with_key_id(self, connection: AsyncConnection, change: Change) -> Change:
        """The same change with the provider key stored, and named by its id."""
        if not isinstance(change, CreateEndpoint | UpdateEndpoint):
            return change
        if "api_key_id" in change.fields:
            raise ValueError("a provider key is given as api_key; which row holds it is the store's business")
        if "api_key" not in change.fields:
            return change
        fields = dict(change.fields)
        fields["api_key_id"] = await keys.key_id(connection, self._cipher, str(fields.pop("api_key")))
        return replace(change, fields=fields)


async def _require_revision(connection: AsyncConnection, current: Current, number: int) -> list[RecordedChange]:
    """What revision `number` changed."""
    changes = None
    if 0 < number <= current.configuration.revision:
        changes = await rows.read_changes(connection, number, number)
    if changes is None:
        raise UnknownRevision(number)
    return changes


async def _changed_since(connection: AsyncConnection, current: Current, revision: int | None) -> dict[str, FieldChange]:
    newest = current.configuration.revision
    if revision is None or not 0 <= revision < newest:
        return {}
    later = await rows.read_changes(connection, revision + 1, newest)
    if later is None:
        return {}
    changes = difference(undone(current.state, later), current.state)
    return {name: change for each in changes for name, change in each.fields().items()}


async def _move(connection: AsyncConnection, table: Table, positions: Mapping[int, Position]) -> set[int]:
    """Write positions of rows of `table`. Returns the ids that are not there; then nothing was written."""
    if not positions:
        return set()
    known = set((await connection.execute(select(table.c.id))).scalars())
    unknown = positions.keys() - known
    if not unknown:
        moved = update(table).where(table.c.id == bindparam("moved_id"))
        moved = moved.values(pos_x=bindparam("x"), pos_y=bindparam("y"))
        places = [{"moved_id": each, "x": x, "y": y} for each, (x, y) in positions.items()]
        await connection.execute(moved, places)
    return unknown
