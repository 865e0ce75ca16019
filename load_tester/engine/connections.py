"""Connections of the load tester: those of the data plane, with a stamp on everything that arrives.

One pool serves one card: one pinned target, one key. Connections are kept open between requests.
"""

from __future__ import annotations

import asyncio
import re
import time

from balancer.core.errors import ConnectError
from balancer.upstream.dialing import Dialer
from balancer.upstream.http1 import Connection
from balancer.upstream.targets import Target
from load_tester.engine.answers import CUT
from load_tester.errors import BadInput

_KEY = re.compile(r"[ -~]*")
# Servers close idle connections after 5 s and more.
_IDLE_SECONDS = 4.0
# A shorter beginning of a key tells nothing, and may be anything else.
_SHORTEST_PART = 4


class StampedConnection(Connection):
    """Notes the time of arrival before the parser sees the bytes. `heard_ns`: when something last came."""

    def __init__(self, owner: ConnectionPool, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(owner, loop, time.monotonic)
        self.heard_ns = 0
        self._arrivals: list[tuple[int, int]] = []

    def data_received(self, data: bytes) -> None:
        """Stamp, then parse."""
        at_ns = self.heard_ns = time.perf_counter_ns()
        chunks = self.chunks
        before = len(chunks)
        super().data_received(data)
        if len(chunks) > before:
            self._arrivals.append((at_ns, len(chunks)))

    def take_stamped(self) -> list[tuple[int, bytes]]:
        """The buffered body by time of arrival; reading goes on if it was paused."""
        arrivals = self._arrivals
        if len(arrivals) == 1:
            stamped = [(arrivals[0][0], self.take())]
        else:
            parts, stamped, start = list(self.chunks), [], 0
            self.take()
            for at_ns, end in arrivals:
                stamped.append((at_ns, b"".join(parts[start:end])))
                start = end
        arrivals.clear()
        return stamped

    def forget_arrivals(self) -> None:
        """A new exchange begins."""
        self._arrivals.clear()


class ConnectionPool:
    """The connections to one target. `opened` counts those made; serves one event loop."""

    def __init__(
        self, target: Target, *, key: str = "", verify_tls: bool = True, connect_timeout_seconds: float = 10.0
    ) -> None:
        if _KEY.fullmatch(key) is None:
            raise BadInput("api_key", "holds characters that cannot be sent in a header")
        self.opened = 0
        self._key = key
        self._target = target
        self._verify_tls = verify_tls
        self._dialer = Dialer(connect_timeout_seconds=connect_timeout_seconds)
        authorization = b"authorization: Bearer %b\r\n" % key.encode() if key else b""
        self._lines = b" HTTP/1.1\r\nhost: %b\r\n%b" % (target.authority, authorization)
        self._prefix = target.request_prefix
        self._idle: list[tuple[float, StampedConnection]] = []
        self._open: set[Connection] = set()
        self._all_lost = asyncio.Event()
        self._closed = False

    def head(self, method: bytes, path: bytes, headers: bytes, length: int) -> bytes:
        """The bytes before the body. `headers` are whole lines."""
        ending = b"content-length: %d\r\n\r\n" % length if method == b"POST" else b"\r\n"
        return b"".join((method, b" ", self._prefix, path, self._lines, headers, ending))

    def without_key(self, text: str) -> str:
        """What a target says, without the key: some repeat it, and what is said is kept. Also where it was cut off."""
        key = self._key
        if not key:
            return text
        text = text.replace(key, "***")
        if text.endswith(CUT):
            words = text.removesuffix(CUT)
            for length in range(min(len(key), len(words)), _SHORTEST_PART - 1, -1):
                if words.endswith(key[:length]):
                    return f"{words[:-length]}***{CUT}"
        return text

    def take(self) -> StampedConnection | None:
        """The connection that was used last, unless it is too old."""
        fresh_since = time.monotonic() - _IDLE_SECONDS
        while self._idle:
            since, connection = self._idle.pop()
            if since >= fresh_since:
                return connection
            connection.abort()
        return None

    async def connect(self) -> StampedConnection:
        """A new connection. Raises ConnectError."""
        connection = StampedConnection(self, asyncio.get_running_loop())
        try:
            await self._dialer.dial(self._target, self._verify_tls, connection)
            if self._closed:
                raise ConnectError("the run is over")
        except BaseException:
            connection.abort()
            # uvloop closes the socket of a cancelled attempt without telling the protocol.
            self.lost(connection)
            raise
        self.opened += 1
        return connection

    async def close(self) -> None:
        """Cut everything; return when every socket is closed."""
        self._closed = True
        self._idle.clear()
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_lost.clear()
            await self._all_lost.wait()

    # -- http1.Owner

    def made(self, connection: Connection) -> None:
        """Count it in."""
        self._open.add(connection)

    def lost(self, connection: Connection) -> None:
        """Count it out."""
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next request."""
        if self._closed or not isinstance(connection, StampedConnection):
            connection.abort()
        else:
            self._idle.append((time.monotonic(), connection))

    def withdraw(self, connection: Connection) -> None:
        """It is being closed: nobody may take it any more."""
        self._idle = [entry for entry in self._idle if entry[1] is not connection]
