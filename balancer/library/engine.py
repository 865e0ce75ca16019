"""What a balancer in a script is made of, for one event loop: pool, connections, probes, dispatcher, its own counts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import NamedTuple

from balancer.core.endpoints import Endpoint as CoreEndpoint
from balancer.core.endpoints import RouteRequest
from balancer.core.model_names import AutoModel
from balancer.core.pool import EndpointPool
from balancer.core.probes import ProbeRules
from balancer.core.strategies import resolve_strategy
from balancer.dispatch.dispatcher import Dispatcher
from balancer.dispatch.exchange import Exchange
from balancer.health import Health
from balancer.library.calls import Call
from balancer.library.catalogue import Catalogue
from balancer.library.configuration import Options
from balancer.library.requests import Prepared
from balancer.library.statistics import Stats, Tally, stats_of
from balancer.library.values import Endpoint, base_url_of, core_endpoint
from balancer.traffic import AttemptRecord
from balancer.upstream.connections import Connections
from balancer.upstream.control import ControlClient
from balancer.wire.openai import rewrite

logger = logging.getLogger("balancer.library")

_LONGEST_PROBE_SECONDS = 10.0
# Calls beyond all limits wait; how many there are is the script's own affair.
_MOST_WAITING = 1_000_000


class Attempt(NamedTuple):
    """One attempt of a call, as `on_attempt` is told of it when it has ended.

    `outcome`: success; failed, the endpoint's fault; rejected, it was throttled; neutral, nobody's or the call's own.
    """

    endpoint: str
    outcome: str
    reason: str
    seconds: float


class Engine:
    """Serves one event loop, the one that `start` is called on first."""

    def __init__(
        self, options: Options, on_attempt: Callable[[Attempt], object] | None, environ: Mapping[str, str]
    ) -> None:
        probe_seconds = min(options.timeout, _LONGEST_PROBE_SECONDS)
        self.options = options
        self.clock = time.monotonic
        self._ids = count(1)
        self._endpoints: dict[int, Endpoint] = {}
        self._tallies: dict[int, Tally] = {}
        self._pool = EndpointPool(strategy=resolve_strategy(options.strategy.value))
        self._connections = Connections(environ=environ)
        self._control = ControlClient(timeout_seconds=probe_seconds, environ=environ)
        self._health = Health(self._pool, self._control, _probe_rules(options))
        self._dispatcher = Dispatcher(
            self._pool,
            self._connections,
            max_retries=options.max_retries,
            retry_budget_percent=100.0,  # `retry_count` is a promise here; there are no strangers to save from storms
            queue_size=_MOST_WAITING,
            queue_timeout_seconds=options.max_wait_seconds,
        )
        self._dispatcher.on_attempt = self._count
        self._dispatcher.on_model_miss = self._doubt
        self._catalogue = Catalogue(self._health)
        self._auto = AutoModel()
        self._on_attempt = on_attempt
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        for endpoint in options.endpoints:
            self._enlist(endpoint)
        self._apply()

    @property
    def closed(self) -> bool:
        """Whether it serves nothing any more."""
        return self._closed

    def __repr__(self) -> str:
        return f"{self._pool!r}{', closed' if self._closed else ''}"

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Before every use. Raises RuntimeError on another event loop than the first, and after `close`."""
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the balancer is closed")
        if self._loop is None:
            self._loop = loop
            self._health.start()
        elif self._loop is not loop:
            raise RuntimeError("the balancer belongs to another event loop: make one for each, or use LoadBalancer")

    async def close(self) -> None:
        """Cut what runs and close every connection; may be repeated."""
        if self._closed:
            return
        self._closed = True
        await self._health.stop()
        await self._catalogue.close()
        await self._connections.close()
        await self._control.close()

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def add(self, endpoint: Endpoint) -> None:
        """Take one more into the choice, at once."""
        self._enlist(endpoint)
        self._apply()

    def remove(self, url: str) -> bool:
        """Choose those with that URL no more; what runs there finishes. Whether there were any."""
        try:
            base_url = base_url_of(url)
        except ValueError:
            return False  # none can have it
        leaving = [eid for eid, endpoint in self._endpoints.items() if base_url_of(endpoint.url) == base_url]
        for eid in leaving:
            del self._endpoints[eid], self._tallies[eid]
            self._catalogue.forget(eid)
        if leaving:
            self._apply()
            for eid in leaving:
                self._connections.forget(eid)
        return bool(leaving)

    def _enlist(self, endpoint: Endpoint) -> None:
        eid = next(self._ids)
        self._endpoints[eid] = endpoint
        self._tallies[eid] = Tally()

    def _apply(self) -> None:
        timeout = self.options.timeout
        self._pool.apply(core_endpoint(endpoint, eid, timeout) for eid, endpoint in self._endpoints.items())

    def stats(self) -> Stats:
        """How all attempts went, by endpoint and in all."""
        return stats_of(self.options.strategy, self._endpoints, self._pool.states, self._tallies, self.clock())

    async def models(self) -> list[dict[str, object]]:
        """The models of all endpoints that tell, in the order of the endpoints, each once."""
        states = self._pool.in_service()
        lists = await asyncio.gather(*(self._catalogue.models(state.endpoint) for state in states))
        found: dict[str, dict[str, object]] = {}
        for state, models in zip(states, lists, strict=True):
            for model in (*models, *({"id": name} for name in state.endpoint.model_aliases)):
                found.setdefault(model["id"], {"object": "model", "created": 0, "owned_by": "local"} | dict(model))
        return list(found.values())

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, prepared: Prepared, *, verbatim: bool, pinned_to: int | None = None) -> Call:
        """A new call; it must be opened, and then ended. `pinned_to`: id of the one endpoint that may serve it."""
        operation, parsed, body = prepared.operation, prepared.parsed, prepared.body
        is_open = self._leaves_model_open(parsed.model)

        async def tailor(endpoint: CoreEndpoint) -> bytes:
            made = body
            if is_open:
                made = rewrite(made, parsed, model=await self._catalogue.first_model(endpoint))
            own = self._endpoints.get(endpoint.id)
            return made if own is None else prepared.with_defaults(made, own)

        model = None if is_open else parsed.model
        exchange = Exchange(
            self._dispatcher,
            operation,
            parsed,
            RouteRequest(model, len(body), parsed.stream, pinned_to),
            operation.path + b"?" + prepared.query if prepared.query else operation.path,
            prepared.headers,
            body,
            tailor if is_open or prepared.defaults else None,
        )
        return Call(exchange, operation, parsed, len(body), self.clock, verbatim=verbatim)

    def _leaves_model_open(self, model: str | None) -> bool:
        """Whether each endpoint is to be asked for its own first model."""
        if model is None or not self._auto.is_asked(model):
            return model is None
        return not any(model in (*each.models, *each.model_aliases) for each in self._endpoints.values())

    # -- what the dispatcher tells -----------------------------------------------------------------------------------

    def _count(self, record: AttemptRecord) -> None:
        tally = self._tallies.get(record.endpoint_id)
        if tally is not None:
            tally.count(record)
        if self._on_attempt is None:
            return
        try:
            self._on_attempt(Attempt(record.endpoint, record.outcome, record.result, record.seconds))
        except Exception:  # whatever the script's function does, the call goes on
            logger.exception("on_attempt failed")

    def _doubt(self, model: str | None, endpoint_id: int | None) -> None:
        """An endpoint did not know a model after all, or nobody does: the lists may be old."""
        if endpoint_id is not None:
            self._catalogue.forget(endpoint_id)
        self._health.refresh_soon(f"a call for model {model!r}", endpoint_id)


def _probe_rules(options: Options) -> ProbeRules:
    interval_seconds = options.health_check_interval if options.enable_health_check else 0.0
    return ProbeRules(interval_seconds=interval_seconds, rise=1, fall=3)
