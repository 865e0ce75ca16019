"""Opening the database: made, migrated, refused; its transactions."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, CreateTable

from balancer.store import ConfigurationStore, CreateEndpoint, Database, DatabaseTooNew, StoreError
from balancer.store.migration import HEAD, VERSIONS, scripts_directory
from balancer.store.tables import metadata
from tests.store_parts import sql, url_of

CHECKOUT = Path(__file__).resolve().parent.parent


async def make(path: Path) -> None:
    database = await Database.open(url_of(path))
    await database.close()


def fingerprint(directory: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(directory.iterdir())}


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LB_")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=clean | environment, capture_output=True, text=True, check=True
    )


async def test_a_new_database_is_made_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "100% #1 ü.db"
    database = await Database.open(url_of(path))
    await ConfigurationStore(database).load()
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes[path.name] == 0o600
    assert set(modes.values()) == {0o600}  # the log holds keys too
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert repr(database) == f"<Database {path}>"
    await database.close()
    assert sql(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]


async def test_what_was_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    path.touch(mode=0o660)
    path.chmod(0o660)
    tmp_path.chmod(0o755)
    await make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


async def test_a_relative_path_and_the_short_driver_name_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = await Database.open("sqlite:///data/lb.db")
    assert database.path == tmp_path / "data" / "lb.db"
    await database.close()


async def test_the_version_is_the_one_of_the_scripts() -> None:
    scripts = ScriptDirectory(str(scripts_directory()))
    assert [each.revision for each in scripts.walk_revisions()] == list(reversed(VERSIONS))
    assert scripts.get_heads() == [HEAD]


async def test_the_scripts_make_exactly_the_tables(tmp_path: Path) -> None:
    await make(tmp_path / "lb.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'lb.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_tables_are_portable() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))


async def test_a_migration_leaves_logging_alone(tmp_path: Path) -> None:
    root, own = logging.getLogger(), logging.getLogger("balancer.before")
    before = (root.level, list(root.handlers), own.disabled)
    await make(tmp_path / "lb.db")
    assert (root.level, list(root.handlers), own.disabled) == before


def test_a_start_with_an_up_to_date_database_does_not_import_alembic(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path / "lb.db"))
    script = f"""
import asyncio, sys
from balancer.store import Database, ConfigurationStore
async def main():
    database = await Database.open({url_of(tmp_path / "lb.db")!r})
    await ConfigurationStore(database).load()
    await database.close()
asyncio.run(main())
print("alembic" in sys.modules)
"""
    assert run("-c", script, cwd=CHECKOUT).stdout.strip() == "False"


def test_an_installed_package_finds_its_scripts(tmp_path: Path) -> None:
    site = tmp_path / "site"
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "balancer", site / "balancer", ignore=without_caches)
    shutil.copytree(CHECKOUT / "migrations", site / "balancer" / "_migrations", ignore=without_caches)
    script = """
import asyncio, balancer.store
print(balancer.store.__file__)
asyncio.run(balancer.store.Database.open("sqlite+aiosqlite:///lb.db"))
"""
    done = run("-c", script, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.stdout.startswith(str(site))
    assert sql(tmp_path / "lb.db", "SELECT version_num FROM alembic_version") == [(HEAD,)]


@pytest.mark.parametrize("name", ["LB_DB_PATH", "LB_DATABASE_URL"])
async def test_the_command_line_of_alembic_migrates_the_same_database(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data" / "lb.db"
    value = str(path) if name == "LB_DB_PATH" else url_of(path)
    await asyncio.to_thread(
        run, "-m", "alembic", "-c", str(CHECKOUT / "alembic.ini"), "upgrade", "head", cwd=tmp_path, **{name: value}
    )
    assert sql(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await make(path)


def test_processes_that_start_together_agree_on_one_new_database(tmp_path: Path) -> None:
    script = f"""
import asyncio, os
from balancer.store import Database, ConfigurationStore, CreateEndpoint
async def main():
    database = await Database.open({url_of(tmp_path / "data" / "lb.db")!r}, busy_timeout_seconds=30)
    store = ConfigurationStore(database)
    await store.load()
    await store.commit([CreateEndpoint({{"name": str(os.getpid()), "base_url": "http://x"}})], actor="test")
    await database.close()
