"""The hot functions, each run a number of times between two marks that an instruction counter sees.

The data plane is the real one, from the bytes a client sends to the bytes it gets; only sockets are left out: both
transports are in memory, and time stands still. Run by `benchmarks.instructions`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.routing import Route
from uvicorn.server import ServerState

from balancer.auth import ClientToken, ClientTokens, token_digest
from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.pool import EndpointPool
from balancer.dispatch.dispatcher import Dispatcher
from balancer.proxy.endpoint import ProxyEndpoint
from balancer.proxy.gateway import Gateway
from balancer.proxy.transport import TransportProtocol
from balancer.server import ShortWay
from balancer.traffic import AttemptRecord, RequestRecord, Traffic
from balancer.upstream.connections import Connections
from balancer.upstream.http1 import Connection
from balancer.wire.answers import JsonMeter
from balancer.wire.headers import read_client_headers, upstream_headers
from balancer.wire.openai import OPERATIONS, parse
from balancer.wire.sse import StreamMeter
from benchmarks import backend
from benchmarks.load import request_bytes

_NOW = 1_000_000.0
_TOKEN = "ct-benchmark"
_PATH = "/v1/chat/completions"
_WARM_UP = 30  # runs before the first mark: the interpreter specialises what it runs often
still: Callable[[], float] = partial(float, _NOW)


class Task(NamedTuple):
    """`run(times)` does it so often; `times` is how often it is measured."""

    name: str
    times: int
    run: Callable[[int], None]


def mark() -> None:
    """What the counter takes as the border between two measurements: a system call nobody else makes."""
    os.getpgid(0)


def _repeated(function: Callable[[], object]) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in repeat(None, count):
            function()

    return run


# -- single functions ----------------------------------------------------------------------------------------------


def _body(prompt_bytes: int) -> bytes:
    words = "Explain in one paragraph what a load balancer does. " * (prompt_bytes // 52)
    messages = [{"role": "user", "content": words}]
    return json.dumps({"model": backend.JSON, "messages": messages, "temperature": 0.7, "stream": False}).encode()


def _pool(endpoints: int) -> EndpointPool:
    pool = EndpointPool(rng=Random(1))
    pool.apply(
        Endpoint(
            number,
            f"backend-{number}",
            f"http://127.0.0.1:{number}/v1",
            connected=True,
            token_quota_percent=float(1 + number % 4),
        )
        for number in range(1, endpoints + 1)
    )
    return pool


def _route(endpoints: int) -> Callable[[], None]:
    pool, request, usage = _pool(endpoints), RouteRequest(backend.JSON, 300), Usage(48, 40)

    def once() -> None:
        lease = pool.acquire(request, _NOW)
        lease.committed(_NOW)
        lease.release(Outcome.SUCCESS, _NOW, usage)

    return once


def _events(model: str) -> list[bytes]:
    """The events of a stream, without the transfer coding."""
    chunks = b"".join(backend.answers()[model]).partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
    return [chunk for chunk in chunks if chunk]


def _meter_json() -> Callable[[], None]:
    body = backend.answers()[backend.JSON][0].partition(b"\r\n\r\n")[2]

    def once() -> None:
        meter = JsonMeter()
        meter.feed(body)
        meter.finish()

    return once


def _meter_stream(chunks: list[bytes]) -> Callable[[], None]:
    def once() -> None:
        meter = StreamMeter(strip_usage=True)
        for chunk in chunks:
            meter.feed(chunk)
        meter.finish()

    return once


def _meter_chunk() -> Callable[[], None]:
    meter, chunk = StreamMeter(strip_usage=True), _events(backend.CHUNKED)[0]
    return lambda: cast(None, meter.feed(chunk))


def _headers() -> list[tuple[bytes, bytes]]:
    head = request_bytes(1, backend.JSON, _TOKEN, stream=False).partition(b"\r\n\r\n")[0]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:])]


def _record() -> Callable[[], None]:
    traffic, client, usage = Traffic(still), ClientToken(1, "benchmark"), Usage(48, 40)
    attempts = [AttemptRecord(1, "backend-1", 0.01, "success", "answered 200", False, ())]

    def once() -> None:
        record = RequestRecord(
            1, _NOW, "req-1", "benchmark", "chat", "m", "m", 1, "backend-1", attempts, False, 200, 0.01, 0.01, 0.001,
            usage, "",
        )  # fmt: skip
        traffic.request_finished(record, client, _NOW, error_class="", counted_tokens=0)

    return once


# -- whole requests ------------------------------------------------------------------------------------------------


class _Transport(asyncio.Transport):
    """What a protocol believes to be connected to; `written` gets each write."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self.write = written  # type: ignore[method-assign, assignment]  # no frame of ours per write

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        raise AssertionError("the connection was to be kept")

    abort = close


