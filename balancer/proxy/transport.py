"""uvicorn's HTTP/1.1 protocol, with a way to a client's transport that ASGI has no words for.

ASGI sends the head of an answer and the beginning of its body apart, and each piece from a task that must be woken for
it. That costs more than the pieces: so an answer may begin with one write, and go on without the task. Besides, an
answer that broke must be cut, and a client that takes nothing dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from balancer.wire.openai import error_body

_EXTENSION = "balancer.answering"
_CLOCK_STEP_SECONDS = 0.001  # loops round timers to this


class Answering(RequestResponseCycle):
    """One request while it is answered.

    `begin`, `write` and `end` are for answers of which `send` is given nothing before. They never wait: ask `has_room`
    first, and where there is none let `send` do it, which waits. A client that has left gets nothing.
    """

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        return not self.flow.write_paused

    def take_body(self) -> bytes | None:
        """The whole body of the request if it has arrived, with nothing left for `receive` but the client's leaving.

        None: ask `receive`.
        """
        if self.more_body or self.disconnected or self.waiting_for_100_continue:
            return None
        self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return body

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, more_body: bool) -> None:
        """Send the head and what there is of the body in one write.

        `headers` are valid, with names in lower case, without connection and transfer-encoding. Where they do not tell
        the length of the body, it is sent in chunks (RFC 9112 section 6.3).
        """
        if self.disconnected:
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = status != 204
        pieces = [STATUS_LINE[status]]
        for name, value in headers:
            pieces += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
        if not self.keep_alive:
            pieces.append(b"connection: close\r\n")
        pieces.append(b"transfer-encoding: chunked\r\n\r\n" if self.chunked_encoding else b"\r\n")
        self._put(pieces, body, more_body=more_body)

    def write(self, body: bytes) -> bool:
        """Send a piece of the body in chunked coding; returns whether there is room for more."""
        if body and not self.transport.is_closing():
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return not self.flow.write_paused

    def end(self, body: bytes) -> None:
        """Send the last piece of the body, which may be empty."""
        if not self.disconnected:
            self._put([], body, more_body=False)

    def _put(self, pieces: list[bytes], body: bytes, *, more_body: bool) -> None:
        if self.chunked_encoding:
            if body:
                pieces += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more_body:
                pieces.append(b"0\r\n\r\n")
        else:
            pieces.append(body)
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more_body):
                raise RuntimeError("the body is not as long as its head says")
        self.transport.write(b"".join(pieces))
        if not more_body:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


def answering_of(scope: Scope) -> Answering | None:
    """The request as our protocol keeps it; None on another server."""
    answering: Answering | None = (scope.get("extensions") or {}).get(_EXTENSION)
    return answering


class TransportProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose requests are `Answering`. Neither WebSockets nor a limit of connections."""

    _idle_since: float | None = None  # by the loop's clock; None while a request runs or arrives

    def on_headers_complete(self) -> None:
        """Begin to serve a request, or let it wait behind the one that is being answered."""
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = answering = Answering(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and parser.should_keep_alive(),
            self.on_response_complete,
        )
        extensions: dict[str, Any] = {_EXTENSION: answering}
        scope["extensions"] = extensions
        if before is None or before.response_complete:
            self._start_asgi_task(answering, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((answering, self.app))

    # The timer of an idle connection: one that is set while none is, and looks when it fires whether it is idle and
    # since when. To set and cancel one for each request would cost as much as its framing.

    def on_response_complete(self) -> None:
        """Go on to the request that waits behind, or be idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            answering, app = self.pipeline.pop()
            self._start_asgi_task(answering, app)
            return
        self._idle_since = now = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_at(now + self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; so is the timer."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for too long."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None or self.transport.is_closing():
            return  # the end of the request that runs sets the timer again
        due = self._idle_since + self.timeout_keep_alive
        if due - self.loop.time() > _CLOCK_STEP_SECONDS:
            self._look_at(due)
        else:
            self.transport.close()

    def _look_at(self, when: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_at(when, self.timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP in the envelope that clients of this port can read, and close."""
        body = error_body("the request is not valid HTTP/1.1", error_type="invalid_request_error", code="bad_http")
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()
