"""The open connections of clients: how many there may be, and how long each may keep us waiting.

One timer looks at all of them. A timer for each request would cost as much as its framing, and no such limit needs to
be kept to the second.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from balancer.core.errors import TooManyConnections
from balancer.guesses import origin_of

logger = logging.getLogger("balancer.clients")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LONGEST_STEP_SECONDS = 1.0
# The shortest limit is looked at so often within its time.
_LOOKS = 4
_QUIET_SECONDS = 60.0
# So many of those that are turned away may read why; beyond them, they are closed at once.
_MOST_LEAVING = 100


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What clients may do to connections. 0 connections: any number.

    `header_timeout_seconds` is for the whole head of a request, from the first byte of it or, on a new connection, from
    its beginning; `body_timeout_seconds` for silence inside a body; `keep_alive_seconds` for silence between requests;
    `write_timeout_seconds` for taking nothing of the last answer; `leaving_seconds` for reading a refusal.
    `header_bytes` counts the request line and all fields, `headers` the fields.
    """

    header_timeout_seconds: float = 30.0
    body_timeout_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
    write_timeout_seconds: float = 60.0
    leaving_seconds: float = 1.0
    header_bytes: int = 65_536
    headers: int = 200
    connections: int = 0
    connections_per_client: int = 0


class Connection(Protocol):
    """A connection as its reception sees it."""

    def look(self, now: float) -> None:
        """Give up on a client that has kept us waiting for too long; `now` by the loop's clock."""


class Reception:
    """Counts connections in and out, turns away those that are too many, and looks at all of them about each second.

    `exempt` are networks of proxies, behind each of which there may be any number of clients. `refused` and `given_up`
    count what was turned away, and what was closed because the client kept us waiting, by why.
    """

    def __init__(self, limits: ClientLimits | None = None, exempt: Sequence[Network] = ()) -> None:
        self.limits = limits or ClientLimits()
        self.refused: Counter[str] = Counter(total=0, client=0)
        self.given_up: Counter[str] = Counter(head=0, body=0)
        self._exempt = tuple(exempt)
        self._open: dict[Connection, str] = {}  # with whom it counts for
        self._by_client: Counter[str] = Counter()
        self._leaving: set[Connection] = set()
        self._told: dict[str, tuple[float, int]] = {}
        self._timer: asyncio.TimerHandle | None = None
        limits = self.limits
        shortest = min(limits.header_timeout_seconds, limits.body_timeout_seconds, limits.keep_alive_seconds)
        self._step_seconds = min(_LONGEST_STEP_SECONDS, limits.leaving_seconds, shortest / _LOOKS)

    def __repr__(self) -> str:
        return f"<Reception: {self.open} connections>"

    @property
    def open(self) -> int:
        """Connections that are served."""
        return len(self._open)

    def enter(self, connection: Connection, address: str | None, loop: asyncio.AbstractEventLoop) -> None:
        """Count a connection in. `address` is the other end's, None where it has none.

        Raises TooManyConnections. Then it is counted as `leaving`, and is to be told so unless `crowded`.
        """
        limits, client = self.limits, self._client_of(address)
        if self._timer is None:
            self._timer = loop.call_later(self._step_seconds, self._look_around, loop)
        if limits.connections and self.open >= limits.connections:
            self._turn_away(connection, "total", f"{self.open} connections are open", loop.time)
        if client and self._by_client[client] >= limits.connections_per_client:
            self._turn_away(connection, "client", f"{client} has {limits.connections_per_client} open", loop.time)
        self._open[connection] = client
        if client:
            self._by_client[client] += 1

    def leave(self, connection: Connection) -> None:
        """Count a connection out."""
        self._leaving.discard(connection)
        client = self._open.pop(connection, "")
        if client:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    @property
    def crowded(self) -> bool:
        """Whether too many are leaving for another one to be told why."""
        return len(self._leaving) > _MOST_LEAVING

    def gave_up(self, waiting_for: str, client: str, now: float) -> None:
        """Note that a connection was closed because `waiting_for` ("head" or "body") did not come."""
        self.given_up[waiting_for] += 1
        self._tell(
            waiting_for, f"a connection of {client} was closed: the {waiting_for} of its request did not come", now
        )

    def _client_of(self, address: str | None) -> str:
        """Whom a connection counts for; empty when for nobody."""
        if not self.limits.connections_per_client or address is None:
            return ""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return ""
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return "" if any(parsed in network for network in self._exempt) else origin_of(address)

    def _turn_away(self, connection: Connection, why: str, words: str, clock: Callable[[], float]) -> None:
        self.refused[why] += 1
        self._leaving.add(connection)
        setting = "LB_MAX_CLIENT_CONNECTIONS" if why == "total" else "LB_MAX_CONNECTIONS_PER_CLIENT"
        self._tell(why, f"a connection was refused: {words} ({setting})", clock())
        raise TooManyConnections()

    def _tell(self, why: str, words: str, now: float) -> None:
        at, left_out = self._told.get(why, (-math.inf, 0))
        if now - at < _QUIET_SECONDS:
            self._told[why] = (at, left_out + 1)
            return
        self._told[why] = (now, 0)
        more = f"; {left_out} more since the last such line" if left_out else ""
        logger.warning("%s%s", words, more, extra={"fields": {"event": "client_connection", "reason": why}})

    def _look_around(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in (*self._open, *self._leaving):
            connection.look(now)
        self._timer = None
        if self._open or self._leaving:
            self._timer = loop.call_later(self._step_seconds, self._look_around, loop)
