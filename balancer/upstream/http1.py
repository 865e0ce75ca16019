"""One HTTP/1.1 connection to an endpoint: bytes out, a parsed answer in (RFC 9112).

The hot path of the product. llhttp does the framing and refuses what is ambiguous in it; what it lets through and we
do not want is refused here. Everything is synchronous but `UpstreamResponse.read`. Nothing here dials, pools or
repeats an exchange.

States of a connection: idle (no response) -> `start` -> head awaited (status 0) -> body -> complete -> `release`.
Bytes in any state but the two in the middle end the connection; an answer that was complete stays good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpResponseParser

from balancer.core.errors import (
    BrokenConnection,
    CutOff,
    ProtocolError,
    StaleConnection,
    UpstreamError,
    UpstreamTimeout,
)

HEAD_LIMIT = 64 * 1024
FIELD_LIMIT = 256
BUFFER_LIMIT = 64 * 1024
_COPY_LIMIT = 64 * 1024  # bodies up to here are joined to the head: a copy is cheaper than a second system call
_GIVEN_UP = "the exchange was given up"
_CLOCK_STEP_SECONDS = 0.001  # loops round timers to this


class Owner(Protocol):
    """Who lends a connection out."""

    def made(self, connection: Connection) -> None:
        """It is connected."""

    def give_back(self, connection: Connection) -> None:
        """Its exchange is complete and it may serve another."""

    def withdraw(self, connection: Connection) -> None:
        """It serves nobody any more; its socket is being closed."""

    def lost(self, connection: Connection) -> None:
        """Its socket is closed."""


class UpstreamResponse:
    """An answer whose head has arrived. Whoever opened it must `close` it; one task reads it.

    `headers` are in the order received, names in lower case; trailers are dropped. `reused` tells whether the
    connection had served before. `complete` is set when the last byte has arrived, which may be before it was read.
    """

    __slots__ = ("_connection", "complete", "headers", "reused", "status")

    def __init__(self, connection: Connection, reused: bool) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.reused = reused
        self.complete = False
        self._connection: Connection | None = connection

    def __repr__(self) -> str:
        state = "complete" if self.complete else "closed" if self._connection is None else "running"
        return f"<UpstreamResponse {self.status}, {state}>"

    async def read(self, wake_after_seconds: float | None = None) -> bytes | None:
        """All of the body that arrived since the last call; b"" once the answer is complete and was read.

        Returns without suspending while something is buffered. None: `wake_after_seconds` passed and nothing came.
        Raises BrokenConnection, ProtocolError or UpstreamTimeout, after what arrived before was delivered.
        """
        connection = self._connection
        if connection is None:
            raise RuntimeError("read() after close()")
        chunks = connection.chunks
        if not chunks and not self.complete and connection.error is None:
            await connection.news(wake_after_seconds)
        if chunks:
            return connection.take()
        if self.complete:
            return b""
        if connection.error is not None:
            raise connection.error
        return None

    def take(self) -> bytes:
        """What of the body has arrived since the last call; after a failure, what had arrived before it."""
        if self._connection is None:
            raise RuntimeError("take() after close()")
        return self._connection.take()

    async def relay(self, sink: Callable[[bytes], bool], wake_after_seconds: float | None = None) -> bool:
        """Hand what arrives to `sink` at once, without waking the caller, for as long as it says that there is room.

        True: `read` is next, because there is no room for more, the answer ends or failed, or something is buffered;
        the last bytes of an answer never go to `sink`. False: `wake_after_seconds` passed and nothing came. `sink`
        must not raise.
        """
        connection = self._connection
        if connection is None:
            raise RuntimeError("relay() after close()")
        if connection.chunks or self.complete or connection.error is not None:
            return True
        connection.sink = sink
        try:
            await connection.news(wake_after_seconds)
            return connection.sink is None or self.complete or connection.error is not None
        finally:
            connection.sink = None

    def close(self) -> None:
        """Let go of the connection: complete, it serves the next exchange; otherwise it is cut. May be repeated."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.release(self)


