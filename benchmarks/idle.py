"""Thousands of clients that keep a connection open and ask nothing: what each costs, and whether others are served.

The balancer is the real process. As many as the limit of descriptors allows, which is raised as far as it goes. Linux
only.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop

from balancer.descriptors import raise_open_files
from benchmarks.report import conditions
from benchmarks.soak import SoakedBalancer
from load_tester.fake_backend import FakeBackend
from load_tester.fake_behaviour import Behaviour

CONNECTIONS = 5_000
REQUESTS = 40
# What this process and the balancer need besides.
_OTHER_FILES = 400
_SETTLE_SECONDS = 20.0
_ASKING = b"GET /ready HTTP/1.1\r\nhost: balancer\r\n\r\n"
_BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@dataclass(slots=True)
class Idle:
    """What came of it; times in seconds. `problems` is empty when all is as it must be."""

    connections: int
    fresh_bytes: float = 0.0  # for each connection on which nothing was sent
    used_bytes: float = 0.0  # for each that had an answer
    left_bytes: float = 0.0  # for each, when all are closed
    again_bytes: float = 0.0  # what as many once more, closed too, add to that
    alone_seconds: float = 0.0
    beside_seconds: float = 0.0
    descriptors_before: int = 0
    descriptors_after: int = 0
    problems: list[str] = field(default_factory=list)


class _Watched:
    """The balancer as the run sees it."""

    def __init__(self, balancer: SoakedBalancer, client: httpx.AsyncClient) -> None:
        self._balancer = balancer
        self._client = client

    async def connections(self) -> int:
        lines = (await self._client.get("/metrics")).text.splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("lb_client_connections "))

    async def request_seconds(self) -> float:
        """The median of some requests, one after another. Raises httpx.HTTPError where one fails."""
        times = []
        for _ in range(REQUESTS):
            began_at = time.perf_counter()
            (await self._client.post("/v1/chat/completions", json=_BODY)).raise_for_status()
            times.append(time.perf_counter() - began_at)
        return statistics.median(times)

    async def settles(self, condition: Callable[[int], bool]) -> bool:
        """Whether the number of connections becomes such within a while."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not condition(await self.connections()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def memory(self) -> int:
        return self._balancer.pss_bytes()

    def descriptors(self) -> int:
        return self._balancer.descriptors()


async def measure(connections: int, folder: Path) -> Idle:
    """Open so many connections to a balancer of its own, whose database is in `folder`, or as many as can be."""
    most = raise_open_files() or connections + _OTHER_FILES
    result = Idle(min(connections, most - _OTHER_FILES))
    limits = {"LB_HEADER_TIMEOUT_SECONDS": "600", "LB_MAX_CLIENT_CONNECTIONS": str(most)}
    backend = FakeBackend(Behaviour(name="backend", models=()))
    await backend.listen()
    try:
        with SoakedBalancer(folder, **limits) as balancer:
            async with httpx.AsyncClient(base_url=balancer.url, headers=balancer.admin, trust_env=False) as client:
                endpoint = {"name": "backend", "base_url": backend.base_url, "connected": True}
                (await client.post("/admin/api/endpoints", json=endpoint)).raise_for_status()
                await _run(result, balancer.port, _Watched(balancer, client))
    finally:
        await backend.close()
    return result


async def _run(result: Idle, port: int, watched: _Watched) -> None:
    result.alone_seconds = await watched.request_seconds()
    open_before = await watched.connections()
    result.descriptors_before = watched.descriptors()
    before = watched.memory()
    for number in range(2):
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(result.connections)]
        try:
            await _check(result, watched, open_before + result.connections)
            fresh = (watched.memory() - before) / result.connections
            await asyncio.to_thread(_use, sockets)
            used = (watched.memory() - before) / result.connections
            result.beside_seconds = await watched.request_seconds()
            await _check(result, watched, open_before + result.connections)
        finally:
            for each in sockets:
                each.close()
        await _check(result, watched, open_before)
        left = (watched.memory() - before) / result.connections
        if number == 0:
            result.fresh_bytes, result.used_bytes, result.left_bytes = fresh, used, left
    result.again_bytes = left - result.left_bytes
    result.descriptors_after = watched.descriptors()
    if result.descriptors_after > result.descriptors_before:
        result.problems.append(f"{result.descriptors_before} descriptors became {result.descriptors_after}")


async def _check(result: Idle, watched: _Watched, expected: int) -> None:
    if not await watched.settles(lambda now: now == expected):
        result.problems.append(f"{await watched.connections()} connections are open instead of {expected}")


def _use(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.sendall(_ASKING)
    for each in sockets:
        each.settimeout(_SETTLE_SECONDS)
        if not each.recv(65536).startswith(b"HTTP/1.1 200 "):
            raise RuntimeError("an idle connection was not served")


def report(result: Idle) -> str:
    """The figures as a Markdown table."""
    rows = [
        ("idle connections", f"{result.connections:,}"),
        ("memory for each on which nothing was sent yet", f"{result.fresh_bytes / 1000:.1f} kB"),
        ("memory for each that has had an answer", f"{result.used_bytes / 1000:.1f} kB"),
        ("memory for each that stays with the process when all are closed", f"{result.left_bytes / 1000:.1f} kB"),
        ("what that grows by when as many come again and go", f"{result.again_bytes / 1000:.1f} kB"),
        ("a request alone / beside them, median", f"{_ms(result.alone_seconds)} / {_ms(result.beside_seconds)} ms"),
        ("descriptors before / after", f"{result.descriptors_before} / {result.descriptors_after}"),
    ]
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print the figures; 1 when there were problems."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="(default: %(default)s)")
    given = parser.parse_args(arguments)
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = uvloop.run(measure(given.connections, Path(folder)))
    print(f"{report(result)}\n\n{conditions(1, time.monotonic() - began_at)}")
    for problem in result.problems:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
