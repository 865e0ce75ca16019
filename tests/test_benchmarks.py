"""The benchmarks still run: nobody notices when what is measured once a month stops working."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
import uvloop

from balancer.core.strategies import STRATEGIES
from benchmarks.choice import Fleet
from benchmarks.flame_picture import own_parts, picture, tree
from benchmarks.hot import tasks
from benchmarks.instructions import table, with_derived
from benchmarks.routing import Simulation, share_error


@pytest.fixture
def loop() -> Iterator[uvloop.Loop]:
    made = uvloop.new_event_loop()
    yield made
    made.close()


def test_every_hot_function_runs(loop: uvloop.Loop) -> None:
    names = []
    for task in tasks(loop):
        task.run(2)
        names.append(task.name)
    assert len(set(names)) == len(names) > 10


def test_a_chunk_is_what_a_longer_stream_costs_more() -> None:
    counted = {"request, stream of 64, a read each": 1000.0, "request, stream of 128, a read each": 7400.0}
    derived = with_derived(counted)
    assert derived["relay of one chunk"] == 100
    assert "| relay of one chunk | 200 | 100 | -50.0 % |" in table(derived, {"relay of one chunk": 200.0})
    assert with_derived({"parse": 1.0}) == {"parse": 1.0}


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_simulation_repeats_itself_and_loses_no_request(strategy: str, crowded: bool) -> None:
    first, second = (Simulation(strategy, 4, 300, 1, crowded=crowded).run() for _ in range(2))
    assert first == second
    assert first.served + first.lost == 300


def test_percentage_routing_keeps_its_quotas() -> None:
    error = share_error("percentage", Simulation("percentage", 4, 3000, 1, crowded=False).run())
    assert error is not None
    assert error < 1.0
    assert share_error("random", Simulation("random", 4, 30, 1, crowded=False).run()) is None


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fleet_to_choose_from_serves_on_and_on(strategy: str, busy: bool) -> None:
    fleet = Fleet(strategy, 3, busy=busy)
    for _ in range(200):
        fleet.pass_one()


def test_stacks_become_a_picture_of_the_loop_alone() -> None:
    stacks = [
        "Thread.run (threading.py:971);_worker (concurrent/futures/thread.py:69) 50",
        "serve (balancer/server.py:1);Runner.run (asyncio/runners.py:86) 10",
        "serve (balancer/server.py:1);Runner.run (asyncio/runners.py:86);Pool.<acquire> (balancer/core/pool.py:2) 30",
    ]
    root = tree(stacks)
    assert root.count == 40
    assert own_parts(root)["choosing"] == 0.75
    words = [each.text for each in ElementTree.fromstring(picture(root, "40 & more")).iter() if each.text]
    assert "40 & more" in words
    assert "Pool.<acquire> 75.0 %" in words
