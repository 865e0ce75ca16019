"""The admission queue: who waits, in which order they get in, and that nobody gets in twice or for nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from balancer.core.endpoints import Outcome, RouteRequest
from balancer.core.errors import AllBusy, NoneEligible
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool
from balancer.dispatch.queue import AdmissionQueue
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import RunningGateway, eventually, wired

A, B = wired("http://a/v1", "http://b/v1", max_concurrent=1)
ANY = RouteRequest(None)


@asynccontextmanager
async def full(**options: Any) -> AsyncIterator[tuple[RunningGateway, FakeServer, asyncio.Task[httpx.Response]]]:
    """A gateway with a queue, whose only endpoint is full with one request that does not end by itself."""
    async with (
        FakeServer(Behaviour(fault="stall_headers", fault_count=1)) as fake,
        RunningGateway(wired(fake, max_concurrent=1), **{"queue_size": 10, **options}) as gateway,
    ):
        running = gateway.leaving()
        await fake.wait_for(lambda stats: stats.inflight)
        yield gateway, fake, running
        running.cancel()


async def queued(gateway: RunningGateway, count: int) -> None:
    await eventually(lambda: gateway.dispatcher.queue.depth == count, f"a queue of {count}")


async def test_first_in_first_out_without_overshoot() -> None:
    async with full() as (gateway, fake, running):
        order: list[int] = []

        async def ask(number: int) -> None:
            response = await gateway.chat(max_tokens=number + 1)
            assert response.json()["usage"]["completion_tokens"] == number + 1
            order.append(number)

        waiting = []
        for number in range(5):
            waiting.append(asyncio.create_task(ask(number)))
            await queued(gateway, number + 1)
        running.cancel()
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2, 3, 4]
        assert fake.stats.max_inflight == 1
        # Waiting for a place is no overhead of ours.
        overheads = [record.overhead_seconds or 0.0 for record in gateway.traffic.log]
        assert sum(overheads) < sum(record.total_seconds for record in gateway.traffic.log) / 2


async def test_a_full_queue_refuses_at_once() -> None:
    async with full(queue_size=1) as (gateway, fake, running):
        waiting = asyncio.create_task(gateway.chat())
        await queued(gateway, 1)
        response = await gateway.chat()
        assert (response.status_code, response.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert response.headers["retry-after"] == "1"
        running.cancel()
        assert (await waiting).status_code == 200
        assert fake.stats.total_requests == 2


async def test_waiting_has_an_end() -> None:
    async with full(queue_timeout_seconds=0.05) as (gateway, fake, _):
        response = await gateway.chat()
        assert response.status_code == 429
        assert "full: 1 in flight" in response.json()["error"]["message"]
        assert response.headers["x-attempts"] == "0"
        assert gateway.dispatcher.queue.depth == 0
        assert fake.stats.total_requests == 1
        assert gateway.last.total_seconds > 0.04


async def test_a_client_that_leaves_does_not_keep_its_place() -> None:
    async with full() as (gateway, fake, running):
        first = gateway.leaving(max_tokens=1)
        await queued(gateway, 1)
        second = asyncio.create_task(gateway.chat(max_tokens=2))
        await queued(gateway, 2)
        first.cancel()
        await queued(gateway, 1)
        running.cancel()
        assert (await second).status_code == 200
        assert fake.stats.total_requests == 2


async def test_a_throttled_endpoint_becomes_free_by_the_clock() -> None:
    throttled = Behaviour(fault="status", fault_status=429, retry_after_ms="150", fault_count=1)
    async with FakeServer(throttled) as fake, RunningGateway(wired(fake), queue_size=5) as gateway:
        assert (await gateway.chat()).status_code == 429
        response = await gateway.chat()
        assert response.status_code == 200
        assert 0.1 < gateway.last.total_seconds < 2


async def test_models_do_not_wait_for_each_other() -> None:
    async with (
        FakeServer(Behaviour(name="one", fault="stall_headers", models=("m-1",))) as one,
        FakeServer(Behaviour(name="two", fault="stall_headers", models=("m-2",), fault_count=1)) as two,
    ):
        first, second = wired(one, two, max_concurrent=1)
        endpoints = [replace(first, models=("m-1",)), replace(second, models=("m-2",))]
        async with RunningGateway(endpoints, queue_size=5) as gateway:
            running = [gateway.leaving(model="m-1"), gateway.leaving(model="m-2")]
            await eventually(lambda: gateway.inflight == 2)
            stuck = gateway.leaving(model="m-1")
            await queued(gateway, 1)
            waiting = asyncio.create_task(gateway.chat(model="m-2"))
            await queued(gateway, 2)
            running[1].cancel()
            assert (await waiting).status_code == 200
            assert gateway.dispatcher.queue.depth == 1
            for each in (running[0], stuck):
                each.cancel()


async def test_a_change_of_configuration_lets_the_queue_in() -> None:
    async with full() as (gateway, fake, _), FakeServer(Behaviour(name="new")) as new:
        waiting = asyncio.create_task(gateway.chat())
        await queued(gateway, 1)
        gateway.pool.apply([replace(each, max_concurrent=1) for each in wired(fake, new)])
        assert (await waiting).headers["x-lb-endpoint"] == "new"


async def test_nobody_left_to_wait_for_ends_the_wait() -> None:
    async with full() as (gateway, fake, _):
        waiting = asyncio.create_task(gateway.chat())
        await queued(gateway, 1)
        gateway.pool.apply(wired(fake, connected=False))
        response = await waiting
        assert response.status_code == 503
        assert "not connected" in json.loads(response.content)["error"]["message"]


# -- the queue by itself, on a clock of its own -----------------------------------------------------------------------


class Bench:
    """A pool and its queue, with a clock that stands until it is moved."""

    def __init__(self, *endpoints: Any, size: int = 10) -> None:
        self.now = 100.0
        self.pool = EndpointPool(strategy="priority")
        self.pool.apply(endpoints or [A])
        self.queue = AdmissionQueue(self.pool, size, 10.0, lambda: self.now)
        self.got: list[tuple[str, str]] = []
        self._tasks: list[asyncio.Task[Lease | None]] = []

    def acquire(self) -> Lease:
        return self.pool.acquire(ANY, self.now)

    def ask(self, name: str, request: RouteRequest = ANY) -> asyncio.Task[Lease | None]:
        task = asyncio.create_task(self._ask(name, request))
        self._tasks.append(task)
        return task

    async def _ask(self, name: str, request: RouteRequest) -> Lease | None:
        try:
            lease = await self.queue.admit(request)
        except (AllBusy, NoneEligible) as error:
            self.got.append((name, type(error).__name__))
            return None
        self.got.append((name, lease.endpoint.name))
        return lease

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self.queue.depth == 0


async def test_a_lease_granted_to_a_client_that_has_just_left_goes_to_the_next() -> None:
    bench = Bench()
    holder = bench.acquire()
    first, _ = bench.ask("first"), bench.ask("second")
    await bench.settle()
    holder.release(Outcome.SUCCESS, bench.now)  # granted, but its task has not run yet
    first.cancel()
    await bench.settle()
    assert bench.got == [("second", A.name)]
    assert bench.pool.states[1].inflight == 1
    await bench.close()


async def test_whoever_came_first_is_first_whatever_model_it_wants() -> None:
    bench = Bench()
    lease: Lease | None = bench.acquire()
    names = ["x", "y", "y", "x", "x", "y", "z", "x"]
    tasks = [bench.ask(f"{model}{number}", RouteRequest(model)) for number, model in enumerate(names)]
    await bench.settle()
    assert bench.queue.depth == len(names)
    tasks[3].cancel()
    for task in (None, *tasks):
        if task is tasks[3]:
            continue
        lease = lease if task is None else await task
        assert lease is not None
        lease.release(Outcome.SUCCESS, bench.now)
    assert [name for name, _ in bench.got] == ["x0", "y1", "y2", "x4", "y5", "z6", "x7"]
    await bench.close()


async def test_a_newcomer_does_not_overtake_when_time_makes_room() -> None:
    bench = Bench()
    throttled = bench.acquire()
    throttled.release(Outcome.REJECTED, bench.now, retry_after_seconds=60)
    bench.ask("first")
    await bench.settle()
    bench.now += 61
    bench.ask("newcomer")
    await bench.settle()
    assert bench.got == [("first", A.name)]
    await bench.close()


async def test_a_wait_that_grew_is_waited_for_again() -> None:
    """The endpoint was to be free soon, and then was not: the queue looks again when it is."""
    bench = Bench()
    one = bench.acquire()
    one.release(Outcome.REJECTED, bench.now, retry_after_seconds=0.05)
    bench.ask("first")
    await bench.settle()
    state = bench.pool.states[1]
    state.throttled_until = bench.now + 0.1
    bench.now += 0.06
    await eventually(lambda: bench.queue.depth == 1 and not bench.got)
    await asyncio.sleep(0.1)  # the first look, in vain: the clock stands still
    bench.now += 0.1
    await eventually(lambda: bench.got == [("first", A.name)])
    await bench.close()


async def test_a_request_pinned_elsewhere_does_not_block_its_model() -> None:
    bench = Bench(A, B)
    to_a, to_b = bench.acquire(), bench.acquire()
    bench.ask("pinned", RouteRequest("m", pinned_to=A.id))
    bench.ask("free", RouteRequest("m"))
    await bench.settle()
    to_b.release(Outcome.SUCCESS, bench.now)
    await bench.settle()
    assert bench.got == [("free", B.name)]
    to_a.release(Outcome.SUCCESS, bench.now)
    await bench.settle()
    assert bench.got == [("free", B.name), ("pinned", A.name)]
    await bench.close()


async def test_it_says_how_many_wait() -> None:
    bench = Bench(size=1)
    holder = bench.acquire()
    bench.ask("first")
    await bench.settle()
    bench.ask("second")
    await bench.settle()
    assert repr(bench.queue) == "<AdmissionQueue 1 of 1>"
    assert bench.got == [("second", "AllBusy")]
    await bench.close()
    holder.release(Outcome.NEUTRAL, bench.now)
