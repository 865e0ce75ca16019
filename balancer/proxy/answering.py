"""What the data plane sees of a request while it is answered: the same on our own server and on any other.

Our own (`transport.DirectAnswering`) lets an answer begin with one write and go on without a task; on another one, and
for addresses that only the routes know, there is ASGI (`AsgiAnswering`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from balancer.core.errors import BalancerError
from balancer.wire.headers import Headers, fields_of

TRANSPORT_EXTENSION = "balancer.transport"


class Answering(Protocol):
    """One request of a client. `lines` of a head are whole, each ending in CRLF, without length and connection.

    `begin`, `write` and `end` never wait: ask `has_room` first, and where there is none let `send_head` or `send` do
    it, which wait. `length` None: it is told by chunks, or by the end of the connection (RFC 9112 section 6.3). A
    client that has left gets nothing.
    """

    headers: Headers
    query: bytes
    # The client's transport where the server offers it; then broken answers can be cut as they must be.
    transport: Any
    # Who serves the request.
    task: asyncio.Task[None] | None

    @property
    def has_room(self) -> bool:
        """Whether `begin`, `write` and `end` may be used now."""

    @property
    def refusal(self) -> BalancerError | None:
        """What the client was told already, because the rest of its request could not be read. It gets nothing more."""

    @property
    def relays(self) -> bool:
        """Whether the body that was begun may go on by `write`."""

    @property
    def more_body(self) -> bool:
        """Whether some of the request's body was not read yet."""

    def take_body(self) -> bytes | None:
        """The whole body of the request if it has arrived. None: ask `read_body`."""

    async def read_body(self) -> bytes | None:
        """What has come of the body since the last call, waiting for some; None: the client has left."""

    def begin(self, status: int, lines: bytes, length: int | None, body: bytes, *, more_body: bool) -> None:
        """Send the head and what there is of the body in one write."""

    def write(self, body: bytes) -> bool:
        """Send a piece of the body; returns whether there is room for more."""

    def end(self, body: bytes) -> None:
        """Send the last piece of the body, which may be empty."""

    async def send_head(self, status: int, lines: bytes, length: int | None, *, closes: bool = False) -> None:
        """Send the head. `closes`: the connection ends with this answer."""

    async def send(self, body: bytes, *, more_body: bool) -> None:
        """Send a piece of the body."""

    def when_left(self, told: Callable[[], None] | None) -> None:
        """Call `told` when the client leaves, once the request was read; None: nobody wants to know any more."""

    def failed(self, mistake: Exception) -> None:
        """A mistake of ours ended the request: it is logged, and an answer that was begun is cut."""

    def over(self) -> None:
        """Nothing more will come."""


class AsgiAnswering:
    """An `Answering` by the words of ASGI."""

    has_room = False
    relays = False
    refusal: BalancerError | None = None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: Headers = scope["headers"]
        self.query: bytes = scope["query_string"]
        self.transport: Any = (scope.get("extensions") or {}).get(TRANSPORT_EXTENSION)
        self.task: asyncio.Task[None] | None = asyncio.current_task()
        self._more_body = True
        self._receive = receive
        self._send = send
        self._listening: asyncio.Task[None] | None = None

    @property
    def more_body(self) -> bool:
        """Whether some of the request's body was not read yet."""
        return self._more_body

    def take_body(self) -> bytes | None:
        """It must be asked for."""
        return None

    async def read_body(self) -> bytes | None:
        """The next message's."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        self._more_body = message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    def begin(self, status: int, lines: bytes, length: int | None, body: bytes, *, more_body: bool) -> None:
        """Not without waiting."""
        raise NotImplementedError

    def write(self, body: bytes) -> bool:
        """Not without waiting."""
        raise NotImplementedError

    def end(self, body: bytes) -> None:
        """Not without waiting."""
        raise NotImplementedError

    async def send_head(self, status: int, lines: bytes, length: int | None, *, closes: bool = False) -> None:
        """One message."""
        headers = fields_of(lines)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        if closes:
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, body: bytes, *, more_body: bool) -> None:
        """One message."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more_body})

    def when_left(self, told: Callable[[], None] | None) -> None:
        """Listens in a task of its own."""
        if self._listening is not None:
            self._listening.cancel()
        self._listening = None if told is None else asyncio.get_running_loop().create_task(self._listen(told))

    async def _listen(self, told: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        told()

    def failed(self, mistake: Exception) -> None:
        """The server does what is to be done."""
        raise mistake

    def over(self) -> None:
        """The server knows by the end of the call."""
