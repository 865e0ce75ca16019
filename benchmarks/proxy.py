"""CPU time per request and per stream of the proxy process: the balancer beside the naive pass-through.

The proxy under test has a core for itself, backend and load generator have another. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import backend
from benchmarks.balancer import QUOTAS_PERCENT, AccountingWrong, BalancerProgram
from benchmarks.load import LoadError
from benchmarks.processes import Program, StartFailed, free_port
from benchmarks.report import conditions, table, write_json
from benchmarks.subjects import Case, Subject

CASES = (
    Case("JSON", backend.JSON),
    Case(f"stream of {backend.CHUNKS}, one write", backend.BURST),
    Case(f"stream of {backend.CHUNKS}, a write each", backend.CHUNKED),
    Case("JSON, one connection", backend.JSON, connections=1),
)


def main() -> int:
    """Measure and print; returns the exit code: 1 if anything went wrong, since the figures would mean nothing."""
    arguments = _parser().parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            subjects, balancer = _start(running, Path(folder))
            for number in range(arguments.rounds):
                _measure_round(number + 1, subjects, arguments)
            measured = next(each for each in subjects if each.program is balancer)
            accounting = balancer.check_accounting(measured.served())
    except (LoadError, StartFailed, AccountingWrong) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    where = conditions(arguments.connections, arguments.rounds, arguments.seconds)
    print(f"{table(subjects, measured)}\n\n{where}\n\n{accounting}")
    if arguments.json is not None:
        write_json(arguments.json, subjects, where, accounting)
    return 0


def _start(running: ExitStack, folder: Path) -> tuple[list[Subject], BalancerProgram]:
    cores = sorted(os.sched_getaffinity(0))
    proxy_core, other_cores = cores[:1], cores[1:] or cores
    os.sched_setaffinity(0, other_cores)
    ports = [free_port() for _ in QUOTAS_PERCENT]
    command = [sys.executable, "-m", "benchmarks.backend", *map(str, ports)]
    direct = running.enter_context(Program(command, ports[-1], other_cores, folder))
    balancer = running.enter_context(BalancerProgram(ports, proxy_core, folder))
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.naive", str(port), f"http://127.0.0.1:{ports[0]}/v1"]
    naive = running.enter_context(Program(command, port, proxy_core, folder))
    subjects = [
        Subject("none", direct, is_proxy=False),
        Subject("balancer", balancer, client_token=balancer.client_token),
        Subject("Starlette + httpx", naive),
    ]
    return subjects, balancer


def _measure_round(number: int, subjects: Sequence[Subject], arguments: argparse.Namespace) -> None:
    """All take turns within each case, so that a change in what else the machine does meets them alike."""
    for case in CASES:
        for subject in subjects:
            sys.stderr.write(f"\rround {number}: {case.name}, {subject.name}\x1b[K")
            subject.measure(case, arguments.connections, arguments.seconds)
    sys.stderr.write("\r\x1b[K")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times each case is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    parser.add_argument("--connections", type=int, default=32, help="clients with a request under way (default 32)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
