"""A connection of a client within bounds: how long it may keep us waiting, how long heads may be, which protocols it
may ask for. What goes beyond them is refused in the envelope that clients of this port can read.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from balancer.core.errors import BalancerError, InvalidRequest, TooManyConnections
from balancer.proxy.reception import ClientLimits, Reception
from balancer.wire.openai import answer_for

# What a connection waits for.
FRESH = 0  # the first byte on it
IDLE = 1  # another request
HEAD = 2  # the rest of a head
BODY = 3  # the rest of a body
WHOLE = 4  # our answer
LAST = 5  # our last answer: what else comes is not read
LEAVING = 6  # the client's leaving: it was refused


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which keeps the limits of a `Reception`; without one, a connection has one for itself.

    Whoever inherits says at which `stage` the connection is, with `since` None wherever the waiting begins anew, and
    sets `framing_bytes` to 0 where a head begins and with each piece of a body.
    """

    # Beyond thirty attributes in its dictionary, every access to an object's attributes is slower.
    __slots__ = (
        "_limits",
        "_most_header_bytes",
        "_patience_seconds",
        "_reception",
        "_unsent_bytes",
        "framing_bytes",
        "most_headers",
        "much_read",
        "refusal",
        "since",
        "stage",
    )

    def __init__(self, *arguments: Any, reception: Reception | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reception = reception or Reception(ClientLimits(keep_alive_seconds=self.timeout_keep_alive))
        self._limits = limits = self._reception.limits
        self.stage = FRESH
        self.since: float | None = None  # when it was first seen to wait, None: not seen yet
        self._patience_seconds = (
            limits.header_timeout_seconds,
            limits.keep_alive_seconds,
            limits.header_timeout_seconds,
            limits.body_timeout_seconds,
            math.inf,
            math.inf,
            limits.leaving_seconds,
        )
        self._most_header_bytes = limits.header_bytes
        self.most_headers = limits.headers
        self.framing_bytes = 0  # read since the beginning of a head or the last piece of a body, while it is not whole
        self.much_read = False
        self.refusal: BalancerError | None = None
        self._unsent_bytes = -1

    # -- what the event loop says --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Take a client in, or tell it that there are too many."""
        super().connection_made(transport)
        try:
            self._reception.enter(self, self.client[0] if self.client else None, self.loop)
        except TooManyConnections as error:
            if self._reception.crowded:
                self.stage = LEAVING
                transport.abort()
            else:
                self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        self._reception.leave(self)

    def data_received(self, data: bytes) -> None:
        """Read what came of requests."""
        if self.stage >= LAST:
            return
        if self.stage == BODY:
            self.since = None
        self.framing_bytes += len(data)
        if self.framing_bytes > self._most_header_bytes:
            self.much_read = True
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._stay_with_http1(data, upgrade.args[0])
        except (httptools.HttpParserError, InvalidRequest) as error:
            self._refuse(_reason(error))
        if self.much_read:
            self.much_read = False
            if self.framing_bytes > self._most_header_bytes and self.stage in (HEAD, BODY):
                self._refuse(self._too_long())

    def look(self, now: float) -> None:
        """Give up on a client that has kept us waiting for too long; its reception calls this from time to time."""
        if self.transport.is_closing():
            self._look_at_the_unsent(now)
        elif self.since is None or self.flow.read_paused:
            self.since = now
        elif now - self.since >= self._patience_seconds[self.stage]:
            self._give_up(now)

    def _look_at_the_unsent(self, now: float) -> None:
        # Closing waits for the client to take what was written; one that takes nothing would keep it open for ever.
        unsent = self.transport.get_write_buffer_size()
        if self.since is None or unsent != self._unsent_bytes:
            self.since, self._unsent_bytes = now, unsent
        elif now - self.since >= self._limits.write_timeout_seconds:
            self.transport.abort()

    def _give_up(self, now: float) -> None:
        if self.stage == LEAVING:
            self.transport.abort()
        elif self.stage in (HEAD, BODY):
            missing = "head" if self.stage == HEAD else "body"
            self._reception.gave_up(missing, self.client[0] if self.client else "somebody", now)
            seconds = self._patience_seconds[self.stage]
            words = f"the {missing} of the request did not come within {seconds:g} s"
            self._refuse(InvalidRequest(words, code="request_timeout", status=408))
        else:
            self.transport.close()

    def _refuse(self, error: BalancerError) -> None:
        """Read nothing more, say why unless an answer is under way, and close."""
        answering: Any = self.cycle  # one of uvicorn's, or one that looks like it
        stage = self.stage
        if self.transport.is_closing():
            return
        self.stage, self.since = LAST, None
        if stage == BODY:
            if answering.response_started:
                self.transport.close()
                return
            # Whoever waits for the body need not wait.
            self.refusal = error
            answering.disconnected = True
            answering.message_event.set()
            if self.pipeline:
                self.pipeline.popleft()
                return
        elif answering is not None and not answering.response_complete:
            return
        self.stage = LEAVING
        self.transport.write(_refusal(error))
        # Closing on what the client still sends would destroy the answer on its way (RFC 9112 section 9.6).
        self.transport.write_eof()
        self.flow.resume_reading()

    def check_head(self) -> None:
        """Raises InvalidRequest for one that is too long. To be asked where `much_read`, or with many fields."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._most_header_bytes:
            raise self._too_long()
        if len(self.headers) > self.most_headers:
            words = f"the request has more than {self.most_headers} header fields"
            raise InvalidRequest(words, code="too_many_headers", status=431)

    def _too_long(self) -> InvalidRequest:
        words = f"the head of the request is longer than {self._most_header_bytes} bytes"
        return InvalidRequest(words, code="headers_too_large", status=431)

    def _stay_with_http1(self, data: bytes, behind_head: int) -> None:
        """Read requests that ask for another protocol as what they are (RFC 9110 section 7.8). Raises InvalidRequest.

        The parser leaves what is behind the head of such a request to the other protocol, so another parser is given
        the head without its asking.
        """
        rest = memoryview(data)
        while True:
            rest = rest[behind_head:]
            head = self._head_without_upgrade()
            self.parser = _new_parser(self)
            self.parser.feed_data(head)
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                behind_head = upgrade.args[0]
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        asked = b",".join(value for name, value in self.headers if name == b"upgrade").lower()
        if method == b"CONNECT" or b"websocket" in asked:
            what = "CONNECT is" if method == b"CONNECT" else "WebSockets are"
            words = f"{what} not supported: send an ordinary HTTP request; streams are server-sent events"
            raise InvalidRequest(words, code="upgrade_not_supported")
        fields = (b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade")
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(fields))


def _new_parser(protocol: BoundedProtocol) -> Any:
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
    return parser


def _reason(error: Exception) -> InvalidRequest:
    """What one of us raised while the parser called, or that the parser could make nothing of it."""
    for each in (error, error.__context__):
        if isinstance(each, InvalidRequest):
            return each
    return InvalidRequest("the request is not valid HTTP/1.1", code="bad_http")


def _refusal(error: BalancerError) -> bytes:
    """The last answer on a connection, in the envelope that clients of this port can read."""
    status, body, retry_after_seconds = answer_for(error)
    wait = b"" if retry_after_seconds is None else b"retry-after: %d\r\n" % retry_after_seconds
    head = b"content-type: application/json\r\n%bconnection: close\r\ncontent-length: %d\r\n\r\n" % (wait, len(body))
    return STATUS_LINE[status] + head + body
