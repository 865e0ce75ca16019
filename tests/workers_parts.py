"""Several workers in real processes, for tests: started as an operator starts them, each reached on purpose."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.fakes import FakeServer

TOKEN = "operator-token"
ADMIN = {"x-admin-token": TOKEN}
# Three interpreters start; on a machine that does much else that takes long.
START_SECONDS = 90.0
_POLL_SECONDS = 0.01
_CHAT = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}]}


def environment(directory: Path, workers: int, **settings: str) -> dict[str, str]:
    """A clean environment with the database in `directory`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LB_")}
    own = {
        "LB_DB_PATH": str(directory / "lb.db"),
        "LB_PORT": "0",
        "LB_ADMIN_TOKEN": TOKEN,
        "LB_WORKERS": str(workers),
        "LB_HEALTH_INTERVAL_SECONDS": "0",
        "TMPDIR": str(directory),
    }
    return {**kept, **own, **settings}


class Crew:
    """A supervisor with its workers: where they listen, who they are, what they logged."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.url = ""

    @property
    def logged(self) -> str:
        """All they wrote on standard error."""
        return self._log.read_text()

    def wait_until_serving(self) -> None:
        """Returns when all workers serve."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"listening on (http://\S+) with", self.logged)):
            assert self.process.poll() is None and time.monotonic() < deadline, self.logged
            time.sleep(_POLL_SECONDS)
        self.url = found[1]

    def pid(self, worker: int) -> int | None:
        """The process of that worker now, None while there is none."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            pid, parent, arguments = line.split(None, 2)
            if int(parent) == self.process.pid and f'"number": {worker},' in arguments:
                return int(pid)
        return None

    def kill(self, worker: int) -> int:
        """kill -9; returns which process that was."""
        pid = self.pid(worker)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def end(self) -> int:
        """Let them drain; the exit code."""
        self.process.terminate()
        return self.process.wait(START_SECONDS)


def failed_start(directory: Path, workers: int = 2, **settings: str) -> tuple[int, str]:
    """Start what cannot start: the exit code and standard error."""
    ended = subprocess.run(
        [sys.executable, "-m", "balancer"],
        cwd=directory,
        env=environment(directory, workers, **settings),
        stderr=subprocess.PIPE,
        text=True,
        timeout=START_SECONDS,
    )
    return ended.returncode, ended.stderr


@contextmanager
def crew_of(directory: Path, workers: int = 2, **settings: str) -> Iterator[Crew]:
    """So many workers that serve."""
    log = directory / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "balancer", "serve"],
            cwd=directory,
            env=environment(directory, workers, **settings),
            stderr=stderr,
        )
    crew = Crew(process, log)
    try:
        crew.wait_until_serving()
        yield crew
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(START_SECONDS)


class Visitor:
    """A client whose connections all lead to one worker. `mark` begins the ids that this worker gives requests."""

    def __init__(self, client: httpx.AsyncClient, mark: str) -> None:
        self.client = client
        self.mark = mark

    async def chat(self, *, token: str = "", **fields: Any) -> httpx.Response:
        """One chat request, read to its end."""
        return await self.client.post("/v1/chat/completions", json={**_CHAT, **fields}, headers=bearer(token))

    def stream(self, **fields: Any) -> Any:
        """One streamed chat request."""
        return self.client.stream("POST", "/v1/chat/completions", json={**_CHAT, "stream": True, **fields})

    async def admin(self, method: str, path: str, json: Any = None) -> Any:
        """Ask the admin API; returns the decoded answer, which must be a 200."""
        answer = await self.client.request(method, f"/admin/api{path}", json=json, headers=ADMIN)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return answer.json()

    async def state(self) -> Any:
        """The state of the admin API."""
        return await self.admin("GET", "/state")

    async def endpoint(self, name: str) -> Any:
        """One endpoint of the state."""
        return next(each for each in (await self.state())["endpoints"] if each["name"] == name)

    async def add(self, name: str, fake: FakeServer | str, **fields: Any) -> int:
        """Create an endpoint, connected unless told otherwise; returns its id."""
        url = fake if isinstance(fake, str) else fake.base_url
        identifier: int = (
            await self.admin("POST", "/endpoints", {"name": name, "base_url": url, "connected": True, **fields})
        )["id"]
        return identifier


def bearer(token: str) -> dict[str, str]:
    """The header with a client's token."""
    return {"authorization": f"Bearer {token}"} if token else {}


@asynccontextmanager
async def visitors(crew: Crew, count: int = 2) -> AsyncIterator[list[Visitor]]:
    """A visitor of each of `count` workers, in no order."""
    found: dict[str, Visitor] = {}
    clients: list[httpx.AsyncClient] = []
    try:
        deadline = time.monotonic() + START_SECONDS
        while len(found) < count:
            assert time.monotonic() < deadline, f"only {len(found)} of {count} workers answer"
            # One connection each, that the kernel gives to one of them.
            client = httpx.AsyncClient(
                base_url=crew.url,
                timeout=START_SECONDS,
                trust_env=False,
                limits=httpx.Limits(max_connections=1, keepalive_expiry=60),
            )
            clients.append(client)
            answer = await client.post("/v1/chat/completions", content=b"no json")
            mark = answer.headers["x-request-id"].rpartition("-")[0]
            found.setdefault(mark, Visitor(client, mark))
        yield list(found.values())
    finally:
        for client in clients:
            await client.aclose()


@asynccontextmanager
async def crowd(crew: Crew, size: int) -> AsyncIterator[list[Visitor]]:
    """So many visitors, each on a connection of its own, of which every worker has some."""
    clients = [httpx.AsyncClient(base_url=crew.url, timeout=START_SECONDS, trust_env=False) for _ in range(size)]
    try:
        answers = await asyncio.gather(*(client.post("/v1/chat/completions", content=b"no json") for client in clients))
        marks = [answer.headers["x-request-id"].rpartition("-")[0] for answer in answers]
        yield [Visitor(client, mark) for client, mark in zip(clients, marks, strict=True)]
    finally:
        for client in clients:
            await client.aclose()


async def eventually(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Wait until `condition()`, which may be awaitable, holds; returns what it gave, or fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(_POLL_SECONDS)
