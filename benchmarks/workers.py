"""What another worker brings: the balancer with one and with several, load and backends on the same cores.

All take turns in each round, as a machine is seldom alone. Prints a Markdown table, and where the cores' time went.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks import backend
from benchmarks.balancer import AccountingWrong, BalancerProgram, Served
from benchmarks.load import LoadError, Measured, request_bytes, run
from benchmarks.processes import Program, StartFailed, cpu_seconds_of, free_ports
from benchmarks.report import conditions

_BACKENDS = 4
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """One window. CPU seconds: of the lead (or the only process), of followers, of load and backends."""

    measured: Measured
    lead: float
    followers: float
    around: float


class Crew:
    """A balancer with so many workers, and what came of it."""

    def __init__(self, program: BalancerProgram, workers: int) -> None:
        self.program = program
        self.workers = workers
        self.rounds: list[Round] = []
        self.served = Served()

    def measure(self, connections: int, seconds: float, backends: Program) -> None:
        """One round. Raises LoadError."""
        request = request_bytes(self.program.port, backend.JSON, self.program.client_token, stream=False)
        window = _Window(self, backends)
        measured = uvloop.run(run(self.program.port, request, connections, seconds, window))
        self.served += Served(
            measured.answered,
            measured.answered * backend.PROMPT_TOKENS,
            measured.answered * backend.COMPLETION_TOKENS[backend.JSON],
        )
        lead, followers, around = (after - before for before, after in zip(*window.looks, strict=True))
        self.rounds.append(Round(measured, lead, followers, around))

    def parts(self) -> tuple[float, float]:
        """CPU seconds so far, of the lead and of the followers; the supervisor's are not worth a column."""
        if self.workers == 1:
            return cpu_seconds_of(self.program.pid), 0.0
        children = self.program.children()
        return cpu_seconds_of(children[0]), sum(map(cpu_seconds_of, children[1:]))

    def row(self) -> str:
        """A line of the table: medians, with the lowest and the highest throughput."""
        per_second = [each.measured.requests / each.measured.seconds for each in self.rounds]

        def spent(part: str) -> str:
            return (
                f"{statistics.median(1e6 * getattr(each, part) / each.measured.requests for each in self.rounds):.0f}"
            )

        p50, p99 = (
            statistics.median(1000 * getattr(each.measured, name) for each in self.rounds)
            for name in ("p50_seconds", "p99_seconds")
        )
        spread = f"{statistics.median(per_second):,.0f} ({min(per_second):,.0f} to {max(per_second):,.0f})"
        parts = " | ".join(spent(part) for part in ("lead", "followers", "around"))
        memory = statistics.median(each.measured.pss_bytes for each in self.rounds) / 1e6
        return f"| {self.workers} | {spread} | {parts} | {p50:.1f} | {p99:.1f} | {memory:.0f} |"

    def limit(self, cores: int) -> str:
        """Where the time of the cores went, in the round in the middle."""
        middle = sorted(self.rounds, key=lambda each: each.measured.requests)[len(self.rounds) // 2]
        seconds = middle.measured.seconds
        balancer, around = (middle.lead + middle.followers) / seconds, middle.around / seconds
        rest = max(0.0, cores - balancer - around)
        return (
            f"With {self.workers}: of {cores} cores the balancer used {balancer:.2f}, load and backends {around:.2f}; "
            f"{rest:.2f} were idle or somebody else's."
        )


class _Window:
    """What the load looks at when the window begins and when it ends."""

    def __init__(self, crew: Crew, backends: Program) -> None:
        self._crew = crew
        self._backends = backends
        self.looks: list[tuple[float, float, float]] = []

    def cpu_seconds(self) -> float:
        lead, followers = self._crew.parts()
        self.looks.append((lead, followers, self._backends.cpu_seconds() + time.process_time()))
        return lead + followers

    def pss_bytes(self) -> int:
        return self._crew.program.pss_bytes()


def main() -> int:
    """Measure and print; returns the exit code: 1 if anything went wrong."""
    arguments = _parser().parse_args()
    cores = sorted(os.sched_getaffinity(0))
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            crews = _measured(Path(folder), cores, arguments, running)
    except (LoadError, StartFailed, AccountingWrong) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    head = (
        "workers",
        "requests/s (spread)",
        "lead µs",
        "followers µs",
        "load and backends µs",
        "p50 ms",
        "p99 ms",
        "MB",
    )
    print(f"{conditions(arguments.rounds, arguments.seconds)}\n")
    print(f"| {' | '.join(head)} |\n|{'---:|' * len(head)}")
    for crew in crews:
        print(crew.row())
    print("\nµs of CPU time per request.", *(crew.limit(len(cores)) for crew in crews), sep="\n")
    return 0


def _measured(folder: Path, cores: list[int], arguments: argparse.Namespace, running: ExitStack) -> list[Crew]:
    ports = free_ports(_BACKENDS)
    command = [sys.executable, "-m", "benchmarks.backend", *map(str, ports)]
    backends = running.enter_context(Program(command, ports[-1], cores, folder))
    crews = []
    for workers in arguments.workers:
        own = folder / str(workers)
        own.mkdir()
        crews.append(Crew(running.enter_context(BalancerProgram(ports, cores, own, workers)), workers))
    for number in range(arguments.rounds):
        for crew in crews:
            sys.stderr.write(f"\rround {number + 1}: {crew.workers} workers\x1b[K")
            crew.measure(arguments.connections, arguments.seconds, backends)
    sys.stderr.write("\r\x1b[K")
    time.sleep(_SETTLE_SECONDS)  # what followers counted last is on its way
    for crew in crews:
        crew.program.check_accounting(crew.served)
    return crews


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(main())
