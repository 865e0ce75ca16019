"""The benchmarks still run: nobody notices when what is measured once a month stops working."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import uvloop

from balancer.core.strategies import STRATEGIES
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
    assert error < 2.0
    assert share_error("random", Simulation("random", 4, 30, 1, crowded=False).run()) is None
