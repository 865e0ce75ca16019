"""Real servers and clients inside a test's event loop: the data plane alone, without database and admin API.

When a gateway closes after a test that went well, nothing may be left counted, half-open or logged as an error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from balancer.auth import ClientTokens
from balancer.core.endpoints import Endpoint
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.dispatch.dispatcher import Dispatcher
from balancer.proxy.endpoint import ProxyEndpoint
from balancer.proxy.gateway import Gateway
from balancer.proxy.reception import ClientLimits, Reception
from balancer.proxy.transport import TransportProtocol
from balancer.server import ShortWay
from balancer.traffic import RequestRecord, Traffic
from balancer.upstream.connections import Connections
from balancer.wire.openai import OPERATIONS
from tests.fakes import FakeServer

DEADLINE_SECONDS = 10.0
CHAT_PATH = "/v1/chat/completions"
CHAT_BODY: dict[str, Any] = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}]}


async def eventually(condition: Callable[[], object], what: str = "condition") -> None:
    """Wait until `condition()` holds; fails after a generous deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {DEADLINE_SECONDS} s")
        await asyncio.sleep(0.002)


def wired(*backends: FakeServer | str, **fields: Any) -> list[Endpoint]:
    """A connected endpoint for each backend or base URL: ids and priorities in this order, named as the fake is."""
    made = []
    for number, backend in enumerate(backends, start=1):
        name, url = f"endpoint-{number}", str(backend)
        if isinstance(backend, FakeServer):
            name, url = backend.behaviour.name, backend.base_url
        values = {"name": name, "base_url": url, "connected": True, "priority_order": number, **fields}
        made.append(Endpoint(id=number, **values))
    return made


class _Server(uvicorn.Server):
    """uvicorn without signals, and without the pauses that one long life does not notice and many short ones do."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.002)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
        await eventually(lambda: not self.server_state.connections, "end of the connections")
        tasks = tuple(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.lifespan.shutdown()


class _Complaints(logging.Handler):
    """Collects what a server logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))


class RunningApp:
    """An ASGI application on a real uvicorn at 127.0.0.1, any port; `url` is where.

    `complaints`: what the server logged as errors, and what the event loop's exception handler was told.
    """

    def __init__(self, app: Callable[..., Any], **config: Any) -> None:
        fixed: dict[str, Any] = {
            "http": TransportProtocol,
            "interface": "asgi3",
            "ws": "none",
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
        }
        fixed |= {"date_header": False, "server_header": False, "timeout_keep_alive": 75}
        options: dict[str, Any] = {**fixed, **config}
        self._server = _Server(uvicorn.Config(app, host="127.0.0.1", port=0, **options))
        self._task: asyncio.Task[None] | None = None
        self._complaints = _Complaints()
        self.url = ""

    @property
    def complaints(self) -> list[str]:
        """Errors so far, with their tracebacks."""
        return self._complaints.texts

    @property
    def clogged(self) -> bool:
        """Whether a client has so much to take in that the next message for it would have to wait."""
        connections: Iterable[Any] = self._server.server_state.connections
        return any(connection.flow.write_paused for connection in connections)

    @property
    def connections(self) -> int:
        """Connections that are open, also those that are about to be closed."""
        return len(self._server.server_state.connections)

    def shrink_send_buffers(self) -> None:
        """Let the kernel hold little for connections from now on."""
        self._server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)

    def cancel_requests(self) -> None:
        """Cancel what runs, as the server does when its grace time is over."""
        for task in self._server.server_state.tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        logging.getLogger("uvicorn.error").addHandler(self._complaints)
        asyncio.get_running_loop().set_exception_handler(lambda _, told: self.complaints.append(repr(told)))
        task = self._task = asyncio.create_task(self._server.serve())
        await eventually(lambda: self._server.started or task.done(), "start of the server")
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        assert self._task is not None
        await self._task
        asyncio.get_running_loop().set_exception_handler(None)
        logging.getLogger("uvicorn.error").removeHandler(self._complaints)


def served_by(reception: Reception) -> Callable[..., TransportProtocol]:
    """What makes connections that keep the limits of `reception`."""
    return partial(TransportProtocol, reception=reception)


