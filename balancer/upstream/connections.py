"""Keep-alive connections of the data plane, a pool per endpoint.

Owns every socket toward the endpoints: makes them, lends each for one exchange, keeps it idle for a while, closes it.
Decides nothing about routing and never repeats a request at another endpoint.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from balancer.core.endpoints import Endpoint
from balancer.core.errors import ConnectError, CutOff, StaleConnection
from balancer.upstream.dialing import Dialer
from balancer.upstream.http1 import Connection, UpstreamResponse
from balancer.upstream.targets import Proxies, Target, target_of

_NOTHING: Mapping[str, str] = MappingProxyType({})
_PATH = re.compile(rb"/[!-~\x80-\xff]*")
_KEY = re.compile(r"[ -~]*")
_METHODS_WITHOUT_BODY = frozenset((b"GET", b"DELETE", b"OPTIONS"))
# Queries come from clients: there may be any number of paths.
_MOST_BEGINNINGS = 16


class Connections:
    """The HTTP/1.1 client of the data plane. Serves one event loop.

    At most `max_keepalive` idle connections are kept per endpoint, for `keepalive_expiry_seconds`: less than servers
    keep theirs (uvicorn 5 s). `connect_timeout_seconds` covers name, TCP, proxy and TLS together. `environ` holds the
    proxy variables. `ca_file` replaces the system's certificate authorities. `allow_link_local`: endpoints may be at
    link-local addresses and those of cloud metadata. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        *,
        max_keepalive: int = 200,
        connect_timeout_seconds: float = 5.0,
        keepalive_expiry_seconds: float = 4.0,
        environ: Mapping[str, str] = _NOTHING,
        ca_file: str | None = None,
        allow_link_local: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_keepalive = max_keepalive
        self._keepalive_expiry_seconds = keepalive_expiry_seconds
        self._clock = clock
        self._dialer = Dialer(
            connect_timeout_seconds=connect_timeout_seconds, ca_file=ca_file, allow_link_local=allow_link_local
        )
        self._proxies = Proxies(environ)
        self._pools: dict[int, _Pool] = {}
        self._open: dict[Connection, _Pool] = {}
        self._dialing: dict[asyncio.Timeout, int] = {}  # for which endpoint
        self._all_lost = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        idle = sum(len(pool.idle) for pool in self._pools.values())
        return f"<Connections: {len(self._open)} open, {idle} idle>"

    async def open(
        self, endpoint: Endpoint, path: bytes, headers: bytes, body: bytes, *, method: bytes = b"POST"
    ) -> UpstreamResponse:
        """Send a request; return when the head of its answer is complete. The caller closes the response.

        `path` starts with a slash and is appended to the path of the base URL. `headers` are whole lines, each ending
        in CRLF, without host, content-length, authorization and connection. `method` is any but HEAD and CONNECT.
        Raises ConnectError, BrokenConnection, ProtocolError, UpstreamTimeout or CutOff. A reused connection that dies
        before any byte of the answer is replaced by a fresh one, once.
        """
        pool = self._pools.get(endpoint.id)
        if pool is None or pool.endpoint is not endpoint:
            pool = self._pool_for(endpoint)
        head = pool.request_head(method, path, headers, len(body))
        connection = pool.take()
        while True:
            if connection is None:
                connection = await self._connect(pool)
            response = connection.start(head, body, endpoint.timeout)
            try:
                await connection.news(None)
            except BaseException:
                connection.abort()
                raise
            if response.status:
                return response
            error = connection.failure()
            if not isinstance(error, StaleConnection):
                raise error
            connection = None

    def forget(self, endpoint_id: int) -> None:
        """Close the idle connections of a removed endpoint; what runs finishes and is closed then."""
        pool = self._pools.pop(endpoint_id, None)
        if pool is not None:
            pool.retire()

    def cut(self, endpoint_id: int) -> int:
        """End every exchange with that endpoint, also those begun when it had another address; how many there were.

        Whoever opens or reads one finds CutOff, behind what had arrived.
        """
        dialing = [attempt for attempt, endpoint in self._dialing.items() if endpoint == endpoint_id]
        for attempt in dialing:
            attempt.reschedule(0)  # a time that has passed: it ends at once
        running = [connection for connection, pool in self._open.items() if pool.endpoint.id == endpoint_id]
        return len(dialing) + sum(connection.cut() for connection in running)

    async def close(self) -> None:
        """Close what is idle, cut what runs, refuse what comes, and wait until every socket is closed."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_lost.clear()
            await self._all_lost.wait()

    def _note_made(self, connection: Connection, pool: _Pool) -> None:
        """A socket was opened."""
        self._open[connection] = pool

    def _note_lost(self, connection: Connection) -> None:
        """A socket was closed."""
        self._open.pop(connection, None)
        if not self._open:
            self._all_lost.set()

    def _note_idle(self) -> None:
        """Something became idle: one timer for all of them."""
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._keepalive_expiry_seconds, self._sweep)

    def _pool_for(self, endpoint: Endpoint) -> _Pool:
        pool = self._pools.get(endpoint.id)
        if pool is not None and not pool.leads_to(endpoint):
            self.forget(endpoint.id)
            pool = None
        if pool is None:
            pool = _Pool(self, endpoint, target_of(endpoint.base_url, self._proxies))
            self._pools[endpoint.id] = pool
        else:
            pool.adopt(endpoint)
        return pool

    async def _connect(self, pool: _Pool) -> Connection:
        connection = Connection(pool, asyncio.get_running_loop(), self._clock)
        try:
            self._refuse_when_closed()
            await self._dial(pool, connection)
            self._refuse_when_closed()
        except BaseException:
            connection.abort()
            # uvloop closes the socket of a cancelled attempt without telling the protocol.
            self._note_lost(connection)
            raise
        return connection

    async def _dial(self, pool: _Pool, connection: Connection) -> None:
        try:
            async with asyncio.timeout(None) as attempt:
                self._dialing[attempt] = pool.endpoint.id
                try:
                    await self._dialer.dial(pool.target, pool.endpoint.verify_tls, connection)
                finally:
                    del self._dialing[attempt]
        except TimeoutError:
            raise CutOff from None

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ConnectError("the balancer is shutting down")

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._clock()
        soonest = None
        for pool in self._pools.values():
            until = pool.expire(now)
            if until is not None and (soonest is None or until < soonest):
                soonest = until
        if soonest is not None:
            self._sweeper = asyncio.get_running_loop().call_later(soonest - now, self._sweep)


class _Pool:
    """One endpoint's connections and the bytes its requests begin with. Owner of its `Connection`s."""

    __slots__ = ("_beginnings", "_home", "_lines", "_prefix", "_retired", "endpoint", "idle", "target")

    def __init__(self, home: Connections, endpoint: Endpoint, target: Target) -> None:
        self.target = target
        self.idle: list[Connection] = []  # the longest idle first
        self._home = home
        self._retired = False
        self._prefix = target.request_prefix
        self.adopt(endpoint)

    def leads_to(self, endpoint: Endpoint) -> bool:
        """Whether that configuration is reached by these connections."""
        return (self.endpoint.base_url, self.endpoint.verify_tls) == (endpoint.base_url, endpoint.verify_tls)

    def adopt(self, endpoint: Endpoint) -> None:
        """Take a new configuration of the same origin over: the key may differ. Raises ConnectError."""
        if _KEY.fullmatch(endpoint.api_key) is None:
            raise ConnectError("api_key: holds characters that cannot be sent")
        lines = [b" HTTP/1.1\r\nhost: ", self.target.authority, b"\r\n"]
        if endpoint.api_key:
            lines += [b"authorization: Bearer ", endpoint.api_key.encode(), b"\r\n"]
        proxy = self.target.proxy
        if proxy is not None and proxy.authorization and not self.target.tls:
            lines += [b"proxy-authorization: ", proxy.authorization, b"\r\n"]
        self._lines = b"".join(lines)
        self._beginnings: dict[bytes, bytes] = {}  # of the first paths that were asked for
        self.endpoint = endpoint

    def request_head(self, method: bytes, path: bytes, headers: bytes, length: int) -> bytes:
        """The bytes before the body. ValueError for a path or method that cannot be sent."""
        beginning = self._beginnings.get(path) if method == b"POST" else None
        if beginning is None:
            beginning = self._begin(method, path)
        if not length and method in _METHODS_WITHOUT_BODY:
            return b"%b%b\r\n" % (beginning, headers)
        return b"%b%bcontent-length: %d\r\n\r\n" % (beginning, headers, length)

    def _begin(self, method: bytes, path: bytes) -> bytes:
        if _PATH.fullmatch(path) is None:
            raise ValueError("path must start with a slash and hold neither blanks nor control characters")
        if method in (b"HEAD", b"CONNECT"):
            raise ValueError(f"method {method.decode()} is not supported")
        beginning = b"".join((method, b" ", self._prefix, path, self._lines))
        if method == b"POST" and len(self._beginnings) < _MOST_BEGINNINGS:
            self._beginnings[path] = beginning
        return beginning

    def take(self) -> Connection | None:
        """The connection that was used last, unless it is too old."""
        if not self.idle:
            return None
        now = self._home._clock()
        if self.idle[-1].idle_until > now:
            return self.idle.pop()
        self.expire(now)
        return None

    def expire(self, now: float) -> float | None:
        """Close what was idle for too long; when the next is due, None if none is left."""
        idle = self.idle
        while idle and idle[0].idle_until <= now:
            idle[0].abort()
        return idle[0].idle_until if idle else None

    def retire(self) -> None:
        """Close what is idle now, and what runs as soon as it is done."""
        self._retired = True
        for connection in tuple(self.idle):
            connection.abort()

    # -- http1.Owner

    def made(self, connection: Connection) -> None:
        """Count it in."""
        self._home._note_made(connection, self)

    def lost(self, connection: Connection) -> None:
        """Count it out."""
        self._home._note_lost(connection)

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next exchange if there is room."""
        if self._retired or len(self.idle) >= self._home._max_keepalive:
            connection.abort()
            return
        connection.idle_until = self._home._clock() + self._home._keepalive_expiry_seconds
        self.idle.append(connection)
        self._home._note_idle()

    def withdraw(self, connection: Connection) -> None:
        """It is being closed: nobody may take it any more."""
        if connection in self.idle:
            self.idle.remove(connection)
