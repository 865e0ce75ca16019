"""Databases of earlier versions: what was stored there is still there, and reads as it did."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from balancer.store import ConfigurationStore, Database, DeleteEndpoint, EndpointRecord
from balancer.store.engines import create_file, sqlite_engine
from balancer.store.migration import HEAD, scripts_directory
from tests.store_parts import sql, url_of

ENDPOINT = """
INSERT INTO endpoints VALUES (7, 'old', 'http://old/v1', 1, 30.0, 1, 0, 1, 40.0, 2, 3, 1.5, '["m"]', '{"a": "m"}', 1,
NULL, 0.5, '["t"]', 10.0, 20.0, '2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z')
"""


def migrate(path: Path, version: str) -> None:
    """Bring the database at `path` to a version, up or down."""

    def run(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(scripts_directory()))
        config.set_main_option("path_separator", "os")
        (command.upgrade if version >= str(current) else command.downgrade)(config, version)

    async def migrate_it() -> None:
        engine = sqlite_engine(path, synchronous="FULL", busy_timeout_seconds=1.0, foreign_keys=False)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(run)
        finally:
            await engine.dispose()

    if not path.exists():
        create_file(path)
    tables = {name for (name,) in sql(path, "SELECT name FROM sqlite_master")}
    current = sql(path, "SELECT version_num FROM alembic_version")[0][0] if "alembic_version" in tables else ""
    asyncio.run(migrate_it())


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A database of the first version with one endpoint, its key and the revision that made it."""
    path = tmp_path / "lb.db"
    migrate(path, "0001")
    sql(path, "INSERT INTO endpoint_keys VALUES (1, 'sk-secret')")
    sql(path, ENDPOINT)
    sql(path, "INSERT INTO configuration VALUES (1, 1, 'weighted', 8, 1.0, 2.0)")
    return path


async def load(path: Path) -> EndpointRecord:
    database = await Database.open(url_of(path))
    try:
        (endpoint,) = (await ConfigurationStore(database).load()).endpoints
    finally:
        await database.close()
    return endpoint


def test_endpoints_of_the_first_version_are_probed_and_made_by_hand(first: Path) -> None:
    assert asyncio.run(load(first)) == EndpointRecord(
        id=7,
        name="old",
        base_url="http://old/v1",
        api_key="sk-secret",
        timeout=30.0,
        enabled=False,
        connected=True,
        token_quota_percent=40.0,
        priority_order=2,
        max_concurrent=3,
        weight=1.5,
        models=("m",),
        model_aliases={"a": "m"},
        price_per_million_output=0.5,
        tags=("t",),
        health_check=True,
        discovered=False,
        pos_x=10.0,
        pos_y=20.0,
        api_key_id=1,
        created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-02T00:00:00.000Z",
    )
    assert sql(first, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert sql(first, "PRAGMA foreign_key_check") == []


def test_what_an_earlier_version_deleted_can_be_brought_back(first: Path) -> None:
    async def delete_and_revert() -> EndpointRecord:
        database = await Database.open(url_of(first))
        try:
            store = ConfigurationStore(database)
            await store.commit([DeleteEndpoint(7)], actor="me")
            # As the first version would have recorded it.
            removed = "json_remove(before, '$.health_check', '$.discovered')"
            await asyncio.to_thread(sql, first, f"UPDATE revision_changes SET before = {removed}")
            (back,) = (await store.revert(2, actor="me")).endpoints
        finally:
            await database.close()
        return back

    back = asyncio.run(delete_and_revert())
    assert (back.name, back.api_key, back.health_check, back.discovered) == ("old", "sk-secret", True, False)


def test_the_way_down_leaves_what_the_first_version_knew(first: Path) -> None:
    before = sql(first, "SELECT * FROM endpoints")
    migrate(first, HEAD)
    migrate(first, "0001")
    assert sql(first, "SELECT * FROM endpoints") == before
