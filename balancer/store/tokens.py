"""Client tokens in the database: their hashes, never the tokens. Rows are kept when a token is revoked.

Checking a token is not done here: that happens in memory, from what `load` gave.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from balancer.store.database import Database
from balancer.store.errors import NameTaken, TokenTaken, UnknownToken
from balancer.store.records import TOKEN_POSITION, Position, TokenRecord, iso_time
from balancer.store.tables import client_tokens

_LARGEST_ID = 2**63 - 1  # ids come from URLs


class TokenStore:
    """All client tokens. `clock` gives Unix time in seconds. Every method raises `StoreError` when storing fails."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def load(self) -> tuple[TokenRecord, ...]:
        """All tokens by id, revoked ones included."""

        async def read(connection: AsyncConnection) -> tuple[TokenRecord, ...]:
            found = await connection.execute(select(client_tokens).order_by(client_tokens.c.id))
            return tuple(TokenRecord(**row) for row in found.mappings())

        return await self._database.read(read)

    async def create(
        self, name: str, token_hash: str, token_preview: str, *, position: Position = TOKEN_POSITION
    ) -> TokenRecord:
        """A new token, given as its SHA-256 in hex and a masked form for people.

        Raises `NameTaken` when a token in use has the name, `TokenTaken` when the same token exists, revoked or not.
        """
        values = {
            "name": name,
            "token_hash": token_hash,
            "token_preview": token_preview,
            "created_at": iso_time(self._clock()),
            "pos_x": position[0],
            "pos_y": position[1],
            "total_requests": 0,
            "prompt_tokens_total": 0,
            "completion_tokens_total": 0,
        }

        async def create(connection: AsyncConnection) -> TokenRecord:
            same = select(client_tokens.c.id).where(client_tokens.c.token_hash == token_hash)
            if (await connection.execute(same)).first():
                raise TokenTaken
            await _require_free_name(connection, name)
            stored = await connection.execute(insert(client_tokens).values(values).returning(client_tokens))
            return TokenRecord(**stored.mappings().one())

        return await self._database.write(create)

    async def update(self, token_id: int, *, name: str | None = None, position: Position | None = None) -> TokenRecord:
        """Another name or place; None leaves it as it is. Raises `UnknownToken`, `NameTaken`."""

        async def change(connection: AsyncConnection) -> TokenRecord:
            record = await _require(connection, token_id)
            values: dict[str, Any] = {}
            if name is not None and name != record.name:
                if not record.revoked:
                    await _require_free_name(connection, name)
                values["name"] = name
            if position is not None:
                values["pos_x"], values["pos_y"] = position
            return await _change(connection, token_id, values)

        return await self._database.write(change)

    async def revoke(self, token_id: int) -> TokenRecord:
        """Let the token in no more. The first time stays when it is revoked again. Raises `UnknownToken`."""

        async def revoke(connection: AsyncConnection) -> TokenRecord:
            record = await _require(connection, token_id)
            values = {} if record.revoked else {"revoked_at": iso_time(self._clock())}
            return await _change(connection, token_id, values)

        return await self._database.write(revoke)


async def _require(connection: AsyncConnection, token_id: int) -> TokenRecord:
    if not 0 < token_id <= _LARGEST_ID:
        raise UnknownToken(token_id)
    found = await connection.execute(select(client_tokens).where(client_tokens.c.id == token_id))
    row = found.mappings().one_or_none()
    if row is None:
        raise UnknownToken(token_id)
    return TokenRecord(**row)


async def _require_free_name(connection: AsyncConnection, name: str) -> None:
    same = select(client_tokens.c.id).where(client_tokens.c.name == name, client_tokens.c.revoked_at.is_(None))
    if (await connection.execute(same)).first():
        raise NameTaken(name)


async def _change(connection: AsyncConnection, token_id: int, values: dict[str, Any]) -> TokenRecord:
    if values:
        await connection.execute(update(client_tokens).where(client_tokens.c.id == token_id).values(values))
    return await _require(connection, token_id)
