"""The admin API for tests: everything real but the network toward endpoints, and clocks that stand still.

Every answer a test gets is held against the documentation, and searched for keys and the admin token.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette

from balancer.admin.api import AdminApi
from balancer.admin.configuration import LiveConfiguration
from balancer.admin.explanation import Admission
from balancer.admin.gate import PREFIX, Operation
from balancer.admin.openapi import answers
from balancer.auth import AdminAuth, ClientToken, ClientTokens
from balancer.core.endpoints import Outcome, RouteRequest, Usage
from balancer.core.pool import EndpointPool
from balancer.core.probes import ProbeRules
from balancer.dispatch.dispatcher import Dispatcher
from balancer.health import Health
from balancer.store import ConfigurationStore, Database, TokenStore, UsageStore, UsageWriter
from balancer.traffic import AttemptRecord, RequestRecord, Traffic
from balancer.upstream.connections import Connections
from balancer.upstream.control import ControlClient
from balancer.usage_feed import UsageFeed
from balancer.wire.stored_responses import StoredResponses
from tests.stand_in import StandIn
from tests.store_parts import Clock, url_of

ADMIN_TOKEN = "the-admin-token-0123456789"
KEY = "sk-a-provider-key-0123456789abcdef"
OTHER_KEY = "sk-another-provider-key-fedcba98765"
_SECRETS = (ADMIN_TOKEN, KEY, OTHER_KEY)
_BY_TOKEN = {"x-admin-token": ADMIN_TOKEN}

Json = Any


class AdminServer:
    """One admin API and what it administers. `client` has the admin token, `anybody` has nothing."""

    def __init__(
        self,
        database: Database,
        *,
        env_tokens: tuple[str, ...] = (),
        snapshot_seconds: float = 1.0,
        probe_seconds: float = 0.0,
    ) -> None:
        self.wall_clock, self.clock = Clock(), Clock()
        self.clock.now = 5000.25
        self.database = database
        self.pool = EndpointPool(fail_threshold=2, cooldown_seconds=20.0)
        self.connections = Connections()
        self.traffic = Traffic(self.wall_clock)
        self.tokens = ClientTokens(env_tokens)
        self.tokens.replace([], rows_exist=False)
        self.dispatcher = Dispatcher(self.pool, self.connections, clock=self.clock, wall_clock=self.wall_clock)
        self.store = ConfigurationStore(database, clock=self.wall_clock)
        self.configuration = LiveConfiguration(
            self.store, pool=self.pool, connections=self.connections, traffic=self.traffic
        )
        self.feed = UsageFeed(self.pool, self.traffic)
        self.writer = UsageWriter(database, self.feed.collect, clock=self.wall_clock)
        self.usage_store = UsageStore(database, clock=self.wall_clock)
        self.asked: list[httpx.Request] = []
        self.models_answer = httpx.Response(200, json={"object": "list", "data": [{"id": "llama"}, {"id": "qwen"}]})
        self.control = ControlClient(network=StandIn(self._answer_models))
        rules = ProbeRules(interval_seconds=probe_seconds)
        self.health = Health(self.pool, self.control, rules, clock=self.clock, wall_clock=self.wall_clock)
        self.stored_responses = StoredResponses()
        self.draining = False
        self.api = AdminApi(
            pool=self.pool,
            traffic=self.traffic,
            tokens=self.tokens,
            admin_auth=AdminAuth(ADMIN_TOKEN),
            configuration=self.configuration,
            token_store=TokenStore(database, clock=self.wall_clock),
            usage_store=self.usage_store,
            usage_writer=self.writer,
            control=self.control,
            health=self.health,
            dispatcher=self.dispatcher,
            clock=self.clock,
            wall_clock=self.wall_clock,
            version="1.2.3",
            default_timeout_seconds=90.0,
            snapshot_seconds=snapshot_seconds,
            admission=Admission(
                stored_responses=self.stored_responses, max_body_bytes=10_000, draining=lambda: self.draining
            ),
        )
        self.app = Starlette(routes=self.api.routes())
        self.client = self._client(_BY_TOKEN)
        self.anybody = self._client({})

    def _client(self, headers: dict[str, str]) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=f"http://balancer.test{PREFIX}/",
            headers=headers,
            event_hooks={"response": [self._check]},
        )

    def _answer_models(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.models_answer

    async def close(self) -> None:
        """Close everything but the database."""
        self.api.close()
        await self.health.stop()
        await self.api.settle()
        await self.client.aclose()
        await self.anybody.aclose()
        await self.control.close()
        await self.connections.close()

    async def get(self, path: str, **query: Any) -> Json:
        """The body of a GET that must succeed."""
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def add(self, name: str, **fields: Any) -> Json:
        """A new endpoint, as answered."""
        body = {"name": name, "base_url": f"http://{name}.test/v1", **fields}
        answer = await self.client.post("endpoints", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def patch(self, path: str, body: Json, **headers: str) -> httpx.Response:
        """A PATCH, whatever comes of it."""
        return await self.client.patch(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def serve(self, endpoint_id: int, outcome: Outcome = Outcome.SUCCESS, **given: Any) -> RequestRecord:
        """Let an endpoint serve one request, as far as counting goes."""
        now = self.clock.now
        client: ClientToken = given.get("client") or self.tokens.anonymous
        usage: Usage | None = given.get("usage")
        lease = self.pool.acquire(RouteRequest(None, pinned_to=endpoint_id), now)
        lease.release(outcome, now + 0.5, usage, error=given.get("error", ""))
        ok = outcome is Outcome.SUCCESS
        attempt = AttemptRecord(endpoint_id, lease.endpoint.name, 0.5, outcome.value, given.get("error", "ok"), False)
        record = RequestRecord(
            number=self.traffic.finished + 1,
            at=self.wall_clock.now,
            request_id=f"req-{self.traffic.finished + 1}",
            client=client.name,
            operation="chat",
            model=given.get("model", "llama"),
            upstream_model=None,
            endpoint_id=endpoint_id if ok else None,
            endpoint=lease.endpoint.name if ok else None,
            attempts=(attempt,),
            streamed=False,
            status=200 if ok else 502,
            first_byte_seconds=0.25 if ok else None,
            total_seconds=0.5,
            overhead_seconds=0.0002,
            usage=usage,
            error=given.get("error", ""),
        )
        self.traffic.request_finished(record, client, now, error_class="" if ok else "upstream", counted_tokens=0)
        return record

    async def check_consistent(self) -> None:
        """Memory, pool and database hold the same configuration."""
        stored = await self.store.load()
        assert self.configuration.current == stored
        assert self.pool.strategy.name == stored.routing_mode
        shown = {each["id"]: each["name"] for each in (await self.get("state"))["endpoints"]}
        assert shown == {each.id: each.name for each in stored.endpoints}
        assert {eid: state.endpoint.name for eid, state in self.pool.states.items()} == shown

    async def _check(self, response: httpx.Response) -> None:
        await response.aread()
        assert response.headers["cache-control"] == "no-store"
        for secret in _SECRETS:
            assert secret not in response.text and secret not in str(response.headers)
        path = response.request.url.path.removeprefix(PREFIX)
        operation = operation_for(self.api.operations, response.request.method, path)
        if operation is None:
            assert response.status_code in (401, 403, 404, 405), response.text
            assert list(response.json()) == ["detail"]
        else:
            declared = answers(operation)
            assert response.status_code in declared, (operation.method, operation.path, response.text)
            assert any(_is(kind, response.content) for kind in declared[response.status_code]), response.text


def operation_for(operations: tuple[Operation, ...], method: str, path: str) -> Operation | None:
    """The operation a request is for, found by the documented paths."""
    for operation in operations:
        pattern = re.sub(r"\{\w+\}", "[^/]+", operation.path)
        if operation.method == method and re.fullmatch(pattern, path):
            return operation
    return None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _is(kind: Any, content: bytes) -> bool:
    adapter = _adapter(kind)
    try:
        value = adapter.validate_json(content, strict=True)
    except ValidationError:
        return False
    return bool(json.loads(adapter.dump_json(value)) == json.loads(content))


@asynccontextmanager
async def admin_server(template: Path, directory: Path, **options: Any) -> AsyncIterator[AdminServer]:
    """An admin API on a copy of an empty database, or on the one that is there already."""
    path = directory / "lb.db"
    if not path.exists():
        shutil.copy(template, path)
    database = await Database.open(url_of(path), busy_timeout_seconds=0.2)
    server = AdminServer(database, **options)
    try:
        await server.configuration.load()
        server.feed.restore(await server.usage_store.load_totals(), [])
        yield server
    finally:
        await server.close()
        await database.close()


def walk(value: Json) -> Iterator[Json]:
    """Every value inside a JSON value."""
    yield value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from walk(each)
