"""What the guides of two older systems promise their users, point by point, with the settings those users have: the
verification checklist of the one, the key features of the other. Real servers, real database.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from balancer.settings import Settings, load_settings
from load_tester.fake_behaviour import Behaviour
from tests.fakes import BODIES, FakeServer, events_of
from tests.running import eventually
from tests.running_balancer import RunningBalancer


def with_environment(directory: Path, **environ: str) -> RunningBalancer:
    """A balancer that was started with those variables, as the older system's compose file sets them."""
    loaded, default = load_settings(environ), Settings()
    assert not loaded.unknown
    given = {field.name: getattr(loaded, field.name) for field in fields(Settings)}
    changed = {name: value for name, value in given.items() if value != getattr(default, name)}
    return RunningBalancer(directory, health_interval_seconds=loaded.health_interval_seconds, **changed)


def node_at(fake: FakeServer) -> str:
    return fake.base_url.removeprefix("http://").removesuffix("/v1")


async def served_by(balancer: RunningBalancer, count: int) -> Counter[str]:
    answers = [await balancer.chat() for _ in range(count)]
    assert {answer.status_code for answer in answers} == {200}
    return Counter(answer.headers["x-lb-endpoint"] for answer in answers)


# -- the verification checklist ----------------------------------------------------------------------------------------


async def test_non_stream_json(tmp_path: Path) -> None:
    async with FakeServer() as fake, with_environment(tmp_path) as balancer:
        await balancer.add("gpu-1", fake)
        answer = await balancer.chat(stream=False)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["object"] == "chat.completion"
        streamed = await balancer.chat(stream=True)
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert events_of(streamed.text)[-1] == "[DONE]"


async def test_auto_model_is_a_real_one_of_the_list(tmp_path: Path) -> None:
    small, big = Behaviour(models=("qwen/qwen3-8b",)), Behaviour(models=("mistralai/mistral-small-3.2", "zephyr"))
    settings = {"PREFERRED_MODELS": "absent; mistralai/mistral-small-3.2,qwen/qwen3-8b", "LM_MODEL": "whatever-runs"}
    async with FakeServer(small) as one, FakeServer(big) as two, with_environment(tmp_path, **settings) as balancer:
        await balancer.add("one", one)
        await balancer.add("two", two)
        for number in (1, 2):
            await balancer.admin("POST", f"/endpoints/{number}/probe")
        listed = [model["id"] for model in (await balancer.client.get("/v1/models")).json()["data"]]
        for model in ("auto", "AUTO", "default", "whatever-runs", None):
            answer = await balancer.chat(model=model)
            assert answer.status_code == 200, answer.text
            chosen = answer.headers["x-selected-model"]
            assert chosen == answer.json()["model"] == "mistralai/mistral-small-3.2"
            assert chosen in listed
        await two.close()
        answers = [await balancer.chat(model="auto") for _ in range(4)]
        assert answers[-1].headers["x-selected-model"] == "qwen/qwen3-8b"


@pytest.mark.parametrize("path", ["chat/completions", "embeddings"])
async def test_routing_metadata(path: str, tmp_path: Path) -> None:
    async with FakeServer() as fake, with_environment(tmp_path) as balancer:
        await balancer.add("gpu-1", fake)
        answer = await balancer.client.post(f"/v1/{path}", json={"model": "fake-model", **BODIES[path]})
        assert answer.status_code == 200
        assert answer.headers["x-selected-model"] == "fake-model"
        assert answer.headers["x-routed-node"] == node_at(fake)


async def test_failover_reroutes_and_ends_with_502_after_max_retries(tmp_path: Path) -> None:
    settings = {"MAX_RETRIES": "1", "ROUTING_STRATEGY": "ROUND_ROBIN", "CIRCUIT_BREAKER_THRESHOLD": "100"}
    async with (
        FakeServer() as one,
        FakeServer() as two,
        FakeServer() as three,
        with_environment(tmp_path, **settings) as balancer,
    ):
        for name, fake in (("one", one), ("two", two), ("three", three)):
            await balancer.add(name, fake)
        await one.close()
        assert set(await served_by(balancer, 6)) == {"two", "three"}
        await two.close()
        await three.close()
        for _ in range(3):
            answer = await balancer.chat()
            assert answer.status_code == 502
            assert (answer.headers["x-attempts"], answer.headers["x-failover-count"]) == ("2", "1")


