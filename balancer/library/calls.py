"""One request through the dispatcher, pulled rather than pushed: opened, read to its end, counted out exactly once."""

from __future__ import annotations

from collections.abc import Callable

from balancer.core.errors import BrokenConnection, UpstreamError
from balancer.dispatch.answers import answer_head, choose_meter
from balancer.dispatch.exchange import Exchange
from balancer.wire.answers import Meter
from balancer.wire.headers import Headers, fields_of, served_lines
from balancer.wire.openai import Operation, ParsedBody
from balancer.wire.sse import StreamMeter
from balancer.wire.usage import final_usage

# What an attempt's record says where the caller, not the endpoint, ended it.
ABANDONED = "the caller left"


class Call:
    """One call. `open` first; then `read` until it gives b"", or `read_all` and a verdict by `end` or `fail`.

    Trouble in any of them ends the call too; `abandon` ends it at any time. `verbatim`: the answer comes as the
    endpoint sent it; otherwise as a server's client would get it, without the usage event that was asked for on the
    way, and with the model's name as it was asked for.
    """

    def __init__(
        self,
        exchange: Exchange,
        operation: Operation,
        parsed: ParsedBody,
        prompt_bytes: int,
        clock: Callable[[], float],
        *,
        verbatim: bool,
    ) -> None:
        self._exchange = exchange
        self._operation = operation
        self._parsed = parsed
        self._prompt_bytes = prompt_bytes
        self._clock = clock
        self._verbatim = verbatim
        self._meter: Meter | None = None
        self._begun = False
        self.complete = False
        self._began_at = clock()
        self.over = False
        self.status = 0
        self.endpoint = ""
        self.endpoint_id = 0

    @property
    def seconds(self) -> float:
        """How long it has taken until now, with all attempts and waiting."""
        return self._clock() - self._began_at

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a stream of events."""
        return self._exchange.is_event_stream

    @property
    def at_boundary(self) -> bool:
        """Whether what was read so far ends between two events."""
        return self._meter is not None and self._meter.at_boundary

    @property
    def blamed(self) -> str:
        """The name of the endpoint that was asked last; empty when none was."""
        attempts = self._exchange.attempts
        return attempts[-1].endpoint if attempts else ""

    async def open(self) -> None:
        """Find an endpoint with an answer. Raises NoEndpoint or UpstreamError; then the call is over."""
        exchange = self._exchange
        try:
            await exchange.open()
        except UpstreamError as error:
            self.fail(error)
            raise
        except BaseException:
            self.abandon()
            raise
        response = exchange.response
        assert response is not None  # noqa: S101 - what `open` promises
        self.status = response.status
        self.endpoint, self.endpoint_id = exchange.endpoint.name, exchange.endpoint.id
        if self._verbatim and exchange.is_event_stream:
            self._meter = StreamMeter()
            return
        # Where the caller left the model open, the answer says which it was, as the endpoint calls it.
        asked = self._parsed.model if self._parsed.model == exchange.request.model else None
        rename_to = asked if not self._verbatim and exchange.upstream_model != asked else None
        self._meter = choose_meter(self._operation, exchange, response, rename_to=rename_to)

    def head(self) -> Headers:
        """The header fields for a client of an opened call: the endpoint's own and who served it."""
        exchange, meter = self._exchange, self._meter
        assert exchange.response is not None and meter is not None  # noqa: S101 - for opened calls
        lines, length = answer_head(exchange.response, meter, renamed=True, retry_after=exchange.retry_after_seconds)
        fields = fields_of(lines + served_lines(exchange.endpoint, exchange.upstream_model))
        return fields if length is None else [*fields, (b"content-length", b"%d" % length)]

    async def read(self) -> bytes:
        """What has come since the last time; b"" at the end. Raises UpstreamError where the answer breaks."""
        chunk = b"" if self.complete else await self._read()
        if not chunk:
            self.end()
        return chunk

    async def read_all(self) -> bytes:
        """The whole body. Raises UpstreamError where the answer breaks."""
        parts = []
        while not self.complete:
            parts.append(await self._read())
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read(self) -> bytes:
        try:
            while True:
                chunk = await self._next()
                if chunk or self.complete:
                    return chunk
        except UpstreamError as error:
            self.fail(error)
            raise
        except BaseException:
            self.abandon()
            raise

    async def _next(self) -> bytes:
        exchange, meter = self._exchange, self._meter
        response = exchange.response
        if meter is None or response is None:
            raise BrokenConnection("the call was given up")
        if not self._begun:
            self._begun = True
            chunk, self.complete = exchange.take_held(), exchange.complete
        else:
            chunk = await response.read() or b""
            self.complete = response.complete
        passed = meter.feed(chunk) if chunk else b""
        return passed + meter.finish() if self.complete else passed

    def end(self) -> None:
        """The answer was good, or the endpoint's own refusal."""
        self._end()

    def fail(self, error: UpstreamError) -> None:
        """The answer cannot be used, by the endpoint's fault."""
        self._end(broken=error)

    def abandon(self) -> None:
        """End it without a verdict on the endpoint; may be repeated. For the event loop's own thread."""
        self._end(abandoned=ABANDONED)

    def _end(self, *, broken: UpstreamError | None = None, abandoned: str = "") -> None:
        if self.over:
            return
        self.over = True
        meter, operation = self._meter, self._operation
        usage = None
        if operation.metered and meter is not None and self.status < 300:
            usage = final_usage(
                meter.usage,
                prompt_bytes=self._prompt_bytes,
                events=meter.events,
                answer_bytes=meter.answer_bytes if operation.generates_text else 0,
                complete=broken is None and not abandoned,
            )
        self._exchange.finish(usage, broken=broken, abandoned=abandoned)
