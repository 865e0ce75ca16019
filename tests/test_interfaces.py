"""The interfaces of older systems, as their clients and dashboards read them, against real backends."""

from __future__ import annotations

import asyncio
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


async def test_they_are_open_until_there_are_tokens(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path / "open") as balancer:
        for path in GUARDED:
            await get(balancer, path)
    async with RunningBalancer(tmp_path / "guarded", client_tokens=("client-token",)) as balancer:
        admin_as_bearer = {"authorization": f"Bearer {ADMIN['x-admin-token']}"}
        for path in GUARDED:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"x-admin-token": "wrong"}):
                refused = await balancer.client.get(path, headers=headers)
                assert refused.status_code == 401
                envelope = "error" if path.startswith("/v1/") else "detail"
                assert set(refused.json()) == {envelope}
            for headers in ({"authorization": "Bearer client-token"}, ADMIN, admin_as_bearer):
                assert (await balancer.client.get(path, headers=headers)).status_code == 200


async def test_status_is_open_and_names_no_url(tmp_path: Path, fake: FakeServer) -> None:
    async with RunningBalancer(tmp_path, client_tokens=("client-token",)) as balancer:
        await balancer.add("gpu-1", fake)
        for path in ("/health", "/healthz", "/ready", "/metrics"):
            answer = await balancer.client.get(path)
            assert answer.status_code == 200
            assert "http" not in answer.text and "/v1" not in answer.text
            # A dashboard knows nodes by their host and port; nobody else needs to.
            assert (node_at(fake) in answer.text) is (path == "/metrics")


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
        running = asyncio.create_task(balancer.chat())
        await slow.wait_for(lambda stats: stats.inflight == 1)
        (node,) = (await get(balancer, "/v1/nodes"))["data"]
        assert (node["inflight"], node["eligible"], node["reason"]) == (1, False, "full")
        assert f'ai_lb_inflight{{node="{node_at(slow)}"}} 1' in await metrics(balancer)
        running.cancel()
        await slow.wait_for(lambda stats: stats.inflight == 0)


# -- who would take it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/eligible_nodes", "/v1/debug/eligible"])
async def test_a_model_must_be_named(path: str, balancer: RunningBalancer) -> None:
    refused = await balancer.client.get(path)
    assert refused.status_code == 422
    (problem,) = refused.json()["detail"]
    assert (problem["type"], problem["loc"], problem["msg"]) == ("missing", ["query", "model"], "Field required")


async def test_eligible_nodes(balancer: RunningBalancer) -> None:
    async with FakeServer() as one, FakeServer() as two, FakeServer() as three:
        await balancer.add("a", one, models=["shared", "only-a"])
        await balancer.add("b", two, models=["shared", "only-b"])
        await balancer.add("same-node", two, models=["shared"])
        await balancer.add("unwired", three, connected=False)
        every = sorted([node_at(one), node_at(two)])
        for model, nodes in (
            ("shared", every),
            ("only-b", [node_at(two)]),
            ("nobody's", []),
            ("auto", every),
            ("", every),
        ):
            answer = await balancer.client.get("/v1/eligible_nodes", params={"model": model})
            assert answer.json() == {"data": nodes}, model


async def test_nodes_are_sorted_as_text(balancer: RunningBalancer) -> None:
    hosts = ["gpu-10", "gpu-9", "alpha", "10.0.0.2", "[::1]", "zeta", "GPU-1", "beta"]
    for host in hosts:
        body = {"name": host, "base_url": f"http://{host}:80/v1", "connected": True}
        await balancer.admin("POST", "/endpoints", body)
    nodes = (await get(balancer, "/v1/eligible_nodes?model=m"))["data"]
    assert nodes == sorted(f"{host.lower()}:80" for host in hosts)


async def test_why_somebody_is_not_eligible(balancer: RunningBalancer, fake: FakeServer) -> None:
    async with FakeServer(Behaviour(fault="status", fault_status=502)) as broken:
        await balancer.add("good", fake, models=["fake-model"])
        await balancer.add("other", fake, models=["other"])
        await balancer.add("bad", broken, models=["fake-model"])
        await eventually_cooling_down(balancer)
        told = await get(balancer, "/v1/debug/eligible?model=fake-model")
        assert told["healthy"] == sorted([node_at(fake), node_at(broken)])
        assert told["eligible"] == [node_at(fake)]
        details = {detail["name"]: detail for detail in told["details"]}
        legacy = {name: tuple(each[key] for key in LEGACY_KEYS) for name, each in details.items()}
        assert legacy["good"] == (node_at(fake), True, False, False, None)
        assert legacy["other"] == (node_at(fake), False, False, True, "model_missing")
        assert legacy["bad"] == (node_at(broken), True, True, True, "circuit_open")
        assert 0 < details["good"]["p95"] <= 10
        assert details["bad"]["p95"] is None
        assert 0 < details["bad"]["wait_seconds"] <= 20
        assert "answered 502" in details["bad"]["reason_text"]


