"""The way to the file: a URL becomes a path, a path becomes engines, a driver's error becomes words.

Does not know which version a database has, or what stands in it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from balancer.store.errors import StoreError

DEFAULT_URL = "sqlite+aiosqlite:///data/load_balancer.db"

_BEGIN = "begin_with"
_FOLD_TIMEOUT_SECONDS = 5.0

_WORDS: Mapping[int, str] = {
    sqlite3.SQLITE_PERM: "access is not permitted",
    sqlite3.SQLITE_BUSY: "is locked by another process; stop that process or try again",
    sqlite3.SQLITE_LOCKED: "is locked; try again",
    sqlite3.SQLITE_READONLY: "cannot be written; check the permissions of the file and its directory",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a backup or set LB_DATABASE_URL to another file",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; make room",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the path and the permissions of its directory",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; set LB_DATABASE_URL to another file",
}


def database_path(url: str) -> Path:
    """The absolute path of the SQLite file that `url` names. Raises `StoreError` for anything else.

    The URL itself never stands in the error: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"the database URL cannot be read; write it like {DEFAULT_URL}") from None
    if parsed.drivername not in {"sqlite", "sqlite+aiosqlite"}:
        raise StoreError(f"databases of {parsed.drivername} are not supported; write a URL like {DEFAULT_URL}")
    name = parsed.database or ""
    if parsed.query or name in {"", ":memory:"} or name.startswith("file:"):
        raise StoreError(f"the database must be a plain file; write its URL like {DEFAULT_URL}")
    return Path(name).absolute()


def create_file(path: Path) -> None:
    """Make sure the file exists, and its directory, for nobody but this user. What exists keeps its mode.

    Provider keys stand in the file, so its mode is right from the first moment; SQLite gives the same to its side
    files. Raises `StoreError`.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_dir():
            raise StoreError(f"the database {path} is a directory; set LB_DATABASE_URL to a file")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"the database {path} cannot be created or opened: {error.strerror}") from error


def sqlite_engine(
    path: Path,
    *,
    synchronous: str,
    busy_timeout_seconds: float,
    foreign_keys: bool = True,
    pool_size: int = 1,
) -> AsyncEngine:
    """An engine on `path`. Its transactions write; those of `reading(engine)` only read.

    `synchronous` FULL: a commit is on the disk when it returns. NORMAL: the last commits before a power failure may
    be lost, but nothing is damaged, and a commit costs no sync.
    """
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # provider keys are among them, and errors are logged
        # The driver would open transactions by its own rules, not before a SELECT and never IMMEDIATE: we say BEGIN.
        connect_args={"isolation_level": None, "timeout": busy_timeout_seconds},
    )
    pragmas = (
        # First of all: the next one already needs a lock when another process is creating the same file.
        f"busy_timeout = {round(busy_timeout_seconds * 1000)}",
        # Readers and the writer do not block each other, and a commit is one append to the log.
        "journal_mode = WAL",
        f"synchronous = {synchronous}",
        # SQLite ignores foreign keys unless told. They keep a provider key that a revision still needs.
        f"foreign_keys = {'ON' if foreign_keys else 'OFF'}",
        # A provider key that is deleted is gone from the file, not only from the table.
        "secure_delete = ON",
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        # IMMEDIATE takes the write lock before anything is read. A transaction that reads first and wants to write
        # later cannot wait for the lock: SQLite refuses it at once when somebody has written in between.
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))

    return engine


def fold_log(path: Path) -> None:
    """Move what stands in the log into the file and empty the log. Raises `StoreError`."""
    try:
        with closing(sqlite3.connect(path, timeout=_FOLD_TIMEOUT_SECONDS)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise store_error(error, path) from error


def reading(engine: AsyncEngine) -> AsyncEngine:
    """The same connections, with transactions that only read: one consistent view, no lock."""
    return engine.execution_options(**{_BEGIN: "BEGIN"})


def store_error(error: Exception, path: Path) -> StoreError:
    """A driver's or SQLAlchemy's error in words. SQL and values are left out: provider keys may be among them."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte; the rest tells sub-cases apart
        return StoreError(f"the database {path} {_WORDS.get(code, f'cannot be used: {error}')}")
    if isinstance(error, PoolTimeoutError):
        return StoreError(f"the database {path} does not answer: all connections are waiting")
    if isinstance(error, UnicodeError | OverflowError):
        return StoreError(f"a value cannot be stored in the database {path}: {type(error).__name__}")
    return StoreError(f"the database {path} cannot be used: {type(error).__name__}")
