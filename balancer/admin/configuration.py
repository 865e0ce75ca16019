"""The one door through which the configuration changes while the balancer runs.

Committed to the store first, then applied to the pool, with nothing in between: what is answered is on the disk, and
what is routed by is what is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from balancer.admin.turns import Turns
from balancer.core.pool import EndpointPool
from balancer.store import (
    Change,
    Configuration,
    ConfigurationStore,
    EndpointRecord,
    Position,
    Revision,
    RevisionConflict,
)
from balancer.traffic import Traffic
from balancer.upstream.connections import Connections


class Applied(NamedTuple):
    """The configuration right before a change and right after it."""

    before: Configuration
    after: Configuration

    @property
    def created(self) -> list[EndpointRecord]:
        """The endpoints that were not there before, in the order they were given."""
        known = {endpoint.id for endpoint in self.before.endpoints}
        return [endpoint for endpoint in self.after.endpoints if endpoint.id not in known]


class LiveConfiguration:
    """The configuration in force. `load` it before anything else.

    Writers take turns. One whose caller is cancelled finishes all the same: store and pool never part. `on_change`
    are called after every change, synchronously.
    """

    def __init__(
        self, store: ConfigurationStore, *, pool: EndpointPool, connections: Connections, traffic: Traffic
    ) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._store = store
        self._pool = pool
        self._connections = connections
        self._traffic = traffic
        self._turns = Turns()
        self._current = Configuration(0, pool.strategy.name)

    def __repr__(self) -> str:
        return f"<LiveConfiguration revision {self._current.revision}: {len(self._current.endpoints)} endpoints>"

    @property
    def current(self) -> Configuration:
        """What the pool routes by, and what the store held when it was last asked."""
        return self._current

    def endpoint(self, endpoint_id: int) -> EndpointRecord | None:
        """The endpoint with this id, None if there is none."""
        return next((each for each in self._current.endpoints if each.id == endpoint_id), None)

    async def load(self) -> Configuration:
        """Take over what the store holds. Raises StoreError."""
        return (await self._write(self._store.load)).after

    async def change(self, changes: Sequence[Change], *, actor: str, expected_revision: int | None = None) -> Applied:
        """Carry out all of `changes`, or nothing. Raises what `ConfigurationStore.commit` raises."""
        return await self._write(lambda: self._store.commit(changes, actor=actor, expected_revision=expected_revision))

    async def restore(self, number: int, *, actor: str, expected_revision: int | None = None) -> Applied:
        """Back to how it was right after revision `number`. Raises what `ConfigurationStore.restore` raises."""
        return await self._write(lambda: self._store.restore(number, actor=actor, expected_revision=expected_revision))

    async def revert(self, number: int, *, actor: str, expected_revision: int | None = None) -> Applied:
        """Take revision `number` back alone. Raises what `ConfigurationStore.revert` raises."""
        return await self._write(lambda: self._store.revert(number, actor=actor, expected_revision=expected_revision))

    async def set_positions(
        self,
        positions: Mapping[int, Position],
        *,
        incoming: Position | None = None,
        tokens: Mapping[int, Position] | None = None,
    ) -> None:
        """Move nodes on the canvas; routing is not touched. Raises what `ConfigurationStore.set_positions` raises."""

        async def move() -> None:
            await self._store.set_positions(positions, incoming=incoming, tokens=tokens)
            self._current = replace(
                self._current,
                endpoints=tuple(_moved(each, positions.get(each.id)) for each in self._current.endpoints),
                incoming_pos=incoming or self._current.incoming_pos,
            )

        await self._turns.take(move)
        self._tell()

    async def revisions(self, limit: int, before: int | None = None) -> list[Revision]:
        """The newest revisions, newest first. Raises StoreError."""
        return await self._store.revisions(limit, before)

    async def settle(self) -> None:
        """Wait until every change under way has ended, before the store is closed."""
        await self._turns.settle()

    async def _write(self, write: Callable[[], Awaitable[Configuration]]) -> Applied:
        async def write_and_apply() -> Applied:
            try:
                after = await write()
            except RevisionConflict as conflict:
                # Another process may have written: without this its revision would never be seen here.
                if conflict.current.revision != self._current.revision:
                    self._apply(conflict.current)
                raise
            return self._apply(after)

        return await self._turns.take(write_and_apply)

    def _apply(self, after: Configuration) -> Applied:
        before, self._current = self._current, after
        self._pool.apply(after.endpoints, after.routing_mode)
        for endpoint_id in {each.id for each in before.endpoints} - {each.id for each in after.endpoints}:
            self._connections.forget(endpoint_id)
            self._traffic.forget(endpoint_id)
        self._tell()
        return Applied(before, after)

    def _tell(self) -> None:
        for told in self.on_change:
            told()


def _moved(endpoint: EndpointRecord, position: Position | None) -> EndpointRecord:
    return endpoint if position is None else replace(endpoint, pos_x=position[0], pos_y=position[1])
