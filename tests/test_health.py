"""Active health without sockets: what every kind of answer makes of an endpoint. Real sockets: test_health_live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from balancer.core.endpoints import RouteRequest
from balancer.core.errors import BrokenConnection, ConnectError, ModelNotFound, ProtocolError
from balancer.core.probes import HealthStatus
from balancer.core.reasons import Reason, describe
from balancer.health import Listed
from balancer.upstream.control import MAX_BODY_BYTES
from tests.health_parts import Ward, closed_wards, endpoint, place
from tests.scripted_backends import CHUNK_BYTES, Endless, models

UP, DOWN, UNKNOWN, OFF = HealthStatus.UP, HealthStatus.DOWN, HealthStatus.UNKNOWN, HealthStatus.OFF


@pytest.fixture
async def wards() -> AsyncIterator[list[Ward]]:
    async with closed_wards() as opened:
        yield opened


@pytest.fixture
def ward(wards: list[Ward]) -> Ward:
    wards.append(Ward(1))
    return wards[0]


# -- what an answer makes of an endpoint -------------------------------------------------------------------------------

HTML = httpx.Response(200, text="<html>welcome</html>", headers={"content-type": "text/html"})
NONSENSE: list[Any] = [5, "x", {}, {"data": 5}, {"data": [1, None, {"id": 7}, {"id": ""}, {"id": "a\nb"}]}, {"a": []}]


@pytest.mark.parametrize(
    ("answer", "once", "three_times", "found"),
    [
        (models("a", "b"), UP, UP, {"a", "b"}),
        (models(), UP, UP, None),
        (httpx.Response(404), UP, UP, None),
        (httpx.Response(405), UP, UP, None),
        (httpx.Response(400, text="no"), UP, UP, None),
        (httpx.Response(429), UP, UP, None),
        (httpx.Response(401), HealthStatus.CREDENTIALS, HealthStatus.CREDENTIALS, None),
        (httpx.Response(403), HealthStatus.CREDENTIALS, HealthStatus.CREDENTIALS, None),
        (httpx.Response(500), UNKNOWN, DOWN, None),
        (httpx.Response(503), UNKNOWN, DOWN, None),
        (httpx.Response(302, headers={"location": "http://elsewhere/"}), UNKNOWN, DOWN, None),
        (HTML, UNKNOWN, DOWN, None),
        (httpx.Response(200), UNKNOWN, DOWN, None),
        *[(httpx.Response(200, json=each), UNKNOWN, DOWN, None) for each in NONSENSE],
        (ConnectError("connection refused"), UNKNOWN, DOWN, None),
        (BrokenConnection("closed the connection before answering"), UNKNOWN, DOWN, None),
        (ProtocolError("not a valid HTTP answer"), UNKNOWN, DOWN, None),
    ],
)
async def test_each_answer(
    ward: Ward,
    answer: httpx.Response | Exception,
    once: HealthStatus,
    three_times: HealthStatus,
    found: set[str] | None,
) -> None:
    ward.answer(answer)
    assert await ward.probe() is once
    assert await ward.probe(2) is three_times
    state = ward.pool.states[1]
    assert state.healthy == (three_times is not DOWN)
    assert state.discovered_models == found
    assert state.listed_at == (ward.wall_clock.now if found else None)
    assert state.vitals is not None and state.vitals.last is not None and state.vitals.last.reason


async def test_a_list_without_end_is_given_up_and_not_kept(ward: Ward) -> None:
    body = Endless()
    ward.answer(httpx.Response(200, stream=body))
    assert await ward.probe(3) is DOWN
    assert body.read <= 3 * (MAX_BODY_BYTES + CHUNK_BYTES)
    assert "more than 4 MB" in describe(ward.pool.states[1], Reason.UNHEALTHY, 0.0)


async def test_one_that_is_silent_for_ever_ends_at_the_timeout(wards: list[Ward]) -> None:
    ward = Ward(1, timeout=0.01)
    wards.append(ward)
    ward.backends.hang(place(1))
    assert await ward.probe(3) is DOWN


# -- turning -----------------------------------------------------------------------------------------------------------


async def test_down_and_up_again_are_logged_once_each(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "balancer.health")
    ward.answer(models("a"))
    await ward.probe(2)
    ward.answer(ConnectError("connection refused"))
    assert await ward.probe(5) is DOWN
    ward.clock.now += 12
    ward.answer(models("a"))
    assert await ward.probe() is DOWN
    assert await ward.probe(3) is UP
    ward.answer(httpx.Response(401))
    await ward.probe(2)
    ward.answer(models("a"))
    await ward.probe(2)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "endpoint e1 is down: connection refused at host-1:80"),
        ("INFO", "endpoint e1 is up again after 12 s"),
        ("WARNING", "endpoint e1 answers, but a key is needed (401)"),
        ("INFO", "endpoint e1 takes its key again"),
    ]


async def test_flapping_faster_than_it_counts_turns_nothing(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        ward.answer(models("a"))
        assert await ward.probe() is UP
        ward.answer(httpx.Response(500))
        assert await ward.probe(2) is UP
    assert await ward.probe() is DOWN
    for _ in range(5):
        ward.answer(models("a"))
        assert await ward.probe() is DOWN
        ward.answer(httpx.Response(500))
        assert await ward.probe() is DOWN
    assert len(caplog.records) == 1


async def test_who_is_down_gets_nothing_and_who_waits_is_let_in_when_it_is_up(wards: list[Ward]) -> None:
    ward = Ward(1, 2)
    wards.append(ward)
    ward.answer(ConnectError("connection refused"))
    assert ward.pool.acquire(RouteRequest("a"), 0.0).endpoint.id == 1
    await ward.probe(3)
    assert ward.pool.acquire(RouteRequest("a"), 0.0).endpoint.id == 2
    rooms: list[bool] = []
    ward.pool.freed = lambda: rooms.append(ward.pool.states[1].healthy)
    ward.answer(httpx.Response(404))
    await ward.probe(2)
    assert rooms == [True]
    assert ward.pool.acquire(RouteRequest("a"), 0.0).endpoint.id == 1


async def test_a_good_probe_does_not_end_a_cooldown(ward: Ward) -> None:
    ward.answer(models("a"))
    breaker = ward.pool.states[1].breaker
    for _ in range(3):
        breaker.failed(breaker.issue(0.0), 0.0)
    assert await ward.probe(3) is UP
    assert not breaker.admits(1.0)


# -- models ------------------------------------------------------------------------------------------------------------


async def test_the_list_decides_who_is_asked_for_a_model(wards: list[Ward]) -> None:
    ward = Ward(1, 2)
    wards.append(ward)
    ward.answer(models("a"), 1)
    ward.answer(models("b"), 2)
    assert ward.pool.acquire(RouteRequest("b"), 0.0).endpoint.id == 1  # unknown = any
    await ward.probe(number=1)
    await ward.probe(number=2)
    assert [ward.pool.acquire(RouteRequest(model), 0.0).endpoint.id for model in "abab"] == [1, 2, 1, 2]
    with pytest.raises(ModelNotFound):
        ward.pool.acquire(RouteRequest("c"), 0.0)
    ward.answer(models("a", "c"), 1)
    await ward.probe(number=1)
    assert ward.pool.acquire(RouteRequest("c"), 0.0).endpoint.id == 1


async def test_the_list_of_one_that_is_down_is_kept_with_its_time_and_renewed_when_it_is_back(ward: Ward) -> None:
    state = ward.pool.states[1]
    ward.answer(models("a"))
    await ward.probe()
    listed_at = ward.wall_clock.now
    ward.wall_clock.now += 60
    ward.answer(httpx.Response(500))
    await ward.probe(3)
    assert (state.discovered_models, state.listed_at) == (frozenset({"a"}), listed_at)
    ward.answer(models("b"))
    await ward.probe(2)
    assert (state.discovered_models, state.listed_at) == (frozenset({"b"}), ward.wall_clock.now)


async def test_the_list_is_unknown_when_it_is_told_no_more(ward: Ward) -> None:
    ward.answer(models("a"))
    await ward.probe()
    ward.answer(httpx.Response(404))
    await ward.probe()
    state = ward.pool.states[1]
    assert (state.discovered_models, state.listed_at, ward.status()) == (None, None, UP)
    assert ward.pool.acquire(RouteRequest("anything"), 0.0).endpoint.id == 1


async def test_what_is_known_of_a_list(ward: Ward) -> None:
    known = ward.pool.states[1].endpoint
    assert ward.health.listed(known) is None
    ward.answer(models("b", "a"))
    await ward.probe()
    listed = ward.health.listed(known)
    assert listed is not None and listed.models is not None
    assert [model["id"] for model in listed.models] == ["b", "a"]
    assert listed.models[0]["owned_by"] == "test"
    ward.clock.now += 29
    assert ward.health.listed(known) == listed
    ward.clock.now += 2
    assert ward.health.listed(known) is None, "too old"
    ward.answer(httpx.Response(404))
    await ward.probe()
    assert ward.health.listed(known) == Listed(None)
    ward.answer(models())
    await ward.probe()
    assert ward.health.listed(known) == Listed(())
    ward.answer(httpx.Response(500))
    await ward.probe(3)
    assert ward.health.listed(known) == Listed(None), "down"
    assert ward.health.listed(endpoint(9)) is None


# -- the configuration changes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"base_url": "http://other/v1"}, {"api_key": "sk-new"}, {"verify_tls": False}])
async def test_a_probe_of_what_was_there_before_says_nothing_of_what_is_there_now(
    ward: Ward, fields: dict[str, Any]
) -> None:
    ward.answer(models("old"))
    await ward.probe()
    ward.backends.hang(place(1))
    probe = asyncio.create_task(ward.probe())
    await ward.begun(2)
    ward.configure(1, **fields)
    assert (ward.status(), ward.pool.states[1].discovered_models) == (UNKNOWN, None)
    ward.backends.release()
    await probe
    assert (ward.status(), ward.pool.states[1].discovered_models) == (UNKNOWN, None)
    due_in = ward.health.begin_due()
    assert due_in is not None and due_in <= 1.0, "the new one is asked soon"


async def test_the_first_of_a_new_backend_does_not_wait_for_the_last_of_the_old(ward: Ward) -> None:
    ward.backends.hang(place(1))
    old = asyncio.create_task(ward.probe())
    await ward.begun(1)
    ward.configure(1, base_url="http://host-2/v1")
    ward.answer(models("new"), 2)
    assert await ward.probe() is UP
    assert ward.pool.states[1].discovered_models == frozenset({"new"})
    ward.answer(models("old"), 1)
    ward.backends.release()
    await old
    assert ward.pool.states[1].discovered_models == frozenset({"new"})


@pytest.mark.parametrize("fields", [{"connected": False}, {"name": "renamed"}, {"weight": 5.0}, {"models": ("x",)}])
async def test_other_changes_leave_a_probe_under_way_alone(ward: Ward, fields: dict[str, Any]) -> None:
    ward.answer(models("a"))
    ward.backends.hang(place(1))
    probe = asyncio.create_task(ward.probe())
    await ward.begun(1)
    ward.configure(1, **fields)
    ward.backends.release()
    assert await probe is UP
    assert ward.pool.states[1].discovered_models == frozenset({"a"})


async def test_a_probe_of_what_was_removed_says_nothing(ward: Ward) -> None:
    ward.answer(models("a"))
    ward.backends.hang(place(1))
    state, probe = ward.pool.states[1], asyncio.create_task(ward.health.probe(ward.pool.states[1].endpoint))
    await ward.begun(1)
    ward.configure()
    ward.backends.release()
    assert (await probe).ok
    assert (state.health_status, state.discovered_models) == (UNKNOWN, None)
    assert ward.health.begin_due() is None


@pytest.mark.parametrize("fields", [{"enabled": False}, {"health_check": False}])
async def test_who_is_not_to_be_probed_is_off_and_no_longer_down(ward: Ward, fields: dict[str, Any]) -> None:
    ward.answer(ConnectError("connection refused"))
    assert await ward.probe(3) is DOWN
    ward.configure(1, **fields)
    assert (ward.status(), ward.pool.states[1].healthy) == (OFF, True)
    ward.clock.now += 1000
    assert ward.health.begin_due() is None
    ward.health.refresh_soon("a miss", 1)
    assert ward.health.begin_due() is None
    ward.configure(1)
    assert ward.status() is UNKNOWN
    due_in = ward.health.begin_due()
    assert due_in is not None and due_in <= 1.0


async def test_models_outlive_disabling_but_not_the_end_of_probing(ward: Ward) -> None:
    state = ward.pool.states[1]
    ward.answer(models("a"))
    await ward.probe()
    ward.configure(1, enabled=False)
    assert (state.discovered_models, state.listed_at) == (frozenset({"a"}), ward.wall_clock.now)
    ward.configure(1, health_check=False)
    assert (state.discovered_models, state.listed_at) == (None, None)


async def test_of_who_is_not_probed_an_answer_on_demand_is_told_and_not_kept(ward: Ward) -> None:
    ward.answer(models("a"))
    ward.configure(1, health_check=False)
    answer = await ward.health.probe(ward.pool.states[1].endpoint)
    assert answer.ids == ("a",)
    assert (ward.status(), ward.pool.states[1].discovered_models) == (OFF, None)


async def test_off_for_all(wards: list[Ward]) -> None:
    ward = Ward(1, interval_seconds=0.0)
    wards.append(ward)
    ward.health.start()
    ward.clock.now += 1000
    ward.health.refresh_soon("a miss")
    assert ward.health.begin_due() is None
    assert ward.status() is OFF
    assert ward.backends.asked == []


async def test_one_that_comes_back_while_it_is_still_used_begins_anew(ward: Ward) -> None:
    lease = ward.pool.acquire(RouteRequest(None), 0.0)
    await ward.probe(3)
    ward.configure()
    ward.configure(1)
    assert (ward.status(), ward.pool.states[1].inflight) == (UNKNOWN, 1)
    assert lease.endpoint.id == 1
