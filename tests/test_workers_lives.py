"""Workers that die and workers that drain: what the others, the counts and the clients notice of it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from balancer.__main__ import main
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.workers_parts import ADMIN, START_SECONDS, Crew, Visitor, crew_of, eventually, failed_start, visitors

pytestmark = pytest.mark.timeout(180)

PACED = Behaviour(prompt_tokens=3, completion_tokens=40, tpot_seconds=0.05)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crew")


@pytest.fixture(scope="module")
def crew(directory: Path) -> Iterator[Crew]:
    with crew_of(directory, LB_MAX_RETRIES="0") as running:
        yield running


class Streamed:
    """A stream under way: `began` when its first bytes are there, `text` when it has ended, `broke` if it was cut."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.began = asyncio.Event()
        self.text = ""
        self.broke = False
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async with self.visitor.stream() as answer:
                async for piece in answer.aiter_text():
                    self.text += piece
                    self.began.set()
        except httpx.HTTPError:
            self.broke = True
            self.began.set()

    @property
    def whole(self) -> bool:
        return self.text.endswith("data: [DONE]\n\n") and not self.broke


async def one_stream_each(both: list[Visitor]) -> list[Streamed]:
    streams = [Streamed(each) for each in both]
    await asyncio.gather(*(stream.began.wait() for stream in streams))
    return streams


async def wired(fake: FakeServer, both: list[Visitor]) -> int:
    """Both workers know of one endpoint, at `fake`; its id."""
    for endpoint in (await both[0].state())["endpoints"]:
        await both[0].admin("DELETE", f"/endpoints/{endpoint['id']}")
    identifier = await both[0].add("one", fake)
    for each in both:
        await eventually(lambda each=each: _served(each), "the endpoint is known")
    return identifier


async def _served(visitor: Visitor) -> bool:
    return (await visitor.chat()).status_code == 200


def stored_requests(directory: Path, endpoint_id: int) -> int:
    """What the database says that the endpoint has served."""
    wanted = "SELECT COALESCE(SUM(total_requests), 0) FROM endpoint_totals WHERE endpoint_id = ?"
    with closing(sqlite3.connect(directory / "lb.db")) as database:
        (count,) = database.execute(wanted, (endpoint_id,)).fetchone()
    return int(count)


async def shown_requests(visitor: Visitor) -> Any:
    return (await visitor.endpoint("one"))["total_requests"]


@pytest.mark.parametrize("worker", [1, 0])
async def test_a_killed_worker_harms_no_other_and_is_replaced(crew: Crew, directory: Path, worker: int) -> None:
    async with FakeServer(Behaviour(prompt_tokens=3)) as fake, visitors(crew) as both:
        identifier = await wired(fake, both)
        served = fake.stats.total_requests
        await eventually(lambda: stored_requests(directory, identifier) == served, "all stored")
        fake.behaviour = PACED
        streams = await one_stream_each(both)
        killed = crew.kill(worker)
        await asyncio.gather(*(stream.task for stream in streams))
        (survivor,) = [stream.visitor for stream in streams if stream.whole]
        assert [stream.broke for stream in streams].count(True) == 1
        fake.behaviour = Behaviour(prompt_tokens=3)
        assert (await survivor.chat()).status_code == 200
        await eventually(lambda: crew.pid(worker) not in (None, killed), "a successor")
        async with visitors(crew) as again:
            assert survivor.mark in {each.mark for each in again}
            for each in again:
                assert (await each.chat()).status_code == 200

            async def all_counted() -> bool:
                # The survivor's stream and its request, and one of each; of the one that was cut nobody knows.
                state = await again[0].state()
                return await shown_requests(again[1]) == served + 4 and state["stats"]["total_inflight"] == 0

            await eventually(all_counted, f"4 more than {served}")
            metrics = (await again[0].client.get("/metrics")).text
            assert f'lb_worker_restarts_total{{worker="{worker}"}} 1' in metrics and "lb_workers 2" in metrics


async def test_without_a_lead_followers_serve_and_say_that_they_cannot_tell(crew: Crew) -> None:
    with ExitStack() as lives:
        await _without_a_lead(crew, lives)


