"""A scripted upstream on a real socket, and a way to run a test on both event loops.

A script is a coroutine function that is given the reader and writer of one accepted connection and does with them
whatever an endpoint might do. Knows no HTTP beyond reading one request.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl as tls
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pytest
import uvloop

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RawRequest:
    """What a client sent: the head as it came, with its blank line, and the body by its content-length."""

    head: bytes
    body: bytes

    @property
    def lines(self) -> list[bytes]:
        """Request line and header lines."""
        return self.head.removesuffix(b"\r\n\r\n").split(b"\r\n")


class RawServer:
    """Runs the first script for the first connection, and so on; the last one serves all further connections.

    A connection is closed when its script ends. What a script raises fails the test, except for a lost connection.
    """

    def __init__(self, *scripts: Script, host: str = "127.0.0.1", ssl: tls.SSLContext | None = None) -> None:
        self.connections = 0  # accepted so far
        self.running = 0
        self.port = 0
        self._scripts = scripts
        self._host = host
        self._ssl = ssl
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for _ in range(3):
            await asyncio.sleep(0)  # what was accepted just now gets its script, to be ended with the others
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._failures and error is None:
            raise self._failures[0]

    @property
    def url(self) -> str:
        """The base URL without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._ssl is None else 'https'}://{host}:{self.port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._run(script, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.running += 1
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which many tests make it do
        except Exception as error:  # noqa: BLE001 - raised where the test can see it
            self._failures.append(error)
        finally:
            self.running -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> RawRequest:
    """One request; IncompleteReadError when the client closes instead."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return RawRequest(head, await reader.readexactly(length))


def says(*answers: bytes, seen: list[RawRequest] | None = None) -> Script:
    """A script: one answer for each request, the last one for all further requests. `seen` collects the requests."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        while True:
            request = await read_request(reader)
            if seen is not None:
                seen.append(request)
            writer.write(answers[min(number, len(answers) - 1)])
            number += 1

    return script


def says_and_closes(answer: bytes = b"") -> Script:
    """A script: reads one request, answers, closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)

    return script


async def stays_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A script: takes everything in and never answers."""
    while await reader.read(65536):
        pass


def resets(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answer(body: bytes = b"ok", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer with a content-length."""
    head = [b"HTTP/1.1 " + status, *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(*pieces: bytes, last: bool = True) -> bytes:
    """Chunks, with the last one and its blank line unless told otherwise."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if last else b"")


def dechunked(body: bytes) -> bytes:
    """The data of a chunked body, which must have its last chunk and nothing behind it."""
    data = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert body == b"\r\n"
            return data
        data, body = data + body[:length], body[length:].removeprefix(b"\r\n")


async def eventually(condition: Callable[[], object], within_seconds: float = 15.0) -> None:
    """Wait until the condition holds; fails the test when it does not."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "condition never held"
        await asyncio.sleep(0.001)


def both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on asyncio and on uvloop; what a loop's exception handler is told fails it.

    The innermost decorator: marks go above it.
    """

    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: object) -> None:
        told: list[dict[str, Any]] = []

        def tell(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            # Debug mode reports the server's side of every handshake that the client gave up.
            if "incoming connection" not in context["message"]:
                told.append(context)

        async def observed() -> None:
            asyncio.get_running_loop().set_exception_handler(tell)
            async with asyncio.timeout(20):
                await test(**fixtures)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(observed())
        assert told == []

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    first = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), first], return_annotation=None
    )
    loops = [asyncio.SelectorEventLoop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", loops, ids=["asyncio", "uvloop"])(run)
