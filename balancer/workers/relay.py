"""Requests that are about the whole reach a follower as well: it passes them on to the lead, whatever they are.

As they come, streamed both ways. Who asked, and how, travels in a field that a client cannot set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import orjson
from starlette.types import Receive, Scope, Send

from balancer.proxy.answering import TRANSPORT_EXTENSION
from balancer.wire.openai import error_body
from balancer.workers.relayed import ORIGIN

_OF_CONNECTIONS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"expect")
)
# How long the lead's socket may take to accept; it answers when it likes, as probes and streams take their time.
_CONNECT_SECONDS = 1.0
_RETRY_SECONDS = 1
_AWAY = "this is told by the lead worker, which is being replaced: try again in a moment"


class Relay:
    """The ASGI application of a follower for all that is not the data plane. `path`: the lead's Unix socket."""

    def __init__(self, path: str, lead_is_there: Callable[[], bool]) -> None:
        self._lead_is_there = lead_is_there
        # A connection each: such requests are few, and one that was kept may have died with a former lead.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(uds=path, limits=limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; ends early when the client leaves."""
        if not self._lead_is_there():
            await _refuse(scope, send)
            return
        feed = _Feed(receive)
        passing = asyncio.create_task(self._pass(scope, feed, send))
        leaving = asyncio.create_task(feed.left())
        try:
            await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (passing, leaving):
                task.cancel()
            found = await asyncio.gather(passing, leaving, return_exceptions=True)
        if isinstance(found[0], Exception):
            raise found[0]

    async def _pass(self, scope: Scope, feed: _Feed, send: Send) -> None:
        begun = False
        try:
            response = await self._transport.handle_async_request(_request(scope, feed))
            head = [field for field in response.headers.raw if field[0].lower() not in _OF_CONNECTIONS]
            begun = True
            await send({"type": "http.response.start", "status": response.status_code, "headers": head})
            try:
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            finally:
                await response.aclose()
            await send({"type": "http.response.body", "body": b""})
        except _ClientLeft:
            pass
        except httpx.TransportError:
            if not begun:
                await _refuse(scope, send)
            elif (transport := scope.get("extensions", {}).get(TRANSPORT_EXTENSION)) is not None:
                transport.close()  # there is no other way to cut an answer short


class _ClientLeft(Exception):
    """In the midst of its request."""


class _Feed:
    """What the client sends: the body of its request, and at last that it has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.read = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            more = message.get("more_body", False)
            yield message.get("body", b"")
        self.read.set()

    async def left(self) -> None:
        """Returns when the client is gone, after its whole request was read."""
        await self.read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _request(scope: Scope, feed: _Feed) -> httpx.Request:
    headers = [(name, value) for name, value in scope["headers"] if name not in _OF_CONNECTIONS and name != ORIGIN]
    headers.append((ORIGIN, orjson.dumps([scope["client"], scope["server"], scope["scheme"]])))
    has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
    if not has_body:
        feed.read.set()
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    waits = {"connect": _CONNECT_SECONDS, "read": None, "write": None, "pool": None}
    return httpx.Request(
        scope["method"],
        "http://lead",
        headers=headers,
        content=feed.body() if has_body else None,
        extensions={"timeout": waits, "target": target},
    )


async def _refuse(scope: Scope, send: Send) -> None:
    """The lead is not there: 503 in the envelope of the side that was asked."""
    if scope["path"].startswith("/v1/"):
        body = error_body(_AWAY, error_type="service_unavailable", code="lead_away")
    else:
        body = orjson.dumps({"detail": _AWAY})
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"%d" % _RETRY_SECONDS),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": head})
    await send({"type": "http.response.body", "body": body})
