"""The whole balancer on a real socket inside a test's event loop: database, admin API, data plane."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from balancer.app import Balancer, create_app
from balancer.server import ShortWay
from balancer.settings import Settings
from tests.fakes import FakeServer
from tests.running import DEADLINE_SECONDS, RunningApp, served_by

ADMIN_TOKEN = "test-admin-token"
ADMIN = {"x-admin-token": ADMIN_TOKEN}


class RunningBalancer:
    """A balancer with its database in `directory`; leaving the block and entering a new one on it is a restart."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        # Without probes of its own, so that backends count what a test sends and nothing else.
        quiet = {"health_interval_seconds": 0.0, **settings}
        self.settings = Settings(db_path=str(directory / "load_balancer.db"), port=0, **quiet)
        self.client = httpx.AsyncClient(timeout=DEADLINE_SECONDS, trust_env=False)
        self.url = ""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        app = create_app(self.settings, ADMIN_TOKEN, environ={})
        self.balancer: Balancer = app.state.balancer
        await self._stack.enter_async_context(app.router.lifespan_context(app))
        running = await self._stack.enter_async_context(
            RunningApp(ShortWay(app), http=served_by(self.balancer.reception))
        )
        self._stack.callback(self.balancer.drain)
        self._stack.push_async_callback(self.client.aclose)
        self.url = running.url
        self.client.base_url = httpx.URL(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def admin(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """Ask the admin API; returns the decoded answer, which must be a 200."""
        answer = await self.client.request(method, f"/admin/api{path}", json=json, headers=ADMIN, **options)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return answer.json()

    async def state(self) -> Any:
        """The state of the admin API."""
        return await self.admin("GET", "/state")

    async def endpoint(self, name: str) -> Any:
        """One endpoint of the state."""
        return next(each for each in (await self.state())["endpoints"] if each["name"] == name)

    async def add(self, name: str, fake: FakeServer, **fields: Any) -> int:
        """Create an endpoint, connected unless told otherwise; returns its id."""
        body = {"name": name, "base_url": fake.base_url, "connected": True, **fields}
        identifier: int = (await self.admin("POST", "/endpoints", body))["id"]
        return identifier

    async def chat(self, *, token: str = "", **fields: Any) -> httpx.Response:
        """One chat request, read to its end."""
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}], **fields}
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)
