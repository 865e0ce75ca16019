"""Copies of the database: made while it is in use, checked before they count, and put back.

Synchronous: for the command line.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from balancer.store.engines import store_error
from balancer.store.errors import StoreError
from balancer.store.migration import look, needs_upgrade, version_of

_BUSY_TIMEOUT_SECONDS = 5.0
# Long enough for a transaction, short for somebody who forgot to stop the balancer.
_CLAIM_TIMEOUT_SECONDS = 1.0
_SIDE_FILES = ("-wal", "-shm", "-journal")
_MOST_PROBLEMS = 5


def back_up(database: Path, target: Path) -> None:
    """Copy the database, which may be in use, to one file of mode 0600; what was there is replaced by a good copy only.

    The copy is of one moment, and checked. Raises `StoreError`.
    """
    if not database.is_file():
        raise StoreError(f"there is no database {database}")
    if _same(database, target):
        raise StoreError(f"{target} is the database itself")
    with _copy_beside(target, database) as copy:
        copy.replace(target)
        _sync_directory(target)


def restore(source: Path, database: Path) -> Path | None:
    """Make the database what `source` is. Returns where the former one is kept, None when there was none.

    Raises `StoreError` when `source` is no good copy, or when the database is in use or cannot tell; nothing is
    changed then.
    """
    if not source.is_file():
        raise StoreError(f"there is no file {source}")
    if _same(source, database):
        raise StoreError(f"{source} is the database itself")
    former = database.with_name(database.name + ".before-restore")
    with _copy_beside(database, source) as copy, _claimed(database):
        existed = database.exists()
        if existed:
            # A second name rather than a move: at no moment is there no database.
            former.unlink(missing_ok=True)
            former.hardlink_to(database)
        for suffix in _SIDE_FILES:
            # A log left beside the new file would be replayed into it.
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        copy.replace(database)
        _sync_directory(database)
    return former if existed else None


def verify(path: Path) -> None:
    """Raises `StoreError` unless `path` is a sound database of this program, of a version that it knows."""
    version = version_of(path, _BUSY_TIMEOUT_SECONDS)
    if version is None:
        raise StoreError(f"the database {path} is empty")
    needs_upgrade(path, version)
    try:
        with closing(look(path, _BUSY_TIMEOUT_SECONDS)) as connection:
            found = [text for (text,) in connection.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})")]
            dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    if found != ["ok"]:
        raise StoreError(f"the database {path} is damaged: {'; '.join(map(str, found))}")
    if dangling:
        raise StoreError(f"the database {path} is damaged: {len(dangling)} rows refer to rows that are not there")


def require_unused(database: Path) -> None:
    """Raises `StoreError` while anybody has the database open."""
    with _claimed(database):
        pass


@contextmanager
def _copy_beside(target: Path, source: Path) -> Iterator[Path]:
    """A checked copy of `source` in the directory of `target`, gone afterwards unless it was moved."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
        os.close(descriptor)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    copy = Path(name)
    try:
        _copy(source, copy)
        verify(copy)
        yield copy
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        copy.unlink(missing_ok=True)


def _copy(source: Path, copy: Path) -> None:
    try:
        with closing(look(source, _BUSY_TIMEOUT_SECONDS)) as origin, closing(sqlite3.connect(copy)) as made:
            origin.backup(made)
            # The copy is one file, without a log beside it.
            made.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.Error as error:
        raise store_error(error, source) from error


@contextmanager
def _claimed(database: Path) -> Iterator[None]:
    """Nobody else has the database open, and nobody can open it meanwhile. Raises `StoreError`."""
    if not database.exists():
        yield
        return
    with closing(sqlite3.connect(database, timeout=_CLAIM_TIMEOUT_SECONDS, isolation_level=None)) as connection:
        try:
            # Leaving the log behind takes every lock there is: refused while any other connection is open.
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreError(f"the database {database} is in use: stop the balancer first") from None
            raise store_error(error, database) from error
        except sqlite3.DatabaseError:
            raise StoreError(
                f"the database {database} is damaged, so nobody can tell whether it is in use:"
                " stop the balancer, move the file away, and try again"
            ) from None
        yield


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