class _MemoryConnections(Connections):
    """Connections to a backend that answers each request with `reads`, one per turn of the loop."""

    def __init__(self) -> None:
        super().__init__(clock=still)
        self.reads: list[bytes] = []

    async def _connect(self, pool: Any) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(pool, loop, still)
        left: deque[bytes] = deque()

        def read() -> None:
            connection.data_received(left.popleft())
            if left:
                loop.call_soon(read)

        def written(_: bytes) -> None:
            left.extend(self.reads)
            loop.call_soon(read)

        connection.connection_made(_Transport(written))
        return connection


class _Client:
    """One client connection with a request under way at a time."""

    def __init__(self, connections: _MemoryConnections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        tokens = ClientTokens()
        tokens.replace([(token_digest(_TOKEN), ClientToken(1, "benchmark"))], rows_exist=True)
        gateway = Gateway(
            Dispatcher(_pool(4), connections, clock=still, wall_clock=still),
            tokens,
            Traffic(still),
            max_body_bytes=32 << 20,
            client_write_timeout_seconds=60.0,
            clock=still,
            wall_clock=still,
        )
        config = uvicorn.Config(
            ShortWay(Starlette(routes=[Route(_PATH, ProxyEndpoint(gateway, OPERATIONS[_PATH]), methods=["POST"])])),
            interface="asgi3",
            log_config=None,
            access_log=False,
            timeout_keep_alive=3600,  # an instruction counter may need long between two requests
            date_header=False,
            proxy_headers=False,
            server_header=False,
        )
        self._protocol = TransportProtocol(config, ServerState(), {}, self._loop)
        self._protocol.connection_made(_Transport(self._written))
        self._ending = b""
        self._ended = self._loop.create_future()

    def _written(self, data: bytes) -> None:
        if data.endswith(self._ending):
            self._ended.set_result(None)

    def ask(self, model: str, reads: list[bytes], ending: bytes) -> Callable[[int], None]:
        """Requests for `model`, whose answers arrive in `reads` and are over with a write that ends in `ending`."""
        request = request_bytes(1, model, _TOKEN, stream=model != backend.JSON)

        async def ask(count: int) -> None:
            self._ending, self._connections.reads = ending, reads
            for _ in range(count):
                self._ended = self._loop.create_future()
                self._protocol.data_received(request)
                await self._ended

        return lambda count: self._loop.run_until_complete(ask(count))


async def _client() -> _Client:
    return _Client(_MemoryConnections())


def _answers(events: int) -> list[bytes]:
    """A stream of so many events, each in a read of its own."""
    head, *middle, last = backend.answers()[backend.CHUNKED]
    return [head, *(middle[number % len(middle)] for number in range(events - 1)), last]


# ------------------------------------------------------------------------------------------------------------------


def tasks(loop: asyncio.AbstractEventLoop) -> Iterator[Task]:
    """All that is measured, in this order."""
    operation = OPERATIONS[_PATH]
    for size in (300, 8_000, 200_000):
        name = f"parse a body of {size:,} bytes"
        yield Task(name, 200 if size < 100_000 else 20, _repeated(partial(parse, _body(size), operation)))
    for endpoints in (4, 64, 1000):
        yield Task(f"acquire and release, {endpoints:,} endpoints", 200, _repeated(_route(endpoints)))
    headers = _headers()
    yield Task("read the client's headers", 200, _repeated(partial(read_client_headers, headers)))
    pass_on = partial(upstream_headers, headers, "req-1", identity=True)
    yield Task("headers for the endpoint", 200, _repeated(pass_on))
    yield Task("record a request", 200, _repeated(_record()))
    yield Task("meter a JSON answer", 200, _repeated(_meter_json()))
    yield Task("meter one event of a stream", 500, _repeated(_meter_chunk()))
    events = _events(backend.BURST)
    yield Task("meter a stream of 64 in one read", 50, _repeated(_meter_stream([b"".join(events)])))
    yield Task("meter a stream of 64, a read each", 50, _repeated(_meter_stream(events)))
    client = loop.run_until_complete(_client())
    yield Task("request, JSON", 100, client.ask(backend.JSON, backend.answers()[backend.JSON], b"}"))
    burst = backend.answers()[backend.BURST]
    yield Task("request, stream of 64 in one read", 50, client.ask(backend.BURST, burst, b"0\r\n\r\n"))
    for number in (64, 128):
        name = f"request, stream of {number}, a read each"
        yield Task(name, 20, client.ask(backend.CHUNKED, _answers(number), b"0\r\n\r\n"))


def main() -> None:
    """Run every task between two marks; writes what was run, in this order, to the file given."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="tasks whose name holds this")
    arguments = parser.parse_args()
    loop = uvloop.new_event_loop()
    done: list[tuple[str, int]] = []
    for task in tasks(loop):
        if arguments.only not in task.name:
            continue
        task.run(_WARM_UP)
        gc.collect()
        gc.freeze()
        mark()
        task.run(task.times)
        mark()
        done.append((task.name, task.times))
    loop.close()
    arguments.file.write_text(json.dumps(done))


if __name__ == "__main__":
    main()
