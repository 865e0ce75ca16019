"""What a call through the library costs: the balancer in a script beside the official client that asks directly.

One call at a time to a backend in another process. Time and CPU time (of all threads) per call of the calling process,
taken in turns; medians with the lowest and the highest round. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI

from balancer import AsyncLoadBalancer, Endpoint, LoadBalancer
from benchmarks import backend
from benchmarks.processes import Program, StartFailed, free_port

ENDPOINTS = 3
MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue? " * 12}]

Sync = Callable[[], object]
Async = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Subject:
    """One way to make a call, and what it took in each round, in microseconds. `part`: of the calls of a round."""

    name: str
    group: str
    call: Sync | Async
    part: float = 1.0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def sync_subjects(direct: OpenAI, balancer: LoadBalancer) -> list[Subject]:
    """Without asyncio; the first is what the others are compared with."""
    through = balancer.as_openai_client()
    group, streams = "without asyncio", f"without asyncio, stream of {backend.CHUNKS}"
    return [
        Subject("openai client, directly", group, lambda: _asked(direct)),
        Subject("openai client over the balancer", group, lambda: _asked(through)),
        Subject("`LoadBalancer.chat`", group, lambda: _checked(balancer.chat(MESSAGES, model=backend.JSON))),
        Subject("openai client, directly", streams, lambda: _streamed(direct), 0.2),
        Subject("openai client over the balancer", streams, lambda: _streamed(through), 0.2),
        Subject("`LoadBalancer.chat`", streams, lambda: _pieces(balancer), 0.2),
    ]


def async_subjects(direct: AsyncOpenAI, balancer: AsyncLoadBalancer) -> list[Subject]:
    """With asyncio, on uvloop where there is one; the first is what the others are compared with."""
    through = balancer.as_openai_client()
    group = "with asyncio"

    async def chat() -> None:
        _checked(await balancer.chat(MESSAGES, model=backend.JSON))

    return [
        Subject("openai client, directly", group, lambda: _asked_async(direct)),
        Subject("openai client over the balancer", group, lambda: _asked_async(through)),
        Subject("`AsyncLoadBalancer.chat`", group, chat),
    ]


def _asked(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=backend.JSON, messages=MESSAGES)
    assert answer.choices[0].message.content


async def _asked_async(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=backend.JSON, messages=MESSAGES)
    assert answer.choices[0].message.content


def _streamed(client: OpenAI) -> None:
    stream = client.chat.completions.create(model=backend.BURST, messages=MESSAGES, stream=True)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in stream) == backend.CHUNKS


def _pieces(balancer: LoadBalancer) -> None:
    assert sum(1 for _ in balancer.chat(MESSAGES, model=backend.BURST, stream=True)) == backend.CHUNKS


def _checked(result: Any) -> None:
    assert result["success"], result["error"]


def measure_sync(subjects: Iterable[Subject], calls: int) -> None:
    """One round."""
    for subject in subjects:
        count = max(1, int(calls * subject.part))
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            subject.call()
        _note(subject, wall, cpu, count)


async def measure_async(subjects: Iterable[Subject], calls: int) -> None:
    """One round."""
    for subject in subjects:
        call: Any = subject.call
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            await call()
        _note(subject, wall, cpu, calls)


def _note(subject: Subject, wall: float, cpu: float, calls: int) -> None:
    subject.wall.append(1e6 * (time.perf_counter() - wall) / calls)
    subject.cpu.append(1e6 * (time.process_time() - cpu) / calls)


def table(subjects: Iterable[Subject]) -> str:
    """One line for each way; ratios are those of the medians within the group."""
    lines = ["| calls | made by | µs each | directly = 1 | CPU µs each | directly = 1 |", "|---|---|---|---|---|---|"]
    direct: dict[str, Subject] = {}
    for each in subjects:
        base = direct.setdefault(each.group, each)
        wall, cpu = _median(each.wall) / _median(base.wall), _median(each.cpu) / _median(base.cpu)
        figures = f"{_spread(each.wall)} | {wall:.2f} | {_spread(each.cpu)} | {cpu:.2f}"
        lines.append(f"| {each.group} | {each.name} | {figures} |")
    return "\n".join(lines)


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _spread(values: list[float]) -> str:
    return f"{_median(values):,.0f} ({min(values):,.0f}..{max(values):,.0f})"


def _run(arguments: argparse.Namespace, urls: list[str]) -> list[Subject]:
    endpoints = [Endpoint(url) for url in urls]
    with OpenAI(base_url=urls[0], api_key="none") as direct, LoadBalancer(endpoints, environ={}) as balancer:
        subjects = sync_subjects(direct, balancer)
        measure_sync(subjects, 20)
        _forget(subjects)
        for _ in range(arguments.rounds):
            measure_sync(subjects, arguments.calls)
    return subjects + asyncio.run(_run_async(arguments, urls, endpoints))


async def _run_async(arguments: argparse.Namespace, urls: list[str], endpoints: list[Endpoint]) -> list[Subject]:
    async with AsyncExitStack() as stack:
        direct = await stack.enter_async_context(AsyncOpenAI(base_url=urls[0], api_key="none"))
        balancer = await stack.enter_async_context(AsyncLoadBalancer(endpoints, environ={}))
        subjects = async_subjects(direct, balancer)
        await measure_async(subjects, 20)
        _forget(subjects)
        for _ in range(arguments.rounds):
            await measure_async(subjects, arguments.calls)
        return subjects


def _forget(subjects: Iterable[Subject]) -> None:
    """What warming up took."""
    for each in subjects:
        each.wall.clear()
        each.cpu.clear()


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.library", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times each way is measured (default 5)")
    parser.add_argument("--calls", type=int, default=200, help="calls in each; a fifth are streams (default 200)")
    arguments = parser.parse_args()
    ports = [free_port() for _ in range(ENDPOINTS)]
    command = [sys.executable, "-m", "benchmarks.backend", *map(str, ports)]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Program(command, ports[-1], os.sched_getaffinity(0), Path(folder)),
        ):
            subjects = _run(arguments, [f"http://127.0.0.1:{port}/v1" for port in ports])
    except StartFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(f"{table(subjects)}\n\n{arguments.rounds} rounds of {arguments.calls} calls each.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
