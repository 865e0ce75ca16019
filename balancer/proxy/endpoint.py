"""One request of the data plane: no middleware, no request object.

Awaits nothing but the client and the endpoint. The commit point is the first message sent: before it, trouble goes
to another endpoint; after it, trouble is told in band and the connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive, Scope, Send

from balancer.core.endpoints import Usage
from balancer.core.errors import BalancerError, BodyTooLarge, Draining, Unauthorized, UpstreamError
from balancer.dispatch.answers import answer_head, choose_meter
from balancer.dispatch.exchange import Exchange
from balancer.proxy.answering import Answering, AsgiAnswering
from balancer.proxy.gateway import Gateway, error_class, send_error
from balancer.proxy.intake import require_no_foreign_page, route
from balancer.proxy.watch import ClientWatch
from balancer.traffic import RequestRecord
from balancer.wire.answers import Meter
from balancer.wire.headers import ClientHeaders, read_client_headers, upstream_headers
from balancer.wire.openai import Operation, ParsedBody, answer_for, error_event, parse
from balancer.wire.sse import StreamMeter
from balancer.wire.usage import final_usage

# Live token counts of a running stream are passed on this often.
_LIVE_SECONDS = 0.25
_CLIENT_LEFT = 499
_PING = b": ping\n\n"

# Status, lines, and the length of the body.
_Head = tuple[int, bytes, int | None]


class ProxyEndpoint:
    """Serves one operation: our own server calls `serve`, any other one the endpoint as an ASGI application."""

    def __init__(self, gateway: Gateway, operation: Operation) -> None:
        self._gateway = gateway
        self._operation = operation

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        return self.serve(AsgiAnswering(scope, receive, send))

    def serve(self, answering: Answering) -> Coroutine[Any, Any, None]:
        """Serve a request, to be awaited by the task that `answering` names."""
        return _Turn(self._gateway, self._operation, answering).run()


class _Turn:
    """One client request and everything known of it until it is recorded."""

    __slots__ = (
        "_abandoned",
        "_answering",
        "_arrived_at",
        "_client",
        "_committed_at",
        "_counted_tokens",
        "_error",
        "_exchange",
        "_gateway",
        "_left_early",
        "_live_at",
        "_meter",
        "_operation",
        "_parsed",
        "_prompt_bytes",
        "_read_at",
        "_request_id",
        "_status",
        "_watch",
    )

    def __init__(self, gateway: Gateway, operation: Operation, answering: Answering) -> None:
        self._gateway = gateway
        self._operation = operation
        self._answering = answering
        self._client = gateway.tokens.anonymous
        self._arrived_at = self._read_at = gateway.clock()
        self._committed_at = 0.0
        self._abandoned = ""
        self._left_early = False
        self._request_id = ""
        self._parsed: ParsedBody | None = None
        self._prompt_bytes = 0
        self._exchange: Exchange | None = None
        self._watch: ClientWatch | None = None
        self._meter: Meter | None = None
        self._error: BalancerError | None = None
        self._status = 0
        self._counted_tokens = 0
        self._live_at = 0.0

    async def run(self) -> None:
        """Serve the request; whatever happens, it is counted out and recorded once."""
        gateway, answering = self._gateway, self._answering
        gateway.active += 1
        try:
            try:
                await self._serve()
            except BaseException as trouble:
                if not self._explains(trouble):
                    raise
            finally:
                self._finish()
            if self._error is not None:
                await self._tell(self._error)
        except asyncio.CancelledError:
            if not self._client_left():
                raise
        except Exception as mistake:  # noqa: BLE001 - `failed` logs or raises it
            if not self._committed_at and not isinstance(mistake, BalancerError):
                await self._tell(BalancerError())
            answering.failed(mistake)
        finally:
            gateway.active -= 1
            if self._watch is not None:
                self._watch.stop()
            gateway.watches.discard(self)
            answering.over()

    def _explains(self, trouble: BaseException) -> bool:
        """Note why there is no answer, or only the beginning of one; whether that is all there is to do about it."""
        if isinstance(trouble, BalancerError):
            self._error = trouble
            return True
        if isinstance(trouble, asyncio.CancelledError):
            if self._client_left():
                self._abandoned = "client left"
                return False
            # Out of grace at shutdown. The task ends with what is left to say, so the cancellation ends here too.
            self._error = Draining()
            self._abandoned = "shut down"
            return True
        self._left_early = isinstance(trouble, RuntimeError) and self._connection_is_lost()
        self._abandoned = "client left" if self._left_early else "internal error"
        return self._left_early

    async def _serve(self) -> None:
        answering, given = self._answering, self._admit()
        body = answering.take_body()
        if body is None:
            body = await self._read_body()
        self._exchange = exchange = self._begin(given, body)
        del given, body  # the exchange alone keeps the body, and only while it may repeat it
        self._gateway.watches.add(self)
        await exchange.open()
        head, begun = self._commit(exchange)
        if answering.has_room:
            answering.begin(*head, begun, more_body=not exchange.complete)
        else:
            await self._send_head(head, begun, more_body=not exchange.complete)
        del head, begun
        if not exchange.complete:
            await self._relay(exchange)

    # -- the way in ------------------------------------------------------------------------------------------------

    def _admit(self) -> ClientHeaders:
        """Let in who may ask, and nobody who says that it is too much."""
        gateway = self._gateway
        given = read_client_headers(self._answering.headers)
        self._request_id = given.request_id or gateway.new_request_id()
        client = gateway.tokens.authenticate(given.authorization)
        if client is None:
            raise Unauthorized("the client token is missing or not valid; send it as 'Authorization: Bearer <token>'")
        self._client = client
        if client is gateway.tokens.anonymous:
            require_no_foreign_page(self._answering.headers)
        if gateway.draining:
            raise Draining()
        if given.content_length is not None and given.content_length > gateway.max_body_bytes:
            raise BodyTooLarge(gateway.max_body_bytes)
        return given

    async def _read_body(self) -> bytes:
        """The body as it arrives, as much of it as is allowed."""
        answering = self._answering
        parts: list[bytes] = []
        size = 0
        while size <= self._gateway.max_body_bytes:
            part = await answering.read_body()
            if part is None:
                if answering.refusal is not None:
                    raise answering.refusal
                self._left_early = True
                raise asyncio.CancelledError
            parts.append(part)
            size += len(part)
            if not answering.more_body:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _begin(self, given: ClientHeaders, body: bytes) -> Exchange:
        """Read the body and settle what routing is asked for."""
        gateway, operation, answering = self._gateway, self._operation, self._answering
        size = len(body)
        if size > gateway.max_body_bytes:
            raise BodyTooLarge(gateway.max_body_bytes)
        self._read_at = gateway.clock()
        self._parsed = parsed = parse(body, operation, gateway.max_body_values)
        self._prompt_bytes = size
        request, query = route(gateway, parsed, answering.query, given.endpoint, size)
        request = gateway.affinity.bind(request, given.session, parsed, operation, body)
        path = operation.path + b"?" + query if query else operation.path
        lines = upstream_headers(answering.headers, self._request_id, identity=operation.metered)
        return Exchange(gateway.dispatcher, operation, parsed, request, path, lines, body)

    # -- the way back ----------------------------------------------------------------------------------------------

    def _commit(self, exchange: Exchange) -> tuple[_Head, bytes]:
        """The head of the answer and what there is of its body. There is no way back from here."""
        gateway, response, parsed = self._gateway, exchange.response, self._parsed
        assert response is not None and parsed is not None  # noqa: S101 - what `open` promises
        # Where the client left the model open, the answer says which it was, as the endpoint calls it.
        asked = parsed.model if parsed.model == exchange.request.model else None
        rename_to = asked if exchange.upstream_model != asked else None
        self._meter = meter = choose_meter(self._operation, exchange, response, rename_to=rename_to)
        renamed = rename_to is not None
        lines, length = answer_head(response, meter, renamed=renamed, retry_after=exchange.retry_after_seconds)
        lines += gateway.served_lines(exchange.endpoint, exchange.upstream_model)
        lines += self._own_lines(len(exchange.attempts) + 1)
        held = exchange.take_held()
        if self._operation.name == "responses" and response.status < 300:
            gateway.stored_responses.note(held, exchange.endpoint.id)
        body = meter.feed(held)
        if exchange.complete:
            body += meter.finish()
        elif not body and self._ping_seconds(meter) is not None and meter.at_boundary:
            body = _PING  # the one that made us commit
        self._status = response.status
        self._committed_at = gateway.clock()
        return (response.status, lines, length), body

    def _ping_seconds(self, meter: Meter) -> float | None:
        return self._gateway.dispatcher.ping_seconds if isinstance(meter, StreamMeter) else None

    async def _send_head(self, head: _Head, body: bytes, *, more_body: bool) -> None:
        watch = self.watch()
        watch.sends_begun += 1
        await self._answering.send_head(*head)
        watch.sends_done += 1
        await self._send(body, more_body=more_body)

    async def _relay(self, exchange: Exchange) -> None:
        """The rest of the answer."""
        answering, meter, response = self._answering, self._meter, exchange.response
        assert meter is not None and response is not None  # noqa: S101
        ping_seconds = self._ping_seconds(meter)
        while True:
            chunk = None
            # Without a task, while the client takes what comes.
            room = answering.relays and answering.has_room
            if not room or await response.relay(self._pass_on, ping_seconds):
                chunk = await response.read(ping_seconds)
                if response.complete:
                    break
            body = self._metered(meter, chunk) if chunk else _PING if meter.at_boundary else b""
            if body:
                await self._send(body, more_body=True)
        # What was read last is the end of the answer, and leaves together with the end of the body.
        body = (meter.feed(chunk) if chunk else b"") + meter.finish()
        if answering.has_room:
            answering.end(body)
        else:
            await self._send(body, more_body=False)

    def _pass_on(self, chunk: bytes) -> bool:
        """Take a chunk from the endpoint to the client, without the task; returns whether the client has room."""
        meter = self._meter
        assert meter is not None  # noqa: S101
        return self._answering.write(self._metered(meter, chunk))

    def _metered(self, meter: Meter, chunk: bytes) -> bytes:
        body = meter.feed(chunk)
        if body and self._gateway.clock() >= self._live_at:
            self._count_live(meter)
        return body

    async def _send(self, body: bytes, *, more_body: bool) -> None:
        """Send, so that the watch can see whether the client takes it."""
        watch = self.watch()
        watch.sends_begun += 1
        await self._answering.send(body, more_body=more_body)
        watch.sends_done += 1

    def watch(self) -> ClientWatch:
        """Watch the client from now on, if not yet."""
        if self._watch is None:
            gateway = self._gateway
            gateway.watches.discard(self)
            self._watch = ClientWatch(gateway.watches.loop, self._answering, gateway.client_write_timeout_seconds)
        return self._watch

    def _own_lines(self, attempts: int) -> bytes:
        request_id = self._request_id.encode()
        if attempts == 1:
            return b"x-request-id: %b\r\nx-attempts: 1\r\nx-failover-count: 0\r\n" % request_id
        failovers = max(0, attempts - 1)
        return b"x-request-id: %b\r\nx-attempts: %d\r\nx-failover-count: %d\r\n" % (request_id, attempts, failovers)

    async def _tell(self, error: BalancerError) -> None:
        """Say what went wrong: as an answer, or, behind a committed one, in band and by closing."""
        attempts = self._exchange.attempts if self._exchange is not None else ()
        if isinstance(error, UpstreamError) and attempts:
            error = type(error)(f"endpoint {attempts[-1].endpoint!r}: {error}")
        if self._committed_at:
            await self._break_off(error)
        else:
            await send_error(self._answering, error, self._own_lines(len(attempts)))

    async def _break_off(self, error: BalancerError) -> None:
        meter, transport = self._meter, self._answering.transport
        assert meter is not None  # noqa: S101
        if isinstance(meter, StreamMeter):
            event = error_event(str(error), mid_event=not meter.at_boundary)
            await self._send(event, more_body=False)
            if transport is not None:
                transport.close()
        elif transport is not None:
            transport.close()
            await self.watch().until_gone()
        else:
            raise error  # the server closes the connection; there is no other way to cut an answer short

    # -- the end ---------------------------------------------------------------------------------------------------

    def _client_left(self) -> bool:
        return self._left_early or (self._watch is not None and self._watch.client_left)

    def _connection_is_lost(self) -> bool:
        """Some event loops raise on a write that comes too late, where others ignore it."""
        transport = self._answering.transport
        return transport is not None and bool(transport.is_closing())

    def _count_live(self, meter: Meter) -> None:
        gateway, exchange = self._gateway, self._exchange
        assert exchange is not None  # noqa: S101
        now = gateway.clock()
        self._live_at = now + _LIVE_SECONDS
        fresh = meter.events - self._counted_tokens
        if fresh > 0:
            gateway.traffic.completion_passed(exchange.endpoint.id, now, fresh)
            self._counted_tokens += fresh
            if exchange.lease is not None:
                exchange.lease.progressed(self._prompt_bytes / 4 + self._counted_tokens)

    @property
    def _went_well(self) -> bool:
        return self._error is None and not self._abandoned and 200 <= self._status < 300

    def _usage(self) -> Usage | None:
        """Tokens of the answer; of one that was cut, or not there yet when the client left, what had passed by then."""
        operation, meter, exchange = self._operation, self._meter, self._exchange
        if not operation.metered or exchange is None or exchange.lease is None or self._status >= 300:
            return None
        if meter is None and not self._abandoned:
            return None
        return final_usage(
            meter.usage if meter else None,
            prompt_bytes=self._prompt_bytes,
            events=meter.events if meter else 0,
            answer_bytes=meter.answer_bytes if meter and operation.generates_text else 0,
            complete=not self._abandoned and self._error is None,
        )

    def _finish(self) -> None:
        """Give back what is held, then record. Synchronous, so that nothing can come in between."""
        exchange, error, meter = self._exchange, self._error, self._meter
        if self._went_well and meter is not None and meter.usage is not None:
            usage: Usage | None = meter.usage  # as almost always; the rest is rules for what is not so plain
        else:
            usage = self._usage()
        if exchange is not None:
            broken = error if isinstance(error, UpstreamError) else None
            exchange.finish(usage, broken=broken, abandoned=self._abandoned)
        if self._abandoned and self._client_left():
            self._status = _CLIENT_LEFT
        elif not self._committed_at:
            self._status = answer_for(error).status if error is not None else 500
        self._record(usage)

    def _record(self, usage: Usage | None) -> None:
        gateway, exchange, parsed = self._gateway, self._exchange, self._parsed
        now = gateway.clock()
        attempts = exchange.attempts if exchange is not None else []
        last = attempts[-1] if attempts else None
        first_byte = overhead = None
        if exchange is not None and self._committed_at:
            first_byte = (exchange.first_byte_at or self._committed_at) - self._read_at
            overhead = exchange.overhead_seconds(self._read_at, self._committed_at)
        fields = (
            gateway.traffic.finished + 1,
            gateway.wall_clock(),
            self._request_id,
            self._client.name,
            self._operation.name,
            parsed.model if parsed else None,
            exchange.upstream_model if exchange else None,
            last.endpoint_id if last else None,
            last.endpoint if last else None,
            attempts,
            parsed.stream if parsed else False,
            self._status,
            first_byte,
            now - self._arrived_at,
            overhead,
            usage,
            self._abandoned or ("" if self._error is None else str(self._error)),
        )
        record = tuple.__new__(RequestRecord, fields)  # by its name it would cost four times as much
        error_class = "" if self._went_well else self._error_class()
        gateway.traffic.request_finished(
            record, self._client, now, error_class=error_class, counted_tokens=self._counted_tokens
        )
        if len(attempts) > 1 or (attempts and attempts[0].panic):
            gateway.dispatcher.journal.rerouted(record)

    def _error_class(self) -> str:
        if self._status == _CLIENT_LEFT:
            return "client_left"
        if self._error is not None:
            return error_class(self._error)
        if self._abandoned:
            return "internal"
        if self._status < 400:
            return ""
        return "upstream" if self._status >= 500 else "throttled" if self._status == 429 else "client"
