"""The server side of one HTTP/1.1 connection to a fake backend: parses requests, plays scripts.

There are no tasks: a script that has to wait leaves a timer, which dies with its connection. What to answer is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol, cast
from urllib.parse import unquote

import httptools

from load_tester.fake_answers import Request
from load_tester.fake_faults import Ending, Step
from load_tester.fake_stats import MAX_WRITES, Stats, Timing

MAX_HEAD_BYTES = 2**20
MAX_BODY_BYTES = 64 * 2**20
MAX_PIPELINED = 64
CONTROL_PATH = "/_fake/"
# Linger on, zero seconds: closing then sends a reset instead of an orderly end.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Stage(Protocol):
    """What a connection needs of the backend it belongs to."""

    @property
    def stats(self) -> Stats:
        """Where tokens, requests in flight and disconnects are counted."""

    def respond(self, request: Request) -> Iterator[Step]:
        """The script that answers the request."""

    def slowdown(self) -> float:
        """The factor on all waits under the present load."""

    def closed(self, connection: Connection) -> None:
        """Told once, when the connection is gone."""


class Connection(asyncio.Protocol):
    """One client. Requests are answered in their order; the client leaving ends the script at once."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._write_paused = False
        self._waiting: deque[Request] = deque()
        self._script: Iterator[Step] | None = None
        self._counted = False
        self._timing = Timing("", 0)
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self.on_message_begin()

    def abort(self) -> None:
        """Drops the connection, whatever it is doing."""
        self._settle()
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def close_when_idle(self) -> None:
        """Closes behind the answer in hand, at once when there is none."""
        self._closing = True
        if self._script is None and self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # Not asserted: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._closing:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop. An answer still in hand then is one the client did not wait for."""
        if self._script is not None and self._counted:
            self._stage.stats.disconnects += 1
        self._settle()
        self._closing = True
        self._waiting.clear()
        self._stage.closed(self)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a fault of this program, not of the client
        except httptools.HttpParserUpgrade:
            self.close_when_idle()  # no upgrade is offered, and the parser reads no further
        except httptools.HttpParserError:
            self._refuse("400 Bad Request")

    def pause_writing(self) -> None:
        """Called by the event loop: the client reads more slowly than the script writes."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Called by the event loop."""
        self._write_paused = False
        self._advance()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._headers.get("expect", "").lower() == "100-continue" and self._script is None:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refuse("413 Content Too Large")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._closing:
            return
        parser = self._parser
        request = Request(
            method=parser.get_method().decode("latin-1"),
            path=unquote(self._url.partition(b"?")[0].decode("latin-1")),
            headers=self._headers,
            body=b"".join(self._body),
            keep_alive=parser.should_keep_alive(),
            chunked=parser.get_http_version() == "1.1",
        )
        if self._script is None and not self._waiting:
            self._start(request)
        elif len(self._waiting) < MAX_PIPELINED:
            self._waiting.append(request)
        else:
            self.close_when_idle()

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("431 Request Header Fields Too Large")

    def _refuse(self, status: str) -> None:
        """The answer to what is not a request we read to its end; after it the connection closes."""
        if not self._closing and self._script is None:
            self._write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        self.close_when_idle()

    def _start(self, request: Request) -> None:
        self._counted = not request.path.startswith(CONTROL_PATH)
        if self._counted:
            self._stage.stats.count(request)
            self._timing = Timing(request.headers.get("x-request-id", ""), time.perf_counter_ns())
            self._stage.stats.timings.append(self._timing)
        self._due_at = self._loop.time()
        # Not idle from here on, should the answer itself be to close the port.
        self._script = iter(())
        self._script = self._stage.respond(request)
        self._advance()

    def _advance(self) -> None:
        """Plays the script until it waits, ends, or the client is too slow."""
        while self._script is not None and self._timer is None and not self._write_paused:
            step = next(self._script, None)
            if step is None:
                self._finish()
            elif step.wait_seconds is None:
                self._perform(step)
            else:
                # Times add up from the start of the answer, so that late timers do not slow the whole down.
                self._due_at += step.wait_seconds * self._stage.slowdown()
                self._timer = self._loop.call_at(self._due_at, self._on_time, step)

    def _on_time(self, step: Step) -> None:
        self._timer = None
        self._perform(step)
        self._advance()

    def _perform(self, step: Step) -> None:
        if step.data:
            if step.completion_tokens and self._counted and len(self._timing.written_ns) < MAX_WRITES:
                self._timing.written_ns.append(time.perf_counter_ns())
            self._write(step.data)
        self._stage.stats.prompt_tokens += step.prompt_tokens
        self._stage.stats.completion_tokens += step.completion_tokens
        if step.ending is None:
            return
        self._settle()
        self._closing = True
        if self._transport is not None:
            if step.ending is Ending.RESET:
                self._transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
                )
                self._transport.abort()
            else:
                self._transport.close()

    def _finish(self) -> None:
        self._settle()
        if self._closing:
            self.close_when_idle()
        elif self._waiting:
            # Not from here: a long queue would nest as many calls.
            self._loop.call_soon(self._start_next)

    def _start_next(self) -> None:
        if self._waiting and self._script is None and not self._closing:
            self._start(self._waiting.popleft())

    def _settle(self) -> None:
        """Counts the request in hand out, exactly once however it ends."""
        if self._script is not None and self._counted:
            self._stage.stats.inflight -= 1
        self._script = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
