from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from balancer.admin.turns import Turns
from balancer.core.endpoints import RouteRequest
from balancer.store import ConfigurationStore, Database, DeleteEndpoint, RevisionConflict, StoreError, UpdateEndpoint
from tests.admin_parts import AdminServer, admin_server
from tests.store_parts import endpoint, url_of


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as server:
        yield server
        await server.check_consistent()


async def test_what_was_created_comes_back_in_order(admin: AdminServer) -> None:
    configuration = admin.configuration
    await configuration.change([endpoint("z")], actor="test")
    applied = await configuration.change([endpoint("y"), endpoint("x"), DeleteEndpoint(1)], actor="test")
    assert [each.name for each in applied.created] == ["y", "x"]
    assert [each.name for each in applied.before.endpoints] == ["z"]
    assert configuration.current is applied.after
    assert configuration.endpoint(1) is None
    assert repr(configuration) == "<LiveConfiguration revision 2: 2 endpoints>"


async def test_the_pool_routes_by_a_change_before_anybody_else_runs(admin: AdminServer) -> None:
    await admin.configuration.change([endpoint("a", connected=True)], actor="test")
    seen: list[tuple[int, str]] = []

    def look() -> None:
        lease = admin.pool.acquire(RouteRequest(None), admin.clock.now)
        seen.append((admin.configuration.current.revision, lease.endpoint.name))

    admin.configuration.on_change.append(look)
    await admin.configuration.change([UpdateEndpoint(1, {"name": "b"})], actor="test")
    assert seen == [(2, "b")]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 12, 17, 25, 40])
async def test_a_caller_that_leaves_does_not_part_store_and_pool(admin: AdminServer, steps: int) -> None:
    await admin.add("a")
    for number in range(3):
        patch = asyncio.create_task(admin.patch("endpoints/1", {"priority_order": 20 + number}))
        layout = asyncio.create_task(admin.patch("layout", {"endpoints": {"1": {"x": number, "y": 0}}}))
        for _ in range(steps):
            await asyncio.sleep(0)
        patch.cancel()
        layout.cancel()
        await asyncio.gather(patch, layout, return_exceptions=True)
    await admin.api.settle()
    await admin.check_consistent()


async def test_a_change_that_fails_after_its_caller_left_is_silent(admin: AdminServer) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    await admin.add("a")
    change = asyncio.create_task(admin.configuration.change([DeleteEndpoint(9)], actor="test"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
    await admin.configuration.settle()
    assert complaints == []


async def test_another_process_that_wrote_is_noticed_at_the_next_conflict(admin: AdminServer, tmp_path: Path) -> None:
    await admin.add("a")
    other = await Database.open(url_of(tmp_path / "lb.db"))
    await ConfigurationStore(other).commit([endpoint("imported", connected=True)], actor="command line")
    await other.close()
    assert [each["name"] for each in await admin.get("endpoints")] == ["a"]
    with pytest.raises(RevisionConflict):
        await admin.configuration.change([DeleteEndpoint(1)], actor="test", expected_revision=1)
    assert [each["name"] for each in await admin.get("endpoints")] == ["a", "imported"]
    await admin.configuration.change([UpdateEndpoint(1, {"weight": 2.0})], actor="test", expected_revision=2)


async def test_a_database_that_is_held_by_another_changes_nothing(admin: AdminServer, tmp_path: Path) -> None:
    await admin.add("a")
    with closing(sqlite3.connect(tmp_path / "lb.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = await admin.patch("endpoints/1", {"weight": 2})
        assert answer.status_code == 503
        assert "locked" in answer.json()["detail"]
        with pytest.raises(StoreError):
            await admin.configuration.set_positions({}, incoming=(1.0, 1.0))
        assert (await admin.get("state"))["incoming_pos"] == {"x": 80, "y": 300}


class TestTurns:
    async def test_one_after_the_other(self) -> None:
        turns = Turns()
        running: list[str] = []
        most = 0

        async def work(name: str) -> str:
            nonlocal most
            running.append(name)
            most = max(most, len(running))
            await asyncio.sleep(0)
            running.remove(name)
            return name

        assert await asyncio.gather(*(turns.take(lambda n=n: work(n)) for n in "abcde")) == list("abcde")  # type: ignore[misc]
        assert most == 1

    async def test_who_leaves_while_waiting_has_done_nothing(self) -> None:
        turns = Turns()
        gate, done = asyncio.Event(), []

        async def first() -> None:
            await gate.wait()
            done.append("first")

        async def second() -> None:
            done.append("second")

        running = asyncio.create_task(turns.take(first))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(turns.take(second))
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        settled = asyncio.create_task(turns.settle())
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert not settled.done()
        gate.set()
        await settled
        assert done == ["first"]

    async def test_an_error_reaches_the_caller_and_lets_the_next_in(self) -> None:
        turns = Turns()

        async def fail() -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await turns.take(fail)
        await turns.settle()