class RunningGateway:
    """The data plane on a real socket. `options` go to the pool, the dispatcher or the gateway, whichever knows them.

    `limits` are those of its clients' connections; `expected_complaints`: so many errors may be logged, and more or
    fewer fail the test.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        *,
        tokens: Iterable[str] = (),
        limits: ClientLimits | None = None,
        exempt: Iterable[IPv4Network | IPv6Network] = (),
        expected_complaints: int = 0,
        **options: Any,
    ) -> None:
        def take(*names: str) -> dict[str, Any]:
            return {name: options.pop(name) for name in names if name in options}

        options.setdefault("strategy", "priority")
        self.pool = EndpointPool(**take("strategy", "fail_threshold", "cooldown_seconds", "max_connections", "rng"))
        self.pool.apply(endpoints)
        self.connections = Connections(**take("max_keepalive", "connect_timeout_seconds", "environ"))
        client_tokens = ClientTokens(tokens)
        client_tokens.replace([], rows_exist=False)
        self.tokens = client_tokens
        self.traffic = Traffic(time.time)
        bounds: dict[str, Any] = {"max_body_bytes": 32 << 20, "client_write_timeout_seconds": 60.0}
        bounds.update(take("max_body_bytes", "client_write_timeout_seconds", "max_body_values"))
        self.dispatcher = Dispatcher(self.pool, self.connections, **options)
        self.gateway = Gateway(self.dispatcher, client_tokens, self.traffic, **bounds)
        routes = [Route(path, ProxyEndpoint(self.gateway, op), methods=["POST"]) for path, op in OPERATIONS.items()]
        self.reception = Reception(limits, tuple(exempt))
        self.app = RunningApp(ShortWay(Starlette(routes=routes)), http=served_by(self.reception))
        self.client = http_client("")
        self._expected_complaints = expected_complaints

    async def __aenter__(self) -> Self:
        await self.app.__aenter__()
        self.client.base_url = httpx.URL(self.app.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.settled()
        finally:
            await self.client.aclose()
            await self.app.__aexit__(kind, error, trace)
            await self.connections.close()
        if error is None:
            assert len(self.app.complaints) == self._expected_complaints, "\n".join(self.app.complaints)

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return self.app.url

    @property
    def last(self) -> RequestRecord:
        """The record of the request that ended last."""
        return self.traffic.log[-1]

    @property
    def inflight(self) -> int:
        """Requests at endpoints now."""
        return sum(state.inflight for state in self.pool.states.values())

    def state(self, number: int = 1) -> EndpointState:
        """The state of the endpoint with that id."""
        return self.pool.states[number]

    def held(self) -> dict[str, int]:
        """Everything that is counted in and not yet out; empty when the data plane is idle."""
        budget = self.dispatcher.budget
        counts = {
            "inflight": self.inflight,
            "requests": self.gateway.active,
            "budgeted requests": budget.active_requests,
            "retries": budget.active_retries,
            "queued": self.dispatcher.queue.depth,
            "half-open probes": sum(not state.breaker.admits(math.inf) for state in self.pool.states.values()),
        }
        return {name: count for name, count in counts.items() if count}

    def failures(self, number: int | None = None) -> int:
        """Failures in the series of an endpoint, or of all requests."""
        series = self.traffic.total if number is None else self.traffic.series(number)
        soon = self.gateway.clock() + 2  # the running second is left out of a chart
        return sum(point.failures for point in series.points(soon))

    async def settled(self) -> None:
        """Wait until everything was given back."""
        try:
            await eventually(lambda: not self.held())
        except AssertionError:
            raise AssertionError(f"never given back: {self.held()}") from None

    async def recorded(self, count: int) -> RequestRecord:
        """The last of `count` requests, as soon as so many have ended."""
        await eventually(lambda: len(self.traffic.log) >= count, f"record number {count}")
        assert len(self.traffic.log) == count
        return self.last

    async def chat(self, *, stream: bool = False, path: str = CHAT_PATH, **fields: Any) -> httpx.Response:
        """One chat request, read to its end."""
        body = {**CHAT_BODY, **fields}
        if stream:
            body["stream"] = True
        return await self.client.post(path, json=body)

    def leaving(self, *, stream: bool = False, **fields: Any) -> asyncio.Task[httpx.Response]:
        """The same as a task: cancel it, and the client is gone."""
        return asyncio.create_task(self.chat(stream=stream, **fields))


def http_client(url: str) -> httpx.AsyncClient:
    """A client for many requests at once. Without TLS: loading the authorities takes longer than most tests."""
    return httpx.AsyncClient(
        base_url=url, timeout=2 * DEADLINE_SECONDS, limits=httpx.Limits(), trust_env=False, verify=False
    )


class RawClient:
    """A client that writes and reads bytes as it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Write, without waiting."""
        self.writer.write(data)

    def post(self, body: bytes, *lines: bytes, path: str = CHAT_PATH) -> None:
        """Write one whole request."""
        self.send(request(body, *lines, path=path))

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        """Status and header fields of the next answer, names in lower case."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
        pairs = (line.split(b": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.reader.read()

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """The next answer, which must have a content-length."""
        status, headers = await self.head()
        async with asyncio.timeout(DEADLINE_SECONDS):
            return status, headers, await self.reader.readexactly(int(headers[b"content-length"]))

    def leave(self) -> None:
        """Close at once."""
        self.writer.transport.abort()


@asynccontextmanager
async def raw_client(url: str, *, receive_buffer: int = 0, reads: bool = True) -> AsyncIterator[RawClient]:
    """A connection to `url`. Without `reads` nothing is taken from the socket until reading is resumed."""
    parts = httpx.URL(url)
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (parts.host, parts.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    if not reads:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):  # the server was first
            await writer.wait_closed()


def request(body: bytes, *lines: bytes, path: str = CHAT_PATH) -> bytes:
    """The bytes of a request with a content-length."""
    head = [b"POST " + path.encode() + b" HTTP/1.1", b"host: balancer", b"content-length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chat_body(**fields: Any) -> bytes:
    """A chat request's body."""
    return json.dumps({**CHAT_BODY, **fields}).encode()


def content_of(text: str) -> str:
    """The answer's words in a chat stream, joined; fails where it does not end in [DONE]."""
    events = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    assert events and events[-1] == "[DONE]", text[-500:]
    chunks = [json.loads(event) for event in events[:-1]]
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
