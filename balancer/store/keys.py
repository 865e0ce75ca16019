"""The table of provider keys: one row for each key there is, whoever uses it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from balancer.store.cipher import KeyCipher
from balancer.store.database import Database
from balancer.store.engines import fold_log
from balancer.store.errors import WrongSecretKey
from balancer.store.tables import endpoint_keys


@dataclass(frozen=True, slots=True)
class KeySurvey:
    """How many provider keys there are, how many of them are encrypted, and how many of these no secret opens."""

    total: int
    encrypted: int
    unreadable: int


async def key_id(connection: AsyncConnection, cipher: KeyCipher, api_key: str) -> int | None:
    """The id of a provider key, stored now if it was not; None for no key. Raises `WrongSecretKey`."""
    if not api_key:
        return None
    # The same key never encrypts to the same text twice, so the rows cannot be asked for it.
    for row in await connection.execute(select(endpoint_keys).order_by(endpoint_keys.c.id)):
        if cipher.opened(row.api_key, row.encrypted) == api_key:
            found: int = row.id
            return found
    values = {"api_key": cipher.stored(api_key), "encrypted": cipher.encrypts}
    stored = await connection.execute(insert(endpoint_keys).values(values).returning(endpoint_keys.c.id))
    new: int = stored.scalar_one()
    return new


async def encrypt_stored_keys(database: Database, cipher: KeyCipher, *, again: bool = False) -> int:
    """Encrypt the keys that are stored in clear; `again`: all of them anew, with the first secret. How many it were.

    Whatever there is must open, also keys that only an old revision needs: raises `WrongSecretKey` and changes
    nothing otherwise. Without a secret nothing is changed. Afterwards no key stands in clear in the database's files.
    """

    async def encrypt(connection: AsyncConnection) -> int:
        rows = (await connection.execute(select(endpoint_keys))).all()
        opened = {row.id: cipher.opened(row.api_key, row.encrypted) for row in rows}
        waiting = [row.id for row in rows if cipher.encrypts and (again or not row.encrypted)]
        for number in waiting:
            values = {"api_key": cipher.stored(opened[number]), "encrypted": True}
            await connection.execute(update(endpoint_keys).where(endpoint_keys.c.id == number).values(values))
        return len(waiting)

    encrypted = await database.write(encrypt)
    if encrypted:
        # The log beside the file still holds the pages as they were.
        await asyncio.to_thread(fold_log, database.path)
    return encrypted


async def survey_keys(database: Database, cipher: KeyCipher) -> KeySurvey:
    """What there is, without changing it. Raises `StoreError`."""

    async def count(connection: AsyncConnection) -> KeySurvey:
        rows = (await connection.execute(select(endpoint_keys))).all()
        unreadable = sum(not _opens(cipher, row.api_key, row.encrypted) for row in rows)
        return KeySurvey(len(rows), sum(row.encrypted for row in rows), unreadable)

    return await database.read(count)


async def unreadable_keys(connection: AsyncConnection, cipher: KeyCipher) -> set[int]:
    """The ids of provider keys that no secret opens."""
    rows = (await connection.execute(select(endpoint_keys))).all()
    return {row.id for row in rows if not _opens(cipher, row.api_key, row.encrypted)}


async def empty_keys(connection: AsyncConnection, key_ids: set[int]) -> None:
    """Make keys empty. Their rows stay: revisions name them."""
    values = {"api_key": "", "encrypted": False}
    await connection.execute(update(endpoint_keys).where(endpoint_keys.c.id.in_(key_ids)).values(values))


def _opens(cipher: KeyCipher, stored: str, encrypted: bool) -> bool:
    try:
        cipher.opened(stored, encrypted)
    except WrongSecretKey:
        return False
    return True
