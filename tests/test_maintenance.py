"""Backup, restore, exchange of the secret and the checks, as an operator runs them."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from balancer.__main__ import main
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.store_parts import sql
from tests.test_process import ADMIN, KEY, Served, add, environment, serving

OLD, NEW = "an-old-secret-of-the-operator", "a-new-secret-of-the-operator"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs a command as `llm-balancer` does, on the test's own database: exit code, output, errors."""
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **settings: str) -> tuple[int, str, str]:
        for name in [name for name in os.environ if name.startswith("LB_")]:
            monkeypatch.delenv(name)
        for name, value in environment(tmp_path, **settings).items():
            monkeypatch.setenv(name, value)
        code = main(arguments)
        return code, *capsys.readouterr()

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


async def names(served: Served) -> list[str]:
    async with httpx.AsyncClient(trust_env=False) as client:
        state = (await client.get(f"{served.url}/admin/api/state", headers=ADMIN)).json()
    return [each["name"] for each in state["endpoints"]]


async def test_a_backup_of_a_running_balancer_is_put_back(tmp_path: Path, command: Command) -> None:
    backup, live = tmp_path / "kept" / "backup.db", tmp_path / "lb.db"
    paced = Behaviour(completion_tokens=30, tpot_seconds=0.01)
    async with FakeServer(paced) as fake, serving(tmp_path) as served, httpx.AsyncClient(trust_env=False) as client:
        await add(served, fake, api_key=KEY)
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        under_way = [client.post(f"{served.url}/v1/chat/completions", json=body) for _ in range(5)]
        answers, (code, out, _) = await asyncio.gather(
            asyncio.gather(*under_way), asyncio.to_thread(command, "backup", str(backup))
        )
        assert (code, {answer.status_code for answer in answers}) == (0, {200})
        assert "checked" in out
        await add(served, fake, name="gpu-2")
        code, _, err = await asyncio.to_thread(command, "restore", str(backup))
        assert code == 1 and "in use: stop the balancer first" in err
        assert await names(served) == ["gpu-1", "gpu-2"], "it serves on as if nothing had been tried"
        await add(served, fake, name="gpu-3")
    assert [path.name for path in backup.parent.iterdir()] == ["backup.db"], "one file, nothing beside it"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600

    code, out, _ = await asyncio.to_thread(command, "restore", str(backup))
    assert code == 0 and "it holds revision 1, 1 endpoints" in out
    assert stat.S_IMODE(live.stat().st_mode) == 0o600
    assert len(sql(tmp_path / "lb.db.before-restore", "SELECT * FROM endpoints")) == 3
    async with serving(tmp_path) as served:
        assert await names(served) == ["gpu-1"]


def test_a_backup_replaces_an_older_one_only_by_a_good_one(tmp_path: Path, command: Command) -> None:
    backup = tmp_path / "backup.db"
    backup.write_text("what was there")
    code, _, err = command("backup", str(backup))
    assert code == 1 and "there is no database" in err
    (tmp_path / "lb.db").write_bytes(b"no database at all" * 100)
    code, _, err = command("backup", str(backup))
    assert code == 1 and "Traceback" not in err
    assert backup.read_text() == "what was there"
    (tmp_path / "lb.db").unlink()
    assert (command("check"))[0] == 0
    assert (command("backup", str(backup)))[0] == 0
    assert sql(backup, "PRAGMA integrity_check") == [("ok",)]
    code, _, err = command("backup", str(tmp_path / "lb.db"))
    assert code == 1 and "is the database itself" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.db", "lb.db"], "no leftovers"


