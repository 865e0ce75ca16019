"""One request of the data plane: a raw ASGI endpoint, no middleware, no request object.

Awaits nothing but the client and the endpoint. The commit point is the first message sent: before it, trouble goes
to another endpoint; after it, trouble is told in band and the connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from balancer.core.endpoints import Usage
from balancer.core.errors import BalancerError, BodyTooLarge, Draining, Unauthorized, UpstreamError
from balancer.dispatch.answers import answer_head, choose_meter, model_header
from balancer.dispatch.exchange import Exchange
from balancer.proxy.gateway import Gateway, error_class, send_error
from balancer.proxy.intake import route
from balancer.proxy.transport import Answering, answering_of
from balancer.proxy.watch import ClientWatch
from balancer.traffic import RequestRecord
from balancer.upstream.http1 import UpstreamResponse
from balancer.wire.answers import Meter
from balancer.wire.headers import Headers, read_client_headers, upstream_headers
from balancer.wire.openai import Operation, ParsedBody, answer_for, error_event, parse
from balancer.wire.sse import StreamMeter
from balancer.wire.usage import final_usage

# Live token counts of a running stream are passed on this often.
_LIVE_SECONDS = 0.25
_CLIENT_LEFT = 499
_PING = b": ping\n\n"
_FIRST_ATTEMPT = ((b"x-attempts", b"1"), (b"x-failover-count", b"0"))


class ProxyEndpoint:
    """The ASGI endpoint of one operation."""

    def __init__(self, gateway: Gateway, operation: Operation) -> None:
        self._gateway = gateway
        self._operation = operation

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        return _Turn(self._gateway, self._operation, scope, receive, send).run()


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
        "_receive",
        "_request_id",
        "_scope",
        "_send",
        "_status",
        "_unread",
        "_watch",
    )

    def __init__(self, gateway: Gateway, operation: Operation, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway = gateway
        self._operation = operation
        self._scope = scope
        self._receive = receive
        self._send = send
        self._answering: Answering | None = answering_of(scope)
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
        self._unread = True
        self._counted_tokens = 0
        self._live_at = 0.0

    async def run(self) -> None:
        """Serve the request; whatever happens, it is counted out and recorded once.

        A mistake of ours is raised: the client has been told, the traceback is for the log.
        """
        self._gateway.active += 1
        try:
            await self._serve_and_finish()
            if self._error is not None:
                await self._tell(self._error)
        except asyncio.CancelledError:
            if not self._client_left():
                raise
        except Exception as mistake:
            if not self._committed_at and not isinstance(mistake, BalancerError):
                await self._tell(BalancerError())
            raise
        finally:
            self._gateway.active -= 1
            if self._watch is not None:
                self._watch.stop()

    async def _serve_and_finish(self) -> None:
        try:
            await self._serve()
        except BalancerError as error:
            self._error = error
        except asyncio.CancelledError:
            if self._client_left():
                self._abandoned = "client left"
                raise
            # Out of grace at shutdown. The task ends with what is left to say, so the cancellation ends here too.
            self._error = Draining()
            self._abandoned = "shut down"
        except Exception as problem:
            self._left_early = isinstance(problem, RuntimeError) and self._connection_is_lost()
            self._abandoned = "client left" if self._left_early else "internal error"
            if not self._left_early:
                raise
        finally:
            self._finish()

    # -- the way in ------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._exchange = exchange = await self._begin()
        gateway = self._gateway
        self._watch = ClientWatch(
            gateway.watches, self._receive, self._transport(), gateway.client_write_timeout_seconds
        )
        await exchange.open()
        await self._relay(exchange)

    async def _begin(self) -> Exchange:
        """Check the request and read it whole. The exchange alone keeps the body, and only while it may repeat it."""
        gateway, operation = self._gateway, self._operation
        headers = self._scope["headers"]
        client_headers = read_client_headers(headers)
        self._request_id = client_headers.request_id or gateway.new_request_id()
        client = gateway.tokens.authenticate(client_headers.authorization)
        if client is None:
            raise Unauthorized("the client token is missing or not valid; send it as 'Authorization: Bearer <token>'")
        self._client = client
        if gateway.draining:
            raise Draining()
        body = await self._read_body(client_headers.content_length)
        self._read_at = gateway.clock()
        self._parsed = parsed = parse(body, operation)
        self._prompt_bytes = len(body)
        request, query = route(gateway, parsed, self._scope["query_string"], client_headers.endpoint, len(body))
        request = gateway.affinity.bind(request, client_headers.session, parsed, operation, body)
        return gateway.dispatcher.exchange(
            operation,
            parsed,
            request,
            path=operation.path + b"?" + query if query else operation.path,
            headers=upstream_headers(headers, self._request_id, identity=operation.metered),
            body=body,
        )

    async def _read_body(self, declared: int | None) -> bytes:
        limit = self._gateway.max_body_bytes
        if declared is not None and declared > limit:
            raise BodyTooLarge(limit)
        if self._answering is not None and (whole := self._answering.take_body()) is not None:
            self._unread = False
            if len(whole) > limit:
                raise BodyTooLarge(limit)
            return whole
        parts: list[bytes] = []
        size = 0
        while self._unread:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._left_early = True
                raise asyncio.CancelledError
            part: bytes = message.get("body", b"")
            self._unread = message.get("more_body", False)
            parts.append(part)
            size += len(part)
            if size > limit:
                raise BodyTooLarge(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _transport(self) -> Any:
        """The client's transport where the server offers it; then broken answers can be cut as they must be."""
        return self._answering.transport if self._answering is not None else None

    # -- the way back ----------------------------------------------------------------------------------------------

    async def _relay(self, exchange: Exchange) -> None:
        response, parsed = exchange.response, self._parsed
        assert response is not None and parsed is not None  # noqa: S101 - what `open` promises
        # Where the client left the model open, the answer says which it was, as the endpoint calls it.
        asked = parsed.model if parsed.model == exchange.request.model else None
        rename_to = asked if exchange.upstream_model != asked else None
        self._meter = meter = choose_meter(self._operation, exchange, response, rename_to=rename_to)
        head = answer_head(response, meter, renamed=rename_to is not None, retry_after=exchange.retry_after_seconds)
        head += self._gateway.endpoint_headers(exchange.endpoint)
        head += model_header(exchange)
        head += self._own_headers(len(exchange.attempts) + 1)
        held = exchange.take_held()
        if self._operation.name == "responses" and response.status < 300:
            self._gateway.stored_responses.note(held, exchange.endpoint.id)
        body = meter.feed(held)
        if exchange.complete:
            body += meter.finish()
        self._status = response.status
        self._committed_at = self._gateway.clock()
        ping_seconds = self._gateway.dispatcher.ping_seconds if isinstance(meter, StreamMeter) else None
        if not body and not exchange.complete and ping_seconds is not None and meter.at_boundary:
            body = _PING  # the one that made us commit
        await self._begin_answer(response.status, head, body, more_body=not exchange.complete)
        if not exchange.complete:
            await self._relay_rest(response, meter, ping_seconds)

    async def _begin_answer(self, status: int, head: Headers, body: bytes, *, more_body: bool) -> None:
        """Send the head and what there is of the body: in one write where the server can."""
        answering = self._answering
        if answering is not None and answering.has_room:
            answering.begin(status, head, body, more_body=more_body)
            return
        await self._send_counted({"type": "http.response.start", "status": status, "headers": head})
        await self._send_counted({"type": "http.response.body", "body": body, "more_body": more_body})

    async def _relay_rest(self, response: UpstreamResponse, meter: Meter, ping_seconds: float | None) -> None:
        answering = self._answering
        short_cut = answering if answering is not None and answering.chunked_encoding else None
        while True:
            chunk = None
            # Without a task, while the client takes what comes.
            if short_cut is None or not short_cut.has_room or await response.relay(self._pass_on, ping_seconds):
                chunk = await response.read(ping_seconds)
                if response.complete:
                    break
            body = self._metered(meter, chunk) if chunk else _PING if meter.at_boundary else b""
            if body:
                await self._send_counted({"type": "http.response.body", "body": body, "more_body": True})
        # What was read last is the end of the answer, and leaves together with the end of the body.
        body = (meter.feed(chunk) if chunk else b"") + meter.finish()
        if short_cut is not None and short_cut.has_room:
            short_cut.end(body)
        else:
            await self._send_counted({"type": "http.response.body", "body": body})

    def _pass_on(self, chunk: bytes) -> bool:
        """Take a chunk from the endpoint to the client, without the task; returns whether the client has room."""
        meter, answering = self._meter, self._answering
        assert meter is not None and answering is not None  # noqa: S101
        return answering.write(self._metered(meter, chunk))

    def _metered(self, meter: Meter, chunk: bytes) -> bytes:
        body = meter.feed(chunk)
        if body and self._gateway.clock() >= self._live_at:
            self._count_live(meter)
        return body

    async def _send_counted(self, message: Message) -> None:
        """Send, so that the watch can see whether the client takes it."""
        watch = self._watch
        assert watch is not None  # noqa: S101
        watch.sends_begun += 1
        await self._send(message)
        watch.sends_done += 1

    def _own_headers(self, attempts: int) -> Headers:
        request_id = (b"x-request-id", self._request_id.encode())
        if attempts == 1:
            return [request_id, *_FIRST_ATTEMPT]
        return [request_id, (b"x-attempts", b"%d" % attempts), (b"x-failover-count", b"%d" % max(0, attempts - 1))]

    async def _tell(self, error: BalancerError) -> None:
        """Say what went wrong: as an answer, or, behind a committed one, in band and by closing."""
        attempts = self._exchange.attempts if self._exchange is not None else ()
        if isinstance(error, UpstreamError) and attempts:
            error = type(error)(f"endpoint {attempts[-1].endpoint!r}: {error}")
        if self._committed_at:
            await self._break_off(error)
            return
        unread = self._receive if self._unread else None
        await send_error(self._send, error, self._own_headers(len(attempts)), unread=unread)

    async def _break_off(self, error: BalancerError) -> None:
        meter, watch, transport = self._meter, self._watch, self._transport()
        assert meter is not None and watch is not None  # noqa: S101
        if isinstance(meter, StreamMeter):
            event = error_event(str(error), mid_event=not meter.at_boundary)
            await self._send_counted({"type": "http.response.body", "body": event})
            if transport is not None:
                transport.close()
        elif transport is not None:
            transport.close()
            await watch.until_gone()
        else:
            raise error  # the server closes the connection; there is no other way to cut an answer short

    # -- the end ---------------------------------------------------------------------------------------------------

    def _client_left(self) -> bool:
        return self._left_early or (self._watch is not None and self._watch.client_left)

    def _connection_is_lost(self) -> bool:
        """Some event loops raise on a write that comes too late, where others ignore it."""
        transport = self._transport()
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
        exchange, error = self._exchange, self._error
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
        # By position: by name, a tuple costs three times as much to make.
        record = RequestRecord(
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
            self._abandoned or str(self._error or ""),
        )
        gateway.traffic.request_finished(
            record, self._client, now, error_class=self._error_class(), counted_tokens=self._counted_tokens
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
