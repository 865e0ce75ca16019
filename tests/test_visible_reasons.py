"""Why an endpoint takes nothing, or takes something in need, is to be seen in four places: the state of the admin API,
`/v1/nodes`, the metrics and the log. Real sockets throughout; each reason is brought about as a backend would.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import eventually
from tests.running_balancer import RunningBalancer

COOLDOWN = 20.0


class Seen:
    """One look at all four places."""

    def __init__(self, state: Any, nodes: Any, metrics: list[str], log: list[str]) -> None:
        self.state = state
        self.nodes = nodes
        self.metrics = metrics
        self.log = log

    def endpoint(self, name: str) -> Any:
        return next(each for each in self.state["endpoints"] if each["name"] == name)

    def node(self, name: str) -> Any:
        return next(each for each in self.nodes["data"] if each["name"] == name)

    def metric(self, line: str) -> float:
        """The value of the sample with that name and labels."""
        (value,) = (each.rpartition(" ")[2] for each in self.metrics if each.rpartition(" ")[0] == line)
        return float(value)

    def lines(self, *words: str) -> list[str]:
        """The log lines that hold all of `words`."""
        return [line for line in self.log if all(word in line for word in words)]

    def excluded(self, name: str, reason: str, words: str, *, seconds: float) -> None:
        """Check that all places say that the endpoint takes nothing, why, and for about how long."""
        for view in (self.endpoint(name), self.node(name)):
            assert (view["eligible"], view["reason"]) == (False, reason)
            assert words in view["reason_text"]
            assert view["wait_seconds"] == pytest.approx(seconds, abs=3)
        assert self.metric(f'lb_endpoint_excluded{{endpoint="{name}",reason="{reason}"}}') == 1
        assert self.metric(f'lb_endpoint_eligible{{endpoint="{name}"}}') == 0


@asynccontextmanager
async def running(directory: Path, **settings: Any) -> AsyncIterator[RunningBalancer]:
    async with RunningBalancer(directory, cooldown_seconds=COOLDOWN, **settings) as balancer:
        await balancer.admin("PATCH", "/routing", {"routing_mode": "priority"})
        yield balancer


async def look(balancer: RunningBalancer, caplog: pytest.LogCaptureFixture) -> Seen:
    nodes = (await balancer.client.get("/v1/nodes")).json()
    text = (await balancer.client.get("/metrics")).text
    log = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    return Seen(await balancer.state(), nodes, text.splitlines(), log)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="balancer")


async def test_cooling_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = Behaviour(fault="status", fault_status=502)
    async with FakeServer(broken) as bad, FakeServer() as good, running(tmp_path, fail_threshold=2) as balancer:
        await balancer.add("bad", bad, priority_order=1)
        await balancer.add("good", good, priority_order=2)
        for _ in range(4):
            assert (await balancer.chat()).status_code == 200
        seen = await look(balancer, caplog)
        seen.excluded("bad", "cooling down", "2 failures, last: answered 502", seconds=COOLDOWN)
        assert seen.endpoint("bad")["breaker"] == seen.node("bad")["breaker"] == "open"
        assert seen.endpoint("bad")["cooldown_remaining_s"] == pytest.approx(COOLDOWN, abs=3)
        assert seen.metric('lb_endpoint_breaker{endpoint="bad",state="open"}') == 1
        assert seen.metric('lb_endpoint_cooldown_seconds{endpoint="bad"}') == pytest.approx(COOLDOWN, abs=3)
        # A line for the turn, and one for each request that was served elsewhere: four requests, two of them so.
        (turn,) = seen.lines("WARNING", "'bad'")
        assert "takes no requests: cooling down for 20 s more: 2 failures, last: answered 502" in turn
        assert len(seen.lines("INFO", "ended with 200", "'bad' answered 502 after", "then 'good' answered 200")) == 2
        assert len(seen.log) == 3, seen.log


async def test_credentials_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with FakeServer(Behaviour(api_key="right")) as fake, running(tmp_path, fail_threshold=2) as balancer:
        identifier = await balancer.add("gpu-1", fake, api_key="wrong")
        for _ in range(2):
            assert (await balancer.chat()).status_code == 502
        seen = await look(balancer, caplog)
        seen.excluded("gpu-1", "credentials refused", "refused its credentials (401)", seconds=COOLDOWN)
        assert seen.endpoint("gpu-1")["credentials_refused"] is True
        assert seen.metric('lb_endpoint_cooldown_seconds{endpoint="gpu-1"}') == pytest.approx(COOLDOWN, abs=3)
        assert len(seen.lines("WARNING", "'gpu-1'", "refused its credentials (401); the operator must renew them")) == 2
        assert len(seen.lines("takes no requests: credentials refused for 20 s more")) == 1
        assert "wrong" not in str(seen.log)

        await balancer.admin("PATCH", f"/endpoints/{identifier}", {"api_key": "right"})
        assert (await balancer.chat()).status_code == 200
        assert (await look(balancer, caplog)).endpoint("gpu-1")["reason"] is None


async def test_throttled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    busy = Behaviour(fault="status", fault_status=429, headers=("retry-after: 60",))
    async with FakeServer(busy) as fake, running(tmp_path) as balancer:
        await balancer.add("gpu-1", fake)
        for _ in range(3):
            refused = await balancer.chat()
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        seen = await look(balancer, caplog)
        seen.excluded("gpu-1", "throttled", "answered 429", seconds=60)
        assert seen.endpoint("gpu-1")["cooldown_remaining_s"] == pytest.approx(60, abs=3)
        assert seen.metric('lb_endpoint_cooldown_seconds{endpoint="gpu-1"}') == pytest.approx(60, abs=3)
        (turn,) = seen.log
        assert turn.startswith("WARNING endpoint 'gpu-1' takes no requests: throttled for 60 s more: answered 429")
        assert fake.stats.requests["/v1/chat/completions"] == 1


async def test_half_open_and_recovered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = Behaviour(fault="status", fault_status=502)
    async with FakeServer(broken) as fake, running(tmp_path, fail_threshold=1) as balancer:
        await balancer.add("gpu-1", fake)
        assert (await balancer.chat()).status_code == 502
        fake.behaviour = Behaviour(ttft_seconds=0.5)
        balancer.balancer.pool.states[1].breaker.open_until = 0.0  # as if the time were up
        test = asyncio.create_task(balancer.chat())
        await fake.wait_for(lambda stats: stats.inflight == 1)
        seen = await look(balancer, caplog)
        seen.excluded("gpu-1", "cooling down", "half-open, a probe is under way", seconds=1)
        assert seen.endpoint("gpu-1")["breaker"] == seen.node("gpu-1")["breaker"] == "half-open"
        assert seen.metric('lb_endpoint_breaker{endpoint="gpu-1",state="half-open"}') == 1
        assert len(seen.lines("INFO endpoint 'gpu-1' is half-open")) == 1
        assert not seen.lines("serves again")

        assert (await test).status_code == 200
        seen = await look(balancer, caplog)
        assert seen.endpoint("gpu-1")["breaker"] == seen.node("gpu-1")["breaker"] == "closed"
        assert seen.metric('lb_endpoint_breaker{endpoint="gpu-1",state="closed"}') == 1
        assert seen.metric('lb_endpoint_eligible{endpoint="gpu-1"}') == 1
        assert len(seen.lines("WARNING endpoint 'gpu-1' serves again")) == 1


async def test_let_through_in_need(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = Behaviour(fault="status", fault_status=502)
    async with FakeServer(broken) as fake, running(tmp_path, fail_threshold=1) as balancer:
        await balancer.add("gpu-1", fake)
        for _ in range(3):
            assert (await balancer.chat()).status_code == 502
        seen = await look(balancer, caplog)
        seen.excluded("gpu-1", "cooling down", "last: answered 502", seconds=COOLDOWN)
        assert seen.endpoint("gpu-1")["panics"] == seen.node("gpu-1")["panics"] == 2
        assert seen.metric('lb_endpoint_panics_total{endpoint="gpu-1"}') == 2
        assert len(seen.lines("INFO request", "ended with 502: 'gpu-1' (in need) answered 502")) == 2
        assert len(seen.lines("WARNING")) == 1
        requests = (await balancer.admin("GET", "/requests"))["requests"]
        assert [request["attempts"][0]["panic"] for request in requests] == [True, True, False]


async def test_the_retry_budget_is_spent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken, slow = Behaviour(fault="status", fault_status=502), Behaviour(ttft_seconds=0.7)
    async with (
        FakeServer(broken) as bad,
        FakeServer(slow) as good,
        running(tmp_path, fail_threshold=100, retry_budget_percent=0.0) as balancer,
    ):
        await balancer.add("bad", bad, priority_order=1)
        await balancer.add("good", good, priority_order=2)
        retried = [asyncio.create_task(balancer.chat()) for _ in range(3)]
        await good.wait_for(lambda stats: stats.inflight == 3)
        for _ in range(2):
            assert (await balancer.chat()).status_code == 502
        seen = await look(balancer, caplog)
        budget = {"limit": 3, "active_retries": 3, "active_requests": 3, "refused_total": 2}
        assert seen.state["retry_budget"] == seen.nodes["retry_budget"] == budget
        assert seen.metric("lb_retries_active") == seen.metric("lb_retries_allowed") == 3
        assert seen.metric("lb_retries_refused_total") == 2
        (turn,) = seen.lines("WARNING")
        assert "the retry budget is spent: 3 retries under way, 3 allowed" in turn
        assert [answer.status_code for answer in await asyncio.gather(*retried)] == [200] * 3


async def test_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with FakeServer(Behaviour(ttft_seconds=30)) as fake, running(tmp_path) as balancer:
        await balancer.add("gpu-1", fake, max_concurrent=1)
        request = asyncio.create_task(balancer.chat())
        await fake.wait_for(lambda stats: stats.inflight == 1)
        (await look(balancer, caplog)).excluded("gpu-1", "full", "full: 1 in flight", seconds=1)
        assert caplog.records == [], "being busy is nothing to write of"
        request.cancel()
        await eventually(lambda: not balancer.balancer.busy)


async def test_found_down_by_its_probes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probing = {"health_interval_seconds": 1.0, "health_fall": 1}
    async with (
        FakeServer(Behaviour(fault="status", fault_scope="get")) as fake,
        running(tmp_path, **probing) as balancer,
    ):
        await balancer.add("gpu-1", fake)
        await balancer.admin("POST", "/endpoints/1/probe")
        seen = await look(balancer, caplog)
        for view in (seen.endpoint("gpu-1"), seen.node("gpu-1")):
            assert (view["eligible"], view["reason"], view["healthy"]) == (False, "unhealthy", False)
            assert view["reason_text"].startswith("unhealthy: ")
        assert seen.metric('lb_endpoint_excluded{endpoint="gpu-1",reason="unhealthy"}') == 1
        assert len(seen.lines("WARNING", "gpu-1 is down")) == 1


async def test_who_was_passed_over_stands_in_the_request_log(tmp_path: Path) -> None:
    slow = Behaviour(ttft_seconds=30)
    async with (
        FakeServer(slow) as busy,
        FakeServer() as down,
        FakeServer() as good,
        FakeServer() as spare,
        running(tmp_path) as balancer,
    ):
        await balancer.add("busy", busy, priority_order=1, max_concurrent=1)
        await balancer.add("down", down, priority_order=2)
        await balancer.add("good", good, priority_order=3)
        await balancer.add("spare", spare, connected=False)
        balancer.balancer.pool.states[2].healthy = False
        first = asyncio.create_task(balancer.chat())
        await busy.wait_for(lambda stats: stats.inflight == 1)
        assert (await balancer.chat()).headers["x-lb-endpoint"] == "good"
        assert (
            await balancer.client.post(
                "/v1/chat/completions?node=" + good.base_url[7:-3],
                json={"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]},
            )
        ).status_code == 200
        first.cancel()
        await eventually(lambda: not balancer.balancer.busy)
        requests = (await balancer.admin("GET", "/requests"))["requests"]
    passed_over = [(each["attempts"][0]["endpoint"], each["attempts"][0]["passed_over"]) for each in requests]
    assert passed_over == [
        ("busy", {"down": "unhealthy"}),
        ("good", {}),
        ("good", {"busy": "full", "down": "unhealthy"}),
    ]


async def test_good_requests_leave_no_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with FakeServer() as fake, running(tmp_path) as balancer:
        await balancer.add("gpu-1", fake)
        for stream in (False, True):
            assert (await balancer.chat(stream=stream)).status_code == 200
        assert caplog.records == []


async def test_what_flaps_is_not_written_again_and_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picky, fine = Behaviour(fault="status", fault_status=403), Behaviour()
    async with FakeServer() as fake, running(tmp_path) as balancer:
        await balancer.add("gpu-1", fake)
        for behaviour in (picky, fine) * 5:
            fake.behaviour = behaviour
            await balancer.chat()
        assert [record.getMessage() for record in caplog.records] == [
            "endpoint 'gpu-1' refused its credentials (403); the operator must renew them",
            "endpoint 'gpu-1' serves again",
        ]


async def test_what_an_endpoint_says_is_no_line_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with FakeServer(Behaviour(fault="error_in_200")) as fake, running(tmp_path, fail_threshold=1) as balancer:
        await balancer.add("gpu-1", fake)
        assert (await balancer.chat(stream=True)).status_code == 502
        seen = await look(balancer, caplog)
        assert seen.lines("begins with an error")
        assert all(line.isprintable() for line in seen.log)
