"""The process when things around it fail: killed under load, no room on the disk, no descriptors, clocks that jump."""

from __future__ import annotations

import asyncio
import math
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from load_tester.fake_behaviour import Behaviour
from tests.fakes import CHAT, STREAM, FakeServer
from tests.running import RunningGateway, raw_client, wired
from tests.store_parts import sql
from tests.test_process import ADMIN, Served, add, run, serving

# Usage is written four times a second; the promise is half a second. The rest is for a busy machine.
LOST_SECONDS, SLACK_SECONDS = 0.5, 1.0
PATIENCE_SECONDS = 20.0


async def until(condition: Callable[[], Any], what: str) -> None:
    """Ask, and ask again; `condition` may be a coroutine function."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.02)


class Operator:
    """A client of a process, and one who looks after it."""

    def __init__(self, client: httpx.AsyncClient, served: Served) -> None:
        self.client, self.url, self.served = client, served.url, served
        self.answered_at: list[float] = []

    async def chat(self) -> None:
        answer = await self.client.post(f"{self.url}/v1/chat/completions", json=CHAT)
        assert answer.status_code == 200, answer.text
        self.answered_at.append(time.monotonic())

    async def endpoint(self) -> Any:
        state = await self.client.get(f"{self.url}/admin/api/state", headers=ADMIN)
        return state.json()["endpoints"][0]

    async def database(self) -> str:
        """What readiness says of it; it must not make the balancer unready."""
        answer = await self.client.get(f"{self.url}/ready")
        assert answer.status_code == 200, answer.text
        words: str = answer.json()["database"]
        return words

    async def rename(self, name: str) -> httpx.Response:
        identifier = (await self.endpoint())["id"]
        url = f"{self.url}/admin/api/endpoints/{identifier}"
        return await self.client.patch(url, json={"name": name}, headers=ADMIN)

    def logged(self, words: str) -> int:
        return sum(words in line for line in self.served.lines)


async def test_killed_under_load(tmp_path: Path) -> None:
    """Three times: the configuration is whole, the database opens, and at most the last half second is not counted."""
    stored = 0
    async with FakeServer() as fake, httpx.AsyncClient(trust_env=False) as client:
        for life in range(3):
            async with serving(tmp_path) as served:
                operator = Operator(client, served)
                if not life:
                    await add(served, fake)
                assert (await operator.rename(f"name-{life}")).status_code == 200
                began_with = (await operator.endpoint())["total_requests"]
                assert began_with == stored
                working = [asyncio.create_task(keep_asking(operator)) for _ in range(4)]
                begun = time.monotonic()
                await until(
                    lambda: len(operator.answered_at) > 100 and time.monotonic() - begun > 1.5 + life / 7,  # noqa: B023
                    "a hundred answers",
                )
                killed_at = time.monotonic()
                served.process.kill()
                await asyncio.gather(*working)
                answered = operator.answered_at
                assert sql(tmp_path / "lb.db", "PRAGMA integrity_check") == [("ok",)]
                ((stored, name),) = sql(
                    tmp_path / "lb.db",
                    "SELECT total_requests, name FROM endpoint_totals JOIN endpoints ON id = endpoint_id",
                )
                assert name == f"name-{life}"
                due = sum(at < killed_at - LOST_SECONDS - SLACK_SECONDS for at in answered)
                assert began_with + due <= stored <= began_with + len(answered) + len(working)


async def keep_asking(operator: Operator) -> None:
    """One request after the other until the process is gone."""
    try:
        while True:
            await operator.chat()
    except httpx.HTTPError:
        pass


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def lives_through(tmp_path: Path, folder: Path, fail: Callable[[int], Any], mend: Callable[[int], Any]) -> str:
    """Traffic goes on while the database in `folder` cannot be written; everything is caught up with. What was said."""
    async with FakeServer(Behaviour(completion_tokens=5)) as fake, httpx.AsyncClient(trust_env=False) as client:
        async with serving(folder) as served:
            operator = Operator(client, served)
            await add(served, fake)
            await operator.chat()
            await until(lambda: sql(folder / "lb.db", "SELECT * FROM endpoint_totals"), "the first request stored")
            fail(served.process.pid)
            requests = 1
            words = await operator.database()
            while words == "ok":
                await operator.chat()
                requests += 1
                await asyncio.sleep(0.02)
                words = await operator.database()
            for _ in range(50):
                await operator.chat()
            refused = await operator.rename("elsewhere")
            assert refused.status_code == 503, refused.text
            assert (await operator.endpoint())["name"] == "gpu-1"
            assert operator.logged("usage is kept in memory and written later") == 1
            mend(served.process.pid)
            await until(lambda: caught_up(operator), "writing again")
            assert operator.logged("usage is written again") == 1
            assert (await operator.rename("elsewhere")).status_code == 200
            served.process.kill()
            await served.ended()
        async with serving(folder) as again:
            found = await Operator(client, again).endpoint()
            assert (found["name"], found["total_requests"]) == ("elsewhere", requests + 50)
            assert found["completion_tokens_total"] == 5 * (requests + 50)
    return words


async def caught_up(operator: Operator) -> bool:
    return await operator.database() == "ok"


async def test_no_room_on_the_disk(tmp_path: Path, disk: Path) -> None:
    filler = disk / "filler"

    def fill(_: int) -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    words = await lives_through(tmp_path, disk, fill, lambda _: filler.unlink())
    assert "the disk is full" in words


async def test_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    """Files may not grow any more, as on a disk that fails."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def stop(pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    def allow(pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    words = await lives_through(tmp_path, tmp_path, stop, allow)
    assert "cannot be" in words


