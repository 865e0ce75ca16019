"""What ASGI has no words for: writes that leave as one, and pieces of a stream that wake no task.

A server writes the head of an answer and the beginning of its body apart; in one write they cost half the system calls
and packets. And it takes each further piece from a task, which must be woken for it; that costs more than the piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class JoiningTransport:
    """Stands in for the `transport` of a protocol that serves HTTP.

    From `hold` to `let_go` writes are kept, then they leave as one. For a moment only: the transport knows nothing of
    what is kept.
    """

    __slots__ = (
        "_close",
        "_kept",
        "_write",
        "abort",
        "get_extra_info",
        "get_write_buffer_size",
        "is_closing",
        "pause_reading",
        "resume_reading",
        "set_protocol",
        "set_write_buffer_limits",
        "write",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        # Methods are taken over as they are: no frame of ours per call, least of all per write.
        self.write: Callable[[bytes], None] = transport.write
        self._write = transport.write
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol
        self.set_write_buffer_limits = transport.set_write_buffer_limits
        self._close = transport.close
        self._kept: list[bytes] = []

    def hold(self) -> None:
        """Keep what is written from now on."""
        self.write = self._kept.append

    def let_go(self) -> None:
        """Write what was kept; from now on write at once. May be called at any time."""
        self.write = self._write
        if self._kept:
            self._write(b"".join(self._kept))
            self._kept.clear()

    def close(self) -> None:
        """Close behind everything written, also what is kept."""
        self.let_go()
        self._close()


class Flow(Protocol):
    """How a server's protocol notes whether its transport has room."""

    write_paused: bool


class Answering(Protocol):
    """A request as the server's protocol keeps it while it is answered."""

    transport: asyncio.Transport
    flow: Flow
    chunked_encoding: bool | None


class Outlet:
    """Takes pieces of a body straight to the client. For answers in the chunked coding whose head was sent."""

    __slots__ = ("_flow", "_is_closing", "_write")

    def __init__(self, answering: Answering) -> None:
        self._flow = answering.flow
        self._is_closing = answering.transport.is_closing
        self._write = answering.transport.write

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent; otherwise the next message to the server will wait for it."""
        return not self._flow.write_paused

    def write(self, body: bytes) -> bool:
        """Send a piece, which must not be empty; returns whether there is room for more. Who has left gets nothing."""
        if not self._is_closing():
            self._write(b"%x\r\n%b\r\n" % (len(body), body))
        return not self._flow.write_paused
