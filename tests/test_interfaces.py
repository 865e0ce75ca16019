"""The interfaces of older systems, as their clients and dashboards read them: over real sockets, against real backends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from balancer.core.endpoints import Endpoint
from balancer.core.pool import EndpointPool
from balancer.legacy_metrics import LegacyCollector
from balancer.metrics import render
from balancer.traffic import Traffic
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import eventually
from tests.running_balancer import ADMIN, RunningBalancer

GUARDED = ("/v1/nodes", "/v1/eligible_nodes?model=m", "/v1/debug/eligible?model=m", "/api/routing/stats")


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
async def balancer(tmp_path: Path) -> AsyncIterator[RunningBalancer]:
    async with RunningBalancer(tmp_path, fail_threshold=1) as running:
        yield running


def node_at(fake: FakeServer) -> str:
    return fake.base_url.removeprefix("http://").removesuffix("/v1")


async def get(balancer: RunningBalancer, path: str) -> Any:
    answer = await balancer.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def metrics(balancer: RunningBalancer) -> list[str]:
    return (await balancer.client.get("/metrics")).text.splitlines()


# -- who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GUARDED)
async def test_they_are_open_until_there_are_tokens(path: str, tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path / "open") as balancer:
        await get(balancer, path)
    async with RunningBalancer(tmp_path / "guarded", client_tokens=("client-token",)) as balancer:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-admin-token": "wrong"}):
            refused = await balancer.client.get(path, headers=headers)
            assert refused.status_code == 401
            envelope = "error" if path.startswith("/v1/") else "detail"
            assert set(refused.json()) == {envelope}
        admin_as_bearer = {"authorization": f"Bearer {ADMIN['x-admin-token']}"}
        for headers in ({"authorization": "Bearer client-token"}, ADMIN, admin_as_bearer):
            assert (await balancer.client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready", "/metrics"])
async def test_status_is_open_and_names_no_url(path: str, tmp_path: Path, fake: FakeServer) -> None:
    async with RunningBalancer(tmp_path, client_tokens=("client-token",)) as balancer:
        await balancer.add("gpu-1", fake)
        answer = await balancer.client.get(path)
        assert answer.status_code == 200
        assert "http" not in answer.text
        assert "/v1" not in answer.text
        if path != "/metrics":
            assert node_at(fake) not in answer.text


# -- nodes -------------------------------------------------------------------------------------------------------------


async def test_nodes(balancer: RunningBalancer, fake: FakeServer) -> None:
    assert (await get(balancer, "/v1/nodes"))["data"] == []
    await balancer.add("gpu-1", fake, max_concurrent=7, models=["m-2", "m-1"], model_aliases={"alias": "m-1"})
    await balancer.add("unwired", fake, connected=False)
    (node,) = (await get(balancer, "/v1/nodes"))["data"]
    assert node == {
        "node": node_at(fake),
        "inflight": 0,
        "failures": 0,
        "maxconn": 7,
        "name": "gpu-1",
        "endpoint_id": 1,
        "models": ["alias", "m-1", "m-2"],
        "healthy": True,
        "breaker": "closed",
        "panics": 0,
        "eligible": True,
        "reason": None,
        "reason_text": None,
        "wait_seconds": None,
    }


async def test_nodes_count_what_is_in_flight(balancer: RunningBalancer) -> None:
    async with FakeServer(Behaviour(ttft_seconds=30)) as slow:
        await balancer.add("gpu-1", slow, max_concurrent=1)
        async with balancer.client.stream("GET", "/health"):
            pass
        with pytest.raises(TimeoutError):
            import asyncio

            async with asyncio.timeout(0.3):
                running = asyncio.create_task(balancer.chat())
                await slow.wait_for(lambda stats: stats.inflight == 1)
                (node,) = (await get(balancer, "/v1/nodes"))["data"]
                assert (node["inflight"], node["eligible"], node["reason"]) == (1, False, "full")
                await running
