"""How often a request is tried: the cap, the retry budget and the panic rule, against real sockets."""

from __future__ import annotations

from dataclasses import replace

from balancer.core.breaker import BreakerState
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import RunningGateway, eventually, wired


async def test_max_retries_caps_the_attempts_and_no_endpoint_is_asked_twice() -> None:
    async with FakeServer(Behaviour(fault="status", fault_status=502)) as fake:
        endpoints = [replace(each, name=f"e{each.id}") for each in wired(*[fake] * 5)]
        async with RunningGateway(endpoints, max_retries=3) as gateway:
            response = await gateway.chat()
            assert (response.status_code, response.headers["x-attempts"]) == (502, "4")
            assert [attempt.endpoint_id for attempt in gateway.last.attempts] == [1, 2, 3, 4]
        async with RunningGateway(endpoints, max_retries=0) as gateway:
            assert (await gateway.chat()).headers["x-attempts"] == "1"
        async with RunningGateway(endpoints, max_retries=99) as gateway:
            assert (await gateway.chat()).headers["x-attempts"] == "5"


async def test_no_retry_beyond_the_budget() -> None:
    async with (
        FakeServer(Behaviour(fault="status", fault_status=502)) as bad,
        FakeServer() as good,
        RunningGateway(wired(bad, good), fail_threshold=99) as gateway,
    ):
        budget = gateway.dispatcher.budget
        budget.floor = 0
        response = await gateway.chat()
        assert (response.status_code, response.headers["x-attempts"]) == (502, "1")
        assert (budget.refused_total, good.stats.total_requests) == (1, 0)
        budget.floor = 1
        assert (await gateway.chat()).status_code == 200
        assert budget.active_retries == 0


async def test_an_answer_that_began_needs_no_budget_any_more() -> None:
    """A failover is over when its answer begins: long streams must not use up what others need."""
    good = Behaviour(name="good", completion_tokens=100_000, tpot_seconds=0.005)
    async with (
        FakeServer(Behaviour(fault="reset")) as bad,
        FakeServer(good) as slow,
        RunningGateway(wired(bad, slow), fail_threshold=99) as gateway,
    ):
        running = gateway.leaving(stream=True)
        await slow.wait_for(lambda stats: stats.completion_tokens)
        await eventually(lambda: not gateway.dispatcher.budget.active_retries)
        assert gateway.inflight == 1
        running.cancel()


async def test_panic_lets_one_attempt_through_cooldowns() -> None:
    broken = Behaviour(fault="status", fault_status=502)
    async with (
        FakeServer(broken) as one,
        FakeServer(broken) as two,
        RunningGateway(wired(one, two), fail_threshold=1, cooldown_seconds=300) as gateway,
    ):
        await gateway.chat()
        assert {state.breaker.state for state in gateway.pool.states.values()} == {BreakerState.OPEN}
        response = await gateway.chat()
        assert (response.status_code, response.headers["x-attempts"]) == (502, "1")
        assert [attempt.panic for attempt in gateway.last.attempts] == [True]
        assert one.stats.total_requests + two.stats.total_requests == 3
        # It recovers: the answer closes the breaker long before the cooldown ends.
        one.behaviour = two.behaviour = Behaviour()
        assert (await gateway.chat()).status_code == 200
        assert gateway.last.attempts[0].panic
        assert not (await gateway.chat()).is_error
        assert not gateway.last.attempts[0].panic


async def test_panic_comes_last_after_a_regular_attempt() -> None:
    async with (
        FakeServer(Behaviour(name="down", fault="status", fault_status=502, fault_count=1)) as down,
        FakeServer(Behaviour(name="up")) as up,
        RunningGateway(wired(down, up), fail_threshold=1, cooldown_seconds=300) as gateway,
    ):
        await gateway.chat()
        up.behaviour = Behaviour(name="up", fault="status", fault_status=503)
        response = await gateway.chat()
        assert (response.status_code, response.headers["x-lb-endpoint"]) == (200, "down")
        assert [(a.endpoint, a.panic) for a in gateway.last.attempts] == [("up", False), ("down", True)]


async def test_a_probe_that_began_to_answer_closes_the_breaker() -> None:
    """Not only at its end: a stream may take minutes, and the endpoint has proved itself."""
    behaviour = Behaviour(fault="reset", fault_count=1, completion_tokens=100_000, tpot_seconds=0.005)
    async with (
        FakeServer(behaviour) as fake,
        RunningGateway(wired(fake), fail_threshold=1, cooldown_seconds=0.01) as gateway,
    ):
        await gateway.chat()
        breaker = gateway.state().breaker
        await eventually(lambda: breaker.admits(gateway.gateway.clock()), "end of the cooldown")
        running = gateway.leaving(stream=True)
        await eventually(lambda: breaker.state is BreakerState.CLOSED)
        assert gateway.inflight == 1
        running.cancel()


async def test_who_answers_404_again_and_again_is_asked_last() -> None:
    async with (
        FakeServer(Behaviour(models=("other",))) as first,
        FakeServer(Behaviour(name="second")) as second,
        RunningGateway(wired(first, second)) as gateway,
    ):
        attempts = [(await gateway.chat()).headers["x-attempts"] for _ in range(5)]
        assert attempts == ["2", "2", "2", "1", "1"]
        assert gateway.state(1).breaker.failures == 0
