"""What would happen to a request, and why: asked of the code that routes, of which nothing is changed by asking."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import orjson
from starlette.responses import Response

from balancer.admin.gate import Body, Call, Operation
from balancer.admin.models import EXPLAIN, RequestToExplain
from balancer.admin.problems import answer
from balancer.core.affinity import KeySource, key_of
from balancer.core.endpoints import RouteRequest
from balancer.core.errors import AllBusy, BalancerError, BodyTooLarge, Draining, NotEligible
from balancer.core.explanation import Candidate, Explanation
from balancer.core.model_names import AutoModel
from balancer.core.pins import Pin, meant, settle
from balancer.dispatch.dispatcher import Dispatcher
from balancer.wire.openai import answer_for
from balancer.wire.stored_responses import StoredResponses

# No endpoint has it: who asks for one that is not there asks for none of the others.
_NOBODY = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """What requests meet before they are routed, shared with the data plane.

    `affinity`: whether and by what requests are kept together. `max_body_bytes` bounds a body; `draining` tells
    whether nothing new is taken any more.
    """

    auto: AutoModel = field(default_factory=AutoModel)
    affinity: KeySource = KeySource.OFF
    stored_responses: StoredResponses = field(default_factory=StoredResponses)
    max_body_bytes: int = 32 * 2**20
    draining: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class EndpointName:
    """Which endpoint."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class ExplainedModel:
    """The model as it was asked for, and the one it stands for; None where any would do, or none could be found."""

    asked: str | None
    resolved: str | None


@dataclass(frozen=True, slots=True)
class CandidateView:
    """One endpoint in a decision; `reason` is why it may not take the request, None when it may.

    One that may take it and has a `reason_text` all the same was passed over before any comparison. `score`: the lowest
    wins unless a session decides; None where it was not compared, or is infinite. `share` and
    `virtual_time` are those of the routing mode, for this model. `affinity_preferred`: the session's
    first choice, whatever its load.
    """

    id: int
    name: str
    eligible: bool
    reason: str | None
    reason_text: str | None
    wait_seconds: float | None
    score: float | None
    share: float | None
    virtual_time: float | None
    affinity_preferred: bool


@dataclass(frozen=True, slots=True)
class RefusalView:
    """What the client would be told; `retry_after` in seconds."""

    status: int
    code: str | None
    message: str
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class RetryView:
    """Of a request that has failed already: whether it is sent to another endpoint, and if not, why."""

    allowed: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class ExplanationView:
    """What would happen to a request now.

    `would` is serve, wait (for room in the queue), refuse, or give_up: it has failed and is sent nowhere else, so the
    client gets the last failure. `status` is what the client would get from the balancer: 200 where an endpoint is
    asked, whatever that answers; of a request that waits, what it gets when its time is up; None where it is given up.
    `panic`: served by an endpoint that is thought to be down, as nothing else is left. `affinity` is what makes the
    key of a session, or off. `retry`: where endpoints were tried already.
    """

    would: str
    status: int | None
    endpoint: EndpointName | None
    panic: bool
    model: ExplainedModel
    operation: str
    strategy: str
    affinity: str
    candidates: list[CandidateView]
    refusal: RefusalView | None
    retry: RetryView | None


