"""When endpoints are probed: by the clock, by hand, and because of a model that nobody was known to serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from balancer.core.probes import HealthStatus, ProbeRules
from balancer.health import REFRESH_SECONDS, Health
from tests.health_parts import Ward, closed_wards, endpoint, place
from tests.running import eventually
from tests.scripted_backends import models

UP, DOWN = HealthStatus.UP, HealthStatus.DOWN


@pytest.fixture
async def wards() -> AsyncIterator[list[Ward]]:
    async with closed_wards() as opened:
        yield opened


@pytest.fixture
def ward(wards: list[Ward]) -> Ward:
    wards.append(Ward(1))
    return wards[0]


async def test_all_are_asked_within_a_second_connected_or_not_and_then_at_their_time(wards: list[Ward]) -> None:
    ward = Ward(*range(1, 21))
    wards.append(ward)
    ward.configure(*range(1, 21), connected=False)
    steps = 0
    while (due_in := ward.health.begin_due()) is not None and ward.clock.now + due_in <= 1001.0:
        ward.clock.now += due_in
        steps += 1
    await ward.begun(20)
    assert steps > 10, "not all at the same moment"
    assert set(ward.backends.asked) == {place(number) for number in range(1, 21)}
    await ward.idle()
    due_in = ward.health.begin_due()
    assert due_in is not None and due_in > 0, "nobody again at once"


async def test_no_more_than_so_many_are_under_way_and_the_longest_due_goes_first(wards: list[Ward]) -> None:
    ward = Ward(*range(1, 11), most_at_once=4)
    wards.append(ward)
    ward.backends.hang(*(place(number) for number in range(1, 11)))
    ward.clock.now += 2
    assert ward.health.begin_due() is None
    await ward.begun(4)
    assert ward.health.begin_due() is None
    first = ward.backends.asked[:2]
    ward.backends.release(*first)
    await eventually(lambda: "2 probes" in repr(ward.health))
    ward.clock.now += 100  # the two are due again, but the others have been due for longer
    assert ward.health.begin_due() is None
    await ward.begun(6)
    assert len(set(ward.backends.asked)) == 6, "those who were asked go behind those who were not"


async def test_it_goes_by_itself_and_stops_in_the_middle(wards: list[Ward]) -> None:
    ward = Ward(1, 2, interval_seconds=0.01, down_interval_seconds=0.01)
    wards.append(ward)
    ward.clock.now = asyncio.get_running_loop().time()
    ward.health = Health(
        ward.pool, ward.backends.control, ProbeRules(interval_seconds=0.01, down_interval_seconds=0.01)
    )
    ward.answer(models("a"), 1)
    ward.health.start()
    await eventually(lambda: ward.backends.asked.count(place(1)) >= 3 and ward.status(2) is DOWN)
    ward.configure(1, 2, 3)
    await eventually(lambda: place(3) in ward.backends.asked)
    ward.backends.hang(place(1))
    await eventually(lambda: "1 probes under way" in repr(ward.health))
    await ward.health.stop()
    asked = len(ward.backends.asked)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    ward.configure(1, 2, 3, 4)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(ward.backends.asked) == asked


# -- on demand ---------------------------------------------------------------------------------------------------------


async def test_two_who_ask_share_one_probe_and_it_counts_when_both_have_gone(ward: Ward) -> None:
    ward.answer(models("a"))
    ward.backends.hang(place(1))
    asking = [asyncio.create_task(ward.probe()) for _ in range(2)]
    await ward.begun(1)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    ward.backends.release()
    await ward.idle()
    assert ward.status() is UP
    assert len(ward.backends.asked) == 1


async def settle_down(ward: Ward) -> None:
    """Every endpoint has been asked, and its next time is far."""
    for number in ward.pool.states:
        ward.answer(models("a"), number)
        await ward.probe(2, number)
    ward.backends.asked.clear()


async def test_a_miss_asks_all_who_are_connected_at_once_and_only_so_often(wards: list[Ward]) -> None:
    ward = Ward(1, 2, interval_seconds=1000.0)
    wards.append(ward)
    await settle_down(ward)
    ward.pool.apply([endpoint(1), endpoint(2, connected=False)])
    for _ in range(1000):
        ward.health.refresh_soon("nobody serves it")
    ward.health.begin_due()
    await ward.begun(1)
    assert ward.backends.asked == [place(1)]
    await ward.idle()
    ward.clock.now += REFRESH_SECONDS - 0.1
    ward.health.refresh_soon("nobody serves it")
    ward.health.begin_due()
    await ward.idle()
    assert len(ward.backends.asked) == 1
    ward.clock.now += 1.0
    ward.health.refresh_soon("nobody serves it")
    ward.health.begin_due()
    await ward.begun(2)


async def test_a_miss_at_one_asks_that_one(wards: list[Ward]) -> None:
    ward = Ward(1, 2, interval_seconds=1000.0)
    wards.append(ward)
    await settle_down(ward)
    for _ in range(100):
        ward.health.refresh_soon("answered 404", 2)
        ward.health.refresh_soon("answered 404", 99)
    ward.answer(models("a", "b"), 2)
    ward.health.begin_due()
    await ward.begun(1)
    await ward.idle()
    assert ward.backends.asked == [place(2)]
    assert ward.pool.states[2].discovered_models == frozenset({"a", "b"})
    # Not yet asked because of a miss: the first endpoint, but not again the second.
    ward.health.refresh_soon("nobody serves it")
    ward.health.begin_due()
    await ward.begun(2)
    assert ward.backends.asked[-1] == place(1)


async def test_a_miss_wakes_it_from_a_long_sleep(wards: list[Ward]) -> None:
    ward = Ward(1, interval_seconds=1000.0)
    wards.append(ward)
    await settle_down(ward)
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return 1000.0

    ward.health = Health(ward.pool, ward.backends.control, ProbeRules(interval_seconds=1000.0), clock=clock)
    await ward.probe()
    ward.backends.asked.clear()
    ward.health.start()
    before = looks
    await eventually(lambda: looks > before, "a look at who is due, which is nobody")
    assert ward.backends.asked == []
    ward.health.refresh_soon("nobody serves it")
    await ward.begun(1)
