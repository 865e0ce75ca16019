from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message

from balancer.admin.events import MOST_LISTENERS, EventStream, Snapshots
from balancer.admin.gate import PREFIX
from balancer.auth import SESSION_SECONDS
from tests.admin_parts import ADMIN_TOKEN, KEY, AdminServer, admin_server
from tests.running import RunningApp, eventually

BY_TOKEN = (b"x-admin-token", ADMIN_TOKEN.encode())
# So long that no test sees a snapshot for the time alone.
NEVER = 3600.0


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path, snapshot_seconds=NEVER) as server:
        yield server


class Reader:
    """A client of one ASGI answer that takes messages when it wants to, and leaves when it wants to."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.ended = False
        self._left = asyncio.Event()
        self._bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self._takes = asyncio.Event()
        self._takes.set()
        self._asked = False

    def leave(self) -> None:
        self._left.set()

    def pause(self) -> None:
        self._takes.clear()

    def resume(self) -> None:
        self._takes.set()

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self._takes.wait()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        self.ended = not message.get("more_body", False)
        self._bodies.put_nowait(message["body"])

    @property
    def waiting(self) -> int:
        """Messages that were sent and not looked at yet."""
        return self._bodies.qsize()

    async def body(self) -> bytes:
        async with asyncio.timeout(10):
            return await self._bodies.get()

    async def event(self) -> tuple[str, Any]:
        """Name and data of the next event; comments are passed over."""
        while (text := (await self.body()).decode()).startswith(":"):
            pass
        name, data, *rest = text.split("\n")
        assert rest == ["", ""]
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    async def state(self) -> Any:
        name, data = await self.event()
        assert name == "state"
        return data


@asynccontextmanager
async def reading(app: ASGIApp, *headers: tuple[bytes, bytes]) -> AsyncIterator[Reader]:
    """A stream of events that is being read; afterwards the client leaves and the answer must end."""
    reader = Reader()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"{PREFIX}/events",
        "raw_path": f"{PREFIX}/events".encode(),
        "root_path": "",
        "query_string": b"",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("balancer.test", 80),
    }
    answer = asyncio.ensure_future(app(scope, reader.receive, reader.send))
    try:
        yield reader
    finally:
        reader.leave()
        reader.resume()
        async with asyncio.timeout(10):
            await answer


class TestStream:
    async def test_the_first_state_is_there_at_once(self, admin: AdminServer) -> None:
        await admin.add("a", api_key=KEY)
        async with reading(admin.app, BY_TOKEN) as reader:
            assert (await reader.body()).startswith(b":")
            state = await reader.state()
            assert state == await admin.get("state")
            assert KEY not in json.dumps(state)
            assert reader.status == 200
            assert reader.headers[b"content-type"].startswith(b"text/event-stream")
            assert reader.headers[b"cache-control"] == b"no-store"

    async def test_a_change_is_told_soon(self, admin: AdminServer) -> None:
        async with reading(admin.app, BY_TOKEN) as first, reading(admin.app, BY_TOKEN) as second:
            assert (await first.state())["revision"] == (await second.state())["revision"] == 0
            await admin.add("a")
            for reader in (first, second):
                assert [each["name"] for each in (await reader.state())["endpoints"]] == ["a"]
            await admin.patch("layout", {"incoming": {"x": 1, "y": 2}})
            assert (await first.state())["incoming_pos"] == {"x": 1, "y": 2}

    async def test_states_keep_coming(self, template: Path, tmp_path: Path) -> None:
        async with (
            admin_server(template, tmp_path, snapshot_seconds=0.01) as admin,
            reading(admin.app, BY_TOKEN) as reader,
        ):
            for _ in range(5):
                await reader.state()

    async def test_a_slow_reader_gets_the_newest_and_no_backlog(self, admin: AdminServer) -> None:
        async with reading(admin.app, BY_TOKEN) as slow, reading(admin.app, BY_TOKEN) as quick:
            await slow.state()
            slow.pause()
            for number in range(1, 5):
                await admin.add(f"gpu-{number}")
                while (await quick.state())["revision"] != number:
                    pass
            slow.resume()
            revisions = [(await slow.state())["revision"]]
            while revisions[-1] != 4:
                revisions.append((await slow.state())["revision"])
            # One was on its way when it stopped reading.
            assert revisions in ([4], [1, 4])
            assert slow.waiting == 0

    async def test_closing_ends_all_streams_and_refuses_new_ones(self, admin: AdminServer) -> None:
        async with reading(admin.app, BY_TOKEN) as first, reading(admin.app, BY_TOKEN) as second:
            for reader in (first, second):
                await reader.state()
            admin.api.close()
            for reader in (first, second):
                assert await reader.event() == ("end", {})
                assert reader.ended
        assert (await admin.client.get("events")).status_code == 503

    async def test_so_many_and_no_more(self, admin: AdminServer) -> None:
        streams = [reading(admin.app, BY_TOKEN) for _ in range(MOST_LISTENERS)]
        readers = [await stream.__aenter__() for stream in streams]
        for reader in readers:
            await reader.state()
        refused = await admin.client.get("events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        await streams.pop().__aexit__(None, None, None)
        async with reading(admin.app, BY_TOKEN) as reader:
            assert await reader.state()
        for stream in streams:
            await stream.__aexit__(None, None, None)

    async def test_without_authorization_there_is_none(self, admin: AdminServer) -> None:
        async with reading(admin.app) as reader:
            assert json.loads(await reader.body()) == {"detail": "admin authorization failed"}
            assert reader.status == 401

    async def test_it_ends_with_the_session(self, admin: AdminServer) -> None:
        login = await admin.anybody.post("session", json={"token": ADMIN_TOKEN})
        cookie = login.headers["set-cookie"].split(";")[0].encode()
        async with reading(admin.app, (b"cookie", cookie)) as reader:
            await reader.state()
            admin.wall_clock.now += SESSION_SECONDS
            await admin.add("a")
            assert await reader.event() == ("end", {})

    async def test_over_a_socket_a_client_that_leaves_is_noticed(self, template: Path, tmp_path: Path) -> None:
        async with (
            admin_server(template, tmp_path) as admin,
            RunningApp(admin.app) as running,
            httpx.AsyncClient(base_url=running.url, trust_env=False, headers=dict([BY_TOKEN])) as client,
        ):
            async with client.stream("GET", f"{PREFIX}/events") as answer:
                lines = answer.aiter_lines()
                assert (await anext(lines)).startswith(":")
                assert [await anext(lines), await anext(lines)] == ["", "event: state"]
                assert "1 listeners" in repr(admin.api)
            await eventually(lambda: "0 listeners" in repr(admin.api))
            assert running.complaints == []


class TestSnapshots:
    """Counting how often a snapshot is made."""

    @pytest.fixture
    def taken(self) -> list[int]:
        return []

    @pytest.fixture
    def snapshots(self, taken: list[int]) -> Snapshots:
        def take() -> bytes:
            taken.append(len(taken) + 1)
            return b"%d" % len(taken)

        return Snapshots(take, interval_seconds=NEVER)

    async def test_one_is_made_for_all_listeners(self, snapshots: Snapshots, taken: list[int]) -> None:
        with snapshots.listening(), snapshots.listening(), snapshots.listening():
            assert taken == [1]
            assert (snapshots.number, snapshots.newest) == (1, b"1")

    async def test_many_changes_at_once_make_one(self, snapshots: Snapshots, taken: list[int]) -> None:
        with snapshots.listening():
            renewed = snapshots.renewed()
            for _ in range(50):
                snapshots.wake()
            await renewed
            assert taken == [1, 2]

    async def test_while_nobody_listens_none_is_made(self, snapshots: Snapshots, taken: list[int]) -> None:
        snapshots.wake()
        with snapshots.listening():
            pass
        snapshots.wake()
        assert taken == [1]
        with snapshots.listening():
            assert snapshots.newest == b"2"

    async def test_one_that_cannot_be_made_does_not_stop_the_next(self) -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        results = iter((b"1", None, b"3"))

        def take() -> bytes:
            result = next(results)
            if result is None:
                raise ValueError("not this time")
            return result

        snapshots = Snapshots(take, interval_seconds=0.01)
        with snapshots.listening():
            await snapshots.renewed()
            snapshots.close()
        assert snapshots.newest == b"3"
        assert len(complaints) == 1

    async def test_a_reader_that_takes_nothing_is_given_up(self, snapshots: Snapshots) -> None:
        stream = EventStream(snapshots, lambda: False, write_timeout_seconds=0.01)
        reader = Reader()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                reader.pause()
            await reader.send(message)

        async with asyncio.timeout(10):
            await stream({"type": "http"}, reader.receive, send)
        assert "0 listeners" in repr(snapshots)
