"""Affinity through the whole balancer: what keeps requests together, and that explain knows where they go."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from balancer.core.endpoints import Outcome, RouteRequest
from balancer.core.lease import Lease
from tests.fakes import FakeServer
from tests.running_balancer import RunningBalancer

NAMES = ("a", "b", "c", "d")


@asynccontextmanager
async def four_endpoints(directory: Path, **settings: Any) -> AsyncIterator[RunningBalancer]:
    async with AsyncExitStack() as stack:
        fakes = [await stack.enter_async_context(FakeServer()) for _ in NAMES]
        balancer = await stack.enter_async_context(RunningBalancer(directory, **settings))
        for name, fake in zip(NAMES, fakes, strict=True):
            await balancer.add(name, fake, token_quota_percent=25)
        yield balancer


async def served_by(balancer: RunningBalancer, *, session: str = "", pin: str = "", **fields: Any) -> str:
    headers = {"x-session-id": session, "x-lb-endpoint": pin}
    body = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}], **fields}
    answer: httpx.Response = await balancer.client.post(
        "/v1/chat/completions", json=body, headers={name: value for name, value in headers.items() if value}
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-lb-endpoint"]


async def test_a_session_stays_and_survives_a_restart(tmp_path: Path) -> None:
    async with four_endpoints(tmp_path, affinity="session") as balancer:
        homes = {session: await served_by(balancer, session=session) for session in map(str, range(12))}
        assert len(set(homes.values())) > 1
        for session, home in homes.items():
            assert await served_by(balancer, session=session) == home
            told = await balancer.admin("POST", "/explain", {"model": "fake-model", "session": session})
            assert told["endpoint"]["name"] == home and told["affinity"] == "session"
            assert [each["name"] for each in told["candidates"] if each["affinity_preferred"]] == [home]
        # Who belongs to no session goes where the strategy says. Who is pinned goes there.
        assert len({await served_by(balancer) for _ in range(12)}) > 1
        assert await served_by(balancer, session="1", pin="d") == "d"
    async with RunningBalancer(tmp_path, affinity="session") as restarted:
        for session, home in homes.items():
            told = await restarted.admin("POST", "/explain", {"model": "fake-model", "session": session})
            assert told["endpoint"]["name"] == home


async def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with four_endpoints(tmp_path) as balancer:
        assert {await served_by(balancer, session="1", user="x") for _ in range(12)} == set(NAMES)


async def test_a_user_stays(tmp_path: Path) -> None:
    async with four_endpoints(tmp_path, affinity="user") as balancer:
        for user in ("x", "y", "\u00e4"):
            homes = {await served_by(balancer, user=user, session=str(k)) for k in range(6)}
            assert len(homes) == 1
            told = await balancer.admin("POST", "/explain", {"session": user})
            assert told["endpoint"]["name"] in homes
        assert len({await served_by(balancer, user=None) for _ in range(12)}) > 1


async def test_a_conversation_stays(tmp_path: Path) -> None:
    async with four_endpoints(tmp_path, affinity="prompt") as balancer:
        all_homes = set()
        for question in map(str, range(8)):
            messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": question}]
            homes = set()
            for turn in range(4):
                homes.add(await served_by(balancer, messages=messages, seed=turn))
                messages += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "go on"}]
            assert len(homes) == 1
            all_homes |= homes
        assert len(all_homes) > 1


async def test_a_session_leaves_a_busy_endpoint_and_comes_back(tmp_path: Path) -> None:
    async with four_endpoints(tmp_path, affinity="session") as balancer:
        home = await served_by(balancer, session="1")
        leases = [occupy(balancer, NAMES.index(home) + 1) for _ in range(3)]
        away = await served_by(balancer, session="1")
        assert away != home
        told = await balancer.admin("POST", "/explain", {"session": "1"})
        assert told["endpoint"]["name"] == away
        assert [each["name"] for each in told["candidates"] if each["affinity_preferred"]] == [home]
        for lease in leases:
            lease.release(Outcome.NEUTRAL, time.monotonic())
        assert await served_by(balancer, session="1") == home


async def test_a_request_that_would_wait_is_told_so(tmp_path: Path) -> None:
    async with FakeServer() as fake, RunningBalancer(tmp_path, queue_size=1) as balancer:
        lease = occupy(balancer, await balancer.add("a", fake, max_concurrent=1))
        told = await balancer.admin("POST", "/explain", {"model": "fake-model"})
        assert (told["would"], told["status"]) == ("wait", 429)
        told = await balancer.admin("POST", "/explain", {"model": "fake-model", "tried": [99]})
        assert told["would"] == "give_up"
        lease.release(Outcome.NEUTRAL, time.monotonic())


def occupy(balancer: RunningBalancer, endpoint_id: int) -> Lease:
    """Have one more request in flight at an endpoint."""
    return balancer.balancer.pool.acquire(RouteRequest(None, pinned_to=endpoint_id), time.monotonic())
