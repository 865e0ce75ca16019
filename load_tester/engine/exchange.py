"""One request and its answer, from sending to judgement."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any
from urllib.parse import unquote

import orjson

from balancer.core.errors import (
    BrokenConnection,
    ConnectError,
    ProtocolError,
    StaleConnection,
    UpstreamError,
    UpstreamTimeout,
)
from balancer.upstream.http1 import UpstreamResponse
from load_tester.engine.answers import StreamReader, not_an_answer, read_whole, refused
from load_tester.engine.connections import ConnectionPool, StampedConnection
from load_tester.measures.records import Failure, Record
from load_tester.measures.series import Series

CHAT = b"/chat/completions"
MOST_WHOLE_BYTES = 64 * 1024 * 1024
_HEADERS = (
    b"content-type: application/json\r\naccept: application/json, text/event-stream\r\nuser-agent: llm-load-tester\r\n"
)
_LIMIT_HEADERS = ("x-ratelimit", "ratelimit", "retry-after", "x-litellm-key")


class Exchange:
    """Carries requests out for one card. `limits`: what headers last said about rate limits."""

    def __init__(self, pool: ConnectionPool, series: Series) -> None:
        self.limits: dict[str, str] = {}
        self._pool = pool
        self._series = series

    @staticmethod
    def body(document: dict[str, Any], max_tokens: int) -> bytes:
        """The bytes of a body; `max_tokens` 0 is left out."""
        if max_tokens:
            document["max_tokens"] = max_tokens
        return orjson.dumps(document)

    async def perform(self, record: Record, body: bytes, *, stream: bool, timeout_seconds: float) -> None:
        """Send `body`, fill the record in. Nothing but cancellation is raised; the record is complete even then.

        `record.request_id` goes out as x-request-id and is replaced by the target's own, if it has one.
        """
        headers = b"%bx-request-id: %b\r\n" % (_HEADERS, record.request_id.encode())
        head = self._pool.head(b"POST", CHAT, headers, len(body))
        response: UpstreamResponse | None = None
        try:
            connection, response = await self._open(record, head, body, timeout_seconds)
            record.head_ns, record.status, record.reused = connection.heard_ns, response.status, response.reused
            self._read_headers(record, response)
            await self._read(record, connection, response, stream)
        except asyncio.CancelledError:
            record.failure, record.detail = Failure.CANCELLED, "cut off by the end of the run"
            raise
        except UpstreamError as error:
            record.failure, record.detail = _classified(error, record)
        finally:
            if response is not None:
                response.close()
            record.ended_ns = record.ended_ns or time.perf_counter_ns()
            record.detail = self._pool.without_key(record.detail)

    async def _open(
        self, record: Record, head: bytes, body: bytes, timeout_seconds: float
    ) -> tuple[StampedConnection, UpstreamResponse]:
        """Send; wait for the head. A kept connection that turns out dead is replaced, once."""
        connection = self._pool.take()
        while True:
            if connection is None:
                connection = await self._pool.connect()
            connection.forget_arrivals()
            response = connection.start(head, body, timeout_seconds)
            try:
                await connection.news(None)
            except BaseException:
                connection.abort()
                raise
            if response.status:
                return connection, response
            error = connection.failure()
            if not isinstance(error, StaleConnection):
                raise error
            connection = None

    def _read_headers(self, record: Record, response: UpstreamResponse) -> None:
        routed = ""
        hidden = self._pool.without_key
        for name, value in response.headers:
            text = value.decode("latin-1")
            if name == b"x-lb-endpoint":
                record.endpoint = hidden(unquote(text))
            elif name == b"x-routed-node":
                routed = hidden(text)
            elif name == b"x-attempts":
                record.attempts = int(text) if text.isdecimal() else 0
            elif name == b"x-failover-count":
                record.failovers = int(text) if text.isdecimal() else 0
            elif name == b"x-request-id":
                record.request_id = hidden(text)[:128]
            elif (word := name.decode("latin-1")).startswith(_LIMIT_HEADERS):
                self.limits[word] = hidden(text)[:100]
        record.endpoint = record.endpoint or routed

    async def _read(
        self, record: Record, connection: StampedConnection, response: UpstreamResponse, stream: bool
    ) -> None:
        media_type = next((value for name, value in response.headers if name == b"content-type"), b"").lower()
        if response.status != 200:
            record.failure, record.detail = refused(response.status, await self._whole(connection, response))
            record.ended_ns = connection.heard_ns
        elif stream and not media_type.startswith((b"application/json", b"text/html")):
            await self._read_stream(record, connection, response)
        elif media_type.startswith(b"text/html"):
            body = await self._whole(connection, response)
            record.failure, record.detail = Failure.NOT_AN_ANSWER, not_an_answer(body)
        else:
            body = await self._whole(connection, response)
            record.ended_ns = record.last_ns = connection.heard_ns
            read_whole(record, body)
            self._series.tokens += record.tokens_out

    async def _read_stream(self, record: Record, connection: StampedConnection, response: UpstreamResponse) -> None:
        reader, series, chunks = StreamReader(record), self._series, connection.chunks
        while True:
            if not chunks:
                if response.complete:
                    break
                if connection.error is None:
                    await connection.news(None)
                if not chunks:
                    if connection.error is not None:
                        raise connection.error
                    continue
            had_first = record.first_ns
            for at_ns, data in connection.take_stamped():
                series.tokens += reader.feed(at_ns, data)
            if not had_first and record.first_ns:
                series.ttfts_ms.append((record.first_ns - record.sent_ns) / 1e6)
        record.ended_ns = connection.heard_ns
        reader.finish()

    async def _whole(self, connection: StampedConnection, response: UpstreamResponse) -> bytes:
        body = bytearray()
        while data := await response.read():
            body += data
            if len(body) > MOST_WHOLE_BYTES:
                raise ProtocolError(f"answer over {MOST_WHOLE_BYTES >> 20} MB")
        connection.forget_arrivals()
        return bytes(body)


def _classified(error: UpstreamError, record: Record) -> tuple[Failure, str]:
    text = str(error)
    if isinstance(error, ConnectError):
        if isinstance(error.__cause__, TimeoutError):
            return Failure.TIMEOUT_CONNECT, text
        tls = isinstance(error.__cause__, ssl.SSLError) or text.startswith("TLS")
        return (Failure.TLS if tls else Failure.CONNECT), text
    if isinstance(error, UpstreamTimeout):
        return (Failure.TIMEOUT_SILENCE if record.status else Failure.TIMEOUT_FIRST_BYTE), text
    if isinstance(error, ProtocolError):
        return Failure.NOT_AN_ANSWER, text
    if isinstance(error, BrokenConnection | StaleConnection):
        return (Failure.TRUNCATED if record.status else Failure.CONNECT), text
    return Failure.CONNECT, text