asyncio.run(main())
"""
    started = [subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(each.communicate()[1], each.returncode) for each in started] == [(b"", 0)] * 3
    assert sql(tmp_path / "data" / "lb.db", "SELECT count(*), max(id) FROM endpoints") == [(3, 3)]


async def test_a_newer_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "lb.db"
    await make(path)
    sql(path, "UPDATE alembic_version SET version_num = '9001'")
    before = fingerprint(tmp_path)
    with pytest.raises(DatabaseTooNew) as caught:
        await Database.open(url_of(path))
    assert fingerprint(tmp_path) == before
    assert str(path) in str(caught.value)
    assert "'9001'" in str(caught.value)
    assert "LB_DATABASE_URL" in str(caught.value)


async def test_a_newer_version_that_stands_in_the_log_only_is_seen(tmp_path: Path) -> None:
    path, copied = tmp_path / "lb.db", tmp_path / "copied"
    await make(path)
    copied.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9001'")
        connection.commit()
        for name in ("lb.db", "lb.db-wal"):  # as a crash would leave them
            shutil.copy(tmp_path / name, copied)
    assert b"9001" not in (copied / "lb.db").read_bytes()
    before = fingerprint(copied)
    with pytest.raises(DatabaseTooNew):
        await Database.open(url_of(copied / "lb.db"))
    after = fingerprint(copied)
    assert {name: after[name] for name in before} == before


async def test_a_database_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    sql(path, "CREATE TABLE endpoints (id INTEGER PRIMARY KEY)")
    before = fingerprint(tmp_path)
    with pytest.raises(StoreError, match=r"other\.db belongs to another program; set LB_DATABASE_URL"):
        await Database.open(url_of(path))
    assert fingerprint(tmp_path) == before


async def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\n" * 1000)
    before = fingerprint(tmp_path)
    with pytest.raises(StoreError, match=r"notes\.txt is not an SQLite database"):
        await Database.open(url_of(path))
    assert fingerprint(tmp_path) == before


async def test_a_damaged_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "lb.db"
    await make(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with pytest.raises(StoreError, match="is damaged; restore a backup"):
        await Database.open(url_of(path))


@pytest.mark.parametrize("taken", ["file", "directory"])
async def test_a_path_that_cannot_be_a_database(tmp_path: Path, taken: str) -> None:
    path = tmp_path / "there" / "lb.db"
    if taken == "file":
        path.parent.touch()
    else:
        path.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"lb\.db (is a directory|cannot be created or opened: \w+)"):
        await Database.open(url_of(path))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory where nobody can write")
async def test_a_directory_that_cannot_be_written() -> None:
    with pytest.raises(StoreError, match=r"/proc/nowhere/lb.db cannot be created or opened"):
        await Database.open("sqlite+aiosqlite:////proc/nowhere/lb.db")


async def test_a_locked_database_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "lb.db"
    await make(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"lb\.db is locked by another process"):
            await Database.open(url_of(path), busy_timeout_seconds=0.01)
        waiting = asyncio.create_task(Database.open(url_of(path), busy_timeout_seconds=30))
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done
        other.execute("ROLLBACK")
        await (await waiting).close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://lb:s3cret@db/lb",
        "mysql://lb:s3cret@db/lb",
        "s3cret",
        "",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///lb.db?password=s3cret",
        "sqlite+aiosqlite:///file:lb.db",
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite\+aiosqlite:///data/load_balancer.db") as caught:
        await Database.open(url)
    assert "s3cret" not in str(caught.value)


async def test_each_connection_has_its_pragmas(tmp_path: Path) -> None:
    async def pragmas(connection: AsyncConnection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete")
        return [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in names]

    database = await Database.open(url_of(tmp_path / "lb.db"))
    found = [await database.read(pragmas), await database.write(pragmas), await database.write_usage(pragmas)]
    await database.close()
    full, normal = 2, 1
    assert found == [["wal", full, 1, 5000, 1], ["wal", full, 1, 5000, 1], ["wal", normal, 1, 1000, 1]]


async def test_a_reader_sees_one_moment_and_waits_for_nobody(tmp_path: Path) -> None:
    database = await Database.open(url_of(tmp_path / "lb.db"))
    store = ConfigurationStore(database)
    await store.load()

    async def read(connection: AsyncConnection) -> list[object]:
        count = "SELECT count(*) FROM endpoints"
        before = (await connection.exec_driver_sql(count)).scalar()
        await store.commit([CreateEndpoint({"name": "a", "base_url": "http://a"})], actor="test")
        return [before, (await connection.exec_driver_sql(count)).scalar()]

    assert await database.read(read) == [0, 0]
    assert len((await store.load()).endpoints) == 1
    await database.close()


async def test_a_transaction_that_fails_stores_nothing(tmp_path: Path) -> None:
    database = await Database.open(url_of(tmp_path / "lb.db"))

    async def half(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
        await connection.exec_driver_sql("INSERT INTO half VALUES (1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(half)
    with pytest.raises(StoreError, match="no such table: half"):
        await database.read(lambda connection: connection.exec_driver_sql("SELECT * FROM half"))
    await database.close()


async def test_closing_waits_for_what_runs(tmp_path: Path) -> None:
    database = await Database.open(url_of(tmp_path / "lb.db"))
    cancelled = asyncio.create_task(ConfigurationStore(database).set_positions({}, incoming=(1.0, 2.0)))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await database.close()
    assert sql(tmp_path / "lb.db", "SELECT incoming_x, incoming_y FROM configuration") == [(1.0, 2.0)]
