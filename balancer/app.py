"""The composition root: builds every object from the settings and hangs the routes on them. Nobody imports it
but those who start it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from balancer import __version__
from balancer.admin.api import AdminApi
from balancer.admin.configuration import LiveConfiguration
from balancer.admin.explanation import Admission
from balancer.admin.pages import ENTRY, admin_pages
from balancer.admin.tokens import live_token
from balancer.auth import AdminAuth, ClientTokens
from balancer.core.affinity import KeySource
from balancer.core.errors import BalancerError
from balancer.core.model_names import AutoModel
from balancer.core.pool import EndpointPool
from balancer.core.probes import ProbeRules
from balancer.descriptors import open_files
from balancer.discovery import Discovery, addresses
from balancer.dispatch.dispatcher import Dispatcher
from balancer.guesses import Guesses
from balancer.health import Health
from balancer.legacy import LegacyInterfaces
from balancer.legacy_metrics import LegacyCollector
from balancer.metrics import BalancerCollector, ClientCollector
from balancer.proxy.affinity import Affinity
from balancer.proxy.endpoint import ProxyEndpoint
from balancer.proxy.gateway import Gateway
from balancer.proxy.models import ModelsEndpoint
from balancer.proxy.reception import ClientLimits, Reception
from balancer.setting_texts import overview
from balancer.settings import Settings
from balancer.status import Status
from balancer.store import (
    ConfigurationStore,
    Database,
    KeyCipher,
    TokenStore,
    UsageStore,
    UsageWriter,
    encrypt_stored_keys,
)
from balancer.traffic import Traffic
from balancer.upstream.connections import Connections
from balancer.upstream.control import ControlClient
from balancer.usage_feed import UsageFeed
from balancer.web.bundle import find_bundle
from balancer.wire.openai import OPERATIONS, answer_for, error_body
from balancer.wire.stored_responses import StoredResponses
from balancer.workers.figures import WholeCounts, WorkersCollector
from balancer.workers.follower import Follower
from balancer.workers.lead import Lead
from balancer.workers.numbers import WorkerNumbers
from balancer.workers.place import Place, opened
from balancer.workers.shared_pool import SharedPool
from balancer.workers.table import Field, Phase, Table

logger = logging.getLogger("balancer")

_NO_PROBES = ProbeRules(interval_seconds=0.0)


class Balancer:
    """Everything one process holds. Made before the event loop runs; opened and closed by the lifespan."""

    def __init__(
        self, settings: Settings, admin_token: str, environ: Mapping[str, str], place: Place | None = None
    ) -> None:
        self.settings = settings
        self.place = place
        numbers = WorkerNumbers(Table(place.table, place.count), place.number) if place is not None else None
        rules: Any = {
            "strategy": settings.routing_strategy,
            "fail_threshold": settings.fail_threshold,
            "cooldown_seconds": settings.cooldown_seconds,
            "failure_memory_seconds": settings.failure_memory_seconds or math.inf,
            "max_connections": settings.max_connections,
            "affinity_load_factor": settings.affinity_load_factor,
        }
        self.pool = EndpointPool(**rules) if numbers is None else SharedPool(numbers, **rules)
        self.connections = Connections(
            max_keepalive=settings.max_keepalive, environ=environ, allow_link_local=settings.allow_link_local
        )
        self.control = ControlClient(
            timeout_seconds=settings.health_timeout_seconds,
            environ=environ,
            allow_link_local=settings.allow_link_local,
        )
        # Of several workers only the lead probes, and tells the others.
        follows = place is not None and not place.is_lead
        self.health = Health(self.pool, self.control, _NO_PROBES if follows else _probe_rules(settings))
        self.traffic = Traffic(time.time, self.pool.lists)
        self.tokens = ClientTokens(settings.client_tokens)
        self.admin_auth = AdminAuth(admin_token)
        self.guesses = Guesses()
        self.dispatcher = Dispatcher(
            self.pool,
            self.connections,
            max_retries=settings.max_retries,
            retry_budget_percent=settings.retry_budget_percent,
            retry_on_timeout=settings.retry_on_timeout,
            queue_size=settings.queue_size,
            queue_timeout_seconds=settings.queue_timeout_seconds,
            ping_seconds=settings.stream_ping_seconds or None,
            neighbours=numbers,
        )
        self.reception = Reception(_client_limits(settings), settings.trusted_proxies)
        stored_responses = StoredResponses()
        self.numbers = numbers
        self.lead: Lead | None = None
        self.follower: Follower | None = None
        if place is not None and numbers is not None:
            self._join(place, numbers, stored_responses)
        self.gateway = Gateway(
            self.dispatcher,
            self.tokens,
            self.traffic if self.follower is None else self.follower.outbox,
            max_body_bytes=settings.max_body_bytes,
            client_write_timeout_seconds=settings.client_write_timeout_seconds,
            max_body_values=settings.max_body_values,
            auto=_auto_model(settings),
            affinity=Affinity(KeySource(settings.affinity), settings.affinity_prompt_bytes),
            stored_responses=stored_responses,
        )
        if self.follower is None:
            self.dispatcher.on_model_miss = self._ask_for_models
        self.discovery: Discovery | None = None
        self.database: Database | None = None
        self.writer: UsageWriter | None = None
        self.admin: AdminApi | None = None

    def _join(self, place: Place, numbers: WorkerNumbers, stored_responses: StoredResponses) -> None:
        """Become one of several workers."""
        parts: Any = {"dispatcher": self.dispatcher, "tokens": self.tokens, "stored_responses": stored_responses}
        if place.is_lead:
            (links,) = opened((place.links,))
            self.lead = Lead(links, numbers, health=self.health, traffic=self.traffic, **parts)
        else:
            self.follower = Follower(place.links_path, numbers, reception=self.reception, **parts)

    def drain(self) -> None:
        """Take nothing new, finish what runs, end the streams of the admin pages."""
        self.gateway.draining = True
        if self.numbers is not None:
            self.numbers.publish(Field.PHASE, Phase.DRAINING)
        if self.admin is not None:
            self.admin.close()

    @property
    def busy(self) -> bool:
        """Whether a request is still under way; of several workers, in any, so that all answer until the end."""
        active = self.gateway.active
        if self.numbers is None:
            return active > 0
        self.numbers.publish(Field.ACTIVE, active)
        return active > 0 or self.numbers.others_are_busy() or (self.lead is not None and self.lead.busy)

    def database_trouble(self) -> str | None:
        """What is wrong with writing usage, in words; None when nothing is."""
        return self.writer.failing if self.writer is not None else None

    # -- opening and closing ---------------------------------------------------------------------------------------

    async def open(self) -> list[BaseRoute]:
        """Open the database, restore everything from it, start the writer; returns the routes of the admin API.

        A follower of several workers is told everything by the lead instead.
        """
        routes = [] if self.follower is not None else await self._open()
        if self.follower is not None:
            await self.follower.start()
        if self.numbers is not None:
            self.numbers.publish(Field.PHASE, Phase.SERVING)
        return routes

    async def _open(self) -> list[BaseRoute]:
        self.database = await Database.open(self.settings.database_url)
        store = await self._open_store(self.database)
        token_store = TokenStore(self.database)
        configuration = LiveConfiguration(store, pool=self.pool, connections=self.connections, traffic=self.traffic)
        await configuration.load()
        await self._restore_tokens(token_store)
        feed = UsageFeed(self.pool, self.traffic)
        usage = UsageStore(self.database)
        self.traffic.earliest_minute = minute = int(time.time()) // 60 * 60
        feed.restore(await usage.load_totals(), await usage.minutes(minute))
        self.writer = UsageWriter(self.database, feed.collect, retention_days=self.settings.retention_days)
        await self.writer.start()
        self.admin = AdminApi(
            pool=self.pool,
            traffic=self.traffic,
            tokens=self.tokens,
            admin_auth=self.admin_auth,
            guesses=self.guesses,
            configuration=configuration,
            token_store=token_store,
            usage_store=usage,
            usage_writer=self.writer,
            control=self.control,
            health=self.health,
            dispatcher=self.dispatcher,
            clock=time.monotonic,
            wall_clock=time.time,
            version=__version__,
            admission=Admission(
                self.gateway.auto,
                self.gateway.affinity.source,
                self.gateway.stored_responses,
                self.gateway.max_body_bytes,
                draining=lambda: self.gateway.draining,
            ),
            default_timeout_seconds=self.settings.default_timeout_seconds,
            allow_link_local=self.settings.allow_link_local,
            settings=overview(self.settings),
        )
        self._look_after_endpoints(configuration)
        if self.lead is not None:
            configuration.on_change.append(self.lead.configured)
            await self.lead.start()
        return self.admin.routes()

    async def _open_store(self, database: Database) -> ConfigurationStore:
        """The configuration's store, all of whose provider keys open and, where there is a secret, are encrypted."""
        cipher = await asyncio.to_thread(KeyCipher, self.settings.secret_keys)
        if encrypted := await encrypt_stored_keys(database, cipher):
            logger.info("%d provider keys that were stored in clear are encrypted now", encrypted)
        return ConfigurationStore(database, initial_routing_mode=self.settings.routing_strategy, cipher=cipher)

    def _ask_for_models(self, model: str | None, endpoint_id: int | None) -> None:
        """A list may have become outdated since it was asked for."""
        self.health.refresh_soon(f"a request for model {model!r}", endpoint_id)

    def _look_after_endpoints(self, configuration: LiveConfiguration) -> None:
        """Begin to probe what is configured, and to look for what is not."""
        self.health.start()
        settings = self.settings
        if settings.scan_hosts:
            self.discovery = Discovery(
                self.pool,
                self.control,
                addresses(settings.scan_hosts, settings.scan_ports),
                lambda found: configuration.change([found], actor="discovery"),
                interval_seconds=settings.scan_interval_seconds,
                max_concurrent=dict(settings.maxconn_map),
                default_max_concurrent=settings.default_maxconn,
                connect=settings.discovery_connect,
                timeout_seconds=settings.default_timeout_seconds,
            )
            self.discovery.start()

    async def close(self) -> None:
        """End what runs by itself, write what is left to write, close what is open."""
        if self.discovery is not None:
            await self.discovery.stop()
        await self.health.stop()
        if self.follower is not None:
            await self.follower.close()
        if self.lead is not None:
            await self.lead.close()
        if self.admin is not None:
            await self.admin.settle()
        if self.writer is not None:
            await self.writer.stop()
        await self.connections.close()
        await self.control.close()
        if self.database is not None:
            await self.database.close()

    def routes(self) -> list[BaseRoute]:
        """The routes that need no database: data plane and status. The hot ones come first."""
        pool, traffic, budget = self.pool, self.traffic, self.dispatcher.retry_figures
        models = ModelsEndpoint(self.gateway, self.control, self.health)
        proxies = {path: ProxyEndpoint(self.gateway, operation) for path, operation in OPERATIONS.items()}
        hot = [Route(path, proxy, methods=["POST"]) for path, proxy in proxies.items()]
        # An address of an older system: the pool's name is ignored.
        old = Route("/v1/{pool_name}/chat/completions", proxies["/v1/chat/completions"], methods=["POST"])
        status = Status(
            pool,
            traffic,
            [
                BalancerCollector(pool, traffic, budget, self.dispatcher.waiting, time.monotonic, __version__),
                LegacyCollector(pool, traffic),
                *_process_collectors(self.reception, self.numbers),
            ],
            draining=lambda: self.gateway.draining,
            database_trouble=self.database_trouble,
            clock=time.monotonic,
            minimum_required=self.settings.min_healthy_nodes,
            version=__version__,
        )
        legacy = LegacyInterfaces(
            pool,
            traffic,
            self.gateway.auto,
            budget,
            self.tokens,
            self.admin_auth,
            self.guesses,
            clock=time.monotonic,
            wall_clock=time.time,
        )
        if self.follower is not None:  # all else is told by the lead, and passed on to it
            return [*hot, Route("/healthz", legacy.healthz, methods=["GET"]), old]
        return [
            *hot,
            Route("/v1/models", models.all, methods=["GET"]),
            Route("/v1/models/{id:path}", models.one, methods=["GET"]),
            *legacy.routes(),
            old,  # behind every fixed path, as the next one is, so that they shadow none
            Route("/v1/{pool_name}/models", models.all, methods=["GET"]),
            *status.routes(),
        ]

    def pages(self) -> list[BaseRoute]:
        """The admin pages, without any data in them."""
        return admin_pages(find_bundle(ENTRY), __version__)

    async def _restore_tokens(self, token_store: TokenStore) -> None:
        rows = await token_store.load()
        live = [(bytes.fromhex(row.token_hash), live_token(row)) for row in rows if not row.revoked]
        self.tokens.replace(live, rows_exist=bool(rows))


