"""Many streams for a long time: clients that leave at any moment, an endpoint that dies and returns again and again.

The balancer is the real process. Says whether anybody saw another's stream, whether a stream failed that was not at the
dying endpoint, whether anything stayed counted, and how memory and descriptors went. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import uvloop

from benchmarks.processes import Program, free_port
from benchmarks.report import conditions
from benchmarks.stream_client import Seen, stream
from load_tester.fake_backend import FakeBackend
from load_tester.fake_behaviour import Behaviour

BACKENDS = 3
DYING = "backend-1"
SHORTEST_TOKENS, LONGEST_TOKENS = 5, 40
LEAVING_SHARE = 0.2
# A stream that fails with an endpoint may have ended this much later than the endpoint.
_DEATH_SLACK_SECONDS = 2.0
_SETTLE_SECONDS = 20.0
# What may differ between the second fifth of the time and the last: allocators do not give everything back at once.
MOST_GROWTH_MEGABYTES, MOST_GROWTH_PERCENT = 8.0, 10.0
MOST_DESCRIPTORS_LEFT = 40
# A shorter run is warming up to its end, and its memory says nothing.
WARM_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much for how long. `chunks_per_second` of all streams together set their pace."""

    seconds: float = 600.0
    streams: int = 1000
    chunks_per_second: float = 1500.0
    dying_every_seconds: float = 20.0
    seed: int = 1

    @property
    def token_seconds(self) -> float:
        """Time between two chunks of a stream."""
        return self.streams / self.chunks_per_second


@dataclass(frozen=True, slots=True)
class Sample:
    """The balancer at one moment."""

    megabytes: float
    descriptors: int
    inflight: int


