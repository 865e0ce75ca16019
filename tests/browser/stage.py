"""What browser tests act on: a balancer in a process of its own, fake backends in a thread of this one.

Everything is synchronous for whoever uses it. Counts of the backends are read where they are made.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx

from load_tester.fake_backend import FakeBackend
from load_tester.fake_behaviour import Behaviour

ADMIN_TOKEN = "browser-test-token"
DEADLINE_SECONDS = 15.0
MODEL = "fake-model"

_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.02
_CHAT = "/v1/chat/completions"


def eventually(condition: Callable[[], object], what: str = "condition") -> None:
    """Wait until `condition()` holds; fails after a generous deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {DEADLINE_SECONDS} s")
        time.sleep(_POLL_SECONDS)


class Program(ABC):
    """A program of ours in a process of its own, which runs in `directory`: `python -m` with these arguments."""

    def __init__(self, arguments: Sequence[str], directory: Path, environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", *arguments]
        self._directory = directory
        self._environ = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_ROOT), **environ}
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it serves by now."""

    @property
    def log(self) -> str:
        """What it wrote since it was started last."""
        return (self._directory / "log").read_text("utf-8")

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._directory, env=self._environ, stdout=log, stderr=log
            )
        eventually(self._lives_and_answers, f"start of {self._command[2]}")

    def stop(self) -> None:
        """End it as its operator would; its port refuses connections then, what it stored stays. May be repeated."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self) -> None:
        """End it and start it again, at the same address."""
        self.stop()
        self.start()

    def _lives_and_answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._command[2]} did not start:\n{self.log}"
        return self._answers()


class Stage(Program):
    """A balancer with an empty database in `directory`, and `backends` fake ones that it does not know yet.

    `environ` holds further settings of the balancer. Probes are off unless set, so that backends count what a test
    sends and nothing else.
    """

    def __init__(self, directory: Path, backends: int = 3, **environ: str) -> None:
        self._port = free_port()
        settings = {
            "LB_DB_PATH": str(directory / "lb.db"),
            "LB_PORT": str(self._port),
            "LB_ADMIN_TOKEN": ADMIN_TOKEN,
            "LB_HEALTH_INTERVAL_SECONDS": "0",
            "LB_DRAIN_SECONDS": "1",
            "LB_LOG_LEVEL": "WARNING",
        }
        super().__init__(["balancer", "serve"], directory, settings | environ)
        self._backends = _Backends(backends)
        self._senders = ThreadPoolExecutor(max_workers=64, thread_name_prefix="client")
        self.url = f"http://127.0.0.1:{self._port}"
        self.client = httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        self._backends.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._backends.stop()
        self._senders.shutdown(cancel_futures=True)
        self.client.close()

    def _answers(self) -> bool:
        try:
            self.client.get("/health")
        except httpx.TransportError:
            return False
        return True

    # -- its admin API ---------------------------------------------------------------------------------------------

    def admin(self, method: str, path: str, json: Any = None, **headers: str) -> Any:
        """Ask the admin API, as another operator would; returns the decoded answer, which must be a 200."""
        fields = {"x-admin-token": ADMIN_TOKEN, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = self.client.request(method, f"/admin/api{path}", json=json, headers=fields)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return answer.json()

    def state(self) -> Any:
        """The state of the admin API."""
        return self.admin("GET", "/state")

    def endpoint(self, name: str) -> Any:
        """One endpoint of the state."""
        return next(each for each in self.state()["endpoints"] if each["name"] == name)

    def add(self, name: str, backend: int | str, **fields: Any) -> int:
        """Create an endpoint for a fake backend, by its place, or for a base URL; returns its id. It is not wired."""
        base_url = backend if isinstance(backend, str) else self.base_url(backend)
        identifier: int = self.admin("POST", "/endpoints", {"name": name, "base_url": base_url, **fields})["id"]
        return identifier

    def clear(self) -> None:
        """As at the beginning: no endpoints, nothing counted, backends that answer at once."""
        for place in range(len(self._backends.fakes)):
            self._backends.begin_anew(place)
        for each in self.state()["endpoints"]:
            self.admin("POST", f"/endpoints/{each['id']}/abort")
            self.admin("DELETE", f"/endpoints/{each['id']}")
        self.admin("PATCH", "/routing", {"routing_mode": "percentage"})
        self.admin("PATCH", "/layout", {"incoming": {"x": 320, "y": 200}})
        self.admin("POST", "/reset-stats")

    # -- its clients -----------------------------------------------------------------------------------------------

    def chat(self, **fields: Any) -> httpx.Response:
        """One chat request, read to its end."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **fields}
        return self.client.post(_CHAT, json=body)

    def served_by(self, count: int) -> Counter[str]:
        """Send so many requests, one after the other; which endpoints answered how many. All must be answered."""
        answers = [self.chat() for _ in range(count)]
        assert {answer.status_code for answer in answers} == {200}, answers[0].text
        return Counter(answer.headers["x-lb-endpoint"] for answer in answers)

    def chat_beside(self, **fields: Any) -> Any:
        """The same in a thread: a future of the answer."""
        return self._senders.submit(self.chat, **fields)

    # -- the backends ----------------------------------------------------------------------------------------------

    def base_url(self, place: int) -> str:
        """Where a backend listens, as an endpoint's base URL."""
        return self._backends.fakes[place].base_url

    def received(self, place: int) -> int:
        """Requests for an answer that a backend got."""
        requests = dict(self._backends.fakes[place].stats.requests)
        return sum(count for path, count in requests.items() if not path.endswith("/models"))

    def in_flight(self, place: int) -> int:
        """Requests that a backend has in hand."""
        return self._backends.fakes[place].stats.inflight

    def behave(self, place: int, **changes: Any) -> None:
        """Change how a backend answers from now on; fields of `Behaviour`."""
        self._backends.behave(place, changes)


class _Backends:
    """Fake backends in an event loop in a thread."""

    def __init__(self, count: int) -> None:
        self.fakes = [FakeBackend(Behaviour(name=f"fake-{place}", models=(MODEL,))) for place in range(count)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backends", daemon=True)

    def start(self) -> None:
        """Listen, each on a free port."""
        self._thread.start()
        for fake in self.fakes:
            self._run(fake.listen())

    def stop(self) -> None:
        """Close everything."""
        for fake in self.fakes:
            self._run(fake.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()

    def behave(self, place: int, changes: dict[str, Any]) -> None:
        """Change a backend in its own thread."""

        async def change() -> None:
            self.fakes[place].behaviour = self.fakes[place].behaviour.changed(changes)

        self._run(change())

    def begin_anew(self, place: int) -> None:
        """A backend as it was at first, with nothing counted."""

        async def begin() -> None:
            fake = self.fakes[place]
            fake.behaviour = Behaviour(name=f"fake-{place}", models=(MODEL,))
            fake.stats.reset()

        self._run(begin())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_SECONDS)


def free_port() -> int:
    """Free at this moment, for a process that keeps it over restarts.

    None of those that systems give to connections that go out: one of them would get it while nobody listens.
    """
    for port in random.sample(range(11_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
