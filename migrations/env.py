"""Runs the migration scripts, in the process of the balancer or from Alembic's command line.

In process the caller gives a connection with an open transaction, and logging is left alone. On the command line
the database is the balancer's own: LB_DATABASE_URL, else LB_DB_PATH, else its default.
"""

from __future__ import annotations

import asyncio
import logging.config
import os

from alembic import context
from sqlalchemy import Connection

from balancer.store.engines import DEFAULT_URL, create_file, database_path, sqlite_engine
from balancer.store.tables import metadata

BUSY_TIMEOUT_SECONDS = 30.0


def run(connection: Connection) -> None:
    """Run the scripts inside the transaction that `connection` has open, then check all foreign keys."""
    # SQLite cannot alter most of a table: batch mode builds a new one.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise RuntimeError(f"the migration would leave {len(broken)} rows that refer to nothing")


async def run_from_command_line() -> None:
    """Open the database the way the balancer does and run the scripts in one transaction."""
    in_file = f"sqlite+aiosqlite:///{os.environ['LB_DB_PATH']}" if os.environ.get("LB_DB_PATH") else DEFAULT_URL
    path = database_path(os.environ.get("LB_DATABASE_URL") or in_file)
    create_file(path)
    engine = sqlite_engine(path, synchronous="FULL", busy_timeout_seconds=BUSY_TIMEOUT_SECONDS, foreign_keys=False)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Scripts of SQL are not offered: run the migration on the database itself.")
given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    if context.config.config_file_name is not None:
        logging.config.fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    asyncio.run(run_from_command_line())
