"""Health, readiness and metrics: open to everybody, so they carry no URL and no name of a client."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from balancer.core.endpoints import RouteRequest
from balancer.core.pool import EndpointPool
from balancer.core.reasons import Reason
from balancer.metrics import CONTENT_TYPE, render
from balancer.traffic import Traffic

_ANYTHING = RouteRequest(None)
# A full endpoint is working as it should; it does not make the balancer unready.
_ROUTABLE = frozenset({None, Reason.FULL})


class Status:
    """The status interfaces. `draining` and `database_trouble` are asked at each call; the latter is None or words."""

    def __init__(
        self,
        pool: EndpointPool,
        traffic: Traffic,
        collectors: Sequence[Collector],
        *,
        draining: Callable[[], bool],
        database_trouble: Callable[[], str | None],
        clock: Callable[[], float],
        minimum_required: int,
        version: str,
    ) -> None:
        self._pool = pool
        self._traffic = traffic
        self._collectors = collectors
        self._draining = draining
        self._database_trouble = database_trouble
        self._clock = clock
        self._minimum_required = minimum_required
        self._version = version

    def routes(self) -> list[BaseRoute]:
        """`/health`, `/ready` and `/metrics`."""
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/ready", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def health(self, _: Request) -> Response:
        """200 while the process serves; `status` is "degraded" when too few endpoints are routable."""
        now = self._clock()
        rates = self._traffic.rates(now)
        states = self._pool.states.values()
        found = self._routable(now)
        return JSONResponse(
            {
                "status": "ok" if found >= self._minimum_required else "degraded",
                "endpoints": len(states),
                "connected": sum(state.endpoint.connected for state in states),
                "routing_mode": self._pool.strategy.name,
                "tokens_per_second": round(rates.tokens_per_second, 1),
                "requests_per_second": round(rates.requests_per_second, 1),
                "total_inflight": sum(state.inflight for state in states),
                "inflight_per_endpoint": {str(state.endpoint.id): state.inflight for state in states},
                "nodes_found": found,
                "minimum_required": self._minimum_required,
                "version": self._version,
            },
            headers={"cache-control": "no-store"},
        )

    async def ready(self, _: Request) -> Response:
        """503 while draining or while nothing is routable. A failing database is told, but traffic does not need it."""
        draining, routable = self._draining(), self._routable(self._clock())
        ready = routable > 0 and not draining
        trouble = self._database_trouble()
        body = {
            "ready": ready,
            "draining": draining,
            "routable_endpoints": routable,
            "database": trouble or "ok",
        }
        return JSONResponse(body, status_code=200 if ready else 503, headers={"cache-control": "no-store"})

    async def metrics(self, _: Request) -> Response:
        """The Prometheus text format."""
        return Response(render(*self._collectors), headers={"content-type": CONTENT_TYPE})

    def _routable(self, now: float) -> int:
        return sum(self._pool.why_not(state, _ANYTHING, now) in _ROUTABLE for state in self._pool.states.values())
