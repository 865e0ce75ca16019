"""Too many connections: of one client, of all, and thousands that are merely open."""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from balancer.proxy.reception import ClientLimits
from benchmarks.idle import measure
from tests.fakes import FakeServer
from tests.running import RawClient, RunningGateway, chat_body, eventually, raw_client, wired
from tests.running_balancer import RunningBalancer

BODY = chat_body()


@asynccontextmanager
async def clients(url: str, count: int) -> AsyncIterator[list[RawClient]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(raw_client(url)) for _ in range(count)]


async def is_served(client: RawClient) -> bool:
    client.post(BODY)
    return (await client.answer())[0] == 200


async def is_refused(client: RawClient) -> bool:
    client.post(BODY)
    answer = await client.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ") and b"retry-after: 5" in head and b"connection: close" in head, answer
    return bool(json.loads(body)["error"]["code"] == "too_many_connections")


@pytest.mark.parametrize("limits", [ClientLimits(connections=2), ClientLimits(connections_per_client=2)])
async def test_one_too_many_is_told_and_closed(limits: ClientLimits) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake), limits=limits) as gateway:
        async with clients(gateway.url, 3) as (first, second, third):
            assert await is_refused(third)
            assert await is_served(first) and await is_served(second)
            assert gateway.reception.open == 2
            assert gateway.reception.refused == {
                "total": int(limits.connections > 0),
                "client": int(limits.connections == 0),
            }
            first.leave()
            await eventually(lambda: gateway.reception.open == 1)
            async with raw_client(gateway.url) as another:
                assert await is_served(another)
        await eventually(lambda: not gateway.reception.open)
        assert len(gateway.traffic.log) == 3, "those that were refused are no requests"


async def test_a_proxy_in_front_has_no_limit_of_its_own() -> None:
    """All its clients come from one address."""
    limits = ClientLimits(connections_per_client=1)
    exempt = [ip_network("127.0.0.0/8")]
    async with (
        FakeServer() as fake,
        RunningGateway(wired(fake), limits=limits, exempt=exempt) as gateway,
        clients(gateway.url, 5) as many,
    ):
        assert all([await is_served(client) for client in many])


async def test_who_is_refused_and_stays_is_closed() -> None:
    limits = ClientLimits(connections=1, leaving_seconds=0.2)
    async with RunningGateway([], limits=limits) as gateway, clients(gateway.url, 2) as (_, refused):
        await refused.rest()
        await eventually(lambda: gateway.app.connections == 1, "the end of the other one")


async def test_a_crowd_is_closed_without_a_word() -> None:
    limits = ClientLimits(connections=1, leaving_seconds=30)  # who was told would be there still
    async with RunningGateway([], limits=limits) as gateway, clients(gateway.url, 150):
        await eventually(lambda: gateway.reception.refused["total"] == 149)
        await eventually(lambda: gateway.app.connections <= 102, "most of them closed")


async def test_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    limits = ClientLimits(connections_per_client=1)
    with caplog.at_level(logging.WARNING, "balancer.clients"):
        async with RunningGateway([], limits=limits) as gateway, clients(gateway.url, 20):
            await eventually(lambda: gateway.reception.refused["client"] == 19)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "balancer.clients"]
    assert line == "a connection was refused: 127.0.0.1 has 1 open (LB_MAX_CONNECTIONS_PER_CLIENT)"


async def test_metrics_and_settings(tmp_path: Path) -> None:
    settings = {"max_client_connections": 3, "max_headers": 30, "header_timeout_seconds": 1.0, "max_body_values": 1000}
    async with RunningBalancer(tmp_path, **settings) as balancer:
        await balancer.state()
        async with clients(balancer.url, 2) as (first, second), raw_client(balancer.url) as third:
            second.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 31 + b"\r\n")
            assert (await second.head())[0] == 431
            first.send(b"GET /")
            assert (await first.head())[0] == 408
            await third.rest()
            elaborate = await balancer.client.post("/v1/chat/completions", json={"model": "m", "input": [[]] * 2000})
            assert elaborate.json()["error"]["code"] == "body_too_elaborate"
            metrics = (await balancer.client.get("/metrics")).text.splitlines()
    assert 'lb_client_connections_refused_total{limit="total"} 1' in metrics
    assert 'lb_client_connections_refused_total{limit="client"} 0' in metrics
    assert 'lb_client_timeouts_total{part="head"} 1' in metrics
    assert any(line.startswith("lb_client_connections ") for line in metrics)


# -- thousands ---------------------------------------------------------------------------------------------------------

# What a connection costs that has had an answer, and what it leaves behind, on a machine that counts generously.
MOST_BYTES_EACH, MOST_BYTES_MORE = 20_000, 2_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_five_thousand_idle_connections(tmp_path: Path) -> None:
    """Or as many as descriptors allow; `python -m benchmarks.idle` prints the figures."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        result = await measure(5_000, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.problems == []
    assert 0 < result.used_bytes < MOST_BYTES_EACH
    assert result.again_bytes < MOST_BYTES_MORE, "what was freed is used again"
