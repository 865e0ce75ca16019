"""`GET /v1/models` and `GET /v1/models/{id}`: what the connected endpoints serve, as one list."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from balancer.core.endpoints import Endpoint
from balancer.core.errors import BalancerError, InvalidRequest, NoneEligible, Unauthorized, UpstreamError
from balancer.health import Health
from balancer.proxy.gateway import Gateway
from balancer.upstream.control import ControlClient
from balancer.wire.answers import merge_models
from balancer.wire.openai import answer_for

# A list is asked for again after this long; clients poll it, and backends should not notice.
_KEPT_SECONDS = 15.0


class _Known(NamedTuple):
    endpoint: Endpoint
    until: float
    models: tuple[object, ...] | None  # None: the endpoint did not tell


class ModelsEndpoint:
    """Merges the lists of all connected endpoints; those that do not answer, or are down, are left out.

    `health` knows most lists already; only the others are asked for.
    """

    def __init__(self, gateway: Gateway, control: ControlClient, health: Health | None = None) -> None:
        self._gateway = gateway
        self._control = control
        self._health = health
        self._known: dict[int, _Known] = {}

    async def all(self, request: Request) -> Response:
        """The merged list."""
        try:
            models = await self._merged(request)
        except BalancerError as error:
            return _refusal(error)
        return _json({"object": "list", "data": models})

    async def one(self, request: Request) -> Response:
        """One model of the merged list; its id may contain slashes."""
        wanted = request.path_params["id"]
        try:
            for model in await self._merged(request):
                if model["id"] == wanted:
                    return _json(model)
        except BalancerError as error:
            return _refusal(error)
        return _refusal(
            InvalidRequest(
                f"the model {wanted!r} does not exist: GET /v1/models lists those that are served",
                param="model",
                code="model_not_found",
                status=404,
            )
        )

    async def _merged(self, request: Request) -> list[dict[str, object]]:
        authorization = request.headers.get("authorization")
        if self._gateway.tokens.authenticate(authorization.encode("latin-1") if authorization else None) is None:
            raise Unauthorized("the client token is missing or not valid; send it as 'Authorization: Bearer <token>'")
        states = self._gateway.dispatcher.pool.states
        connected = [s.endpoint for s in states.values() if s.endpoint.connected and s.endpoint.enabled]
        if not connected:
            raise NoneEligible(None, {s.endpoint.name: "not connected" for s in states.values()})
        lists = await asyncio.gather(*(self._models_of(endpoint) for endpoint in connected))
        told = [models for models in lists if models is not None]
        if not told:
            raise UpstreamError("no connected endpoint told which models it serves")
        return merge_models(told)

    async def _models_of(self, endpoint: Endpoint) -> tuple[object, ...] | None:
        aliases = tuple({"id": name} for name in endpoint.model_aliases)
        if endpoint.models:
            return tuple({"id": name} for name in endpoint.models) + aliases
        listed = self._health.listed(endpoint) if self._health is not None else None
        models = listed.models if listed is not None else await self._asked(endpoint)
        return None if models is None else models + aliases

    async def _asked(self, endpoint: Endpoint) -> tuple[object, ...] | None:
        now = self._gateway.clock()
        known = self._known.get(endpoint.id)
        if known is None or known.endpoint != endpoint or now >= known.until:
            answer = await self._control.models(endpoint)
            known = _Known(endpoint, now + _KEPT_SECONDS, answer.models if answer.ok else None)
            self._known[endpoint.id] = known
        return known.models


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _refusal(error: BalancerError) -> Response:
    answer = answer_for(error)
    wait = answer.retry_after_seconds
    headers = {"retry-after": str(wait)} if wait is not None else None
    return Response(answer.body, answer.status, headers=headers, media_type="application/json")