def create_app(
    settings: Settings, admin_token: str, *, environ: Mapping[str, str] | None = None, place: Place | None = None
) -> Starlette:
    """The ASGI application. `admin_token` must not be empty. `environ` holds proxy variables; default: the process's.

    The lifespan raises StoreError when the database cannot be used. The `Balancer` is at `app.state.balancer`. With a
    port of their own, admin pages and API are another application, `app.state.admin_app`; otherwise that is None.
    `place`: which of several workers this is; one that follows passes on what it does not serve itself.
    """
    balancer = Balancer(settings, admin_token, os.environ if environ is None else environ, place)
    follower = balancer.follower
    apart = Starlette(exception_handlers=_ERRORS) if settings.admin_port is not None and follower is None else None

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            (apart or app).router.routes.extend(await balancer.open())
            yield
        finally:
            await balancer.close()

    app = Starlette(routes=balancer.routes(), lifespan=lifespan, exception_handlers=_ERRORS)
    if place is not None and follower is not None:
        from balancer.workers.relay import Relay

        app.router.default = Relay(place.pages_path, lambda: follower.connected)
    else:
        (apart or app).router.routes.extend(balancer.pages())
    app.state.balancer, app.state.admin_app = balancer, apart
    return app


def _process_collectors(reception: Reception, numbers: WorkerNumbers | None) -> list[Collector]:
    """Metrics of clients' connections, of all workers where there are several, and of the workers themselves."""
    refused, given_up = reception.refused, reception.given_up
    if numbers is None:
        return [ClientCollector(lambda: reception.open, refused, given_up)]
    return [
        ClientCollector(
            lambda: reception.open + numbers.elsewhere(Field.CONNECTIONS),
            WholeCounts(refused, "refused", numbers),
            WholeCounts(given_up, "given_up", numbers),
        ),
        WorkersCollector(numbers.table),
    ]


