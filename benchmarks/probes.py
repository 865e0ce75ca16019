"""What probing a large fleet costs requests: latency with and without, at a steady rate, and the CPU time of a probe.

One balancer is switched to and fro between the two, in short windows, so that whatever else the machine does meets both
alike. The balancer has a core for itself, backends and load have another. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
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
from benchmarks.processes import Program, StartFailed, free_port, free_ports
from benchmarks.report import conditions

_CONNECTIONS = 32
_SETTLE_SECONDS = 1.0
_READY_SECONDS = 30.0
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement. `idle_cpu_seconds` is what the balancer used in one second without requests."""

    latencies: list[float]
    idle_cpu_seconds: float


class FleetProgram(Program):
    """A balancer with an endpoint for each port, all connected."""

    def __init__(self, ports: Sequence[int], interval_seconds: float, cores: Collection[int], folder: Path) -> None:
        port = free_port()
        admin_token = secrets.token_urlsafe()
        environ = {
            "LB_HOST": "127.0.0.1",
            "LB_PORT": str(port),
            "LB_DB_PATH": str(folder / "balancer.db"),
            "LB_ADMIN_TOKEN": admin_token,
            "LB_LOG_LEVEL": "WARNING",
            "LB_HEALTH_INTERVAL_SECONDS": f"{interval_seconds:g}",
        }
        super().__init__([sys.executable, "-m", "balancer", "serve"], port, cores, folder, environ)
        self._ports = ports
        self._ids: list[int] = []
        self._api = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/admin/api", headers={"x-admin-token": admin_token}, trust_env=False
        )

    def __enter__(self) -> Self:
        super().__enter__()
        endpoints = [
            {"name": f"backend-{port}", "base_url": f"http://127.0.0.1:{port}/v1", "connected": True}
            for port in self._ports
        ]
        self._ids = [each["id"] for each in self._call("POST", endpoints)]
        return self

    def probe(self, wanted: bool) -> None:
        """Probe all endpoints from now on, or none; returns when they are known to be up, or off."""
        fields = {"health_check": wanted}
        self._call("PATCH", [{"id": each, "fields": fields} for each in self._ids])
        expected = "up" if wanted else "off"
        deadline = time.monotonic() + _READY_SECONDS
        while (found := {each["health"]["status"] for each in self._call("GET")}) != {expected}:
            if time.monotonic() > deadline:
                raise StartFailed(f"not all endpoints are {expected}: {found}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the process."""
        self._api.close()
        super().stop()

    def _call(self, method: str, body: object = None) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._api.request(method, "/endpoints", json=body).raise_for_status().json()
        return answer


class _Tally:
    """The latencies of so many requests, as they come in; `ended` when all have, or one has failed."""

    def __init__(self, expected: int) -> None:
        self.latencies: list[float] = []
        self.failure = ""
        self.ended = asyncio.Event()
        self._expected = expected

    def answered(self, latency_seconds: float) -> None:
        self.latencies.append(latency_seconds)
        if len(self.latencies) == self._expected:
            self.ended.set()

    def failed(self, failure: str) -> None:
        self.failure = failure
        self.ended.set()


class _Client(asyncio.Protocol):
    """One connection that sends at given moments; a late answer makes the next one late, which counts as latency."""

    def __init__(self, request: bytes, tally: _Tally) -> None:
        self._request = request
        self._tally = tally
        self._due: list[float] = []
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due:
            self._tally.failed("the connection was closed before the answer was complete")

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self._tally.failed(f"answered {self._parser.get_status_code()}")
        self._tally.answered(time.perf_counter() - self._due.pop(0))
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
    tally = _Tally(int(per_second * seconds))
    clients = [
        (await loop.create_connection(lambda: _Client(request, tally), "127.0.0.1", port))[1]
        for _ in range(_CONNECTIONS)
    ]
    began_at = loop.time()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began_at + number / per_second - loop.time()))
        clients[number % len(clients)].ask()
    try:
        await asyncio.wait_for(tally.ended.wait(), _ANSWER_SECONDS)
    except TimeoutError:
        tally.failed(f"not every request was answered within {_ANSWER_SECONDS:g} s")
    for client in clients:
        client.close()
    if tally.failure:
        raise LoadError(tally.failure)
    return sorted(tally.latencies[len(tally.latencies) // 10 :])  # the first tenth is warm-up


def measure(balancer: FleetProgram, arguments: argparse.Namespace) -> Window:
    """One window. Raises LoadError."""
    time.sleep(_SETTLE_SECONDS)
    before = balancer.cpu_seconds()
    time.sleep(_SETTLE_SECONDS)
    idle_cpu_seconds = (balancer.cpu_seconds() - before) / _SETTLE_SECONDS
    return Window(uvloop.run(steady(balancer.port, arguments.rate, arguments.seconds)), idle_cpu_seconds)


def _row(name: str, windows: Sequence[Window], probes_per_second: float) -> str:
    spreads = [
        _spread([1000 * window.latencies[int(len(window.latencies) * share)] for window in windows])
        for share in (0.5, 0.9, 0.99)
    ]
    idle = statistics.fmean(window.idle_cpu_seconds for window in windows)
    each_us = f"{1e6 * idle / probes_per_second:,.0f}" if probes_per_second else ""
    return "| " + " | ".join((name, *spreads, f"{100 * idle:.1f} %", each_us)) + " |"


def _spread(figures: Sequence[float]) -> str:
    return f"{statistics.median(figures):.2f} ({min(figures):.2f}..{max(figures):.2f})"


def main() -> int:
    """Measure and print; returns the exit code."""
    arguments = _parser().parse_args()
    cores = sorted(os.sched_getaffinity(0))
    balancer_core, others = cores[:1], cores[1:] or cores
    os.sched_setaffinity(0, others)
    ports = free_ports(arguments.endpoints)
    windows: dict[bool, list[Window]] = {False: [], True: []}
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            command = [sys.executable, "-m", "benchmarks.backend", *map(str, ports)]
            running.enter_context(Program(command, ports[-1], others, Path(folder)))
            fleet = FleetProgram(ports, arguments.interval, balancer_core, Path(folder))
            balancer = running.enter_context(fleet)
            for number in range(arguments.rounds):
                for probing in (False, True) if number % 2 else (True, False):
                    sys.stderr.write(f"\rround {number + 1}: {'with' if probing else 'without'} probes\x1b[K")
                    balancer.probe(probing)
                    windows[probing].append(measure(balancer, arguments))
    except (LoadError, StartFailed) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    sys.stderr.write("\r\x1b[K")
    print("| probes | p50 ms | p90 ms | p99 ms | CPU while idle | CPU µs a probe |")
    print("|---|---|---|---|---|---|")
    print(_row("none", windows[False], 0.0))
    name = f"{arguments.endpoints} endpoints every {arguments.interval:g} s"
    print(_row(name, windows[True], arguments.endpoints / arguments.interval))
    print("\nLatencies are medians of the rounds, with the lowest and the highest.")
    print(f"{arguments.rate:g} requests a second over {_CONNECTIONS} connections.")
    print(conditions(arguments.rounds, arguments.seconds))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probes", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=200, help="fake backends (default 200)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between probes of each (default 1)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default 200)")
    parser.add_argument("--rounds", type=int, default=4, help="times each case is measured (default 4)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
