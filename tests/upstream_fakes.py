"""A connection between fakes: a transport that remembers, a loop whose time is turned by hand, an owner that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from balancer.core.errors import UpstreamError
from balancer.upstream.http1 import Connection, UpstreamResponse


class FakeTransport(asyncio.Transport):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.aborted = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def get_write_buffer_size(self) -> int:
        return self.unsent


class FakeLoop:
    """A clock and the timers that were set on it; futures belong to a real loop that never runs."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers_set = 0
        self._timers: list[tuple[asyncio.TimerHandle, Callable[[], object]]] = []
        self._real = asyncio.new_event_loop()

    def close(self) -> None:
        self._real.close()

    def as_loop(self) -> asyncio.AbstractEventLoop:
        """Itself, for signatures that want a whole loop."""
        return cast(asyncio.AbstractEventLoop, self)

    def create_future(self) -> asyncio.Future[None]:
        return self._real.create_future()

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay, callback, (), self._real)
        self._timers.append((handle, callback))
        self.timers_set += 1
        return handle

    @property
    def timers(self) -> list[tuple[asyncio.TimerHandle, Callable[[], object]]]:
        """Those that wait, the next one first."""
        waiting = [timer for timer in self._timers if not timer[0].cancelled()]
        return sorted(waiting, key=lambda timer: timer[0].when())

    def advance(self, seconds: float) -> None:
        """Let time pass; every timer that is due on the way fires."""
        end = self.now + seconds
        while (timers := self.timers) and timers[0][0].when() <= end:
            handle, callback = timers[0]
            self._timers.remove(timers[0])
            self.now = max(self.now, handle.when())
            callback()
        self.now = end


@dataclass
class FakeOwner:
    """Counts what becomes of a connection."""

    kept: int = 0
    events: list[str] = field(default_factory=list)

    def made(self, connection: Connection) -> None:
        self.events.append("made")

    def give_back(self, connection: Connection) -> None:
        self.kept += 1

    def withdraw(self, connection: Connection) -> None:
        self.events.append("withdrawn")

    def lost(self, connection: Connection) -> None:
        self.events.append("lost")


class Bench:
    """A connection between fakes."""

    def __init__(self, loop: FakeLoop) -> None:
        self.loop = loop
        self.owner = FakeOwner()
        self.transport = FakeTransport()
        self.connection = Connection(self.owner, loop.as_loop(), lambda: loop.now)
        self.connection.connection_made(self.transport)

    def start(self, body: bytes = b"", timeout_seconds: float = 10.0) -> UpstreamResponse:
        return self.connection.start(b"POST / HTTP/1.1\r\n\r\n", body, timeout_seconds)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.transport.aborted:
                self.connection.data_received(piece)

    def lose(self, error: Exception | None = None) -> None:
        self.connection.connection_lost(error)


Reading = Coroutine[Any, Any, bytes | None]


def read_all(response: UpstreamResponse) -> tuple[bytes, str]:
    """The body so far, and how it ends: complete, waiting, or the name and words of the error."""
    body = b""
    while True:
        reading = response.read()
        try:
            begin(reading).cancel()
        except StopIteration as stopped:
            if not stopped.value:
                return body, "complete"
            body += stopped.value
        except UpstreamError as error:
            return body, f"{type(error).__name__}: {error}"
        else:
            reading.close()
            return body, "waiting"


def begin(reading: Reading) -> asyncio.Future[None]:
    """Run a read up to where it waits: what it waits for. StopIteration if it does not."""
    waiting: asyncio.Future[None] = reading.send(None)
    return waiting


def finish(reading: Reading) -> bytes | None:
    """The result of a read that waited."""
    with pytest.raises(StopIteration) as stopped:
        reading.send(None)
    result: bytes | None = stopped.value.value
    return result
