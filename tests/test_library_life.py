"""A balancer in a script over time: probes, statistics, closing, event loops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from balancer import AsyncLoadBalancer, Endpoint
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.library_parts import MESSAGES, QUIET, endpoint, served_by
from tests.raw_server import RawServer, eventually, stays_silent


def fake(name: str = "gpu-1", **behaviour: Any) -> FakeServer:
    return FakeServer(Behaviour(**{"name": name, "completion_tokens": 6, **behaviour}))


# -- health ------------------------------------------------------------------------------------------------------------


async def test_probes_find_who_is_down_and_who_is_back() -> None:
    async with (
        fake("a") as a,
        fake("b") as b,
        AsyncLoadBalancer(map(endpoint, (a, b)), health_check_interval=0.05, environ={}) as balancer,
    ):

        def healthy() -> list[bool]:
            return [each["is_healthy"] for each in balancer.get_stats()["endpoints"]]

        await eventually(lambda: all(each["last_check"] for each in balancer.get_stats()["endpoints"]))
        assert healthy() == [True, True]
        a.behaviour = a.behaviour.changed({"fault": "status", "fault_status": 503, "fault_scope": "get"})
        await eventually(lambda: healthy() == [False, True])
        assert balancer.get_stats()["healthy_endpoints"] == 1
        assert await served_by(balancer, 4) == {"b": 4}
        a.behaviour = a.behaviour.changed({"fault": "none"})
        await eventually(lambda: healthy() == [True, True])
        assert set(await served_by(balancer, 4)) == {"a", "b"}


async def test_without_health_checks_nobody_is_probed() -> None:
    async with fake() as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        await balancer.chat(MESSAGES, model="fake-model")
        assert one.stats.requests == {"/v1/chat/completions": 1}
        assert balancer.get_stats()["endpoints"][0]["last_check"] is None


def test_statistics_before_anything_happened() -> None:
    balancer = AsyncLoadBalancer([Endpoint("http://gpu1:8000/v1/", name="GPU-1")], "least_conn")
    assert balancer.get_stats() == {
        "strategy": "least_conn",
        "total_endpoints": 1,
        "healthy_endpoints": 1,
        "total_requests": 0,
        "total_success": 0,
        "total_failures": 0,
        "success_rate": "N/A",
        "endpoints": [
            {
                "name": "GPU-1",
                "url": "http://gpu1:8000/v1",
                "is_healthy": True,
                "active_connections": 0,
                "total_requests": 0,
                "total_success": 0,
                "total_failures": 0,
                "success_rate": "100.00%",
                "last_response_time": None,
                "last_error": None,
                "last_check": None,
            }
        ],
    }


# -- life --------------------------------------------------------------------------------------------------------------


async def test_closing_leaves_no_connection_and_refuses_what_comes() -> None:
    async with fake() as one:
        balancer = AsyncLoadBalancer([endpoint(one)], environ={})
        assert (await balancer.chat(MESSAGES))["success"]
        await balancer.close()
        await balancer.close()
        with pytest.raises(RuntimeError, match="closed"):
            await balancer.chat(MESSAGES)
        await one.wait_for(lambda stats: stats.connections == 0)
        assert balancer.get_stats()["total_success"] == 1


async def test_closing_ends_what_runs() -> None:
    async with RawServer(stays_silent) as silent:
        balancer = AsyncLoadBalancer([Endpoint(silent.url, name="silent")], **QUIET)
        calls = [asyncio.create_task(balancer.chat(MESSAGES, model=model)) for model in ("m", None)]
        await eventually(lambda: silent.running == 2)
        await balancer.close()
        results = [await call for call in calls]
        assert [result["success"] for result in results] == [False, False]
        assert {result["error"] for result in results} == {"the balancer was closed meanwhile"}


def test_a_balancer_belongs_to_one_event_loop() -> None:
    balancer = AsyncLoadBalancer([Endpoint("http://127.0.0.1:9")], **QUIET)

    async def use_and_close(*, close: bool) -> None:
        await balancer.chat(MESSAGES, model="m")
        if close:
            await balancer.close()

    with asyncio.Runner() as runner:
        runner.run(use_and_close(close=False))
        with asyncio.Runner() as other, pytest.raises(RuntimeError, match="another event loop"):
            other.run(use_and_close(close=False))
        runner.run(use_and_close(close=True))
