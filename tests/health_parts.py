"""What the tests of active health share: endpoints that answer by a script, and clocks that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx

from balancer.core.endpoints import Endpoint
from balancer.core.pool import EndpointPool
from balancer.core.probes import HealthStatus, ProbeRules
from balancer.health import Health
from tests.running import eventually
from tests.scripted_backends import ScriptedBackends
from tests.store_parts import Clock


class Ward:
    """A health of scripted backends whose clocks a test moves. Endpoint n is at "host-n:80"."""

    def __init__(self, *numbers: int, **options: Any) -> None:
        most_at_once = options.pop("most_at_once", 32)
        self.clock, self.wall_clock = Clock(), Clock()
        self.clock.now = 1000.0
        self.backends = ScriptedBackends(**({"timeout_seconds": t} if (t := options.pop("timeout", None)) else {}))
        self.pool = EndpointPool(strategy="priority")
        self.configure(*numbers)
        self.health = Health(
            self.pool,
            self.backends.control,
            ProbeRules(**options),
            clock=self.clock,
            wall_clock=self.wall_clock,
            rng=Random(1),
            most_at_once=most_at_once,
        )

    def configure(self, *numbers: int, **fields: Any) -> None:
        """The endpoints there are from now on; `fields` are those of all."""
        self.pool.apply([endpoint(number, **fields) for number in numbers])

    async def probe(self, times: int = 1, number: int = 1) -> HealthStatus:
        """Probe one endpoint; returns how it stands then."""
        for _ in range(times):
            await self.health.probe(self.pool.states[number].endpoint)
        return self.status(number)

    def status(self, number: int = 1) -> HealthStatus:
        return self.pool.states[number].health_status

    def answer(self, answer: httpx.Response | Exception, number: int = 1) -> None:
        """From now on."""
        self.backends.answers[place(number)] = answer

    async def idle(self) -> None:
        """Wait until no probe is under way."""
        await eventually(lambda: "0 probes" in repr(self.health), "the end of all probes")

    async def begun(self, count: int) -> None:
        """Wait until the backends were asked so often in all."""
        await eventually(lambda: len(self.backends.asked) >= count, f"question number {count}")
        assert len(self.backends.asked) == count


def place(number: int) -> str:
    return f"host-{number}:80"


def endpoint(number: int, **fields: Any) -> Endpoint:
    given = {"name": f"e{number}", "base_url": f"http://host-{number}/v1", "connected": True, **fields}
    return Endpoint(number, **given)


@asynccontextmanager
async def closed_wards() -> AsyncIterator[list[Ward]]:
    """Wards to be closed at the end, when no task may be left: append."""
    opened: list[Ward] = []
    yield opened
    for ward in opened:
        if ward.backends.hanging:
            ward.backends.release()
        await ward.health.stop()
        await ward.backends.control.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