async def test_a_read_only_disk_is_said_at_the_start(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, _, err = await run(disk.parent, "serve", LB_DB_PATH=str(disk / "lb.db"))
    assert code == 1
    assert "lb.db" in err and "Traceback" not in err


async def test_descriptors_run_out_and_come_back(tmp_path: Path) -> None:
    """Clients that hold every descriptor lock others out only while they hold them."""
    async with FakeServer() as fake, httpx.AsyncClient(trust_env=False) as client, serving(tmp_path) as served:
        operator = Operator(client, served)
        await add(served, fake)
        await operator.chat()
        pid = served.process.pid
        before = descriptors(pid)
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (before + 8, hard))
        waiting = [await asyncio.open_connection("127.0.0.1", httpx.URL(served.url).port) for _ in range(60)]
        await until(lambda: descriptors(pid) >= before + 7, "all descriptors taken")
        await operator.chat()  # whoever has a connection is served
        for _, writer in waiting:
            writer.close()
        await until(lambda: descriptors(pid) <= before + 1, "descriptors given back")
        async with httpx.AsyncClient(trust_env=False) as newcomer:
            await Operator(newcomer, served).chat()
        assert served.process.returncode is None
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


async def test_no_descriptor_for_an_endpoint_is_an_error_that_passes(tmp_path: Path) -> None:
    async with FakeServer() as fake, httpx.AsyncClient(trust_env=False) as client, serving(tmp_path) as served:
        operator = Operator(client, served)
        await add(served, fake)
        await operator.chat()
        pid = served.process.pid
        before = descriptors(pid)
        await fake.stop_listening()  # and with it the kept connection
        await until(lambda: descriptors(pid) < before, "the kept connection closed")
        await fake.listen_again()
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, hard))
        answer = await client.post(f"{served.url}/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        await operator.chat()
        assert not operator.logged("Traceback")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_a_process_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """Frozen in the middle of a stream, as with a machine that sleeps, and woken."""
    paced = Behaviour(completion_tokens=40, tpot_seconds=0.01)
    async with FakeServer(paced) as fake, httpx.AsyncClient(trust_env=False) as client, serving(tmp_path) as served:
        await add(served, fake)
        body = STREAM | {"max_tokens": 40}
        async with client.stream("POST", f"{served.url}/v1/chat/completions", json=body) as answer:
            pieces = answer.aiter_text()
            text = await anext(pieces)
            served.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.6)
            served.process.send_signal(signal.SIGCONT)
            text += "".join([piece async for piece in pieces])
        assert text.endswith("data: [DONE]\n\n")
        await Operator(client, served).chat()


DAY = 86_400.0


@pytest.mark.parametrize("jump", [DAY, -DAY, 3650 * DAY, -1e9, math.pi], ids=str)
async def test_the_wall_clock_jumps(jump: float) -> None:
    """In the middle of a stream, and before a request: nothing is timed by it."""
    moved = 0.0
    paced = Behaviour(completion_tokens=10, tpot_seconds=0.005)

    def wall_clock() -> float:
        return time.time() + moved

    async with FakeServer(paced) as fake, RunningGateway(wired(fake), wall_clock=wall_clock) as gateway:
        gateway.gateway.wall_clock = wall_clock
        async with raw_client(gateway.url):
            asking = gateway.leaving(stream=True)
            await fake.wait_for(lambda stats: stats.inflight)
            moved = jump
            assert (await asking).text.endswith("data: [DONE]\n\n")
        assert (await gateway.chat()).status_code == 200
        assert [record.status for record in gateway.traffic.log] == [200, 200]
        assert all(0 <= record.total_seconds < 60 for record in gateway.traffic.log)
        assert gateway.traffic.rates(gateway.gateway.clock() + 1).requests_per_second > 0
        assert sum(minute.requests for minute in gateway.traffic.minutes.values()) == 2
