"""What the command line does to the database as a whole: copies, copies put back, keys encrypted anew."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from balancer.commands import open_store
from balancer.settings import Settings
from balancer.store import Database, KeyCipher, StoreError, WrongSecretKey, encrypt_stored_keys
from balancer.store.backups import back_up, restore
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
    """Encrypt every provider key anew with the first secret. Raises StoreError."""
    if not settings.secret_keys:
        raise StoreError("there is nothing to encrypt with: set LB_SECRET_KEY")
    count = asyncio.run(_rotate(settings))
    sys.stdout.write(f"{count} provider keys are encrypted with the first secret of LB_SECRET_KEY now\n")
    if len(settings.secret_keys) > 1:
        sys.stdout.write("the others can be taken out of it, unless a backup needs them\n")
    return 0


async def _rotate(settings: Settings) -> int:
    database = await Database.open(settings.database_url)
    try:
        return await encrypt_stored_keys(database, KeyCipher(settings.secret_keys), again=True)
    finally:
        await database.close()


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
