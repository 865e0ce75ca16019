"""How much load the load tester can make on one core: whole answers per second, and chunks of streams per second.

python -m benchmarks.load_generator [--seconds 5] [--rounds 3]

The target is a process of canned answers on the other core. Linux only. A run in which the target's core was the
busier one understates the generator; both are shown.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.backend import BURST, CHUNKED, CHUNKS, JSON
from benchmarks.processes import Program, free_port
from load_tester.engine.run import Plan, prepare
from load_tester.engine.targets import TargetRules
from load_tester.plan.cards import Caps, read_card

_USERS = 32
_TARGETS = {"answers": 3_000, "chunks": 40_000}


async def _measure(port: int, model: str, seconds: float) -> tuple[float, float, float]:
    """Answers per second, chunks per second, and this process's share of a core in percent."""
    card = read_card(
        {
            "url": f"http://127.0.0.1:{port}/v1",
            "model": model,
            "stream": model != JSON,
            "load": {"kind": "closed", "concurrency": _USERS},
            "stop": {"seconds": seconds + 0.5},
            "warmup_seconds": 0.5,
        }
    )
    run = await prepare(Plan((card,), ("",)), TargetRules(), Caps(), {}, "benchmark")
    await run.run()
    tally = run.cards[0].ledger.window
    assert tally is not None
    if tally.failed or not tally.completed:
        raise SystemExit(f"the figures mean nothing: {tally.errors()}")
    answers = tally.completed_ok / tally.seconds(0)
    return answers, answers * (0 if model == JSON else CHUNKS), run.watch.cpu_percent or 0.0


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
    best = {"answers": 0.0, "chunks": 0.0}
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.backend", str(port)]
    root = str(Path(__file__).resolve().parent.parent)
    with (
        tempfile.TemporaryDirectory() as folder,
        Program(command, port, cores[1:] or cores, Path(folder), {"PYTHONPATH": root}) as target,
    ):
        for model, what in ((JSON, "whole answers"), (BURST, "streams in one burst"), (CHUNKED, "a write per chunk")):
            rounds = []
            for _ in range(chosen.rounds):
                before = target.cpu_seconds()
                answers, chunks, cpu = uvloop.run(_measure(port, model, chosen.seconds))
                rounds.append((answers, chunks, cpu, 100 * (target.cpu_seconds() - before) / (chosen.seconds + 0.5)))
            answers, chunks, cpu, other = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"{what:22} {answers:8,.0f} answers/s {chunks:10,.0f} chunks/s"
                f"   generator {cpu:3.0f} % of a core, target {other:3.0f} %"
            )
            best["answers"] = max(best["answers"], answers if model == JSON else 0.0)
            best["chunks"] = max(best["chunks"], chunks)
    missed = [name for name, wanted in _TARGETS.items() if best[name] < wanted]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