LEGACY_KEYS = ("node", "has_model", "cb_open", "skipped", "reason")


async def eventually_cooling_down(balancer: RunningBalancer) -> None:
    """Requests until the endpoint named "bad" had its one failure, and a good one was served."""
    for _ in range(10):
        await balancer.chat()
        if (await balancer.endpoint("bad"))["consecutive_failures"]:
            return
    raise AssertionError("nobody asked the bad one")


# -- routing statistics and liveness -----------------------------------------------------------------------------------


async def test_routing_statistics(balancer: RunningBalancer, fake: FakeServer) -> None:
    async with FakeServer(Behaviour(fault="status", fault_status=502)) as broken:
        await balancer.admin("PATCH", "/routing", {"routing_mode": "round_robin"})
        await balancer.add("good", fake)
        await balancer.add("bad", broken)
        await balancer.add("idle", fake, connected=False)
        await eventually_cooling_down(balancer)
        told = await get(balancer, "/api/routing/stats")
        assert told["routing_strategy"] == "round_robin"
        good, bad, idle = (told["provider_stats"][name] for name in ("good", "bad", "idle"))
        assert good["successful_requests"] == good["total_requests"] > 0
        assert (good["failed_requests"], good["success_rate"], good["consecutive_failures"]) == (0, 1.0, 0)
        assert good["avg_latency_ms"] > 0
        assert datetime.fromisoformat(good["last_success"]).tzinfo is not None
        assert good["last_failure"] is None
        assert (bad["failed_requests"], bad["success_rate"], bad["consecutive_failures"]) == (1, 0.0, 1)
        assert bad["last_success"] is None
        assert datetime.fromisoformat(bad["last_failure"]) <= datetime.fromisoformat(good["last_success"])
        assert set(idle.values()) == {0, None}
        assert set(good) == set(bad) == set(idle)


async def test_liveness_is_good_whatever_the_endpoints_do(balancer: RunningBalancer, fake: FakeServer) -> None:
    assert await get(balancer, "/healthz") == {"status": "degraded", "providers": {}}
    await balancer.add("gpu-1", fake)
    told = await get(balancer, "/healthz")
    assert told == {"status": "healthy", "providers": {"gpu-1": {"healthy": True, "reason": None}}}
    await fake.close()
    assert (await balancer.chat()).status_code == 502
    told = await get(balancer, "/healthz")
    assert told == {"status": "degraded", "providers": {"gpu-1": {"healthy": False, "reason": "cooling down"}}}


async def test_health_has_the_keys_of_both_systems(balancer: RunningBalancer, fake: FakeServer) -> None:
    told = await get(balancer, "/health")
    assert (told["status"], told["nodes_found"], told["minimum_required"]) == ("degraded", 0, 1)
    await balancer.add("gpu-1", fake)
    told = await get(balancer, "/health")
    assert (told["status"], told["nodes_found"], told["endpoints"], told["connected"]) == ("ok", 1, 1, 1)
    assert {"routing_mode", "tokens_per_second", "requests_per_second", "total_inflight"} <= told.keys()