async def test_a_node_can_be_forced(tmp_path: Path) -> None:
    async with FakeServer() as one, FakeServer() as two, with_environment(tmp_path) as balancer:
        await balancer.add("one", one)
        await balancer.add("two", two)
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]}
        for fake in (two, one, two):
            answer = await balancer.client.post(f"/v1/chat/completions?node={node_at(fake)}", json=body)
            assert answer.headers["x-routed-node"] == node_at(fake)


# -- the key features --------------------------------------------------------------------------------------------------


async def test_round_robin(tmp_path: Path) -> None:
    async with (
        FakeServer() as one,
        FakeServer() as two,
        FakeServer() as three,
        with_environment(tmp_path, ROUTING_STRATEGY="ROUND_ROBIN") as balancer,
    ):
        for name, fake in (("one", one), ("two", two), ("three", three)):
            await balancer.add(name, fake)
        assert await served_by(balancer, 9) == {"one": 3, "two": 3, "three": 3}


async def test_random(tmp_path: Path) -> None:
    async with (
        FakeServer() as one,
        FakeServer() as two,
        with_environment(tmp_path, ROUTING_STRATEGY="RANDOM") as balancer,
    ):
        await balancer.add("one", one)
        await balancer.add("two", two)
        served = [next(iter(await served_by(balancer, 1))) for _ in range(100)]
        assert len(set(pairwise(served))) == 4, "each may follow each"


async def test_least_loaded_with_maxconn(tmp_path: Path) -> None:
    slow = Behaviour(ttft_seconds=0.4)
    async with (
        FakeServer(slow) as small,
        FakeServer(slow) as large,
        with_environment(tmp_path, ROUTING_STRATEGY="LEAST_LOADED") as balancer,
    ):
        await balancer.add("small", small, max_concurrent=2)
        await balancer.add("large", large, max_concurrent=4)
        answers = await asyncio.gather(*(balancer.chat() for _ in range(8)))
        served = Counter(answer.headers.get("x-lb-endpoint", "refused") for answer in answers)
        assert served == {"small": 2, "large": 4, "refused": 2}
        refused = [answer for answer in answers if "x-lb-endpoint" not in answer.headers]
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        nodes = (await balancer.client.get("/v1/nodes")).json()["data"]
        assert {node["node"]: node["maxconn"] for node in nodes} == {node_at(small): 2, node_at(large): 4}


async def test_health_aware_selection(tmp_path: Path) -> None:
    settings = {"ROUTING_STRATEGY": "ROUND_ROBIN", "LB_HEALTH_FALL": "1", "LB_HEALTH_RISE": "1"}
    async with FakeServer() as one, FakeServer() as two, with_environment(tmp_path, **settings) as balancer:
        await balancer.add("one", one)
        await balancer.add("two", two)
        one.behaviour = Behaviour(fault="status", fault_scope="get")
        await balancer.admin("POST", "/endpoints/1/probe")
        assert await served_by(balancer, 4) == {"two": 4}
        assert (await balancer.client.get("/health")).json()["nodes_found"] == 1
        up = (await balancer.client.get("/metrics")).text
        assert f'ai_lb_up{{node="{node_at(two)}"}} 1' in up and f'ai_lb_up{{node="{node_at(one)}"}}' not in up
        one.behaviour = Behaviour()
        await balancer.admin("POST", "/endpoints/1/probe")
        assert await served_by(balancer, 4) == {"one": 2, "two": 2}