async def _without_a_lead(crew: Crew, lives: ExitStack) -> None:
    async with FakeServer(PACED) as fake, visitors(crew) as both, visitors(crew) as beside:
        await wired(fake, both)
        streams = await one_stream_each(both)
        lead = crew.kill(0)
        successor = await eventually(lambda: pid if (pid := crew.pid(0)) != lead else None, "a successor")
        os.kill(successor, signal.SIGSTOP)  # it takes its time
        lives.callback(os.kill, successor, signal.SIGCONT)
        await eventually(lambda: any(stream.broke for stream in streams), "a stream that breaks")
        (lost,) = [stream.visitor.mark for stream in streams if stream.broke]
        (follower,) = [each for each in beside if each.mark != lost]
        answer = await follower.client.get("/admin/api/state")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "lead" in answer.json()["detail"]
        models = await follower.client.get("/v1/models")
        assert (models.status_code, models.json()["error"]["code"]) == (503, "lead_away")
        fake.behaviour = Behaviour()
        assert (await follower.chat()).status_code == 200
        assert (await follower.client.get("/healthz")).status_code == 200
        await asyncio.gather(*(stream.task for stream in streams))
        lives.close()

        async def told() -> bool:
            return (await follower.client.get("/ready")).status_code == 200

        await eventually(told, "the lead's successor tells", START_SECONDS)


async def test_all_drain(crew: Crew, directory: Path) -> None:
    async with FakeServer() as fake, visitors(crew) as both:
        identifier = await wired(fake, both)
        fake.behaviour = PACED
        streams = await one_stream_each(both)
        async with visitors(crew) as beside:
            crew.process.terminate()
            for each in beside:
                await eventually(lambda each=each: _is_draining(each), "refusals")
        await asyncio.gather(*(stream.task for stream in streams))
        assert all(stream.whole for stream in streams)
        assert await asyncio.to_thread(crew.process.wait, START_SECONDS) == 0, crew.logged
    assert stored_requests(directory, identifier) == fake.stats.total_requests
    assert "Traceback" not in crew.logged
    assert not list(directory.glob("llm-balancer-*"))


async def _is_draining(visitor: Visitor) -> bool:
    answer = await visitor.chat()
    return answer.status_code == 503 and answer.json()["error"]["code"] == "shutting_down"


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "words"),
    [
        (["serve", "--workers", "65"], {}, 2, "1 to 64"),
        ([], {"LB_WORKERS": "0"}, 2, "1 to 64"),
        ([], {"LB_WORKERS": "2", "LB_DATABASE_URL": "sqlite+aiosqlite:///:memory:"}, 1, "plain file"),
        (["serve", "--workers", "2"], {"LB_HOST": "192.0.2.1"}, 1, "LB_HOST"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    settings: dict[str, str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"LB_ADMIN_TOKEN": "t", **settings}.items():
        monkeypatch.setenv(name, value)
    try:
        ended = main(arguments)
    except SystemExit as exit_:  # wrong usage
        ended = exit_.code
    assert ended == code and words in capsys.readouterr().err


def test_a_lead_that_cannot_start_ends_all(tmp_path: Path) -> None:
    (tmp_path / "lb.db").write_bytes(b"no database at all" * 100)
    code, words = failed_start(tmp_path)
    assert code == 1 and "not an SQLite database" in words and "Traceback" not in words
    assert not list(tmp_path.glob("llm-balancer-*"))


async def test_a_port_for_administration_is_the_leads_and_all_end_with_their_supervisor(tmp_path: Path) -> None:
    with crew_of(tmp_path, LB_ADMIN_PORT="0") as crew:
        found = re.search(r"admin pages at (http://\S+)/admin", crew.logged)
        assert found is not None
        async with visitors(crew) as both, httpx.AsyncClient(trust_env=False, timeout=START_SECONDS) as client:
            assert (await client.get(f"{found[1]}/admin/api/state", headers=ADMIN)).status_code == 200
            for each in both:
                assert (await each.client.get("/admin/api/state", headers=ADMIN)).status_code == 404
                assert (await each.client.get("/ready")).status_code == 503
        crew.process.kill()
        crew.process.wait()
        await eventually(lambda: not _listens(crew.url), "the end of all")
        assert crew.logged.count("the supervisor is gone") == 2


def _listens(url: str) -> bool:
    parts = httpx.URL(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.host, parts.port or 0)) == 0