async def test_a_pools_name_in_the_path_shadows_none_of_them(balancer: RunningBalancer, fake: FakeServer) -> None:
    await balancer.add("gpu-1", fake)
    assert (await balancer.client.get("/v1/debug/models")).json()["object"] == "list"
    assert "data" in await get(balancer, "/v1/nodes")


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_routing_headers(stream: bool, balancer: RunningBalancer, fake: FakeServer) -> None:
    await balancer.add("gpu-1", fake, models=["fake-model"])
    body = {"model": "auto", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
    answer = await balancer.client.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine-1"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    names = ("x-selected-model", "x-routed-node", "x-lb-endpoint", "x-request-id", "x-attempts", "x-failover-count")
    assert [answer.headers[name] for name in names] == ["fake-model", node_at(fake), "gpu-1", "mine-1", "1", "0"]
    assert fake.stats.last_headers["x-request-id"] == "mine-1"


async def test_a_request_without_an_id_gets_one(balancer: RunningBalancer, fake: FakeServer) -> None:
    await balancer.add("gpu-1", fake)
    answers = [await balancer.chat() for _ in range(2)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2
    assert fake.stats.last_headers["x-request-id"] == answers[-1].headers["x-request-id"]


# -- metrics -----------------------------------------------------------------------------------------------------------


async def test_metrics_of_the_older_names(balancer: RunningBalancer, fake: FakeServer) -> None:
    async with FakeServer(Behaviour(fault="status", fault_status=502)) as broken:
        await balancer.add("good", fake, models=["fake-model"])
        await balancer.add("bad", broken, models=["fake-model"])
        await eventually_cooling_down(balancer)
        await balancer.chat(stream=True)
        finished = balancer.balancer.traffic.finished
        lines = await metrics(balancer)
        good, bad = node_at(fake), node_at(broken)
        for line in (
            f"ai_lb_requests_total {finished}",
            f'ai_lb_up{{node="{good}"}} 1',
            f'ai_lb_inflight{{node="{good}"}} 0',
            f'ai_lb_failures{{node="{good}"}} 0',
            f'ai_lb_failures{{node="{bad}"}} 1',
            "ai_lb_failovers_total 1",
            'ai_lb_failovers_total{model="fake-model"} 1',
            "ai_lb_hedges_total 0",
            f'ai_lb_latency_seconds_bucket{{le="+Inf",model="fake-model",node="{good}"}} {finished - 1}',
            f'ai_lb_latency_seconds_count{{model="fake-model",node="{good}"}} {finished - 1}',
            f'ai_lb_stream_ttfb_seconds_count{{model="fake-model",node="{good}"}} 1',
            f'ai_lb_stream_duration_seconds_count{{model="fake-model",node="{good}"}} 1',
            "# TYPE ai_lb_requests_total counter",
            "# TYPE ai_lb_latency_seconds histogram",
        ):
            assert line in lines, line
        bounds = [re.search('le="([^"]+)"', line) for line in lines if line.startswith("ai_lb_latency_seconds_bucket")]
        assert [bound[1] for bound in bounds if bound] == ["0.05", "0.1", "0.25", "0.5", "1", "2", "5", "10", "+Inf"]
        assert not [line for line in lines if line.startswith("ai_lb_latency") and bad in line], (
            "it answered nothing well"
        )


async def test_every_further_attempt_is_a_failover_and_only_good_answers_have_a_latency(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(fault="status", fault_status=502)) as broken,
        FakeServer(Behaviour(fault="status", fault_status=400)) as strict,
        RunningBalancer(tmp_path, routing_strategy="priority") as balancer,
    ):
        await balancer.add("bad-1", broken, models=["m"], priority_order=1)
        await balancer.add("bad-2", broken, models=["m"], priority_order=2)
        await balancer.add("strict", strict, models=["m"], priority_order=3)
        assert (await balancer.chat(model="m")).status_code == 400
        lines = await metrics(balancer)
        assert "ai_lb_failovers_total 2" in lines
        assert 'ai_lb_failovers_total{model="m"} 2' in lines
        assert not [line for line in lines if line.startswith("ai_lb_latency_seconds_")]


def test_the_lines_that_the_older_system_asserted() -> None:
    pool, traffic = EndpointPool(), Traffic(lambda: 0.0)
    pool.apply([Endpoint(1, "gpu-1", "http://n1:80/v1", connected=True)])
    state, traffic.finished = pool.states[1], 42
    state.inflight, state.breaker.failures = 3, 2
    lines = render(LegacyCollector(pool, traffic)).decode().splitlines()
    for line in (
        "ai_lb_requests_total 42",
        'ai_lb_up{node="n1:80"} 1',
        'ai_lb_inflight{node="n1:80"} 3',
        'ai_lb_failures{node="n1:80"} 2',
    ):
        assert line in lines


def test_endpoints_that_share_a_node_are_added_up_and_one_that_is_down_is_not_up() -> None:
    pool, traffic = EndpointPool(), Traffic(lambda: 0.0)
    shared = [Endpoint(n, f"key-{n}", "https://api.example.com/v1", connected=True) for n in (1, 2)]
    pool.apply(
        [*shared, Endpoint(3, "down", "http://down:1/v1", connected=True), Endpoint(4, "unwired", "http://x/v1")]
    )
    for number, state in pool.states.items():
        state.inflight = number
        state.healthy = number != 3
    lines = render(LegacyCollector(pool, traffic)).decode().splitlines()
    assert [line for line in lines if line.startswith(("ai_lb_up{", "ai_lb_inflight{"))] == [
        'ai_lb_up{node="api.example.com:443"} 1',
        'ai_lb_inflight{node="api.example.com:443"} 3',
        'ai_lb_inflight{node="down:1"} 3',
    ]


async def test_models_that_nobody_is_known_to_serve_are_one_label(balancer: RunningBalancer) -> None:
    async with FakeServer(Behaviour(models=())) as takes_any:
        await balancer.add("any", takes_any)
        for number in range(5):
            assert (await balancer.chat(model=f"made-up-{number}")).status_code == 200
        text = (await balancer.client.get("/metrics")).text
        assert "made-up" not in text
        assert f'ai_lb_latency_seconds_count{{model="other",node="{node_at(takes_any)}"}} 5' in text


async def test_what_a_removed_endpoint_did_is_forgotten(balancer: RunningBalancer, fake: FakeServer) -> None:
    identifier = await balancer.add("gpu-1", fake)
    await balancer.chat()
    await balancer.admin("DELETE", f"/endpoints/{identifier}")
    await eventually(lambda: not balancer.balancer.traffic.times)
    assert not [line for line in await metrics(balancer) if line.startswith("ai_lb_latency_seconds_")]