class Connection(asyncio.Protocol):
    """A transport with its parser, lent out for one exchange at a time."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.chunks: list[bytes] = []
        self.error: UpstreamError | None = None
        self.sink: Callable[[bytes], bool] | None = None  # where the body goes while nobody needs to be woken for it
        self.idle_until = 0.0  # the owner's note
        # The parser calls list.append itself: no Python frame per chunk.
        self.on_body = self.chunks.append
        self._owner = owner
        self._loop = loop
        self._clock = clock
        self._transport: asyncio.Transport  # from connection_made on
        self._connected = False
        # Between exchanges the last response stands here: complete, so that whatever arrives is one byte too many.
        self._response = UpstreamResponse(self, reused=False)
        self._response.complete = True
        self._used = False
        self._reusable = False
        self._closing = False
        self._paused = False
        self._head_room = HEAD_LIMIT
        self._unread = 0
        self._unsent = 0
        self._delivered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._timeout_seconds = 0.0
        self._silent_seconds = 0.0
        self._waiting_since = 0.0
        self._wake_after_seconds: float | None = None
        self._parser = HttpResponseParser(self)

    # -- for whoever opens an exchange

    def start(self, head: bytes, body: bytes, timeout_seconds: float) -> UpstreamResponse:
        """Send a request. Wait for `news` then: the head has come once the response has a status, else see `error`."""
        response = self._response = UpstreamResponse(self, self._used)
        self._used = True
        self._head_room = HEAD_LIMIT
        self._unread = self._delivered = 0
        self._timeout_seconds = timeout_seconds
        self._silent_seconds = 0.0
        self._unsent = len(head) + len(body)
        if self._closing:
            self.error = self._cut("closed")
        elif len(body) <= _COPY_LIMIT:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return response

    def news(self, wake_after_seconds: float | None) -> asyncio.Future[None]:
        """A future, done when the head is complete, body arrived, the answer ended or failed, or the time is up."""
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("another task is reading this response")
        waiter = self._waiter = self._loop.create_future()
        now = self._waiting_since = self._clock()
        self._wake_after_seconds = wake_after_seconds
        if self.error is not None:
            waiter.set_result(None)
        elif self._timer is None or self._timer_at > self._due():
            self._set_timer(now)
        return waiter

    def failure(self) -> UpstreamError:
        """Why there is no answer."""
        return self.error or BrokenConnection(_GIVEN_UP)

    def take(self) -> bytes:
        """The buffered body; reading goes on if it was paused."""
        data = b"".join(self.chunks)
        self.chunks.clear()
        self._delivered += len(data)
        self._unread = 0
        self._silent_seconds = 0.0
        if self._paused:
            self._resume()
        return data

    def release(self, response: UpstreamResponse) -> None:
        """End of the exchange, from `UpstreamResponse.close`."""
        self.chunks.clear()
        if response.complete and self._reusable and not self._closing and not self._transport.get_write_buffer_size():
            if self._paused:
                self._resume()
            self._owner.give_back(self)
        else:
            self.abort()

    def cut(self) -> bool:
        """End a running exchange, which finds CutOff behind what arrived before; whether there was one."""
        if self._response.complete or self.error is not None:
            return False
        self._fail(CutOff())
        return True

    def abort(self) -> None:
        """Cut the connection at once, at any time; whoever waits is woken and finds an error."""
        if self.error is None and not self._response.complete:
            self.error = BrokenConnection(_GIVEN_UP)
        self._wake()
        if self._closing:
            return
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.withdraw(self)
        if self._connected:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is connected, through TLS too."""
        self._transport = cast(asyncio.Transport, transport)
        self._connected = True
        if self._closing:
            self._transport.abort()
        else:
            self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived and wake the reader once."""
        response = self._response
        if response.complete:
            self.abort()
            return
        awaiting_head = not response.status
        if awaiting_head and len(data) > self._head_room:
            self._receive_long_head(data)
            return
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._refuse(error)
            return
        if not awaiting_head:
            self._unread += len(data)
        elif response.status:
            self._unread = sum(map(len, self.chunks))
        else:
            self._head_room -= len(data)
            return
        if self.chunks or response.complete or awaiting_head:
            # Written out, since this is done for every chunk of every stream.
            if self.sink is not None and not response.complete:
                self._waiting_since = self._clock()
                if not self.sink(self.take()):
                    self.sink = None
                    self._wake()
                return
            waiter = self._waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            elif self._unread > BUFFER_LIMIT and not response.complete and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif self._unread > BUFFER_LIMIT:
            # Chunk extensions or trailers without end.
            self._fail(ProtocolError("over 64 KB of framing without content"))

    def eof_received(self) -> None:
        """The endpoint sends nothing more; what it does not read any more need not be sent either."""
        self._end("closed")

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whoever."""
        self._end("closed" if exc is None else "reset")
        self._owner.lost(self)
        del self._parser  # it knows our callbacks: without the cycle the connection is freed at once

    # -- llhttp's callbacks; on_body is set in __init__

    def on_message_begin(self) -> None:
        """Refuse an answer behind the answer."""
        if self._response.complete:
            raise ProtocolError("bytes behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field; behind the head it is a trailer and dropped."""
        response = self._response
        if not response.status:
            response.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Skip interim answers (RFC 9110, 15.2), check the framing of a final one (RFC 9112, 6.1)."""
        response = self._response
        headers = response.headers
        if len(headers) > FIELD_LIMIT:
            raise ProtocolError(f"over {FIELD_LIMIT} header fields")
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise ProtocolError(f"answered status {status:03}, which was not asked for")
            headers.clear()
            return
        self._reusable = True
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if codings:
            if len(codings) > 1 or codings[0].strip().lower() != b"chunked":
                raise ProtocolError("transfer-encoding other than chunked")
            # A coding in HTTP/1.0 is faulty framing (RFC 9112, 6.1): good for this answer, not for another.
            self._reusable = self._parser.get_http_version() != "1.0"
        response.status = status

    def on_message_complete(self) -> None:
        """The last byte of an answer, or of an interim one."""
        response = self._response
        if response.status:
            response.complete = True
            self._reusable = self._reusable and self._parser.should_keep_alive()

    # -- inside

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        if self.error is None:
            self.error = error
        self.abort()

    def _refuse(self, error: HttpParserError) -> None:
        own = error.__context__
        self._fail(own if isinstance(own, ProtocolError) else ProtocolError(f"not a valid HTTP answer: {error}"))

    def _receive_long_head(self, data: bytes) -> None:
        response, room = self._response, self._head_room
        if room:
            self.data_received(data[:room])
        if not response.status:
            self._fail(ProtocolError("response head over 64 KB"))
        elif len(data) > room:
            self.data_received(data[room:])

    def _end(self, how: str) -> None:
        response = self._response
        if not response.complete and self.error is None:
            if response.status and how == "closed" and self._ends_with_connection(response):
                response.complete = True
            else:
                self.error = self._cut(how)
        self.abort()

    @staticmethod
    def _ends_with_connection(response: UpstreamResponse) -> bool:
        return not any(name in (b"content-length", b"transfer-encoding") for name, _ in response.headers)

    def _cut(self, how: str) -> UpstreamError:
        response = self._response
        if response.status:
            length = dict(response.headers).get(b"content-length")
            of = f" of {int(length):,}" if length else ""
            return BrokenConnection(f"answer cut after {self._received():,}{of} bytes (connection {how})")
        if self._head_room < HEAD_LIMIT:
            return BrokenConnection(f"{how} the connection inside the response head")
        kind = StaleConnection if response.reused else BrokenConnection
        return kind(f"{how} the connection before answering")

    def _received(self) -> int:
        return self._delivered + sum(map(len, self.chunks))

    def _resume(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    # -- the timer: one, lazy. It is set when none is or one is set too late, and looks at the clock when it fires, so
    # that a stream that flows costs no timer at all.

    def _deadline(self) -> float:
        return self._waiting_since + self._timeout_seconds - self._silent_seconds

    def _due(self) -> float:
        """When to look again, should nothing come."""
        deadline, wake_after = self._deadline(), self._wake_after_seconds
        return deadline if wake_after is None else min(deadline, self._waiting_since + wake_after)

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due = self._due()
        self._timer = self._loop.call_later(due - now, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return  # nobody waits; the next one who does sets it again
        now = self._clock()
        if now + _CLOCK_STEP_SECONDS < self._due():
            self._set_timer(now)
            return
        is_over = now + _CLOCK_STEP_SECONDS >= self._deadline()
        self._silent_seconds += now - self._waiting_since
        if not is_over:
            waiter.set_result(None)
        elif self._is_taking_the_request_in():
            self._waiting_since, self._silent_seconds = now, 0.0
            self._wake_after_seconds = None
            self._set_timer(now)
        else:
            self._fail(self._silence())

    def _is_taking_the_request_in(self) -> bool:
        left = self._transport.get_write_buffer_size()
        progress = 0 < left < self._unsent
        self._unsent = left
        return progress

    def _silence(self) -> UpstreamTimeout:
        when = f"after {self._received():,} bytes" if self._response.status else "before answering"
        return UpstreamTimeout(f"silent for {self._timeout_seconds:g} s {when}")
