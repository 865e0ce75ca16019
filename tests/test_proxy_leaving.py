"""Clients that leave, at every stage: the endpoint hears of it within a second and nothing stays counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from balancer.core.breaker import BreakerState
from balancer.core.endpoints import Provenance
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer, events_of
from tests.raw_server import RawServer, stays_silent
from tests.running import RunningGateway, chat_body, eventually, raw_client, request, wired

# Far less than anything else would end such a request in.
WITHIN_SECONDS = 5.0
SILENT = Behaviour(fault="stall_headers")
ENDLESS = Behaviour(completion_tokens=100_000, tpot_seconds=0.005)


@asynccontextmanager
async def leaves(leaving: asyncio.Task[httpx.Response], gone: Callable[[], object]) -> AsyncIterator[None]:
    """Let the client leave; `gone` must come true soon."""
    yield
    left_at = time.monotonic()
    leaving.cancel()
    await asyncio.wait([leaving])
    await eventually(gone)
    assert time.monotonic() - left_at < WITHIN_SECONDS


def check_left(gateway: RunningGateway, *, outcomes: list[str], words: str = "client left") -> None:
    """The record of a client that left, and endpoints that are not blamed for it."""
    record = gateway.last
    assert (record.status, record.error) == (499, words)
    assert [attempt.outcome for attempt in record.attempts] == outcomes
    assert gateway.traffic.errors == {"client_left": 1}
    for attempt in record.attempts:
        state = gateway.state(attempt.endpoint_id)
        blamed = attempt.outcome == "failed"
        assert (state.total_requests, state.total_failures, state.total_success) == (1, int(blamed), 0)
        assert state.breaker.failures == int(blamed)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_while_waiting_for_the_headers(stream: bool) -> None:
    async with FakeServer(SILENT) as fake, RunningGateway(wired(fake)) as gateway:
        leaving = gateway.leaving(stream=stream)
        async with leaves(leaving, lambda: fake.stats.disconnects):
            await fake.wait_for(lambda stats: stats.inflight)
        await gateway.recorded(1)
        check_left(gateway, outcomes=["neutral"])
        usage = gateway.last.usage
        assert usage is not None
        assert usage.provenance is Provenance.PARTIAL
        assert (usage.prompt_tokens > 0, usage.completion_tokens) == (True, 0)
        assert gateway.state().prompt_tokens_total == usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True], ids=["short answer", "first event"])
async def test_while_the_answer_is_held_back(stream: bool) -> None:
    async with FakeServer(Behaviour(fault="stall_body")) as fake, RunningGateway(wired(fake)) as gateway:
        leaving = gateway.leaving(stream=stream)
        async with leaves(leaving, lambda: not fake.stats.inflight):
            await fake.wait_for(lambda stats: stats.prompt_tokens)
        await gateway.recorded(1)
        check_left(gateway, outcomes=["neutral"])


@pytest.mark.parametrize("asks", [False, True], ids=["injected", "as asked"])
async def test_in_the_middle_of_a_stream(asks: bool) -> None:
    async with FakeServer(ENDLESS) as fake, RunningGateway(wired(fake)) as gateway:
        body = json.loads(chat_body(stream=True, stream_options={"include_usage": asks}))
        async with gateway.client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if '"content":" flow"' in line:
                    break
            left_at = time.monotonic()
        await fake.wait_for(lambda stats: stats.disconnects == 1)
        assert time.monotonic() - left_at < WITHIN_SECONDS
        record = await gateway.recorded(1)
        check_left(gateway, outcomes=["neutral"])
        usage = record.usage
        assert usage is not None
        assert usage.provenance is Provenance.PARTIAL
        # One per event, the opening one included; a few more may have passed before the leaving was noticed.
        assert 3 <= usage.completion_tokens <= fake.stats.completion_tokens + 1
        assert gateway.state().completion_tokens_total == usage.completion_tokens
        assert gateway.tokens.anonymous.completion_tokens == usage.completion_tokens


async def test_while_connecting() -> None:
    async with RawServer(stays_silent) as server:
        url = server.url.replace("http:", "https:")
        async with RunningGateway(wired(url)) as gateway:
            leaving = gateway.leaving()
            async with leaves(leaving, lambda: not server.running):
                await eventually(lambda: server.running)
            await gateway.recorded(1)
            check_left(gateway, outcomes=["neutral"])


async def test_while_queued() -> None:
    async with (
        FakeServer(SILENT) as fake,
        RunningGateway(wired(fake, max_concurrent=1), queue_size=5) as gateway,
    ):
        served = gateway.leaving()
        await fake.wait_for(lambda stats: stats.inflight)
        leaving = gateway.leaving()
        async with leaves(leaving, lambda: not gateway.dispatcher.queue.depth):
            await eventually(lambda: gateway.dispatcher.queue.depth)
        record = await gateway.recorded(1)
        check_left(gateway, outcomes=[])
        assert (record.endpoint, record.usage) == (None, None)
        assert gateway.tokens.anonymous.prompt_tokens == 0, "nothing was sent anywhere"
        assert gateway.inflight == 1
        served.cancel()


async def test_while_a_second_endpoint_is_asked() -> None:
    async with (
        FakeServer(Behaviour(fault="status")) as broken,
        FakeServer(SILENT) as silent,
        RunningGateway(wired(broken, silent)) as gateway,
    ):
        leaving = gateway.leaving()
        async with leaves(leaving, lambda: silent.stats.disconnects):
            await silent.wait_for(lambda stats: stats.inflight)
            assert gateway.dispatcher.budget.active_retries == 1
        await gateway.recorded(1)
        check_left(gateway, outcomes=["failed", "neutral"])


async def test_while_the_body_is_uploaded() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        async with raw_client(gateway.url) as client:
            client.send(request(b"x" * 1000)[:-500])
            await eventually(lambda: gateway.gateway.active)
        record = await gateway.recorded(1)
        check_left(gateway, outcomes=[])
        assert (record.model, record.usage, record.operation) == (None, None, "chat")
        assert fake.stats.connections == 0


async def test_with_another_request_behind_on_the_connection() -> None:
    """The server tells the second request alone."""
    async with FakeServer(ENDLESS) as fake, RunningGateway(wired(fake)) as gateway:
        async with raw_client(gateway.url) as client:
            client.post(chat_body(stream=True))
            await client.head()
            client.post(chat_body(stream=True))
            await client.reader.readuntil(b'"content":" flow"')
        await fake.wait_for(lambda stats: not stats.inflight)
        await gateway.settled()
        assert {record.status for record in gateway.traffic.log} == {499}


async def test_before_anybody_watches() -> None:
    async with FakeServer(SILENT) as fake, RunningGateway(wired(fake)) as gateway:
        async with raw_client(gateway.url) as client:
            client.post(chat_body())
        await gateway.recorded(1)
        check_left(gateway, outcomes=["neutral"])
        await fake.wait_for(lambda stats: stats.disconnects == stats.total_requests)


async def test_the_half_open_slot_is_given_back() -> None:
    broken = Behaviour(fault="status", fault_status=502)
    async with (
        FakeServer(broken) as fake,
        RunningGateway(wired(fake), fail_threshold=1, cooldown_seconds=0.01) as gateway,
    ):
        await gateway.chat()
        breaker = gateway.state().breaker
        states = []
        await eventually(lambda: breaker.admits(gateway.gateway.clock()), "end of the cooldown")
        fake.behaviour = SILENT
        leaving = gateway.leaving()
        async with leaves(leaving, lambda: fake.stats.disconnects):
            await fake.wait_for(lambda stats: stats.inflight)
            states.append(breaker.state)
            assert not breaker.admits(gateway.gateway.clock())
        await gateway.recorded(2)
        states.append(breaker.state)
        assert breaker.admits(gateway.gateway.clock())
        fake.behaviour = Behaviour()
        assert (await gateway.chat()).status_code == 200
        assert [*states, breaker.state] == [BreakerState.HALF_OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]
        assert not gateway.last.attempts[0].panic


async def test_many_at_any_time() -> None:
    async with (
        FakeServer(Behaviour(ttft_seconds=0.01, tpot_seconds=0.002)) as fake,
        RunningGateway(wired(fake, max_concurrent=20), queue_size=20) as gateway,
    ):
        clients = [gateway.leaving(stream=number % 2 == 0) for number in range(60)]
        for client in clients:
            await asyncio.sleep(0.001)
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await gateway.settled()
        await fake.wait_for(lambda stats: not stats.inflight)
        assert gateway.traffic.finished == len(gateway.traffic.log)
        ended = [state.total_requests for state in gateway.pool.states.values()]
        assert sum(ended) == sum(len(record.attempts) for record in gateway.traffic.log)


# -- at shutdown ------------------------------------------------------------------------------------------------------


async def test_out_of_grace_before_an_answer() -> None:
    async with FakeServer(SILENT) as fake, RunningGateway(wired(fake)) as gateway:
        waiting = gateway.leaving()
        await fake.wait_for(lambda stats: stats.inflight)
        gateway.app.cancel_requests()
        response = await waiting
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "shutting_down"
        assert response.headers["connection"] == "close"
        record = gateway.last
        assert (record.status, record.error) == (503, "shut down")
        assert [attempt.outcome for attempt in record.attempts] == ["neutral"]
        await fake.wait_for(lambda stats: stats.disconnects)


async def test_out_of_grace_in_the_middle_of_a_stream() -> None:
    async with FakeServer(ENDLESS) as fake, RunningGateway(wired(fake)) as gateway:
        waiting = gateway.leaving(stream=True)
        await fake.wait_for(lambda stats: stats.completion_tokens > 3)
        gateway.app.cancel_requests()
        *_, last = events_of((await waiting).text)
        assert last["error"]["message"] == "the balancer is shutting down"
        record = gateway.last
        assert (record.status, record.error, record.attempts[0].outcome) == (200, "shut down", "neutral")
        assert record.usage is not None
        assert record.usage.provenance is Provenance.PARTIAL
        await fake.wait_for(lambda stats: stats.disconnects)


async def test_out_of_grace_in_the_middle_of_an_upload() -> None:
    async with RunningGateway([]) as gateway, raw_client(gateway.url) as client:
        client.send(request(b"x" * 1000)[:-500])
        await eventually(lambda: gateway.gateway.active)
        gateway.app.cancel_requests()
        status, _, _ = await client.answer()
        assert status == 503
        client.leave()


async def test_cancelling_twice_ends_it_all_the_same() -> None:
    async with FakeServer(SILENT) as fake, RunningGateway(wired(fake)) as gateway:
        waiting = gateway.leaving()
        await fake.wait_for(lambda stats: stats.inflight)
        gateway.app.cancel_requests()
        waiting.cancel()
        gateway.app.cancel_requests()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await gateway.settled()
        assert len(gateway.traffic.log) == 1
