"""Real servers inside a test's event loop: the data plane alone, without database and admin API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from balancer.auth import ClientTokens
from balancer.core.endpoints import Endpoint
from balancer.core.pool import EndpointPool
from balancer.dispatch.dispatcher import Dispatcher
from balancer.proxy.endpoint import TRANSPORT_EXTENSION, ProxyEndpoint
from balancer.proxy.gateway import Gateway
from balancer.traffic import RequestRecord, Traffic
from balancer.upstream.connections import Connections
from balancer.wire.openai import OPERATIONS

DEADLINE_SECONDS = 10.0


async def eventually(condition: Any, what: str = "condition") -> None:
    """Wait until `condition()` holds; fails after a generous deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {DEADLINE_SECONDS} s")
        await asyncio.sleep(0.005)


class _TransportProtocol(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {TRANSPORT_EXTENSION: self.transport}
        self.scope["extensions"] = extensions


class RunningApp:
    """An ASGI application on a real uvicorn at 127.0.0.1, any port; `url` is where."""

    def __init__(self, app: ASGIApp, **config: Any) -> None:
        fixed = {"http": _TransportProtocol, "ws": "none", "lifespan": "off", "log_config": None, "access_log": False}
        options: dict[str, Any] = {**fixed, **config}
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, **options))
        self._server.capture_signals = _no_signals  # type: ignore[method-assign]
        self._task: asyncio.Task[None] | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve())
        await eventually(lambda: self._server.started or self._task.done(), "start of the server")
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        assert self._task is not None
        await self._task


class _no_signals:  # noqa: N801 - stands in for a context manager function
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class RunningGateway:
    """The data plane on a real socket. `options` go to the pool, the dispatcher or the gateway, whichever knows them."""

    def __init__(self, endpoints: Iterable[Endpoint], *, tokens: Iterable[str] = (), **options: Any) -> None:
        def take(*names: str) -> dict[str, Any]:
            return {name: options.pop(name) for name in names if name in options}

        self.pool = EndpointPool(**take("strategy", "fail_threshold", "cooldown_seconds", "max_connections", "rng"))
        self.pool.apply(endpoints)
        self.connections = Connections(**take("max_keepalive", "connect_timeout_seconds", "environ"))
        client_tokens = ClientTokens(tokens)
        client_tokens.replace([], rows_exist=False)
        self.traffic = Traffic(time.time)
        limits = {"max_body_bytes": 32 << 20, "client_write_timeout_seconds": 60.0}
        limits.update(take("max_body_bytes", "client_write_timeout_seconds"))
        self.dispatcher = Dispatcher(self.pool, self.connections, **options)
        self.gateway = Gateway(self.dispatcher, client_tokens, self.traffic, **limits)
        routes = [Route(path, ProxyEndpoint(self.gateway, op), methods=["POST"]) for path, op in OPERATIONS.items()]
        self._app = RunningApp(Starlette(routes=routes))
        self.client = httpx.AsyncClient(timeout=DEADLINE_SECONDS, trust_env=False)

    async def __aenter__(self) -> Self:
        await self._app.__aenter__()
        self.client.base_url = httpx.URL(self._app.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        await self._app.__aexit__(kind, error, trace)
        await self.connections.close()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return self._app.url

    @property
    def last(self) -> RequestRecord:
        """The record of the request that ended last."""
        return self.traffic.log[-1]

    @property
    def inflight(self) -> int:
        """Requests at endpoints now."""
        return sum(state.inflight for state in self.pool.states.values())

    async def chat(self, *, stream: bool = False, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
        """One chat request, read to its end."""
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}], **fields}
        if stream:
            body["stream"] = True
        return await self.client.post(path, json=body)
