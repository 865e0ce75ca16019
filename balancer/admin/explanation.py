"""What would happen to a request, and why: asked of the code that routes, of which nothing is changed by asking."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from starlette.responses import Response

from balancer.admin.gate import Body, Call, Operation
from balancer.admin.models import EXPLAIN, RequestToExplain
from balancer.admin.problems import answer
from balancer.core.affinity import KeySource, key_of
from balancer.core.endpoints import RouteRequest
from balancer.core.errors import AllBusy, NoEndpoint, NotEligible
from balancer.core.explanation import Candidate, Explanation
from balancer.core.model_names import AutoModel
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.dispatch.queue import AdmissionQueue
from balancer.wire.openai import answer_for

# No endpoint has it: who asks for one that is not there asks for none of the others.
_NOBODY = 0
_ID = re.compile("[0-9]{1,15}", re.ASCII)


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
class ExplanationView:
    """What would happen to a request now: `would` is serve, wait (for room in the queue) or refuse.

    `status` is what the client would get from the balancer: 200 where an endpoint is asked, whatever that answers; of a
    request that waits, what it gets when its time is up. `panic`: served by an endpoint that is thought to be down, as
    nothing else is left. `affinity` is what makes the key of a session, or off.
    """

    would: str
    status: int
    endpoint: EndpointName | None
    panic: bool
    model: ExplainedModel
    operation: str
    strategy: str
    affinity: str
    candidates: list[CandidateView]
    refusal: RefusalView | None


class ExplainOperations:
    """Explains decisions. `affinity`: whether and by what requests are kept together."""

    def __init__(
        self,
        pool: EndpointPool,
        queue: AdmissionQueue,
        auto: AutoModel,
        affinity: KeySource,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._queue = queue
        self._auto = auto
        self._affinity = affinity
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
            )
        ]

    async def _explain(self, call: Call) -> Response:
        asked: RequestToExplain = call.body
        now = self._clock()
        pinned = self._pinned(asked.pin)
        pinned_to = None if asked.pin is None else pinned.endpoint.id if pinned is not None else _NOBODY
        key = key_of(asked.session.encode()) if asked.session and self._affinity is not KeySource.OFF else None
        request = RouteRequest(
            asked.model or None, asked.size_bytes, pinned_to=pinned_to, affinity=key if pinned_to is None else None
        )
        resolved, refusal = None, None
        try:
            request = request._replace(model=self._resolved(request, now))
            resolved = request.model
            self._check_pin(asked.pin, pinned, request, now)
        except NoEndpoint as before_routing:
            refusal = before_routing
        explanation = self._pool.explain(request, now, frozenset(asked.tried))
        return answer(self._view(asked, resolved, explanation, refusal or explanation.refusal))

    def _pinned(self, pin: str | int | None) -> EndpointState | None:
        """The endpoint that is meant, by name or else by id."""
        states = self._pool.states
        named = next((state for state in states.values() if state.endpoint.name == pin), None)
        if named is not None or pin is None or _ID.fullmatch(str(pin)) is None:
            return named
        return states.get(int(pin))

    def _resolved(self, request: RouteRequest, now: float) -> str | None:
        """The model to route by. Raises ModelNotFound."""
        if not self._auto.is_asked(request.model):
            return request.model
        return self._auto.choose(self._pool, request.model, now, request.pinned_to)

    def _check_pin(self, pin: str | int | None, state: EndpointState | None, request: RouteRequest, now: float) -> None:
        """An endpoint that was asked for serves or nobody does, and in no need while it is not eligible."""
        if pin is None:
            return
        if state is None:
            raise NotEligible(str(pin), request.model)
        reason = self._pool.why_not(state, request, now)
        if reason is not None:
            words = self._pool.describe(state, reason, now)
            raise NotEligible(str(pin), request.model, {state.endpoint.name: words})

    def _view(
        self, asked: RequestToExplain, resolved: str | None, explanation: Explanation, refusal: NoEndpoint | None
    ) -> ExplanationView:
        endpoint = explanation.endpoint if refusal is None else None
        refused = None if refusal is None else _refusal(refusal)
        return ExplanationView(
            would="serve" if refusal is None else "wait" if self._waits(refusal, asked) else "refuse",
            status=200 if refused is None else refused.status,
            endpoint=None if endpoint is None else EndpointName(endpoint.id, endpoint.name),
            panic=explanation.panic and refusal is None,
            model=ExplainedModel(asked.model, resolved),
            operation=asked.operation,
            strategy=explanation.strategy,
            affinity=self._affinity.value,
            candidates=[_candidate(each) for each in explanation.candidates],
            refusal=refused,
        )

    def _waits(self, refusal: NoEndpoint, asked: RequestToExplain) -> bool:
        """Only a first attempt waits for room."""
        return isinstance(refusal, AllBusy) and not asked.tried and self._queue.depth < self._queue.size


def _refusal(refusal: NoEndpoint) -> RefusalView:
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
