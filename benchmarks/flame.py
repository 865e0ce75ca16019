"""A picture of where the balancer's time goes under load: py-spy samples its stacks, `flame_picture` draws them.

The loads are those of `benchmarks.proxy`. py-spy is set up in `benchmarks/.peers`. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.balancer import BalancerProgram
from benchmarks.flame_picture import picture, tree
from benchmarks.load import LoadError, request_bytes, run
from benchmarks.peers import installed, set_up
from benchmarks.processes import Program, StartFailed, free_ports
from benchmarks.proxy import CASES
from benchmarks.subjects import Case

_PROFILER = ("profiler", ("py-spy==0.4.*",))
_SAMPLES_PER_SECOND = 400
_BEFORE_SECONDS = 2.0


def main() -> int:
    """Load, sample and draw; returns the exit code."""
    arguments = _parser().parse_args()
    case = next(case for case in CASES if case.name == arguments.case)
    try:
        set_up(*_PROFILER)
        stacks = _sampled(case, arguments.seconds)
    except (LoadError, StartFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    root = tree(stacks)
    arguments.svg.write_text(picture(root, f"{case.name}: {root.count:,} samples of the balancer's process"))
    print(f"{arguments.svg}: {root.count:,} samples")
    return 0


def _sampled(case: Case, seconds: float) -> list[str]:
    """Stacks in py-spy's raw form: frames from the outermost, joined by semicolons, then how often."""
    cores = sorted(os.sched_getaffinity(0))
    others = cores[1:] or cores
    os.sched_setaffinity(0, others)
    with tempfile.TemporaryDirectory() as name:
        folder, ports = Path(name), free_ports(case.endpoints)
        backends = [sys.executable, "-m", "benchmarks.backend", *map(str, ports)]
        with (
            Program(backends, ports[-1], others, folder),
            BalancerProgram(ports, cores[:1], folder) as balancer,
        ):
            spy = _spy(balancer.pid, seconds, folder / "stacks")
            token, stream = balancer.client_token, case.paced
            request = request_bytes(balancer.port, case.model, token, stream=stream, prompt_bytes=case.prompt_bytes)
            load = run(balancer.port, request, case.connections, seconds + _BEFORE_SECONDS, balancer)
            uvloop.run(load)
            if spy.wait() != 0:
                raise StartFailed(f"py-spy: {spy.stderr.read() if spy.stderr else ''}")
        return (folder / "stacks").read_text().splitlines()


def _spy(pid: int, seconds: float, file: Path) -> subprocess.Popen[str]:
    options: Sequence[str] = ("--format", "raw", "--function", "--rate", str(_SAMPLES_PER_SECOND))
    command = [installed(_PROFILER[0], "py-spy"), "record", *options, "--duration", str(round(seconds))]
    return subprocess.Popen(
        [*command, "--output", str(file), "--pid", str(pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flame", description=__doc__)
    parser.add_argument("--svg", type=Path, default=Path("docs/images/json-request.svg"), help="file to write")
    parser.add_argument("--case", default="JSON, 32 connections", choices=[case.name for case in CASES], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=10.0, help="of sampling (default 10)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
