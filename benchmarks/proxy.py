"""CPU time per request, per stream and per event: the balancer beside the backends themselves and other proxies.

The proxy under test has a core for itself; backends and load generator have another. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import backend
from benchmarks.balancer import AccountingWrong, BalancerProgram
from benchmarks.load import LoadError, wait_for_answer
from benchmarks.peers import PEERS, Peer, Place
from benchmarks.processes import Program, StartFailed, free_port, free_ports
from benchmarks.report import conditions, readiness, table, write_json
from benchmarks.subjects import Case, Subject

_OUR_NAME = "balancer"
_START_SECONDS = 90.0
# Long enough for every stream of a paced load to be under way and several to end.
_PACED_SECONDS = 4.0
_QUICK_PACED_SECONDS = 2.0

CASES = (
    Case("JSON, 1 connection", backend.JSON, connections=1, slow=True),
    Case("JSON, 32 connections", backend.JSON, slow=True, quick=True),
    Case("JSON, 256 connections", backend.JSON, connections=256),
    Case("JSON, prompt of 8 KB", backend.JSON, prompt_bytes=8_000),
    Case("JSON, prompt of 200 KB", backend.JSON, prompt_bytes=200_000),
    Case(f"stream of {backend.CHUNKS}, one write", backend.BURST, slow=True, quick=True),
    Case(f"stream of {backend.CHUNKS}, a write each", backend.CHUNKED, slow=True, quick=True),
    Case("400 streams, an event every 20 ms", backend.PACED, connections=400, quick=True),
    Case("1,000 streams, an event every 50 ms", backend.SLOWLY_PACED, connections=1000),
    Case("JSON, 1 endpoint", backend.JSON, endpoints=1),
    Case("JSON, 64 endpoints", backend.JSON, endpoints=64),
    Case("JSON, 1,000 endpoints", backend.JSON, endpoints=1000),
)


@dataclass(slots=True)
class Results:
    """What came of all fleets: whoever was measured, who was absent and why, and that the counts were right."""

    subjects: list[Subject] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    accounting: list[str] = field(default_factory=list)


def main() -> int:
    """Measure and print; returns the exit code: 1 if anything went wrong, since the figures would mean nothing."""
    arguments = _parser().parse_args()
    cores = sorted(os.sched_getaffinity(0))
    proxy_cores, other_cores = cores[:1], cores[1:] or cores
    os.sched_setaffinity(0, other_cores)
    cases = [case for case in CASES if arguments.only in case.name and (case.quick or not arguments.quick)]
    results = Results()
    try:
        for endpoints in dict.fromkeys(case.endpoints for case in cases):
            with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
                place = Place(free_port(), free_ports(endpoints), proxy_cores, Path(folder))
                fleet = [case for case in cases if case.endpoints == endpoints]
                _measure_fleet(place, other_cores, fleet, arguments, results, running)
    except (LoadError, StartFailed, AccountingWrong) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    _print(results, cases, arguments)
    return 0


def _measure_fleet(
    place: Place,
    other_cores: Sequence[int],
    cases: Sequence[Case],
    arguments: argparse.Namespace,
    results: Results,
    running: ExitStack,
) -> None:
    command = [sys.executable, "-m", "benchmarks.backend", *map(str, place.backends)]
    direct = running.enter_context(Program(command, place.backends[-1], other_cores, place.folder))
    balancer = running.enter_context(BalancerProgram(place.backends, place.cores, place.folder))
    ours = Subject(_OUR_NAME, balancer, client_token=balancer.client_token)
    subjects = [Subject("none", direct, is_proxy=False), ours]
    subjects += _peers(place, cases, arguments, results, running)
    for number in range(1 if arguments.quick else arguments.rounds):
        _measure_round(number + 1, subjects, cases, arguments)
    for case, failure in ours.failures.items():
        raise LoadError(f"the balancer failed under {case.name!r}: {failure}")
    results.accounting.append(balancer.check_accounting(ours.served()))
    results.subjects += subjects


def _peers(
    place: Place, cases: Sequence[Case], arguments: argparse.Namespace, results: Results, running: ExitStack
) -> list[Subject]:
    """Those that can be started; the others are noted as absent."""
    subjects = []
    for peer in PEERS:
        if peer.name in results.absent or (peer.slow and not any(case.slow for case in cases)):
            continue
        if arguments.peers is not None and peer.name not in arguments.peers.split(","):
            results.absent[peer.name] = "not asked for"
            continue
        try:
            subjects.append(_started(peer, place, running))
        except (StartFailed, LoadError) as error:
            results.absent[peer.name] = str(error).strip().splitlines()[-1]
    return subjects


def _started(peer: Peer, place: Place, running: ExitStack) -> Subject:
    sys.stderr.write(f"\rstarting {peer.name}\x1b[K")
    own = Place(free_port(), place.backends, place.cores, place.folder)
    program = running.enter_context(peer.start(own))
    program.ready_seconds += wait_for_answer(own.port, own.token, _START_SECONDS)
    return Subject(peer.name, program, client_token=own.token, slow=peer.slow)


def _measure_round(
    number: int, subjects: Sequence[Subject], cases: Sequence[Case], arguments: argparse.Namespace
) -> None:
    """All take turns within each case, so that a change in what else the machine does meets them alike."""
    paced_seconds = _QUICK_PACED_SECONDS if arguments.quick else _PACED_SECONDS
    for case in cases:
        for subject in subjects:
            if subject.takes(case):
                sys.stderr.write(f"\rround {number}: {case.name}, {subject.name}\x1b[K")
                subject.measure(case, max(arguments.seconds, paced_seconds) if case.paced else arguments.seconds)
    sys.stderr.write("\r\x1b[K")


def _print(results: Results, cases: Sequence[Case], arguments: argparse.Namespace) -> None:
    where = conditions(1 if arguments.quick else arguments.rounds, arguments.seconds)
    absent = [f"{name} is absent: {reason}." for name, reason in results.absent.items()]
    failed = [
        f"{subject.name} failed under {case.name!r}: {failure}."
        for subject in results.subjects
        for case, failure in subject.failures.items()
    ]
    parts = [table(results.subjects, cases, _OUR_NAME), readiness(results.subjects), where]
    print("\n\n".join([*parts, *absent, *failed, *results.accounting]))
    if arguments.json is not None:
        write_json(arguments.json, results.subjects, where, [*absent, *failed, *results.accounting])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of the most telling loads")
    parser.add_argument("--rounds", type=int, default=3, help="times each load is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement (default 1.5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="loads with this in their name")
    parser.add_argument("--peers", metavar="NAMES", help="other proxies, separated by commas (default: all there are)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