async def test_the_circuit_breaker_opens_and_closes(tmp_path: Path) -> None:
    settings = {
        "CIRCUIT_BREAKER_THRESHOLD": "2",
        "CIRCUIT_BREAKER_TTL_SECS": "1",
        "FAILURE_PENALTY_TTL_SECS": "30",
        "ROUTING_STRATEGY": "ROUND_ROBIN",
    }
    broken = Behaviour(fault="status", fault_status=500)
    async with FakeServer(broken) as bad, FakeServer() as good, with_environment(tmp_path, **settings) as balancer:
        await balancer.add("bad", bad)
        await balancer.add("good", good)
        assert await served_by(balancer, 8) == {"good": 8}
        assert bad.stats.requests["/v1/chat/completions"] == 2, "two failures in a row, then it is left alone"
        (node,) = [each for each in (await balancer.client.get("/v1/nodes")).json()["data"] if each["name"] == "bad"]
        assert (node["failures"], node["reason"]) == (2, "cooling down")
        bad.behaviour = Behaviour()
        breaker = balancer.balancer.pool.states[1].breaker
        await eventually(lambda: breaker.admits(balancer.balancer.dispatcher.clock()), "end of the cooldown")
        assert await served_by(balancer, 6) == {"bad": 3, "good": 3}
        (node,) = [each for each in (await balancer.client.get("/v1/nodes")).json()["data"] if each["name"] == "bad"]
        assert (node["failures"], node["breaker"]) == (0, "closed")


async def test_failures_are_forgotten(tmp_path: Path) -> None:
    settings = {"FAILURE_PENALTY_TTL_SECS": "1", "CIRCUIT_BREAKER_THRESHOLD": "2"}
    async with FakeServer() as fake, with_environment(tmp_path, **settings) as balancer:
        await balancer.add("gpu-1", fake)
        await fake.close()
        for pause_seconds in (0.0, 1.1):
            await asyncio.sleep(pause_seconds)
            assert (await balancer.chat()).status_code == 502
            assert (await balancer.endpoint("gpu-1"))["consecutive_failures"] == 1


async def test_streams_pass_as_they_come_and_are_counted_while_they_run(tmp_path: Path) -> None:
    paced = Behaviour(ttft_seconds=0.05, tpot_seconds=0.05, completion_tokens=6, tokens_per_chunk=1)
    async with FakeServer(paced) as fake, with_environment(tmp_path) as balancer:
        await balancer.add("gpu-1", fake)
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        inflight, pieces = set(), 0
        async with balancer.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_raw():
                pieces += 1
                (node,) = (await balancer.client.get("/v1/nodes")).json()["data"]
                inflight.add(node["inflight"])
        assert pieces > 1
        assert 1 in inflight
        await eventually(lambda: not balancer.balancer.busy)
        (node,) = (await balancer.client.get("/v1/nodes")).json()["data"]
        assert node["inflight"] == 0


async def test_all_endpoints_answer(tmp_path: Path) -> None:
    async with FakeServer(Behaviour(models=("fake-model", "other"))) as fake, with_environment(tmp_path) as balancer:
        await balancer.add("one", fake)
        await balancer.add("two", fake)
        client, chat = balancer.client, {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]}
        listed = (await client.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["fake-model", "other"], "without duplicates"
        assert (await client.post("/v1/chat/completions", json=chat)).json()["choices"]
        assert (await client.post("/v1/embeddings", json={"model": "fake-model", "input": "hi"})).json()["data"]
        nodes = (await client.get("/v1/nodes")).json()["data"]
        assert [{"node", "inflight", "failures", "maxconn"} <= node.keys() for node in nodes] == [True, True]
        eligible = await client.get("/v1/eligible_nodes", params={"model": "fake-model"})
        assert eligible.json() == {"data": [node_at(fake)]}
        assert {"status", "nodes_found", "minimum_required"} <= (await client.get("/health")).json().keys()
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        for name in ("ai_lb_requests_total", "ai_lb_up", "ai_lb_inflight", "ai_lb_failures"):
            assert f"\n{name}" in metrics.text
