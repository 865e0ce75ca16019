"""uvicorn's HTTP/1.1 protocol, with a short way for the fixed paths of the data plane.

ASGI sends the head of an answer and the beginning of its body apart, and each piece from a task that must be woken for
it; and it wants a request described in full to whoever may serve it. That costs more than routing it. So those paths
are begun here, each request an object that its answer is written to; all others go the way of ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from balancer.core.errors import BalancerError
from balancer.proxy.answering import TRANSPORT_EXTENSION
from balancer.proxy.bounds import BODY, FRESH, HEAD, IDLE, LAST, WHOLE, BoundedProtocol
from balancer.wire.headers import Headers

# Serves one request.
Direct = Callable[["DirectAnswering"], Coroutine[Any, Any, None]]
_NONE: Mapping[bytes, Direct] = MappingProxyType({})


class DirectApp(Protocol):
    """An ASGI application that says which requests need none of ASGI."""

    def direct(self, port: int | None) -> Mapping[bytes, Direct]:
        """Who serves a POST that came in at `port`, by its path as it is written."""


class _Nobody:
    """Who is told of news while nobody waits for them."""

    def set(self) -> None:
        """News: nobody is told."""


class _Leaving:
    """Who is told of a client's leaving."""

    def __init__(self, answering: DirectAnswering, told: Callable[[], None]) -> None:
        self._answering = answering
        self._told = told

    def set(self) -> None:
        """News."""
        if self._answering.disconnected:
            self._told()


_NOBODY = _Nobody()


class DirectAnswering:
    """An `Answering` that writes to the transport itself. uvicorn's protocol takes it for one of its own cycles."""

    __slots__ = (
        "_asked",
        "_chunked",
        "_left",
        "_protocol",
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "message_event",
        "more_body",
        "query",
        "response_complete",
        "task",
        "transport",
    )

    def __init__(self, protocol: TransportProtocol, headers: Headers, query: bytes, keep_alive: bool) -> None:
        self.headers = headers
        self.query = query
        self.transport: Any = protocol.transport
        self.task: asyncio.Task[None] | None = None
        self._protocol = protocol
        self._asked = False
        self._chunked = False
        self._left = -1  # of the length that the head says; before it: less than nothing
        # By these names uvicorn's protocol knows them; it sets the event when something came or the client left.
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event: asyncio.Event | _Nobody | _Leaving = _NOBODY

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        return not self._protocol.flow.write_paused

    @property
    def response_started(self) -> bool:
        """Whether the head of the answer was sent. uvicorn's cycles have the same."""
        return self._left >= 0

    @property
    def refusal(self) -> BalancerError | None:
        """What the client was told already, because the rest of its request could not be read."""
        return self._protocol.refusal

    @property
    def relays(self) -> bool:
        """Whether the length of the body was left open."""
        return self._chunked

    def take_body(self) -> bytes | None:
        """The whole body of the request if it has arrived. None: ask `read_body`."""
        if self.more_body or self.disconnected:
            return None
        self._protocol.flow.resume_reading()
        body, self.body = self.body, b""
        return body

    async def read_body(self) -> bytes | None:
        """What has come of the body since the last call, waiting for some; None: the client has left."""
        if not self._asked and _expects_continue(self.headers) and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._asked = True
        self._protocol.flow.resume_reading()
        if self.more_body and not self.body and not self.disconnected:
            event = self.message_event = asyncio.Event()
            try:
                await event.wait()
            finally:
                self.message_event = _NOBODY
        if self.disconnected:
            return None
        body, self.body = self.body, b""
        return body

    def begin(self, status: int, lines: bytes, length: int | None, body: bytes, *, more_body: bool) -> None:
        """Send the head and what there is of the body in one write."""
        if not self.disconnected:
            self._put(self._head(status, lines, length), body, more_body)

    def write(self, body: bytes) -> bool:
        """Send a piece of the body in chunked coding; returns whether there is room for more."""
        if body and not self.transport.is_closing():
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return not self._protocol.flow.write_paused

    def end(self, body: bytes) -> None:
        """Send the last piece of the body, which may be empty."""
        if not self.disconnected:
            self._put(b"", body, False)

    async def send_head(self, status: int, lines: bytes, length: int | None, *, closes: bool = False) -> None:
        """Send the head, as soon as there is room."""
        if closes:
            self.keep_alive = False
        await self._room()
        if not self.disconnected:
            self.transport.write(self._head(status, lines, length))

    async def send(self, body: bytes, *, more_body: bool) -> None:
        """Send a piece of the body, as soon as there is room."""
        await self._room()
        if not self.disconnected:
            self._put(b"", body, more_body)

    async def _room(self) -> None:
        flow = self._protocol.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()

    def _head(self, status: int, lines: bytes, length: int | None) -> bytes:
        close = b"" if self.keep_alive else b"connection: close\r\n"
        if length is not None:
            self._left = length
            return b"%b%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINE[status], lines, close, length)
        self._left = 0
        self._chunked = status != 204
        ending = b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n"
        return b"".join((STATUS_LINE[status], lines, close, ending))

    def _put(self, head: bytes, body: bytes, more_body: bool) -> None:
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            data = b"".join((head, piece, b"" if more_body else b"0\r\n\r\n"))
        else:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more_body):
                raise RuntimeError("the body is not as long as its head says")
            data = head + body
        if data:
            self.transport.write(data)
        if not more_body:
            self.response_complete = True
            if not self.keep_alive:
                self.transport.close()
            self._protocol.on_response_complete()

    def when_left(self, told: Callable[[], None] | None) -> None:
        """Call `told` when the client leaves; None: nobody wants to know any more."""
        self.message_event = _NOBODY if told is None else _Leaving(self, told)
        if told is not None and self.disconnected:
            told()

    def failed(self, mistake: Exception) -> None:
        """Log it and close the connection."""
        self._protocol.logger.error("a request could not be served", exc_info=mistake)
        self.transport.close()

    def over(self) -> None:
        """The task may be forgotten. What was not answered to its end cannot be answered any more."""
        self._protocol.tasks.discard(cast("asyncio.Task[None]", self.task))
        if not self.response_complete and not self.disconnected:
            self.transport.close()


