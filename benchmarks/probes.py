"""What probing a large fleet costs requests: latency with and without, at a steady rate, and the CPU time of a probe.

The balancer has a core for itself, backends and load have another. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import httptools
import httpx
import uvloop

from benchmarks import backend
from benchmarks.load import LoadError, request_bytes
from benchmarks.processes import Program, StartFailed, free_port
from benchmarks.report import conditions

_CONNECTIONS = 32
_SETTLE_SECONDS = 2.0
_READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement. `idle_cpu_percent` is the balancer's core while only probes ran."""

    p50_seconds: float
    p99_seconds: float
    worst_seconds: float
    idle_cpu_percent: float


class FleetProgram(Program):
    """A balancer with an endpoint for each port, all connected, probed every `interval_seconds` (0: never)."""

    def __init__(self, ports: Sequence[int], interval_seconds: float, cores: Collection[int], folder: Path) -> None:
        port = free_port()
        admin_token = secrets.token_urlsafe()
        environ = {
            "LB_HOST": "127.0.0.1",
            "LB_PORT": str(port),
            "LB_DB_PATH": str(folder / f"{port}.db"),
            "LB_ADMIN_TOKEN": admin_token,
            "LB_LOG_LEVEL": "WARNING",
            "LB_HEALTH_INTERVAL_SECONDS": f"{interval_seconds:g}",
        }
        super().__init__([sys.executable, "-m", "balancer", "serve"], port, cores, folder, environ)
        self._ports = ports
        self._expected = "up" if interval_seconds else "off"
        self._api = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/admin/api", headers={"x-admin-token": admin_token}, trust_env=False
        )

    def __enter__(self) -> Self:
        super().__enter__()
        endpoints = [
            {"name": f"backend-{port}", "base_url": f"http://127.0.0.1:{port}/v1", "connected": True}
            for port in self._ports
        ]
        self._api.post("/endpoints", json=endpoints).raise_for_status()
        deadline = time.monotonic() + _READY_SECONDS
        while self.standing() != {self._expected}:
            if time.monotonic() > deadline:
                raise StartFailed(f"not all endpoints are {self._expected}: {self.standing()}")
            time.sleep(0.2)
        return self

    def standing(self) -> set[str]:
        """Every health status there is."""
        endpoints: list[dict[str, Any]] = self._api.get("/endpoints").raise_for_status().json()
        return {endpoint["health"]["status"] for endpoint in endpoints}

    def stop(self) -> None:
        """End the process."""
        self._api.close()
        super().stop()


class _Client(asyncio.Protocol):
    """One connection that sends at given moments; a late answer makes the next one late, which counts as latency."""

    def __init__(self, request: bytes, latencies: list[float]) -> None:
        self._request = request
        self._latencies = latencies
        self._due: list[float] = []
        self._parser = httptools.HttpResponseParser(self)
        self.failure = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due:
            self.failure = "the connection was closed before the answer was complete"

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self.failure = f"answered {self._parser.get_status_code()}"
        self._latencies.append(time.perf_counter() - self._due.pop(0))
        if self._due:
            self._transport.write(self._request)

    def ask(self) -> None:
        self._due.append(time.perf_counter())
        if len(self._due) == 1:
            self._transport.write(self._request)

    def close(self) -> None:
        self._due.clear()
        self._transport.close()


async def steady(port: int, per_second: float, seconds: float) -> list[float]:
    """Latencies of requests sent at a steady rate, sorted. Raises LoadError."""
    loop = asyncio.get_running_loop()
    request = request_bytes(port, backend.JSON, "none", stream=False)
    latencies: list[float] = []
    clients = [
        (await loop.create_connection(lambda: _Client(request, latencies), "127.0.0.1", port))[1]
        for _ in range(_CONNECTIONS)
    ]
    began_at = loop.time()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began_at + number / per_second - loop.time()))
        clients[number % len(clients)].ask()
    await asyncio.sleep(0.5)
    failure = next((client.failure for client in clients if client.failure), "")
    for client in clients:
        client.close()
    if failure or len(latencies) < int(per_second * seconds):
        raise LoadError(failure or "not every request was answered")
    return sorted(latencies[len(latencies) // 10 :])  # the first tenth is warm-up


def measure(ports: Sequence[int], interval_seconds: float, folder: Path, arguments: argparse.Namespace) -> Round:
    """One balancer from its start to its end."""
    with FleetProgram(ports, interval_seconds, [arguments.balancer_core], folder) as balancer:
        time.sleep(_SETTLE_SECONDS)
        before = balancer.cpu_seconds()
        time.sleep(_SETTLE_SECONDS)
        idle_percent = 100 * (balancer.cpu_seconds() - before) / _SETTLE_SECONDS
        latencies = uvloop.run(steady(balancer.port, arguments.rate, arguments.seconds))
    return Round(latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100], latencies[-1], idle_percent)


def _row(name: str, rounds: Sequence[Round], probes_per_second: float) -> str:
    def spread(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"

    idle = statistics.median(each.idle_cpu_percent for each in rounds)
    figures = [[1000 * getattr(each, field) for each in rounds] for field in ("p50_seconds", "p99_seconds")]
    worst = [1000 * each.worst_seconds for each in rounds]
    each_us = f"{idle * 1e4 / probes_per_second:,.0f}" if probes_per_second else ""
    columns = (name, spread(figures[0]), spread(figures[1]), spread(worst), f"{idle:.1f} %", each_us)
    return "| " + " | ".join(columns) + " |"


def main() -> int:
    """Measure and print; returns the exit code."""
    arguments = _parser().parse_args()
    cores = sorted(os.sched_getaffinity(0))
    arguments.balancer_core, others = cores[0], cores[1:] or cores
    os.sched_setaffinity(0, others)
    ports = _free_ports(arguments.endpoints)
    cases = {"no probes": 0.0, f"{arguments.endpoints} endpoints every {arguments.interval:g} s": arguments.interval}
    rounds: dict[str, list[Round]] = {name: [] for name in cases}
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.backend", *map(str, ports)]
            with Program(command, ports[-1], others, Path(folder)):
                for number in range(arguments.rounds):
                    for name, interval in cases.items():
                        sys.stderr.write(f"\rround {number + 1}: {name}\x1b[K")
                        rounds[name].append(measure(ports, interval, Path(folder), arguments))
    except (LoadError, StartFailed) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    sys.stderr.write("\r\x1b[K")
    print("| probes | p50 ms | p99 ms | worst ms | CPU while idle | CPU µs a probe |\n|---|---|---|---|---|---|")
    for name, interval in cases.items():
        print(_row(name, rounds[name], arguments.endpoints / interval if interval else 0.0))
    print(f"\n{arguments.rate:g} requests a second. {conditions(_CONNECTIONS, arguments.rounds, arguments.seconds)}")
    return 0


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different: held until the last one is known."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probes", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=200, help="fake backends (default 200)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between probes of each (default 1)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="times each case is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one measurement (default 10)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
