"""Interfaces of older systems, for clients and dashboards that still ask them: nodes, eligibility, routing statistics.

They tell of the same moment, in the same words, as the admin API and the routing itself. They need a client token or
the admin token once there are client tokens; only `/healthz` is open, and carries no URL and no name of a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from balancer.auth import Admin, AdminAuth, AdminRefusal, ClientTokens
from balancer.core.endpoints import Outcome, RouteRequest
from balancer.core.errors import ModelNotFound, Unauthorized
from balancer.core.model_names import AutoModel
from balancer.core.nodes import node_of
from balancer.core.pool import EndpointPool
from balancer.core.reasons import Reason, describe, wait_seconds
from balancer.core.retries import RetryFigures
from balancer.core.state import EndpointState
from balancer.guesses import Guesses, TooManyGuesses
from balancer.store import iso_time
from balancer.traffic import Traffic
from balancer.wire.openai import answer_for

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_ANYTHING = RouteRequest(None)
# What the older system called them; all other reasons it did not have.
_OLD_WORDS = {Reason.MODEL_NOT_SERVED: "model_missing", Reason.COOLING_DOWN: "circuit_open"}
_UNAUTHORIZED = "a client token or the admin token is needed; send it as 'Authorization: Bearer <token>'"

_Answer = Callable[[Request], Awaitable[Response]]


class LegacyInterfaces:
    """Reads pool and traffic; changes nothing. `clock` is monotonic, `wall_clock` Unix time; both in seconds."""

    def __init__(
        self,
        pool: EndpointPool,
        traffic: Traffic,
        auto: AutoModel,
        budget: RetryFigures,
        tokens: ClientTokens,
        admin_auth: AdminAuth,
        guesses: Guesses,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._traffic = traffic
        self._auto = auto
        self._budget = budget
        self._tokens = tokens
        self._admin_auth = admin_auth
        self._guesses = guesses
        self._clock = clock
        self._wall_clock = wall_clock

    def routes(self) -> list[BaseRoute]:
        """All of them; each `/v1` path is fixed, so they belong before the ones with a pool's name."""
        guarded = {
            "/v1/nodes": self.nodes,
            "/v1/eligible_nodes": self.eligible_nodes,
            "/v1/debug/eligible": self.debug_eligible,
            "/api/routing/stats": self.routing_stats,
        }
        return [
            *(Route(path, self._guarded(answer), methods=["GET"]) for path, answer in guarded.items()),
            Route("/healthz", self.healthz, methods=["GET"]),
        ]

    async def nodes(self, _: Request) -> Response:
        """Every endpoint that is connected, with why it takes nothing, if so, and for how long."""
        now, budget = self._clock(), self._budget
        return _json(
            {
                "data": [self._node(state, now) for state in self._pool.in_service()],
                "retry_budget": {
                    "limit": budget.limit,
                    "active_retries": budget.active_retries,
                    "active_requests": budget.active_requests,
                    "refused_total": budget.refused_total,
                },
            }
        )

    async def eligible_nodes(self, request: Request) -> Response:
        """Who would take a request for `model` now."""
        asked = request.query_params.get("model")
        if asked is None:
            return _model_required()
        reasons = self._reasons(asked, self._clock())
        return _json({"data": _nodes(state for state, reason in reasons.items() if reason is None)})

    async def debug_eligible(self, request: Request) -> Response:
        """The same with who would not, and why."""
        asked = request.query_params.get("model")
        if asked is None:
            return _model_required()
        now = self._clock()
        reasons = self._reasons(asked, now)
        return _json(
            {
                "healthy": _nodes(state for state in reasons if state.healthy),
                "eligible": _nodes(state for state, reason in reasons.items() if reason is None),
                "details": [self._detail(state, reason, asked, now) for state, reason in reasons.items()],
            }
        )

    async def routing_stats(self, _: Request) -> Response:
        """The routing mode, and by endpoint's name what it has done since the last reset."""
        states = self._pool.states.values()
        stats = {state.endpoint.name: self._provider(state) for state in states}
        return _json({"routing_strategy": self._pool.strategy.name, "provider_stats": stats})

    async def healthz(self, _: Request) -> Response:
        """200 while the process lives, whatever becomes of the endpoints."""
        now, providers = self._clock(), {}
        for state in self._pool.in_service():
            reason = self._pool.why_not(state, _ANYTHING, now)
            healthy = reason in (None, Reason.FULL)
            providers[state.endpoint.name] = {"healthy": healthy, "reason": None if healthy else str(reason)}
        routable = any(provider["healthy"] for provider in providers.values())
        return _json({"status": "healthy" if routable else "degraded", "providers": providers})

    # -- who may ask -----------------------------------------------------------------------------------------------

    def _guarded(self, answer: _Answer) -> _Answer:
        async def guarded(request: Request) -> Response:
            try:
                if self._may_ask(request):
                    return await answer(request)
            except TooManyGuesses as error:
                return _json({"detail": str(error)}, 429, {"retry-after": str(error.wait_seconds)})
            if not request.url.path.startswith("/v1/"):
                return _json({"detail": _UNAUTHORIZED}, 401)
            refusal = answer_for(Unauthorized(_UNAUTHORIZED))
            return Response(refusal.body, refusal.status, media_type="application/json")

        return guarded

    def _may_ask(self, request: Request) -> bool:
        headers = request.scope["headers"]
        authorization = next((value for name, value in headers if name == b"authorization"), None)
        if self._tokens.authenticate(authorization) is not None:
            return True
        admin = self._admin_auth.authenticate(headers, method=request.method, now=self._wall_clock())
        if admin is AdminRefusal.WRONG or (isinstance(admin, Admin) and admin.via == "token"):
            address = request.client.host if request.client else "somewhere"
            self._guesses.judge(address, isinstance(admin, Admin), self._wall_clock())
        return isinstance(admin, Admin)

    # -- what is told ----------------------------------------------------------------------------------------------

    def _node(self, state: EndpointState, now: float) -> dict[str, Any]:
        endpoint, known = state.endpoint, state.known_models()
        return {
            "node": node_of(endpoint.base_url),
            "inflight": state.inflight,
            "failures": state.breaker.failures,
            "maxconn": endpoint.max_concurrent,
            "name": endpoint.name,
            "endpoint_id": endpoint.id,
            "models": None if known is None else sorted(known | endpoint.model_aliases.keys()),
            "healthy": state.healthy,
            "breaker": state.breaker.state.value,
            "panics": self._traffic.panics[endpoint.id],
            **self._standing(state, self._pool.why_not(state, _ANYTHING, now), now),
        }

    def _standing(self, state: EndpointState, reason: Reason | None, now: float) -> dict[str, Any]:
        if reason is None:
            return {"eligible": True, "reason": None, "reason_text": None, "wait_seconds": None}
        wait = wait_seconds(state, reason, now)
        return {
            "eligible": False,
            "reason": str(reason),
            "reason_text": describe(state, reason, now),
            "wait_seconds": None if wait is None else round(wait, 1),
        }

    def _reasons(self, asked: str, now: float) -> dict[EndpointState, Reason | None]:
        """Why each connected endpoint would not take a request for that model, "auto" included."""
        pool, model = self._pool, asked or None
        if self._auto.is_asked(model):
            try:
                model = self._auto.choose(pool, model, now)
            except ModelNotFound:
                return dict.fromkeys(pool.in_service(), Reason.MODEL_NOT_SERVED)
        request = RouteRequest(model)
        return {state: pool.why_not(state, request, now) for state in pool.in_service()}

    def _detail(self, state: EndpointState, reason: Reason | None, asked: str, now: float) -> dict[str, Any]:
        endpoint = state.endpoint
        times = self._traffic.times.get((endpoint.upstream_model(asked) or asked, endpoint.id))
        return {
            "node": node_of(endpoint.base_url),
            "name": endpoint.name,
            "endpoint_id": endpoint.id,
            "has_model": reason is not Reason.MODEL_NOT_SERVED,
            "cb_open": not state.breaker.admits(now),
            "p95": None if times is None else times.latency.quantile(0.95),
            "skipped": reason is not None,
            **self._standing(state, reason, now),
            "reason": None if reason is None else _OLD_WORDS.get(reason, str(reason)),
        }

    def _provider(self, state: EndpointState) -> dict[str, Any]:
        last, endpoint_id = self._traffic.last_attempts, state.endpoint.id
        failures = (last.get((endpoint_id, outcome.value)) for outcome in (Outcome.FAILED, Outcome.REJECTED))
        total = state.total_requests
        return {
            "total_requests": total,
            "successful_requests": state.total_success,
            "failed_requests": state.total_failures,
            "success_rate": state.total_success / total if total else 0.0,
            "avg_latency_ms": round(state.average_latency_ms, 1),
            "consecutive_failures": state.breaker.failures,
            "last_success": _iso(last.get((endpoint_id, Outcome.SUCCESS.value))),
            "last_failure": _iso(max((at for at in failures if at is not None), default=None)),
        }


def _nodes(states: Iterable[EndpointState]) -> list[str]:
    return sorted({node_of(state.endpoint.base_url) for state in states})


def _iso(at: float | None) -> str | None:
    return None if at is None else iso_time(at)


def _json(content: object, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store", **headers})


def _model_required() -> Response:
    """What the older system's framework answered."""
    problem = {"type": "missing", "loc": ["query", "model"], "msg": "Field required", "input": None}
    return _json({"detail": [problem]}, 422)