class TransportProtocol(BoundedProtocol):
    """The bounded protocol, with the short way where the application has one. No WebSockets."""

    _direct: Mapping[bytes, Direct] = _NONE
    cycle: RequestResponseCycle | DirectAnswering | None  # type: ignore[assignment]  # uvicorn's knows only its own

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A client is connected."""
        super().connection_made(transport)
        offered = getattr(self.config.app, "direct", None)
        if offered is not None:
            self._direct = cast(DirectApp, self.config.app).direct(self.server[1] if self.server else None)

    def on_message_begin(self) -> None:
        """A request begins."""
        if self.stage != FRESH:
            self.since = None
        self.stage = HEAD
        self.framing_bytes = 0
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head, or of a trailer, of which nobody is told."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin to serve a request, or let it wait behind the one that is being answered. Raises InvalidRequest."""
        parser, before = self.parser, self.cycle
        if self.much_read or len(self.headers) > self.most_headers:
            self.check_head()
        if parser.should_upgrade():
            return  # it comes again without asking for that
        self.stage = BODY
        self.since = None
        cycle: RequestResponseCycle | DirectAnswering
        path, _, query = self.url.partition(b"?")
        serve: Any = self._direct.get(path) if parser.get_method() == b"POST" else None
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        headers, self.headers = self.headers, []  # what follows are trailers, of which nobody is told
        if serve is not None:
            cycle = DirectAnswering(self, headers, query.partition(b"#")[0] if query else query, keep_alive)
        else:
            serve, cycle = self.app, self._asgi_cycle(headers, keep_alive)
        self.cycle = cycle
        if before is None or before.response_complete:
            self._serve(cycle, serve)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cast(Any, cycle), serve))

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body."""
        cycle = self.cycle
        assert cycle is not None  # noqa: S101 - the head came before
        self.framing_bytes = 0
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request has arrived."""
        if self.stage != BODY:
            return
        cycle = self.cycle
        assert cycle is not None  # noqa: S101
        if cycle.response_complete:
            self.stage = IDLE
            self.since = None
        else:
            self.stage = WHOLE
            cycle.more_body = False
            cycle.message_event.set()

    def _serve(self, cycle: RequestResponseCycle | DirectAnswering, serve: Any) -> None:
        if isinstance(cycle, DirectAnswering):
            cycle.task = task = self.loop.create_task(serve(cycle))
            self.tasks.add(task)
        else:
            self._start_asgi_task(cycle, serve)

    def _asgi_cycle(self, headers: Headers, keep_alive: bool) -> RequestResponseCycle:
        url, version = httptools.parse_url(self.url), self.parser.get_http_version()
        super().on_message_begin()  # makes the scope
        scope, path = self.scope, url.path.decode("ascii")
        scope["headers"] = headers
        scope["http_version"] = version
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        extensions: dict[str, Any] = {TRANSPORT_EXTENSION: self.transport}
        scope["extensions"] = extensions
        return RequestResponseCycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            _expects_continue(headers),
            keep_alive,
            self.on_response_complete,
        )

    def on_response_complete(self) -> None:
        """Go on to the request that waits behind, or be idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._serve(*self.pipeline.pop())
        elif self.stage == WHOLE:
            self.stage = IDLE
            self.since = None
        elif self.stage == LAST:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and what would keep this object in a circle."""
        super().connection_lost(exc)
        self.cycle = None
        self.pipeline.clear()


def _expects_continue(headers: Headers) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
