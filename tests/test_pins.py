"""Requests bound to one endpoint by `?node=` or `x-lb-endpoint`: served there or not at all, and told why not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest
from balancer.core.nodes import names_node, node_of
from balancer.proxy.intake import take_node
from balancer.wire.headers import visible
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.raw_server import RawRequest, RawServer, answer, says
from tests.running import CHAT_BODY, CHAT_PATH, RunningGateway, wired


async def ask(
    gateway: RunningGateway, *, node: str = "", endpoint: str | bytes = "", path: str = CHAT_PATH, **fields: Any
) -> httpx.Response:
    headers = [(b"x-lb-endpoint", endpoint.encode() if isinstance(endpoint, str) else endpoint)] if endpoint else []
    params = {"node": node} if node else None
    return await gateway.client.post(path, json={**CHAT_BODY, **fields}, headers=headers, params=params)


def refusal_of(response: httpx.Response) -> str:
    """The message of a request that was not eligible there."""
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "endpoint_not_eligible")
    return str(error["message"])


def node_at(fake: FakeServer) -> str:
    return fake.base_url.removeprefix("http://").removesuffix("/v1")


# -- who is meant ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "node", "also"),
    [
        ("http://127.0.0.1:8001/v1", "127.0.0.1:8001", []),
        ("http://gpu-1/v1", "gpu-1:80", ["gpu-1", "GPU-1", " gpu-1:80 "]),
        ("https://api.openai.com/v1", "api.openai.com:443", ["api.openai.com", "API.OpenAI.com:443"]),
        ("http://[::1]:9000/v1", "[::1]:9000", []),
        ("https://[2001:db8::1]/v1", "[2001:db8::1]:443", ["[2001:db8::1]"]),
    ],
)
def test_a_node_is_a_host_and_a_port(base_url: str, node: str, also: list[str]) -> None:
    assert node_of(base_url) == node
    assert all(names_node(text, base_url) for text in (node, *also))


@pytest.mark.parametrize("text", ["", "gpu-1:443", "gpu-1:", "gpu", "http://gpu-1", "gpu-1:80/v1", "gpu-11:80"])
def test_what_is_no_name_of_a_node(text: str) -> None:
    assert not names_node(text, "http://gpu-1:80/v1")


async def test_both_ways_to_name_it() -> None:
    async with FakeServer(Behaviour(name="one")) as one, FakeServer(Behaviour(name="two")) as two:
        first, second = wired(one, two)
        async with RunningGateway([first, replace(second, name="Büro 50% #2")]) as gateway:
            for options in (
                {"node": node_at(two)},
                {"endpoint": "Büro 50% #2"},
                {"endpoint": visible("Büro 50% #2")},
                {"endpoint": "2"},
                {"node": node_at(two), "endpoint": "2"},
            ):
                response = await ask(gateway, **options)
                assert response.status_code == 200
                assert response.headers["x-lb-endpoint"] == visible("Büro 50% #2").decode()
                assert response.headers["x-routed-node"] == node_at(two)
            assert one.stats.total_requests == 0
            assert (await ask(gateway)).headers["x-lb-endpoint"] == "one"


async def test_a_name_comes_before_an_id() -> None:
    async with FakeServer() as one, FakeServer() as two:
        first, second = wired(one, two)
        async with RunningGateway([replace(first, name="2"), replace(second, name="1")]) as gateway:
            assert (await ask(gateway, endpoint="2")).headers["x-lb-endpoint"] == "2"
            assert one.stats.total_requests == 1


@pytest.mark.parametrize(
    "options",
    [
        {"node": "nowhere:80"},
        {"endpoint": "nobody"},
        {"endpoint": "3"},
        {"endpoint": "9" * 40},
        {"endpoint": b"\xff\xfe"},
        {"endpoint": "fake", "node": "nowhere:80"},
    ],
)
async def test_nobody_is_meant(options: dict[str, Any]) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        assert "is not known. GET /v1/nodes lists the endpoints." in refusal_of(await ask(gateway, **options))
        assert fake.stats.total_requests == 0
        assert gateway.traffic.errors == {"no_endpoint": 1}
        assert gateway.last.attempts == []
        assert gateway.last.error.endswith("was asked for: not known")


async def test_an_endless_name_is_shown_cut() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        assert len(refusal_of(await ask(gateway, endpoint="x" * 4000))) < 250


async def test_an_empty_node_binds_to_nothing() -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(answer(b"{}"), seen=seen)) as server, RunningGateway(wired(server.url)) as gateway:
        assert (await gateway.client.post(f"{CHAT_PATH}?node=&x=1", json=CHAT_BODY)).status_code == 200
        assert seen[0].lines[0] == b"POST /chat/completions?x=1 HTTP/1.1"


# -- what goes upstream ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("node={node}", ""),
        ("a=1&node={node}&b=%20%22&&c", "?a=1&b=%20%22&&c"),
        ("node=nowhere&x=1&node={node}", "?x=1"),
        ("anode=1&nodes=2&node={node}", "?anode=1&nodes=2"),
        ("node={encoded}", ""),
    ],
)
async def test_the_node_is_taken_out_of_the_query_and_nothing_else(query: str, sent: str) -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(answer(b"{}"), seen=seen)) as server, RunningGateway(wired(server.url)) as gateway:
        node = node_of(server.url)
        filled = query.format(node=node, encoded=node.replace(":", "%3A"))
        response = await gateway.client.post(f"{CHAT_PATH}?{filled}", json=CHAT_BODY, headers={"x-lb-endpoint": "1"})
        assert response.status_code == 200
        assert seen[0].lines[0] == f"POST /chat/completions{sent} HTTP/1.1".encode()
        assert b"x-lb-endpoint" not in seen[0].head.lower()


# -- eligible or not ---------------------------------------------------------------------------------------------------


def disconnect(gateway: RunningGateway, endpoint: Endpoint) -> None:
    gateway.pool.apply([replace(endpoint, connected=False)])


def disable(gateway: RunningGateway, endpoint: Endpoint) -> None:
    gateway.pool.apply([replace(endpoint, enabled=False)])


def serve_something_else(gateway: RunningGateway, endpoint: Endpoint) -> None:
    gateway.pool.apply([replace(endpoint, models=("other",))])


def fall_ill(gateway: RunningGateway, endpoint: Endpoint) -> None:
    gateway.state(endpoint.id).healthy = False


def cool_down(gateway: RunningGateway, endpoint: Endpoint) -> None:
    now = gateway.dispatcher.clock()
    gateway.pool.acquire(RouteRequest(None), now).release(Outcome.FAILED, now, error="broke")


def throttle(gateway: RunningGateway, endpoint: Endpoint) -> None:
    now = gateway.dispatcher.clock()
    lease = gateway.pool.acquire(RouteRequest(None), now)
    lease.release(Outcome.REJECTED, now, error="answered 429", retry_after_seconds=60)


def refuse_credentials(gateway: RunningGateway, endpoint: Endpoint) -> None:
    now = gateway.dispatcher.clock()
    gateway.pool.acquire(RouteRequest(None), now).release(Outcome.FAILED, now, error="401", credentials=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (disconnect, "not connected"),
        (disable, "disabled"),
        (serve_something_else, "model not served"),
        (fall_ill, "unhealthy"),
        (cool_down, "cooling down for 20 s more: 1 failures, last: broke"),
        (throttle, "throttled for 60 s more: answered 429"),
        (refuse_credentials, "credentials refused for 20 s more: 1 failures, last: 401"),
    ],
)
async def test_not_eligible_is_told_with_the_reason_and_not_tried(make: Any, words: str) -> None:
    async with FakeServer() as fake:
        (endpoint,) = wired(fake)
        async with RunningGateway([endpoint], fail_threshold=1) as gateway:
            make(gateway, endpoint)
            for options in ({"node": node_at(fake)}, {"endpoint": "fake"}):
                message = refusal_of(await ask(gateway, **options))
                assert f"not eligible for this request: fake: {words}" in message
            assert fake.stats.total_requests == 0


async def test_full_is_not_eligible_either() -> None:
    slow = Behaviour(ttft_seconds=30)
    async with FakeServer(slow) as fake, RunningGateway(wired(fake, max_concurrent=1)) as gateway:
        running = gateway.leaving()
        await fake.wait_for(lambda stats: stats.inflight == 1)
        assert "full: 1 in flight" in refusal_of(await ask(gateway, endpoint="fake"))
        running.cancel()


@pytest.mark.parametrize(("fault", "status"), [("status", 500), ("reset", 502)])
async def test_no_failover(fault: Any, status: int) -> None:
    async with (
        FakeServer(Behaviour(name="bad", fault=fault, fault_status=500)) as bad,
        FakeServer() as good,
        RunningGateway(wired(bad, good)) as gateway,
    ):
        response = await ask(gateway, endpoint="bad")
        assert response.status_code == status
        assert [attempt.endpoint for attempt in gateway.last.attempts] == ["bad"]
        assert good.stats.total_requests == 0
        assert (await ask(gateway)).status_code == 200


# -- several of one node -----------------------------------------------------------------------------------------------


async def test_endpoints_that_share_a_node_take_turns_and_the_eligible_one_is_taken() -> None:
    async with FakeServer() as fake:
        first, second = wired(fake.base_url, fake.base_url)
        async with RunningGateway([first, second]) as gateway:
            served = [(await ask(gateway, node=node_at(fake))).headers["x-lb-endpoint"] for _ in range(4)]
            assert served == ["endpoint-1", "endpoint-2"] * 2
            gateway.state(1).healthy = False
            for _ in range(3):
                assert (await ask(gateway, node=node_at(fake))).headers["x-lb-endpoint"] == "endpoint-2"
            gateway.state(2).healthy = False
            message = refusal_of(await ask(gateway, node=node_at(fake)))
            assert "endpoint-1: unhealthy" in message and "endpoint-2: unhealthy" in message
            assert "endpoint-2" not in refusal_of(await ask(gateway, node=node_at(fake), endpoint="1"))


async def test_auto_passes_over_one_of_a_node_whose_models_nobody_knows() -> None:
    async with FakeServer(Behaviour(models=("b",))) as fake:
        first, second = wired(fake.base_url, fake.base_url)
        async with RunningGateway([first, replace(second, models=("b",))]) as gateway:
            response = await ask(gateway, node=node_at(fake), model="auto")
            assert (response.status_code, response.headers["x-selected-model"]) == (200, "b")


# -- with other wishes -------------------------------------------------------------------------------------------------


async def test_auto_means_a_model_of_that_endpoint() -> None:
    async with FakeServer(Behaviour(models=("a",))) as one, FakeServer(Behaviour(models=("b",))) as two:
        first, second = wired(one, two)
        async with RunningGateway([replace(first, models=("a",)), replace(second, models=("b",))]) as gateway:
            for model in ("auto", None):
                response = await ask(gateway, endpoint="2", model=model)
                assert (response.status_code, response.headers["x-selected-model"]) == (200, "b")
                assert json.loads(two.stats.last_body)["model"] == "b"
            assert "model not served" in refusal_of(await ask(gateway, endpoint="2", model="a"))


async def test_a_conversation_kept_elsewhere_stays_there() -> None:
    async with (
        FakeServer(Behaviour(name="one")) as one,
        FakeServer(Behaviour(name="two")) as two,
        RunningGateway(wired(one, two)) as gateway,
    ):
        path = "/v1/responses"
        begun = await gateway.client.post(path, json={"model": "fake-model", "input": "hi"})
        goes_on = {"model": "fake-model", "input": "go on", "previous_response_id": begun.json()["id"]}
        for options in ({"endpoint": "one"}, {}):
            assert (await ask(gateway, path=path, **options, **goes_on)).status_code == 200
        refused = refusal_of(await ask(gateway, path=path, endpoint="two", **goes_on))
        assert "two: the conversation is kept at another endpoint" in refused
        assert two.stats.total_requests == 0


@given(query=st.binary(max_size=60), node=st.sampled_from([b"", b"node=x", b"&node=a&", b"node"]))
def test_any_query_loses_its_nodes_and_nothing_else(query: bytes, node: bytes) -> None:
    _, rest = take_node(query + node + query)
    before = (query + node + query).split(b"&")
    assert rest == b"&".join(part for part in before if part.partition(b"=")[0] != b"node")
