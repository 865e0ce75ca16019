"""Cut now: the operator ends what is in flight at one endpoint. Real sockets all the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from balancer.core.endpoints import Outcome
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer, events_of
from tests.raw_server import RawServer
from tests.running import DEADLINE_SECONDS, RunningGateway, eventually, wired
from tests.running_balancer import ADMIN, RunningBalancer

# Longer than any test: whoever waits for it was not cut.
FOREVER_SECONDS = 3600.0
WORDS = "cut off by the operator"


def stalled(name: str = "stalled", fault: str = "stall_headers") -> FakeServer:
    return FakeServer(Behaviour(name=name, fault=fault, fault_after=3))


async def in_flight(gateway: RunningGateway, count: int, number: int = 1) -> None:
    await eventually(lambda: gateway.state(number).inflight == count, f"{count} in flight")


def check_not_blamed(gateway: RunningGateway, number: int = 1) -> None:
    state = gateway.state(number)
    assert (state.inflight, state.total_failures, state.breaker.failures, state.last_error) == (0, 0, 0, "")
    assert gateway.failures() == gateway.failures(number) == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_not_answered_yet_goes_elsewhere(stream: bool) -> None:
    async with stalled() as old, FakeServer(Behaviour(name="new")) as new, RunningGateway(wired(old, new)) as gateway:
        request = gateway.leaving(stream=stream)
        await in_flight(gateway, 1)
        await old.wait_for(lambda stats: stats.inflight == 1)
        assert gateway.dispatcher.cut(1) == 1
        answer = await request
        assert answer.status_code == 200
        assert answer.headers["x-lb-endpoint"] == "new"
        await gateway.settled()
        first, second = gateway.last.attempts
        assert (first.outcome, first.result) == (Outcome.NEUTRAL.value, WORDS)
        assert second.outcome == Outcome.SUCCESS.value
        check_not_blamed(gateway)
        await old.wait_for(lambda stats: stats.connections == 0)


async def test_a_crowd_goes_elsewhere_whatever_the_retry_budget() -> None:
    async with (
        stalled() as old,
        FakeServer(Behaviour(name="new")) as new,
        RunningGateway(wired(old, new), retry_budget_percent=0) as gateway,
    ):
        crowd = [gateway.leaving() for _ in range(30)]
        await in_flight(gateway, 30)
        await old.wait_for(lambda stats: stats.inflight == 30)
        assert gateway.dispatcher.cut(1) == 30
        assert {answer.headers["x-lb-endpoint"] for answer in await asyncio.gather(*crowd)} == {"new"}
        assert gateway.dispatcher.budget.refused_total == 0


async def test_with_nobody_else_the_client_is_told_why() -> None:
    async with stalled() as alone, RunningGateway(wired(alone)) as gateway:
        request = gateway.leaving()
        await alone.wait_for(lambda stats: stats.inflight == 1)
        assert gateway.dispatcher.cut(1) == 1
        answer = await request
        assert answer.status_code == 502
        assert answer.json()["error"]["message"] == f"endpoint 'stalled': {WORDS}"
        await gateway.settled()
        check_not_blamed_but_for_the_502(gateway)


def check_not_blamed_but_for_the_502(gateway: RunningGateway) -> None:
    assert gateway.failures() == 1 and gateway.failures(1) == 0
    assert gateway.state().breaker.failures == gateway.state().total_failures == 0
    assert gateway.traffic.errors == {"cut_off": 1}


async def test_a_stream_ends_with_an_error_event() -> None:
    async with (
        stalled(fault="stall_body") as fake,
        RunningGateway(wired(fake)) as gateway,
        gateway.client.stream("POST", "/v1/chat/completions", json=streamed()) as answer,
    ):
        received = answer.aiter_text()
        text = await anext(received)
        await in_flight(gateway, 1)
        assert gateway.dispatcher.cut(1) == 1
        async for more in received:
            text += more
        *events, last = events_of(text)
        assert len(events) == 3
        assert last["error"]["message"] == f"endpoint 'stalled': {WORDS}"
        await gateway.settled()
        record = gateway.last
        assert (record.status, record.attempts[0].outcome) == (200, Outcome.NEUTRAL.value)
        assert record.usage is not None and record.usage.completion_tokens > 0
        assert gateway.state().completion_tokens_total == record.usage.completion_tokens
        assert gateway.traffic.errors == {"cut_off": 1}
        check_not_blamed(gateway)


def streamed() -> dict[str, Any]:
    return {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}], "stream": True}


async def test_an_attempt_to_connect_ends_too() -> None:
    accepted = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()

    async with RawServer(say_nothing) as silent, FakeServer(Behaviour(name="new")) as new:
        # It accepts the connection and never begins TLS, so the attempt hangs.
        hanging = f"https://127.0.0.1:{silent.port}/v1"
        async with RunningGateway(wired(hanging, new), connect_timeout_seconds=FOREVER_SECONDS) as gateway:
            request = gateway.leaving()
            await asyncio.wait_for(accepted.wait(), DEADLINE_SECONDS)
            assert gateway.dispatcher.cut(1) == 1
            assert (await request).headers["x-lb-endpoint"] == "new"
            await gateway.settled()
            assert gateway.last.attempts[0].result == WORDS
            check_not_blamed(gateway)


async def test_nobody_else_is_cut() -> None:
    async with (
        stalled("cut") as cut,
        stalled("left", fault="stall_body") as left,
        RunningGateway(wired(cut, left, max_concurrent=1)) as gateway,
    ):
        one = gateway.leaving()
        await in_flight(gateway, 1)
        other = gateway.leaving(stream=True)
        await in_flight(gateway, 1, number=2)
        await left.wait_for(lambda stats: stats.inflight == 1)
        await cut.wait_for(lambda stats: stats.inflight == 1)
        assert gateway.dispatcher.cut(1) == 1
        assert (await one).status_code in (429, 502)  # the other one is full
        assert gateway.state(2).inflight == 1 and not other.done()
        assert gateway.dispatcher.cut(2) == 1
        await other


async def test_idle_connections_are_left_alone_and_a_second_cut_finds_nothing() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        assert (await gateway.chat()).status_code == 200
        assert fake.stats.connections == 1
        assert gateway.dispatcher.cut(1) == 0
        assert gateway.dispatcher.cut(99) == 0
        assert (await gateway.chat()).status_code == 200
        assert fake.stats.connections == 1


async def test_over_the_admin_api_also_under_an_older_address(tmp_path: Path) -> None:
    async with (
        stalled("moved", fault="stall_body") as old,
        FakeServer(Behaviour(name="new")) as new,
        RunningBalancer(tmp_path) as balancer,
    ):
        endpoint = await balancer.add("moved", old)
        request = asyncio.create_task(balancer.chat(stream=True))
        await old.wait_for(lambda stats: stats.inflight == 1)
        await balancer.admin("PATCH", f"/endpoints/{endpoint}", {"base_url": new.base_url, "connected": False})
        draining = await balancer.endpoint("moved")
        assert (draining["connected"], draining["inflight"]) == (False, 1)

        revision = (await balancer.state())["revision"]
        assert await balancer.admin("POST", f"/endpoints/{endpoint}/abort") == {"aborted": 1}
        assert WORDS in (await request).text
        after = await balancer.endpoint("moved")
        assert (after["inflight"], after["consecutive_failures"], after["total_failures"]) == (0, 0, 0)
        assert (await balancer.state())["revision"] == revision
        assert await balancer.admin("POST", f"/endpoints/{endpoint}/abort") == {"aborted": 0}
        unknown = await balancer.client.post("/admin/api/endpoints/99/abort", headers=ADMIN)
        assert unknown.status_code == 404
        assert (await balancer.client.post(f"/admin/api/endpoints/{endpoint}/abort")).status_code == 401
