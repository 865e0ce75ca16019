"""Which models endpoints serve, for calls that name none and for lists of models: asked once, kept until doubted."""

from __future__ import annotations

import asyncio

from balancer.core.endpoints import Endpoint
from balancer.core.errors import ConnectError, ProtocolError
from balancer.health import Health
from balancer.upstream.control import Model, ModelsAnswer


class Catalogue:
    """What endpoints told of their models. Probes keep it fresh; without them each endpoint is asked when needed."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._known: dict[int, tuple[Endpoint, tuple[Model, ...]]] = {}
        self._asking: dict[int, asyncio.Task[ModelsAnswer]] = {}

    async def first_model(self, endpoint: Endpoint) -> str:
        """The model for a call that names none.

        Raises ConnectError where the endpoint cannot be reached, ProtocolError where it does not tell any.
        """
        models = self._told(endpoint)
        if not models:
            answer = await self._asked(endpoint)
            models = answer.models
            if answer.verdict in ("unreachable", "timeout"):
                raise ConnectError(answer.reason)
        if not models:
            why = "" if answer.ok else f" ({answer.reason})"
            raise ProtocolError(f"does not tell which models it serves{why}; name one")
        name: str = models[0]["id"]
        return name

    async def models(self, endpoint: Endpoint) -> tuple[Model, ...]:
        """Its models, the configured ones or as it lists them; empty where it does not tell."""
        return self._told(endpoint) or (await self._asked(endpoint)).models

    def _told(self, endpoint: Endpoint) -> tuple[Model, ...]:
        """What is known without asking; empty where nothing is."""
        if endpoint.models:
            return tuple({"id": name} for name in endpoint.models)
        listed = self._health.listed(endpoint)
        if listed is not None and listed.models:
            self._known[endpoint.id] = (endpoint, listed.models)
            return listed.models
        known = self._known.get(endpoint.id)
        return known[1] if known is not None and known[0] == endpoint else ()

    async def _asked(self, endpoint: Endpoint) -> ModelsAnswer:
        answer = await self._ask(endpoint)
        if answer.models:
            self._known[endpoint.id] = (endpoint, answer.models)
        return answer

    def forget(self, endpoint_id: int) -> None:
        """What was known of it is doubtful, or it is gone."""
        self._known.pop(endpoint_id, None)

    async def close(self) -> None:
        """Wait for no answer any more."""
        for task in tuple(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask(self, endpoint: Endpoint) -> ModelsAnswer:
        """Ask, together with all who want to know the same at this moment."""
        task = self._asking.get(endpoint.id)
        if task is None:
            task = asyncio.create_task(self._health.probe(endpoint))
            self._asking[endpoint.id] = task
            task.add_done_callback(lambda _: self._asking.pop(endpoint.id, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise ConnectError("the balancer is shutting down") from None
