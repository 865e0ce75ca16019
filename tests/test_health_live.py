"""Active health of a whole balancer: real sockets, every kind of bad backend beside a good one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from balancer.core.probes import HealthStatus
from load_tester.fake_behaviour import Behaviour, FaultName
from tests.fakes import FakeServer
from tests.raw_server import RawServer
from tests.running import eventually
from tests.running_balancer import RunningBalancer

QUICK: dict[str, Any] = {
    "health_interval_seconds": 0.05,
    "health_down_interval_seconds": 0.02,
    "health_timeout_seconds": 0.25,
    "routing_strategy": "priority",
}
UP, DOWN = HealthStatus.UP, HealthStatus.DOWN


def standing(balancer: RunningBalancer) -> dict[str, str]:
    """How each endpoint stands, by name."""
    states = balancer.balancer.pool.states.values()
    return {state.endpoint.name: str(state.health_status) for state in states}


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A list of models that goes on and on."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 104857600\r\n\r\n[")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One that is never silent for long and never ends."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n[\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


def faulty(name: str, fault: FaultName, **fields: Any) -> FakeServer:
    return FakeServer(Behaviour(name=name, fault=fault, fault_scope="get", **fields))


async def test_each_bad_backend_is_told_apart_and_none_disturbs_a_request(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(name="good")) as good,
        faulty("html", "html") as html,
        faulty("nonsense", "bad_json") as nonsense,
        faulty("silent", "stall_headers") as silent,
        faulty("half", "stall_body") as half,
        faulty("without-list", "status", fault_status=404) as without_list,
        faulty("broken", "status", fault_status=500) as broken,
        FakeServer(Behaviour(name="locked", api_key="sk-right")) as locked,
        FakeServer(Behaviour(name="closed")) as closed,
        RawServer(endless) as huge,
        RawServer(dripping) as slow,
        RunningBalancer(tmp_path, **QUICK) as balancer,
    ):
        await closed.stop_listening()
        await balancer.add("good", good)
        for fake in (html, nonsense, silent, half, without_list, broken, locked, closed):
            await balancer.add(fake.behaviour.name, fake, connected=False)
        for name, server in (("huge", huge), ("slow", slow)):
            url = f"http://127.0.0.1:{server.port}/v1"
            await balancer.admin("POST", "/endpoints", {"name": name, "base_url": url})
        expected = dict.fromkeys(("html", "nonsense", "silent", "half", "broken", "closed", "huge", "slow"), "down")
        expected |= {"good": "up", "without-list": "up", "locked": "credentials"}
        await eventually(lambda: standing(balancer) == expected, "the right standing of all")
        for _ in range(5):
            assert (await balancer.chat()).headers["x-lb-endpoint"] == "good"
        assert good.stats.requests.keys() == {"/v1/models", "/v1/chat/completions"}
        assert good.stats.requests["/v1/chat/completions"] == 5, "no probe asks for tokens"
        assert all(fake.stats.requests.keys() <= {"/v1/models"} for fake in (html, silent, broken, locked))
        shown = {each["name"]: each for each in (await balancer.state())["endpoints"]}
        reasons = {name: each["health"]["reason"] for name, each in shown.items()}
    words = {
        "good": "lists 1 model",
        "html": "answered HTML",
        "silent": "no answer within 0.25 s",
        "half": "did not end within 0.25 s",
        "slow": "did not end within 0.25 s",
        "without-list": "404",
        "broken": "answered 500",
        "locked": "a key is needed (401)",
        "closed": "connection refused",
        "huge": "more than 4 MB",
    }
    assert {name: reason for name, reason in reasons.items() if name in words and words[name] not in reason} == {}
    assert shown["good"]["discovered_models"] == ["fake-model"]
    assert shown["without-list"]["discovered_models"] is None
    assert all(each["health"]["checked_at"] and each["health"]["latency_ms"] >= 0 for each in shown.values())
    assert shown["locked"]["healthy"] and not shown["closed"]["healthy"]


async def test_an_outage_is_seen_before_a_request_finds_out_and_so_is_its_end(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(name="first")) as first,
        FakeServer(Behaviour(name="second")) as second,
        RunningBalancer(tmp_path, **QUICK) as balancer,
    ):
        await balancer.add("first", first, priority_order=1)
        await balancer.add("second", second, priority_order=2)
        await eventually(lambda: set(standing(balancer).values()) == {"up"})
        assert (await balancer.chat()).headers["x-lb-endpoint"] == "first"
        await first.stop_listening()
        await eventually(lambda: standing(balancer)["first"] == "down")
        answer = await balancer.chat()
        assert (answer.headers["x-lb-endpoint"], answer.headers["x-attempts"]) == ("second", "1")
        shown = await balancer.endpoint("first")
        assert (shown["eligible"], shown["reason"]) == (False, "unhealthy")
        assert shown["reason_text"].startswith("unhealthy: connection refused at 127.0.0.1")
        assert shown["discovered_models"] == ["fake-model"] and shown["discovered_models_at"]
        await second.stop_listening()
        await eventually(lambda: standing(balancer)["second"] == "down")
        await first.listen_again()
        await eventually(lambda: standing(balancer)["first"] == "up")
        answer = await balancer.chat()
        assert (answer.headers["x-lb-endpoint"], answer.headers["x-attempts"]) == ("first", "1")


async def test_the_only_endpoint_is_asked_although_its_probes_fail(tmp_path: Path) -> None:
    async with faulty("odd", "html") as odd, RunningBalancer(tmp_path, **QUICK) as balancer:
        await balancer.add("odd", odd)
        await eventually(lambda: standing(balancer) == {"odd": "down"})
        assert (await balancer.chat()).status_code == 200


async def test_a_request_goes_where_its_model_is_listed(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(name="a", models=("llama",))) as a,
        FakeServer(Behaviour(name="b", models=("qwen",))) as b,
        RunningBalancer(tmp_path, **QUICK) as balancer,
    ):
        await balancer.add("a", a)
        await balancer.add("b", b)
        await eventually(lambda: set(standing(balancer).values()) == {"up"})
        for model, name in (("qwen", "b"), ("llama", "a"), ("qwen", "b")):
            answer = await balancer.chat(model=model)
            assert (answer.headers["x-lb-endpoint"], answer.headers["x-attempts"]) == (name, "1")
        answer = await balancer.chat(model="gpt-5")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        b.behaviour = b.behaviour.changed({"models": ["gpt-5"]})
        known = balancer.balancer.pool.states[2]
        await eventually(lambda: known.discovered_models == frozenset({"gpt-5"}))
        assert (await balancer.chat(model="gpt-5")).headers["x-lb-endpoint"] == "b"


async def test_the_list_of_models_is_the_one_that_is_known(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(name="a", models=("llama",))) as a,
        faulty("silent", "stall_headers") as silent,
        RunningBalancer(tmp_path, **{**QUICK, "health_interval_seconds": 3600.0}) as balancer,
    ):
        first = await balancer.add("a", a)
        await balancer.admin("POST", f"/endpoints/{first}/probe")
        await balancer.add("silent", silent)
        await eventually(lambda: standing(balancer) == {"a": "up", "silent": "down"})
        asked = dict(a.stats.requests)
        for _ in range(3):
            listed = (await balancer.client.get("/v1/models")).json()["data"]
            assert [(model["id"], model["owned_by"]) for model in listed] == [("llama", "a")]
        assert a.stats.requests == asked


async def test_a_new_endpoint_is_asked_soon_and_on_demand_at_once(tmp_path: Path) -> None:
    async with FakeServer() as fake, RunningBalancer(tmp_path, health_interval_seconds=3600.0) as balancer:
        created = await balancer.admin("POST", "/endpoints", {"name": "a", "base_url": fake.base_url})
        assert created["health"] == {"status": "unknown", "checked_at": None, "latency_ms": None, "reason": None}
        probed = await balancer.admin("POST", f"/endpoints/{created['id']}/probe")
        assert probed.pop("health").pop("status") == "up"
        tested = await balancer.admin("POST", f"/endpoints/{created['id']}/test")
        assert probed.pop("latency_ms") > 0 and tested.pop("latency_ms") > 0
        assert probed == tested
        assert probed["models"] == ["fake-model"]
        await balancer.admin("POST", "/endpoints", {"name": "b", "base_url": fake.base_url})
        await eventually(lambda: standing(balancer) == {"a": "up", "b": "up"}, "the first probe")
        changed = await balancer.admin("PATCH", f"/endpoints/{created['id']}", {"health_check": False})
        assert (changed["health"]["status"], changed["discovered_models"]) == ("off", None)
        assert (await balancer.admin("POST", f"/endpoints/{created['id']}/probe"))["health"]["status"] == "off"
        assert balancer.balancer.pool.states[1].health_status is HealthStatus.OFF


async def test_probes_move_no_revision_and_survive_nothing(tmp_path: Path) -> None:
    async with FakeServer() as fake:
        async with RunningBalancer(tmp_path, **QUICK) as balancer:
            await balancer.add("a", fake)
            await eventually(lambda: fake.stats.requests.get("/v1/models", 0) >= 5)
            assert (await balancer.state())["revision"] == 1
        async with RunningBalancer(tmp_path) as balancer:
            assert (await balancer.endpoint("a"))["health"]["status"] == "off"


@pytest.mark.parametrize("fault", ["none", "stall_headers"])
async def test_nothing_is_left_when_it_ends(tmp_path: Path, fault: FaultName) -> None:
    async with faulty("a", fault) as fake:
        async with RunningBalancer(tmp_path, **{**QUICK, "health_timeout_seconds": 60.0}) as balancer:
            await balancer.add("a", fake)
            await fake.wait_for(lambda stats: stats.requests.get("/v1/models"))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert repr(balancer.balancer.health) == "<Health stopped: 1 endpoints, 0 down, 0 probes under way>"
        await fake.wait_for(lambda stats: not stats.connections)