class ExplainOperations:
    """Explains decisions of `dispatcher` and its pool."""

    def __init__(self, dispatcher: Dispatcher, admission: Admission, clock: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self._pool = dispatcher.pool
        self._admission = admission
        self._clock = clock

    def operations(self) -> list[Operation]:
        """The table of these operations."""
        return [
            Operation(
                "POST",
                "/explain",
                "What would happen to a request now, and why; changes nothing",
                self._explain,
                ExplanationView,
                body=Body(EXPLAIN),
                audited=False,
            )
        ]

    async def _explain(self, call: Call) -> Response:
        asked: RequestToExplain = call.body
        now, tried = self._clock(), frozenset(asked.tried)
        request, resolved, refusal = self._admitted(asked, now)
        explanation = self._pool.explain(request, now, tried)
        if tried and (refusal is None or _is_bound(refusal)):
            retry = self._retry(len(tried), request, explanation)
            would, refusal = ("serve" if retry.allowed else "give_up"), None
        else:
            retry, refusal = None, refusal or explanation.refusal
            would = "serve" if refusal is None else "wait" if self._waits(refusal) else "refuse"
        return answer(self._view(asked, resolved, explanation, would, refusal, retry))

    def _admitted(self, asked: RequestToExplain, now: float) -> tuple[RouteRequest, str | None, BalancerError | None]:
        """What would be routed, with the model that was found for it; or why it does not come so far."""
        admission, model = self._admission, asked.model or None
        request = RouteRequest(None if admission.auto.is_asked(model) else model, asked.size_bytes)
        pin = Pin(asked.node or "", "" if asked.pin is None else str(asked.pin))
        try:
            if not asked.tried:  # those that are under way have passed
                self._check_arrival(asked)
            if asked.operation == "responses":
                pin = replace(pin, kept_at=admission.stored_responses.keeper(asked.previous_response_id))
            pinned_to, resolved = settle(self._pool, admission.auto, pin, model, now)
        except NotEligible as refusal:
            pinned_to = next((state.endpoint.id for state in meant(self._pool, pin)), _NOBODY)
            return request._replace(pinned_to=pinned_to), None, refusal
        except BalancerError as refusal:
            return request, None, refusal
        key = key_of(asked.session.encode()) if asked.session and admission.affinity is not KeySource.OFF else None
        affinity = key if pinned_to is None else None
        return request._replace(model=resolved, pinned_to=pinned_to, affinity=affinity), resolved, None

    def _check_arrival(self, asked: RequestToExplain) -> None:
        """Raises Draining or BodyTooLarge."""
        if self._admission.draining():
            raise Draining
        if asked.size_bytes > self._admission.max_body_bytes:
            raise BodyTooLarge(self._admission.max_body_bytes)

    def _retry(self, tried: int, request: RouteRequest, explanation: Explanation) -> RetryView:
        budget = self._dispatcher.budget
        final = self._dispatcher.why_final(tried, request)
        if final is None and tried == 1 and budget.spent:  # later ones go on what the first one took
            final = (
                f"the retry budget is spent: {budget.active_retries} retries are under way, of {budget.limit} at most"
            )
        if final is None and explanation.endpoint is None:
            final = "no other endpoint may take it"
        return RetryView(final is None, final)

    def _waits(self, refusal: BalancerError) -> bool:
        queue = self._dispatcher.queue
        return isinstance(refusal, AllBusy) and queue.depth < queue.size

    def _view(
        self,
        asked: RequestToExplain,
        resolved: str | None,
        explanation: Explanation,
        would: str,
        refusal: BalancerError | None,
        retry: RetryView | None,
    ) -> ExplanationView:
        endpoint = explanation.endpoint if would == "serve" else None
        refused = None if refusal is None else _refusal(refusal)
        return ExplanationView(
            would=would,
            status=refused.status if refused is not None else 200 if would == "serve" else None,
            endpoint=None if endpoint is None else EndpointName(endpoint.id, endpoint.name),
            panic=explanation.panic and endpoint is not None,
            model=ExplainedModel(asked.model, resolved),
            operation=asked.operation,
            strategy=explanation.strategy,
            affinity=self._admission.affinity.value,
            candidates=[_candidate(each) for each in explanation.candidates],
            refusal=refused,
            retry=retry,
        )


def _is_bound(refusal: BalancerError) -> bool:
    """Whether the endpoint that was asked for exists, and has got the request when it was still eligible."""
    return isinstance(refusal, NotEligible) and bool(refusal.reasons)


def _refusal(refusal: BalancerError) -> RefusalView:
    told = answer_for(refusal)
    error = orjson.loads(told.body)["error"]
    return RefusalView(told.status, error["code"], error["message"], told.retry_after_seconds)


def _candidate(candidate: Candidate) -> CandidateView:
    endpoint, score = candidate.state.endpoint, candidate.score
    return CandidateView(
        id=endpoint.id,
        name=endpoint.name,
        eligible=candidate.eligible,
        reason=candidate.reason,
        reason_text=candidate.reason_text,
        wait_seconds=candidate.wait_seconds,
        score=score if score is not None and math.isfinite(score) else None,
        share=candidate.share,
        virtual_time=candidate.virtual_time,
        affinity_preferred=candidate.affinity_preferred,
    )
