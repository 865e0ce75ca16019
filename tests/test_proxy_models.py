"""GET /v1/models: one list of what all connected endpoints serve, and single models of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from balancer.core.endpoints import Endpoint
from balancer.proxy.gateway import Gateway
from balancer.proxy.models import ModelsEndpoint
from balancer.upstream.control import ControlClient
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import RunningApp, RunningGateway, http_client, wired


@asynccontextmanager
async def listing(endpoints: Iterable[Endpoint], tokens: Iterable[str] = ()) -> AsyncIterator[_Client]:
    """The two routes on a real socket, beside a data plane that nobody asks."""
    plane = RunningGateway(endpoints, tokens=tokens)
    control = ControlClient(timeout_seconds=2)
    models = ModelsEndpoint(plane.gateway, control)
    app = Starlette(routes=[Route("/v1/models", models.all), Route("/v1/models/{id:path}", models.one)])
    try:
        async with (
            RunningApp(app) as running,
            http_client(running.url) as client,
        ):
            yield _Client(client, plane.gateway)
    finally:
        await control.close()


class _Client:
    def __init__(self, client: httpx.AsyncClient, gateway: Gateway) -> None:
        self._client = client
        self.gateway = gateway

    async def get(self, model: str = "", **headers: str) -> httpx.Response:
        return await self._client.get("/v1/models" + model, headers=headers)

    async def ids(self) -> list[str]:
        response = await self.get()
        assert response.status_code == 200
        assert response.json()["object"] == "list"
        return [model["id"] for model in response.json()["data"]]


def code_of(response: httpx.Response) -> Any:
    return response.json()["error"]["code"]


async def test_the_lists_are_merged_and_aliases_belong_to_them() -> None:
    async with (
        FakeServer(Behaviour(name="one", models=("org/b", "a"))) as one,
        FakeServer(Behaviour(name="two", models=("a", "c"))) as two,
        FakeServer(Behaviour(name="off", models=("z",))) as off,
    ):
        first, second, third = wired(one, two, off)
        endpoints = [replace(first, model_aliases={"nick": "a"}), second, replace(third, connected=False)]
        async with listing(endpoints) as client:
            assert await client.ids() == ["a", "c", "nick", "org/b"]
            single = await client.get("/org/b")
            assert (single.json()["id"], single.json()["owned_by"]) == ("org/b", "one")
            assert off.stats.total_requests == 0
            # Asked once, remembered for a while.
            assert one.stats.requests == {"/v1/models": 1}


async def test_a_configured_list_stands_for_the_endpoint_s_own() -> None:
    async with FakeServer() as fake, listing(wired(fake, models=("only",))) as client:
        assert await client.ids() == ["only"]
        assert fake.stats.total_requests == 0


async def test_an_unknown_model() -> None:
    async with FakeServer() as fake, listing(wired(fake)) as client:
        response = await client.get("/nobody/has/this")
        assert (response.status_code, code_of(response)) == (404, "model_not_found")
        assert "nobody/has/this" in response.json()["error"]["message"]


async def test_an_endpoint_that_does_not_tell_is_left_out() -> None:
    broken = Behaviour(name="broken", fault="status", fault_scope="all")
    async with FakeServer(broken) as one, FakeServer(Behaviour(models=("m",))) as two:
        async with listing(wired(one, two)) as client:
            assert await client.ids() == ["m"]
        async with listing(wired(one)) as client:
            response = await client.get()
            assert (response.status_code, code_of(response)) == (502, "upstream_error")


async def test_nobody_is_connected() -> None:
    async with FakeServer() as fake, listing(wired(fake, connected=False)) as client:
        response = await client.get()
        assert (response.status_code, code_of(response)) == (503, "no_endpoint_available")
        assert "fake: not connected" in response.json()["error"]["message"]
        assert response.headers["retry-after"]


async def test_a_token_is_needed_once_there_are_tokens() -> None:
    async with FakeServer() as fake, listing(wired(fake), ["secret"]) as client:
        for response in (
            await client.get(),
            await client.get("/fake-model"),
            await client.get(authorization="Bearer x"),
        ):
            assert (response.status_code, code_of(response)) == (401, "invalid_api_key")
        assert (await client.get(authorization="Bearer secret")).status_code == 200