@dataclass(slots=True)
class Soaked:
    """What came of it. `problems` is empty when all is as it must be."""

    plan: Plan
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    deaths: list[tuple[float, float]] = field(default_factory=list)
    descriptors_before: int = 0
    descriptors_after: int = 0

    def note(self, seen: Seen) -> None:
        """Count a stream; one that should have gone well is a problem."""
        self.ends[seen.how] += 1
        if seen.how in ("wrong", "refused") or (seen.how == "broken" and not self._died_under(seen)):
            self.problems.append(f"{seen.how} at {seen.endpoint or 'none'}: {seen.words}")

    def _died_under(self, seen: Seen) -> bool:
        return seen.endpoint == DYING and any(
            seen.began_at <= died and died <= seen.ended_at <= back + _DEATH_SLACK_SECONDS for died, back in self.deaths
        )

    def fifth(self, number: int) -> tuple[float, float]:
        """Medians of memory in MB and of descriptors in that fifth of the time, 0 to 4."""
        count = len(self.samples)
        part = self.samples[number * count // 5 : (number + 1) * count // 5] or self.samples[-1:]
        return statistics.median(each.megabytes for each in part), statistics.median(each.descriptors for each in part)

    def check_flat(self) -> None:
        """Memory and descriptors of the end against those of the beginning, without the first fifth."""
        early, late = self.fifth(1), self.fifth(4)
        if (
            self.plan.seconds >= WARM_SECONDS
            and late[0] > early[0] * (1 + MOST_GROWTH_PERCENT / 100) + MOST_GROWTH_MEGABYTES
        ):
            self.problems.append(f"memory grew from {early[0]:.1f} to {late[0]:.1f} MB")
        if self.descriptors_after > self.descriptors_before + MOST_DESCRIPTORS_LEFT:
            self.problems.append(f"{self.descriptors_before} descriptors became {self.descriptors_after}")


class SoakedBalancer(Program):
    """A balancer without probes that spreads load evenly and forgives soon."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.admin = {"x-admin-token": secrets.token_urlsafe()}
        port = free_port()
        environ = {
            "LB_HOST": "127.0.0.1",
            "LB_PORT": str(port),
            "LB_DB_PATH": str(folder / "balancer.db"),
            "LB_ADMIN_TOKEN": self.admin["x-admin-token"],
            "LB_LOG_LEVEL": "ERROR",
            "LB_HEALTH_INTERVAL_SECONDS": "0",
            "LB_COOLDOWN_SECONDS": "1",
            "LB_MAX_CONNECTIONS": "10000",  # two endpoints must do for the streams of three
            "ROUTING_STRATEGY": "least_loaded",
            **settings,
        }
        super().__init__([sys.executable, "-m", "balancer", "serve"], port, os.sched_getaffinity(0), folder, environ)

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


class Soak:
    """One run."""

    def __init__(self, plan: Plan, balancer: SoakedBalancer, backends: Sequence[FakeBackend]) -> None:
        self.result = Soaked(plan)
        self._plan = plan
        self._balancer = balancer
        self._backends = backends
        self._rng = random.Random(plan.seed)
        self._until = 0.0
        self._started = 0
        self._client = httpx.AsyncClient(base_url=balancer.url, headers=balancer.admin, trust_env=False, timeout=30)

    async def run(self) -> Soaked:
        """Set up, load for as long as planned, let everything end, and judge."""
        async with self._client:
            endpoints = [
                {"name": each.behaviour.name, "base_url": each.base_url, "connected": True} for each in self._backends
            ]
            (await self._client.post("/admin/api/endpoints", json=endpoints)).raise_for_status()
            await self._one_stream(None)
            self.result.descriptors_before = (await self._sample()).descriptors
            self._until = time.monotonic() + self._plan.seconds
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                tasks.create_task(self._kill_and_revive())
                for _ in range(self._plan.streams):
                    tasks.create_task(self._keep_streaming())
            await self._settle()
        return self.result

    @property
    def _running(self) -> bool:
        return time.monotonic() < self._until

    async def _keep_streaming(self) -> None:
        await asyncio.sleep(self._rng.uniform(0, min(5.0, self._plan.seconds / 4)))
        while self._running:
            leaves = self._rng.random() < LEAVING_SHARE
            longest = LONGEST_TOKENS * self._plan.token_seconds
            await self._one_stream(self._rng.uniform(0, longest) if leaves else None)

    async def _one_stream(self, leave_after_seconds: float | None) -> None:
        self._started += 1
        tokens = self._rng.randint(SHORTEST_TOKENS, LONGEST_TOKENS)
        self.result.note(await stream(self._balancer.port, f"model-{self._started}", tokens, leave_after_seconds))

    async def _kill_and_revive(self) -> None:
        half = self._plan.dying_every_seconds / 2
        await asyncio.sleep(half)
        while self._running:
            deaths = self.result.deaths
            died_at = time.monotonic()
            deaths.append((died_at, died_at + half + self._plan.dying_every_seconds))
            await self._backends[0].close()
            await asyncio.sleep(half)
            await self._backends[0].listen_again()
            deaths[-1] = (died_at, time.monotonic())
            await asyncio.sleep(half)

    async def _watch(self) -> None:
        while self._running:
            self.result.samples.append(await self._sample())
            await asyncio.sleep(max(0.2, self._plan.seconds / 300))

    async def _sample(self) -> Sample:
        health = (await self._client.get("/health")).json()
        return Sample(self._balancer.pss_bytes() / 1e6, self._balancer.descriptors(), health["total_inflight"])

    async def _settle(self) -> None:
        """Nobody asks any more: nothing may stay under way, here or at a backend, and no connection but idle ones."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            sample = await self._sample()
            backends = sum(each.stats.inflight for each in self._backends)
            few = sample.descriptors <= self.result.descriptors_before + MOST_DESCRIPTORS_LEFT
            if not sample.inflight and not backends and few:
                break
            if time.monotonic() > deadline:
                self.result.problems.append(f"never idle: {sample}, {backends} under way at backends")
                break
            await asyncio.sleep(0.1)
        self.result.descriptors_after = sample.descriptors
        self.result.check_flat()


async def soak(plan: Plan, folder: Path) -> Soaked:
    """Run `plan` with a balancer of its own, whose database is in `folder`."""
    async with AsyncExitStack() as stack:
        backends = []
        for number in range(1, BACKENDS + 1):
            pace = plan.token_seconds
            backend = FakeBackend(Behaviour(name=f"backend-{number}", models=(), ttft_seconds=0.1, tpot_seconds=pace))
            await backend.listen()
            stack.push_async_callback(backend.close)
            backends.append(backend)
        balancer = stack.enter_context(SoakedBalancer(folder))
        return await Soak(plan, balancer, backends).run()


def report(result: Soaked) -> str:
    """The figures as a Markdown table."""
    early, late = result.fifth(1), result.fifth(4)
    most = max((sample.inflight for sample in result.samples), default=0)
    rows = [
        ("duration", f"{result.plan.seconds:,.0f} s"),
        ("streams at a time, planned / seen at once", f"{result.plan.streams:,} / {most:,}"),
        ("streams read to their end", f"{result.ends['whole']:,}"),
        ("clients that left", f"{result.ends['left']:,}"),
        ("deaths of an endpoint", f"{len(result.deaths):,}"),
        ("streams that broke, all of them at the endpoint that died", f"{result.ends['broken']:,}"),
        ("streams that were refused, mixed up or wrong", f"{result.ends['refused'] + result.ends['wrong']:,}"),
        ("memory, second fifth of the time / last fifth", f"{early[0]:.1f} / {late[0]:.1f} MB"),
        ("descriptors under load, second fifth / last fifth", f"{early[1]:.0f} / {late[1]:.0f}"),
        ("descriptors before / after", f"{result.descriptors_before} / {result.descriptors_after}"),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| what | figure |", "|---|---|", *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print the figures; 1 when there were problems."""
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="how long (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=plan.streams, help="at a time (default: %(default)s)")
    parser.add_argument("--chunks-per-second", type=float, default=plan.chunks_per_second)
    parser.add_argument("--seed", type=int, default=plan.seed)
    given = parser.parse_args(arguments)
    plan = Plan(given.seconds, given.streams, given.chunks_per_second, seed=given.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = uvloop.run(soak(plan, Path(folder)))
    print(f"{report(result)}\n\n{conditions(1, plan.seconds)}")
    for problem in result.problems[:20]:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