def _auto_model(settings: Settings) -> AutoModel:
    sentinels = (*settings.model_sentinels, settings.lm_model)
    return AutoModel(
        [name for name in sentinels if name],
        settings.preferred_models,
        intersection_first=settings.auto_model_strategy == "intersection_first",
    )


def _client_limits(settings: Settings) -> ClientLimits:
    return ClientLimits(
        header_timeout_seconds=settings.header_timeout_seconds,
        body_timeout_seconds=settings.body_timeout_seconds,
        write_timeout_seconds=settings.client_write_timeout_seconds,
        header_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        connections=settings.max_client_connections or open_files() // 2,
        connections_per_client=settings.max_connections_per_client,
    )


def _probe_rules(settings: Settings) -> ProbeRules:
    return ProbeRules(
        interval_seconds=settings.health_interval_seconds,
        down_interval_seconds=settings.health_down_interval_seconds,
        rise=settings.health_rise,
        fall=settings.health_fall,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the envelope of the side they were asked on."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    if not request.url.path.startswith("/v1/"):
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = error_body(message, error_type="invalid_request_error", code="unknown_url")
    return Response(body, error.status_code, headers=error.headers, media_type="application/json")


async def _internal_error(request: Request, _: Exception) -> Response:
    """A mistake of ours. Its traceback is in the log; the client gets the envelope and no details."""
    if not request.url.path.startswith("/v1/"):
        return JSONResponse({"detail": "internal error"}, 500)
    answer = answer_for(BalancerError())
    return Response(answer.body, answer.status, media_type="application/json")


_ERRORS: Mapping[Any, ExceptionHandler] = {HTTPException: _http_error, Exception: _internal_error}