def damage(path: Path) -> None:
    """Overwrite the pages of the endpoints' table, as a failing disk would."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'endpoints'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "there is no file"),
        ("text", "is not an SQLite database"),
        ("foreign", "belongs to another program"),
        ("empty", "is empty"),
        ("damaged", "is damaged"),
        ("newer", "9999"),
    ],
)
def test_what_is_no_good_copy_is_not_put_back(tmp_path: Path, command: Command, kind: str, words: str) -> None:
    command("check")
    bad = tmp_path / "bad.db"
    match kind:
        case "text":
            bad.write_text("not a database" * 1000)
        case "foreign":
            sql(bad, "CREATE TABLE notes (text)")
        case "empty":
            sql(bad, "VACUUM")
        case "damaged" | "newer":
            command("backup", str(bad))
            if kind == "damaged":
                damage(bad)
            else:
                sql(bad, "UPDATE alembic_version SET version_num = '9999'")
    before = (tmp_path / "lb.db").read_bytes()
    code, _, err = command("restore", str(bad))
    assert code == 1 and words in err and "Traceback" not in err, err
    assert (tmp_path / "lb.db").read_bytes() == before
    assert not (tmp_path / "lb.db.before-restore").exists()


def test_a_damaged_database_is_found_and_a_backup_takes_its_place(tmp_path: Path, command: Command) -> None:
    backup, live = tmp_path / "backup.db", tmp_path / "lb.db"
    command("check")
    command("backup", str(backup))
    live.write_bytes(b"\xff" * 8192)
    code, _, err = command("check")
    assert code == 1 and "not an SQLite database" in err
    code, _, err = command("restore", str(backup))
    assert code == 1 and "move the file away" in err
    live.rename(tmp_path / "lb.db.damaged")
    (tmp_path / "lb.db-wal").write_bytes(b"what a crash left behind")
    assert (command("restore", str(backup)))[0] == 0
    assert (command("check"))[0] == 0
    assert not (tmp_path / "lb.db-wal").exists()


async def test_the_secret_is_set_exchanged_and_missed(tmp_path: Path, command: Command) -> None:
    async with FakeServer() as fake, serving(tmp_path) as served:
        await add(served, fake, api_key=KEY)
    code, out, err = await asyncio.to_thread(command, "check")
    assert code == 0 and "provider keys: 1, 0 of them encrypted" in out and "hint: " in err and "LB_SECRET_KEY" in err
    async with serving(tmp_path, LB_SECRET_KEY=OLD) as served:
        assert KEY.encode() not in (tmp_path / "lb.db").read_bytes()
        code, out, err = await asyncio.to_thread(command, "check", LB_SECRET_KEY=OLD)
        assert code == 0 and "provider keys: 1, 1 of them encrypted" in out and "hint" not in err
    assert "1 provider keys that were stored in clear are encrypted now" in "".join(served.lines)

    for secrets, words in ((NEW, "does not fit"), ("", "set LB_SECRET_KEY")):
        for name in ("serve", "check"):
            code, _, err = await asyncio.to_thread(command, name, LB_SECRET_KEY=secrets)
            assert code == 1 and words in err, err
            assert "Traceback" not in err and NEW not in err
    assert (await asyncio.to_thread(command, "rotate-keys", LB_SECRET_KEY=NEW))[0] == 1
    assert (await asyncio.to_thread(command, "rotate-keys"))[0] == 1

    async with serving(tmp_path, LB_SECRET_KEY=f"{NEW},{OLD}"):
        code, out, _ = await asyncio.to_thread(command, "rotate-keys", LB_SECRET_KEY=f"{NEW},{OLD}")
        assert code == 0 and out.startswith("1 provider keys")
    assert (await asyncio.to_thread(command, "check", LB_SECRET_KEY=NEW))[0] == 0
    assert (await asyncio.to_thread(command, "check", LB_SECRET_KEY=OLD))[0] == 1
    code, out, _ = await asyncio.to_thread(command, "config", "export", "--with-keys", LB_SECRET_KEY=NEW)
    assert code == 0 and KEY in out


async def test_keys_whose_secret_is_lost_are_dropped_when_told_so(tmp_path: Path, command: Command) -> None:
    def rotate(*flags: str, **settings: str) -> tuple[int, str, str]:
        return command("rotate-keys", *flags, **settings)

    def rows() -> list[tuple[int | None, str]]:
        return sql(
            tmp_path / "lb.db",
            "SELECT e.api_key_id, coalesce(k.api_key, '') FROM endpoints e "
            "LEFT JOIN endpoint_keys k ON k.id = e.api_key_id ORDER BY e.id",
        )

    async with FakeServer() as fake, serving(tmp_path, LB_SECRET_KEY=OLD) as served:
        await add(served, fake, api_key=KEY)
        await add(served, fake, name="gpu-2", api_key=KEY + "-2")
        await add(served, fake, name="gpu-3")
        code, _, err = await asyncio.to_thread(rotate, "--drop-unreadable", LB_SECRET_KEY=NEW)
        assert code == 1 and "in use: stop the balancer first" in err
    before = rows()

    code, out, err = await asyncio.to_thread(rotate, LB_SECRET_KEY=NEW)
    assert (code, out) == (1, "")
    assert "2 provider keys cannot be read: those of 'gpu-1', 'gpu-2'" in err and "--drop-unreadable" in err
    assert rows() == before, "nothing is dropped without the flag"

    code, out, _ = await asyncio.to_thread(rotate, "--drop-unreadable", LB_SECRET_KEY=f"{NEW},{OLD}")
    assert code == 0 and "every provider key can be read" in out and "2 provider keys are encrypted" in out
    code, out, _ = await asyncio.to_thread(rotate, "--drop-unreadable")
    assert code == 0 and out.startswith("2 provider keys cannot be read: those of 'gpu-1', 'gpu-2'\nthey are dropped")
    assert rows() == [(None, ""), (None, ""), (None, "")]

    async with serving(tmp_path, LB_SECRET_KEY=NEW) as served, httpx.AsyncClient(trust_env=False) as client:
        state = (await client.get(f"{served.url}/admin/api/state", headers=ADMIN)).json()
        assert [each["name"] for each in state["endpoints"]] == ["gpu-1", "gpu-2", "gpu-3"]
        newest = (await client.get(f"{served.url}/admin/api/revisions", headers=ADMIN)).json()["revisions"][0]
        assert newest["summary"] == "keys that no secret opens: gpu-1: key removed; gpu-2: key removed"
        back = f"{served.url}/admin/api/revisions/{newest['number']}/revert"
        assert (await client.post(back, headers=ADMIN)).status_code == 200, "an older revision comes back without keys"
        url = f"{served.url}/admin/api/endpoints/{state['endpoints'][0]['id']}"
        assert (await client.patch(url, headers=ADMIN, json={"api_key": KEY})).status_code == 200
    code, out, _ = await asyncio.to_thread(command, "config", "export", "--with-keys", LB_SECRET_KEY=NEW)
    assert code == 0 and out.count(KEY) == 1


def test_check_names_what_is_dangerous(tmp_path: Path, command: Command) -> None:
    command("check")
    (tmp_path / "lb.db").chmod(0o644)
    code, _, err = command("check", LB_HOST="0.0.0.0")
    assert code == 0
    assert "everybody who reaches it may use the models" in err and "chmod 600" in err
    (tmp_path / "lb.db").chmod(0o600)
    code, _, err = command("check", LB_HOST="0.0.0.0", LB_CLIENT_TOKENS="a-token")
    assert (code, "warning" in err) == (0, False)
    command("backup", "copy.db")
    damage(tmp_path / "lb.db")
    code, _, err = command("check")
    assert code == 1 and "is damaged" in err
