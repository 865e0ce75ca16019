"""Which version a database has, and how it gets the newest one.

Looks before it touches: a database of another program, or of a later version of this one, stays as it is.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection

from balancer.store.engines import sqlite_engine, store_error
from balancer.store.errors import DatabaseTooNew, StoreError

# Every version this program knows, the oldest first, as in migrations/versions. Written down here so that a start
# with an up-to-date database needs neither Alembic nor the scripts.
VERSIONS = ("0001", "0002", "0003")
HEAD = VERSIONS[-1]


def version_of(path: Path, busy_timeout_seconds: float) -> str | None:
    """The version of the database at `path`, None when there is nothing in it yet. Changes nothing on the disk.

    Raises `StoreError` when it cannot be read or belongs to another program.
    """
    try:
        with closing(look(path, busy_timeout_seconds)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                return None
            if "alembic_version" not in tables:
                raise StoreError(f"the database {path} belongs to another program; set LB_DATABASE_URL to another file")
            versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return ", ".join(version for (version,) in versions)


def needs_upgrade(path: Path, version: str | None) -> bool:
    """Whether a database of `version` must be migrated first. Raises `DatabaseTooNew` when it is none we know."""
    if version is not None and version not in VERSIONS:
        raise DatabaseTooNew(path, version, HEAD)
    return version != HEAD


async def upgrade(path: Path, busy_timeout_seconds: float) -> None:
    """Bring the database at `path` to `HEAD` in one transaction. Raises what the driver raises."""
    # Rebuilding a table, which is how SQLite alters one, would fire the foreign keys that point to it; the
    # migration environment checks them all at the end instead.
    engine = sqlite_engine(path, synchronous="FULL", busy_timeout_seconds=busy_timeout_seconds, foreign_keys=False)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run_scripts)
    finally:
        await engine.dispose()


def _run_scripts(connection: Connection) -> None:
    # Imported here and not above: Alembic costs a third of a fast start, and nearly no start needs it.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    # The configuration parser takes % for the beginning of a reference.
    config.set_main_option("script_location", str(scripts_directory()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


def scripts_directory() -> Path:
    """Where the migration scripts are: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def look(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    """A connection that only reads. Raises what the driver raises."""
    # Without a log beside it the file is complete, and `immutable` reads it without making side files. With one, the
    # newest version may stand in the log only.
    alone = not path.with_name(path.name + "-wal").exists()
    uri = f"file:{quote(str(path))}?mode=ro{'&immutable=1' if alone else ''}"
    return sqlite3.connect(uri, uri=True, timeout=busy_timeout_seconds)
