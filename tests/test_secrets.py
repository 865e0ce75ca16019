"""A provider key and the other secrets are planted, everything is done that could show them, and all is searched."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from balancer.auth import token_digest
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running_balancer import ADMIN_TOKEN, RunningBalancer
from tests.store_parts import sql
from tests.test_process import TOKEN, run, serving

KEY = "sk-planted-0123456789-provider-key"
SECRET = "planted-secret-of-the-operator"
CLIENT = "planted-client-token-0123456789"
SECRETS = (KEY, SECRET, CLIENT, TOKEN)
STATUS = ("/health", "/ready", "/metrics", "/healthz", "/v1/models", "/v1/nodes", "/api/routing/stats", "/admin", "/no")
CHAT = {"model": "fake-model", "messages": [{"role": "user", "content": "a planted prompt"}]}


class Asker:
    """Asks a balancer as its operator and keeps every byte it got."""

    def __init__(self, url: str) -> None:
        self.client = httpx.AsyncClient(base_url=url, trust_env=False, headers={"x-admin-token": TOKEN}, timeout=20)
        self.answers: list[str] = []

    async def ask(self, method: str, path: str, expected: int | None = None, **options: Any) -> Any:
        answer = await self.client.request(method, path, **options)
        self.answers.append(f"{method} {path}: {answer.headers} {answer.text}")
        assert expected in (None, answer.status_code), self.answers[-1]
        return answer.json() if answer.headers.get("content-type") == "application/json" else None

    async def read_everything(self) -> None:
        """Every GET there is, and the first event of the stream."""
        for path in STATUS:
            await self.ask("GET", path, headers={"authorization": f"Bearer {CLIENT}"})
        paths = (await self.ask("GET", "/admin/api/openapi.json"))["paths"]
        for path in (path for path, methods in paths.items() if "get" in methods and not path.endswith("/events")):
            for number in ("1", "2"):
                await self.ask("GET", path.replace("{eid}", number).replace("{number}", number))
        async with self.client.stream("GET", "/admin/api/events") as stream:
            self.answers.append(await anext(stream.aiter_text()))


async def change_and_fail(asker: Asker, echoing: FakeServer, broken: FakeServer) -> None:
    """Create, change, undo, conflict and be refused; send requests that fail in the ways that quote an endpoint."""
    api = "/admin/api/endpoints"
    new = {"name": "gpu-1", "base_url": echoing.base_url, "api_key": KEY, "connected": True}
    await asker.ask("POST", api, 200, json=new)
    await asker.ask("POST", api, 200, json={**new, "name": "gpu-2", "base_url": broken.base_url})
    await asker.ask("POST", api, 409, json=new)
    await asker.ask("POST", api, 422, json={**new, "name": "x", "weight": -1, "api_key": f"{KEY} {KEY}"})
    await asker.ask("POST", api, 400, content=json.dumps(new)[:-1], headers={"content-type": "application/json"})
    await asker.ask("PATCH", f"{api}/1", 200, json={"api_key": KEY + "-2"})
    await asker.ask("PATCH", f"{api}/1", 409, json={"api_key": KEY + "-3"}, headers={"if-match": "1"})
    await asker.ask("POST", "/admin/api/revisions/3/revert", 200)
    await asker.ask("DELETE", f"{api}/2", 200)
    await asker.ask("POST", "/admin/api/revisions/4/restore", 200)
    for path in (f"{api}/1/test", f"{api}/2/test", f"{api}/1/probe", f"{api}/2/probe"):
        await asker.ask("POST", path, 200)
    await asker.ask("POST", "/admin/api/test", 200, json={"base_url": broken.base_url, "api_key": KEY})
    await asker.ask("POST", "/admin/api/session", 401, json={"token": KEY})
    for body in (CHAT, {**CHAT, "stream": True}):
        await asker.ask("POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {CLIENT}"})


async def test_no_answer_no_log_and_no_file_holds_them(tmp_path: Path) -> None:
    echoing = Behaviour(fault="status", fault_status=401, api_key="another")
    settings = {"LB_SECRET_KEY": SECRET, "LB_CLIENT_TOKENS": CLIENT, "LB_LOG_LEVEL": "DEBUG", "LB_LOG_FORMAT": "json"}
    async with (
        AsyncExitStack() as stack,
        FakeServer(echoing) as refusing,
        FakeServer(Behaviour(fault="reset")) as broken,
        serving(tmp_path, **settings) as served,
    ):
        asker = Asker(served.url)
        stack.push_async_callback(asker.client.aclose)
        await change_and_fail(asker, refusing, broken)
        await asker.read_everything()
        files = [path for path in tmp_path.iterdir() if any(word.encode() in path.read_bytes() for word in SECRETS)]
        # The driver's own errors carry statements and values.
        sql(tmp_path / "lb.db", "ALTER TABLE endpoint_keys RENAME TO gone")
        await asker.ask("PATCH", "/admin/api/endpoints/1", 503, json={"api_key": KEY + "-4"})
        sql(tmp_path / "lb.db", "ALTER TABLE gone RENAME TO endpoint_keys")
    exported = await run(tmp_path, "config", "export", **settings)
    shown = await run(tmp_path, "check", **settings)
    assert (exported[0], shown[0]) == (0, 0)
    assert "gpu-1" in exported[1] and len(asker.answers) > 40, "there was something to search"
    for where, text in {
        "answers": "\n".join(asker.answers),
        "log": "".join(served.lines),
        "export": "".join(exported[1:]),
        "check": "".join(shown[1:]),
    }.items():
        found = [line for line in text.splitlines() if any(word in line for word in (*SECRETS, "a planted prompt"))]
        assert not found, f"{where}: {found[0][:500]}"
    assert not files


def own_objects() -> Iterator[object]:
    """Everything of this program that is alive."""
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).startswith("balancer."):
            yield each


async def test_no_object_shows_them(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"client_tokens": (CLIENT,), "secret_keys": (SECRET,)}
    async with FakeServer() as fake, RunningBalancer(tmp_path, **settings) as balancer:
        identifier = await balancer.add("gpu-1", fake, api_key=KEY)
        assert (await balancer.chat(token=CLIENT)).status_code == 200
        await balancer.admin("POST", f"/endpoints/{identifier}/probe")
        await balancer.admin("POST", "/tokens", {"name": "app", "token": CLIENT + "-2"})
        names: set[str] = set()
        for each in own_objects():
            shown = f"{each!r} {each}"
            names.add(type(each).__name__)
            assert not any(word in shown for word in (KEY, SECRET, CLIENT, ADMIN_TOKEN)), type(each)
            assert token_digest(CLIENT).hex() not in shown, type(each)
        assert {"EndpointRecord", "Settings", "ClientTokens", "KeyCipher", "AdminAuth"} <= names
