"""The attempt loop: one client request from admission until its answer may be committed, and its end.

An `Exchange` owns at most one lease and one upstream response at a time. `open` finds a usable answer or raises;
`finish` is synchronous and runs exactly once, whatever happened, so that a cancelled request gives everything back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from balancer.core.endpoints import FAILED, NEUTRAL, REJECTED, Endpoint, Outcome, RouteRequest, Usage
from balancer.core.errors import (
    AllBusy,
    CredentialsRefused,
    ErrorInStream,
    ModelNotFound,
    NoEndpoint,
    ProtocolError,
    Redirected,
    UpstreamError,
)
from balancer.core.lease import Lease
from balancer.dispatch.verdicts import BROKEN, CREDENTIALS, GOOD, PENDING, Verdict, judge_error, judge_status
from balancer.traffic import AttemptRecord
from balancer.upstream.http1 import UpstreamResponse
from balancer.wire.answers import error_kind, insufficient_quota, mentions_stream_options, retry_after
from balancer.wire.openai import Operation, ParsedBody, rewrite
from balancer.wire.sse import FirstEvent, first_event

if TYPE_CHECKING:
    from balancer.dispatch.dispatcher import Dispatcher

# An answer is held back this long, in bytes, while it may still turn out to be unusable.
_HOLD_BYTES = 65_536
_EVENT_STREAM = b"text/event-stream"

# Makes the body for the endpoint that is going to get it. May raise an UpstreamError, which counts as that endpoint's.
Tailor = Callable[[Endpoint], Awaitable[bytes]]


class Exchange:
    """One client request on its way to an endpoint. `tailor`: who makes the body, where each endpoint gets its own.

    After `open`: `response` is the answer, `held` what was read of it already, `complete` whether that is all,
    `endpoint` who serves it, `upstream_model` the name it knows the model by, `usage_injected` whether its stream
    carries a usage event the client did not ask for. A final refusal to relay is raised as a BalancerError.
    """

    __slots__ = (
        "_body",
        "_dispatcher",
        "_finished",
        "_headers",
        "_operation",
        "_parsed",
        "_retrying",
        "_struck",
        "_tailor",
        "_tried",
        "_verdict",
        "attempts",
        "complete",
        "first_byte_at",
        "first_sent_at",
        "held",
        "is_event_stream",
        "lease",
        "panicked",
        "path",
        "queued_seconds",
        "request",
        "response",
        "retry_after_seconds",
        "upstream_model",
        "usage_injected",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        operation: Operation,
        parsed: ParsedBody,
        request: RouteRequest,
        path: bytes,
        headers: bytes,
        body: bytes,
        tailor: Tailor | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._operation = operation
        self._parsed = parsed
        self._headers = headers
        self._body = body
        self._tailor = tailor
        self._tried: set[int] = set()
        self._struck = False
        self._retrying = False
        self._verdict = PENDING
        self._finished = False
        dispatcher.budget.active_requests += 1
        self.request = request
        self.path = path
        self.lease: Lease | None = None
        self.response: UpstreamResponse | None = None
        self.held: list[bytes] = []
        self.complete = False
        self.is_event_stream = False
        self.attempts: list[AttemptRecord] = []
        self.panicked = False
        self.first_sent_at = 0.0
        self.queued_seconds = 0.0
        self.first_byte_at = 0.0
        self.retry_after_seconds: float | None = None
        self.upstream_model = request.model
        self.usage_injected = False

    @property
    def endpoint(self) -> Endpoint:
        """Who serves this request; only while a lease is held."""
        assert self.lease is not None  # noqa: S101 - a promise of this class, not a check of input
        return self.lease.endpoint

    def overhead_seconds(self, began_at: float, committed_at: float) -> float:
        """Time spent here rather than at an endpoint or in the queue: before the first send and before the commit."""
        before = self.first_sent_at - began_at - self.queued_seconds
        after = committed_at - self.first_byte_at if self.first_byte_at else 0.0
        return before + after

    # -- the loop --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find an endpoint with an answer that may be relayed. Raises NoEndpoint or UpstreamError if there is none."""
        dispatcher = self._dispatcher
        try:
            if dispatcher.queue.size:
                asked_at = dispatcher.clock()
                self.lease = await dispatcher.queue.admit(self.request)
                self.queued_seconds = dispatcher.clock() - asked_at
            else:
                self.lease = dispatcher.pool.acquire(self.request, dispatcher.clock())
        except ModelNotFound:
            dispatcher.model_missed(self.request.model)
            raise
        while True:
            error = await self._attempt()
            verdict = self._verdict
            if verdict is GOOD:
                self.lease.committed(dispatcher.clock())
                self._settle()
                return
            successor = self._successor() if verdict.elsewhere else None
            if successor is None:
                self._settle()
                if error is not None:
                    raise error
                return
            self._end_attempt(verdict.outcome, str(error) if error else self._status_words())
            self.lease = successor

    def _settle(self) -> None:
        """There will be no other attempt. A stream may take minutes: keep nothing for it that it does not need."""
        self._body = b""
        self._tailor = None
        if self._retrying:
            self._retrying = False
            self._dispatcher.budget.retry_ended()

    def take_held(self) -> bytes:
        """What was read of the answer already; it is not kept any longer."""
        held = self.held[0] if len(self.held) == 1 else b"".join(self.held)
        self.held.clear()
        return held

    def _successor(self) -> Lease | None:
        """A lease for another attempt, where limits, the retry budget and the pool allow one."""
        dispatcher, lease = self._dispatcher, self.lease
        assert lease is not None  # noqa: S101
        self._tried.add(lease.endpoint.id)
        self.panicked = self.panicked or lease.panic
        if dispatcher.why_final(len(self._tried), self.request) is not None:
            return None
        if not (self._retrying or self._verdict.wished):
            if not dispatcher.budget.try_retry():
                dispatcher.journal.retry_refused(dispatcher.budget, dispatcher.clock())
                return None
            self._retrying = True
        try:
            return dispatcher.pool.acquire(self.request, dispatcher.clock(), self._tried, may_panic=not self.panicked)
        except NoEndpoint as refusal:
            if isinstance(refusal, AllBusy):
                self._note_wait(refusal.retry_after)
            return None

    async def _attempt(self) -> UpstreamError | None:
        """One exchange with the leased endpoint; leaves the verdict and, where there is one, the response."""
        assert self.lease is not None  # noqa: S101
        self._verdict = PENDING
        endpoint = self.lease.endpoint
        self.upstream_model = endpoint.upstream_model(self.request.model)
        self.usage_injected = self._parsed.stream and self._wants_usage(endpoint)
        try:
            body = self._body if self._tailor is None else await self._tailor(endpoint)
            response = self.response = await self._opening(endpoint, body)
            if self.usage_injected:
                response = await self._without_usage_if_rejected(endpoint, body, response)
            if response.complete and response.status < 300 and not _is_event_stream(response.headers):
                self._take_whole(response)
                return None
            return await self._judge()
        except UpstreamError as error:
            self._verdict = judge_error(error, retry_on_timeout=self._dispatcher.retry_on_timeout)
            return error

    def _wants_usage(self, endpoint: Endpoint) -> bool:
        """Whether usage is asked for although the client did not."""
        if not self._operation.include_usage or self._parsed.asks_usage:
            return False
        return self._dispatcher.usage_option.wanted(endpoint)

    async def _without_usage_if_rejected(
        self, endpoint: Endpoint, body: bytes, response: UpstreamResponse
    ) -> UpstreamResponse:
        """Learn whether the endpoint takes the option that we added; where it does not, ask again without it."""
        option = self._dispatcher.usage_option
        if response.status < 300:
            option.accepted(endpoint)
        elif response.status in (400, 422) and await self._complains_of_usage():
            response.close()
            self.usage_injected = False
            response = self.response = await self._opening(endpoint, body)
            if response.status < 400:
                option.rejected(endpoint)
        return response

    def _opening(self, endpoint: Endpoint, body: bytes) -> Coroutine[Any, Any, UpstreamResponse]:
        """The exchange with the endpoint, to be awaited: everything else about it is decided."""
        dispatcher, asked, model = self._dispatcher, self._parsed.model, self.upstream_model
        if self.usage_injected or model != asked:
            body = rewrite(
                body,
                self._parsed,
                model=model if model != asked else None,
                include_usage=True if self.usage_injected else None,
            )
        self.held.clear()
        self.complete = False
        self.first_byte_at = 0.0
        self.response = None
        if not self.first_sent_at:
            self.first_sent_at = dispatcher.clock()
        return dispatcher.connections.open(endpoint, self.path, self._headers, body)

    async def _complains_of_usage(self) -> bool:
        """Whether a 400 may be about the field we added: it says so, or the endpoint never accepted it before."""
        await self._hold_body()
        return mentions_stream_options(b"".join(self.held)) or self._dispatcher.usage_option.unknown(self.endpoint)

    # -- judging ---------------------------------------------------------------------------------------------------

    def _take_whole(self, response: UpstreamResponse) -> None:
        """A good answer that came together with its head, as short ones do."""
        self._verdict = GOOD
        self.is_event_stream = False
        self.held.append(response.take())
        self.complete = True
        self.first_byte_at = self._dispatcher.clock()

    async def _judge(self) -> UpstreamError | None:
        response = self.response
        assert response is not None  # noqa: S101
        status = response.status
        verdict = judge_status(status, struck_before=self._struck)
        if verdict is GOOD:
            error = await self._hold_until_usable(response)
            self._verdict = GOOD if error is None else BROKEN
            return error
        if status == 429:
            await self._hold_body()
            if insufficient_quota(b"".join(self.held)):
                verdict = CREDENTIALS
        self._verdict = verdict
        self._struck = self._struck or (status == 500 and verdict.outcome is FAILED)
        self._note_wait(retry_after(response.headers, self._dispatcher.wall_clock()))
        return self._refusal_to_relay(status, verdict)

    def _refusal_to_relay(self, status: int, verdict: Verdict) -> UpstreamError | None:
        if verdict.credentials:
            return CredentialsRefused(f"refused its credentials ({status}); the operator must renew them")
        if verdict.relay:
            return None
        if status < 400:
            return Redirected(f"answered a redirect ({status}): check its base_url")
        return ProtocolError(f"answered status {status}, which HTTP does not have")

    async def _hold_until_usable(self, response: UpstreamResponse) -> UpstreamError | None:
        """Read until the answer has proved usable, or is too long to hold back."""
        self.is_event_stream = _is_event_stream(response.headers)
        error = None
        if self.is_event_stream:
            error = await self._hold_first_event(response)
        elif self._operation.metered:
            await self._hold_body()
        else:
            await self._hold(response, 1)
        self.first_byte_at = self._dispatcher.clock()
        return error

    async def _hold_first_event(self, response: UpstreamResponse) -> UpstreamError | None:
        """Comments alone prove nothing, but they are no silence either: they are held back no longer than one."""
        clock, ping_seconds = self._dispatcher.clock, self._dispatcher.ping_seconds
        held, size = self.held, 0
        until = clock() + self.endpoint.timeout
        while size < _HOLD_BYTES and clock() < until:
            chunk = await response.read(ping_seconds)
            if chunk is None:
                return None
            if not chunk:
                return ErrorInStream("answered an empty stream")
            held.append(chunk)
            size += len(chunk)
            event = first_event(chunk if len(held) == 1 else b"".join(held))
            if event is not None:
                self.complete = response.complete
                return _error_in(event)
        return None

    async def _hold_body(self) -> None:
        """A short answer is held back until it is whole, so that a break in it can still be mended elsewhere."""
        response = self.response
        assert response is not None  # noqa: S101
        if not self.held and not self.complete:
            await self._hold(response, _HOLD_BYTES)

    async def _hold(self, response: UpstreamResponse, size: int) -> None:
        """Read until at least `size` bytes are held, or all there is."""
        while size > 0 and not self.complete:
            chunk = await response.read() or b""
            self.held.append(chunk)
            self.complete = response.complete  # nothing comes behind what was read last, so no need to ask
            size -= len(chunk)

    def _note_wait(self, seconds: float | None) -> None:
        if seconds is not None and (self.retry_after_seconds is None or seconds < self.retry_after_seconds):
            self.retry_after_seconds = seconds

    # -- the end ---------------------------------------------------------------------------------------------------

    def _status_words(self) -> str:
        if self._verdict is GOOD and self.response is not None and self.response.status == 200:
            return "answered 200"
        return f"answered {self.response.status}" if self.response is not None else "no answer"

    def _end_attempt(self, outcome: Outcome, result: str, usage: Usage | None = None) -> None:
        lease, response = self.lease, self.response
        if lease is None:
            return
        dispatcher = self._dispatcher
        now = dispatcher.clock()
        trouble = outcome is FAILED or outcome is REJECTED
        declined = response is not None and response.status == 404
        self.lease = self.response = None
        try:
            if response is not None:
                response.close()  # first, so that whoever is let in by the release finds the connection
        finally:
            if trouble or declined:
                lease.release(
                    outcome,
                    now,
                    usage,
                    error=result if trouble else "",
                    credentials=self._verdict.credentials,
                    declined=declined,
                    retry_after_seconds=self._retry_after_of(response) if trouble else None,
                )
            else:
                lease.release(outcome, now, usage)
        endpoint = lease.endpoint
        seconds = now - lease.acquired_at
        fields = (endpoint.id, endpoint.name, seconds, outcome.value, result, lease.panic, lease.passed_over)
        record = tuple.__new__(AttemptRecord, fields)  # by its name it would cost four times as much
        self.attempts.append(record)
        if dispatcher.on_attempt is not None:
            dispatcher.on_attempt(record)
        if declined:
            dispatcher.model_missed(self.request.model, endpoint.id)

    def _retry_after_of(self, response: UpstreamResponse | None) -> float | None:
        if response is None or response.status not in (429, 503):
            return None
        return retry_after(response.headers, self._dispatcher.wall_clock())

    def finish(self, usage: Usage | None, *, broken: UpstreamError | None = None, abandoned: str = "") -> None:
        """Give everything back, exactly once. `broken`: why there is no answer, or why a committed one broke.

        `abandoned`: why the exchange ends without a verdict on the endpoint, such as a client that left.
        """
        if self._finished:
            return
        self._finished = True
        self._dispatcher.budget.active_requests -= 1
        if self._verdict is not GOOD:  # else it was done when that was clear
            self._settle()
        if self.lease is None:
            return
        if abandoned:
            self._end_attempt(NEUTRAL, abandoned, usage)
        elif broken is not None:
            verdict = judge_error(broken, retry_on_timeout=self._dispatcher.retry_on_timeout)
            self._end_attempt(verdict.outcome, str(broken), usage)
        else:
            self._end_attempt(self._verdict.outcome, self._status_words(), usage)


def _error_in(event: FirstEvent) -> UpstreamError | None:
    if event.is_end:
        return ErrorInStream("answered an empty stream")
    if not event.is_error:
        return None
    # Not its message: that may repeat the prompt, or the key, and these words go into logs.
    kind = error_kind(event.data)
    return ErrorInStream(f"answered a stream that begins with an error{f' ({kind})' if kind else ''}")


def _is_event_stream(headers: list[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return value.lower().startswith(_EVENT_STREAM)
    return False
