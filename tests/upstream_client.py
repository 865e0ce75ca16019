"""The client's side of the upstream tests: connections that must leave nothing open, and short ways to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from balancer.core.endpoints import Endpoint
from balancer.core.errors import UpstreamError
from balancer.upstream.connections import Connections
from balancer.upstream.http1 import UpstreamResponse
from tests.raw_server import RawServer

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def connections(**options: object) -> AsyncIterator[Connections]:
    """Connections that must leave nothing open."""
    made = Connections(**options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()
        assert repr(made) == "<Connections: 0 open, 0 idle>"


def endpoint(server: RawServer, path: str = "/v1", **fields: object) -> Endpoint:
    return Endpoint(1, "one", server.url + path, **fields)  # type: ignore[arg-type]


async def post(client: Connections, to: Endpoint, body: bytes = b"{}") -> UpstreamResponse:
    return await client.open(to, b"/chat/completions", b"", body)


async def whole(response: UpstreamResponse) -> bytes:
    """The rest of the body; closes the response."""
    body = b""
    try:
        while data := await response.read():
            body += data
    finally:
        response.close()
    return body


async def ask(client: Connections, to: Endpoint) -> bytes:
    return await whole(await post(client, to))


async def read_to_end(response: UpstreamResponse) -> tuple[bytes, UpstreamError | None]:
    """The body as far as it came, and the error it ended with."""
    body = b""
    try:
        while data := await response.read():
            body += data
    except UpstreamError as error:
        return body, error
    return body, None
