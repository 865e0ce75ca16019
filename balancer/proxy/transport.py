"""The client's transport as the server's protocol sees it, able to join writes.

A server writes the head of an answer and the beginning of its body apart. In one write they cost half the system calls
and packets; ASGI has no words for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


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
