"""The admin API as a whole: every operation in one table, which makes the routes and the documentation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from balancer.admin.answers import SettingView
from balancer.admin.configuration import LiveConfiguration
from balancer.admin.endpoints import EndpointOperations
from balancer.admin.events import EventStream, Snapshots
from balancer.admin.explanation import Admission, ExplainOperations
from balancer.admin.gate import PREFIX, Call, Gate, Operation, Resource
from balancer.admin.observations import ObservationOperations
from balancer.admin.openapi import document
from balancer.admin.problems import answer, json_bytes
from balancer.admin.revisions import RevisionOperations
from balancer.admin.routing import RoutingOperations
from balancer.admin.session import SessionOperations
from balancer.admin.state import StateReader
from balancer.admin.tokens import TokenOperations
from balancer.auth import AdminAuth, ClientTokens
from balancer.core.pool import EndpointPool
from balancer.dispatch.dispatcher import Dispatcher
from balancer.guesses import Guesses
from balancer.health import Health
from balancer.store import TokenStore, UsageStore, UsageWriter
from balancer.traffic import Traffic
from balancer.upstream.control import ControlClient


class AdminApi:
    """Everything under `/admin/api`.

    `clock` is monotonic, `wall_clock` Unix time, both in seconds. `admission` is the data plane's. Without a
    `usage_writer`, resets are stored with the next usage. `allow_link_local`: endpoints may have
    addresses of `balancer.upstream.addresses`. `settings` are those of the process, as they may be shown.
    `snapshot_seconds` lie between two states of the event streams.
    """

    def __init__(
        self,
        *,
        pool: EndpointPool,
        traffic: Traffic,
        tokens: ClientTokens,
        admin_auth: AdminAuth,
        guesses: Guesses,
        configuration: LiveConfiguration,
        token_store: TokenStore,
        usage_store: UsageStore,
        usage_writer: UsageWriter | None,
        control: ControlClient,
        health: Health,
        dispatcher: Dispatcher,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        version: str,
        admission: Admission | None = None,
        default_timeout_seconds: float = 120.0,
        allow_link_local: bool = False,
        settings: Sequence[SettingView] = (),
        snapshot_seconds: float = 1.0,
    ) -> None:
        reader = StateReader(configuration, pool, traffic, tokens, dispatcher, clock, wall_clock, version)
        self._wall_clock = wall_clock
        self._settings = settings
        self._version = version
        self._document: dict[str, Any] | None = None
        self._configuration = configuration
        self._gate = Gate(admin_auth, guesses, reader.state, wall_clock)
        self._snapshots = Snapshots(lambda: json_bytes(reader.state()), interval_seconds=snapshot_seconds)
        configuration.on_change.append(self._snapshots.wake)
        self._tokens = TokenOperations(tokens, token_store, reader)
        self._routing = RoutingOperations(
            configuration, reader, pool=pool, traffic=traffic, tokens=tokens, clock=clock, writer=usage_writer
        )
        self._operations: list[Operation] = [
            *self._routing.operations(),
            *EndpointOperations(
                configuration,
                reader,
                control,
                health,
                dispatcher,
                default_timeout_seconds=default_timeout_seconds,
                allow_link_local=allow_link_local,
            ).operations(),
            *RevisionOperations(configuration, reader).operations(),
            *ExplainOperations(dispatcher, admission or Admission(), clock).operations(),
            *ObservationOperations(traffic, pool, usage_store, clock=clock, wall_clock=wall_clock).operations(),
            *self._tokens.operations(),
            *SessionOperations(admin_auth, guesses, wall_clock).operations(),
            Operation(
                "GET",
                "/events",
                "A stream of `state` events, one a second and one soon after each change",
                self._events,
                str,
                (503,),
                media_type="text/event-stream",
            ),
            Operation(
                "GET",
                "/settings",
                "The settings of the process; secrets masked",
                self._show_settings,
                list[SettingView],
            ),
            Operation("GET", "/openapi.json", "This document", self._openapi, dict[str, Any]),
        ]

    def __repr__(self) -> str:
        return f"<AdminApi: {len(self._operations)} operations, {self._snapshots!r}>"

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The table behind routes and documentation."""
        return tuple(self._operations)

    def routes(self) -> list[BaseRoute]:
        """A route for each path, and one for all paths that are not there."""
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in self._operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        return [
            *(Route(PREFIX + path, Resource(self._gate, methods)) for path, methods in by_path.items()),
            Route(PREFIX, Resource(self._gate, {})),
            Route(PREFIX + "/{rest:path}", Resource(self._gate, {})),
        ]

    def close(self) -> None:
        """End the event streams; new ones are refused."""
        self._snapshots.close()

    async def settle(self) -> None:
        """Wait until every change under way has ended, before the store is closed."""
        await self._routing.settle()
        await self._tokens.settle()
        await self._configuration.settle()

    async def _events(self, call: Call) -> EventStream:
        self._snapshots.admit()
        session = call.admin.session if call.admin else None
        return EventStream(self._snapshots, lambda: session is not None and self._wall_clock() >= session.expires_at)

    async def _show_settings(self, _: Call) -> Response:
        return answer(self._settings)

    async def _openapi(self, _: Call) -> Response:
        if self._document is None:
            # Long enough to be felt by running streams.
            self._document = await asyncio.to_thread(document, self._operations, self._version)
        return answer(self._document)
