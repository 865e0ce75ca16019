"""What the command line does to the database as a whole: copies, copies put back, keys encrypted anew."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from balancer.commands import open_store
from balancer.settings import Settings
from balancer.store import Database, KeyCipher, LostKeys, StoreError, WrongSecretKey, encrypt_stored_keys
from balancer.store.backups import back_up, require_unused, restore
from balancer.store.engines import database_path


def backup(settings: Settings, chosen: argparse.Namespace) -> int:
    """Copy the database, also while a balancer runs on it. Raises StoreError."""
    path = database_path(settings.database_url)
    target: Path = chosen.file.absolute()
    back_up(path, target)
    sys.stdout.write(f"backed up {path} to {target} ({target.stat().st_size} bytes, checked)\n")
    return 0


def restore_backup(settings: Settings, chosen: argparse.Namespace) -> int:
    """Make the database what a backup is, and see that it can be used. Raises StoreError."""
    path = database_path(settings.database_url)
    former = restore(chosen.file.absolute(), path)
    sys.stdout.write(f"restored {path} from {chosen.file}\n")
    if former is not None:
        sys.stdout.write(f"the former database is kept as {former}\n")
    return asyncio.run(_tell(settings))


def rotate_keys(settings: Settings, chosen: argparse.Namespace) -> int:
    """Encrypt every provider key anew with the first secret. Raises StoreError.

    `drop_unreadable`: first take away those that no secret opens, which cannot be undone.
    """
    if not settings.secret_keys and not chosen.drop_unreadable:
        raise StoreError("there is nothing to encrypt with: set LB_SECRET_KEY")
    if chosen.drop_unreadable:
        require_unused(database_path(settings.database_url))
    asyncio.run(_rotate(settings, drop_unreadable=chosen.drop_unreadable))
    return 0


async def _rotate(settings: Settings, *, drop_unreadable: bool) -> None:
    database = await Database.open(settings.database_url)
    try:
        store = open_store(settings, database)
        lost = await store.unreadable_keys()
        if lost.count and not drop_unreadable:
            raise _lost(lost)
        if drop_unreadable:
            sys.stdout.write(f"{_listed(lost)}\n")
            await store.drop_unreadable_keys(actor="command line")
            sys.stdout.write(
                "they are dropped: give these endpoints keys again on the admin pages\n" if lost.count else ""
            )
        if settings.secret_keys:
            count = await encrypt_stored_keys(database, KeyCipher(settings.secret_keys), again=True)
            sys.stdout.write(f"{count} provider keys are encrypted with the first secret of LB_SECRET_KEY now\n")
    finally:
        await database.close()
    if len(settings.secret_keys) > 1:
        sys.stdout.write("the others can be taken out of it, unless a backup needs them\n")


def _lost(lost: LostKeys) -> StoreError:
    return StoreError(
        f"{_listed(lost)}. Give the secret of that time in LB_SECRET_KEY, behind the new one and a comma. "
        "If it is lost for good, `llm-balancer rotate-keys --drop-unreadable` takes these keys away"
    )


def _listed(lost: LostKeys) -> str:
    """Which keys cannot be read, by the endpoints that have them."""
    if not lost.count:
        return "every provider key can be read"
    older = "" if lost.endpoints else ", which only older revisions need"
    of = f": those of {', '.join(map(repr, lost.endpoints))}" if lost.endpoints else ""
    return f"{lost.count} provider keys cannot be read{older}{of}"


async def _tell(settings: Settings) -> int:
    """What the database holds. A copy put back without its secret is there all the same: 1 then."""
    database = await Database.open(settings.database_url)
    try:
        found = await open_store(settings, database).load()
    except WrongSecretKey as error:
        sys.stderr.write(f"llm-balancer: {error}\n")
        return 1
    finally:
        await database.close()
    sys.stdout.write(f"it holds revision {found.revision}, {len(found.endpoints)} endpoints\n")
    return 0
