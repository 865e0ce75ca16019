"""How much load the load tester can make on one core: whole answers per second, and chunks of streams per second.

python -m benchmarks.load_generator [--seconds 5] [--rounds 3]

The target is a process of canned answers on the other core. Linux only. "Per second" is what came out while others may
have wanted the core, too; "per second of CPU" is what a core gives that has nothing else to do, and decides.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks.backend import BURST, CHUNKED, CHUNKS, JSON
from benchmarks.processes import Program, free_port
from load_tester.engine.run import Plan, prepare
from load_tester.engine.targets import TargetRules
from load_tester.plan.cards import Caps, read_card

_USERS = 32
# Model, what is measured, and what a core must give at least.
_CASES = (
    (JSON, "whole answers", 3_000),
    (BURST, "streams, one write", 40_000),
    (CHUNKED, "a write per chunk", 40_000),
)


class Measured(NamedTuple):
    """One round: answers per second and per second of CPU, chunks in each."""

    answers_per_second: float
    answers_per_cpu_second: float
    chunks: int


async def _measure(port: int, model: str, seconds: float) -> Measured:
    card = read_card(
        {
            "url": f"http://127.0.0.1:{port}/v1",
            "model": model,
            "stream": model != JSON,
            "load": {"kind": "closed", "concurrency": _USERS},
            "stop": {"seconds": seconds},
        }
    )
    run = await prepare(Plan((card,), ("",)), TargetRules(), Caps(), {}, "benchmark")
    before = time.process_time()
    await run.run()
    used = time.process_time() - before
    tally = run.cards[0].ledger.window
    assert tally is not None
    if tally.failed or not tally.completed:
        raise SystemExit(f"the figures mean nothing: {tally.errors()}")
    return Measured(tally.completed_ok / tally.seconds(0), tally.ok / used, 0 if model == JSON else CHUNKS)


def main() -> int:
    """Print the medians; exit with 1 when a target is missed."""
    parser = argparse.ArgumentParser(description="How much load the load tester can make on one core.")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])
    gc.freeze()
    missed = False
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.backend", str(port)]
    root = str(Path(__file__).resolve().parent.parent)
    with (
        tempfile.TemporaryDirectory() as folder,
        Program(command, port, cores[1:] or cores, Path(folder), {"PYTHONPATH": root}),
    ):
        for model, what, wanted in _CASES:
            rounds = [uvloop.run(_measure(port, model, chosen.seconds)) for _ in range(chosen.rounds)]
            per_second = statistics.median(each.answers_per_second for each in rounds)
            per_cpu_second = statistics.median(each.answers_per_cpu_second for each in rounds)
            factor, unit = (rounds[0].chunks, "chunks") if rounds[0].chunks else (1, "answers")
            print(
                f"{what:20} {per_second * factor:9,.0f} {unit}/s "
                f"{per_cpu_second * factor:9,.0f} {unit} per second of CPU (wanted: {wanted:,})"
            )
            missed = missed or per_cpu_second * factor < wanted
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
