"""The fuzzer: every target for so many seconds, guided by coverage where atheris is installed, else at random.

Prints how often each was run; ends with 1 and the offending input when something broke.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target

LONGEST_INPUT = 4096


class Broken(Exception):
    """A target raised; the message holds all there is to know."""


def guided(name: str, seconds: float) -> int:
    """Run a target under atheris. Returns the number of executions."""
    Path("build").mkdir(exist_ok=True)  # where the input goes that broke something
    options = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={LONGEST_INPUT}", "-artifact_prefix=build/"]
    command = [sys.executable, "-m", "tests.fuzz.guided", name, *options, "-print_final_stats=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    found = re.search(r"number_of_executed_units: (\d+)", said)
    if done.returncode or found is None:
        raise Broken(f"{name}:\n{said[max(0, said.find('Uncaught')) :][:4000]}")
    return int(found[1])


def unguided(name: str, seconds: float, seed: int) -> int:
    """Run a target on changed seeds. Returns the number of executions."""
    target, rng = TARGETS[name], random.Random(seed)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = changed(target, rng)
        try:
            target.run(data)
        except Exception as error:
            raise Broken(f"{name}: {data!r}") from error
        count += 1
    return count


def changed(target: Target, rng: random.Random) -> bytes:
    """A seed with slices of another put elsewhere and some bytes changed."""
    data = rng.choice(target.seeds)
    for _ in range(rng.randint(0, 5)):
        other = rng.choice(target.seeds)
        begin, at = rng.randint(0, len(other)), rng.randint(0, len(data))
        piece = other[begin : begin + rng.randint(0, 40)] if rng.random() < 0.6 else rng.randbytes(rng.randint(0, 3))
        data = data[:at] + piece + data[at + rng.randint(0, len(piece) + 1) :]
    return data[:LONGEST_INPUT]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz all targets, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="of what is done at random")
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    given = parser.parse_args(arguments)
    with_atheris = importlib.util.find_spec("atheris") is not None
    how = "guided by coverage" if with_atheris else f"at random, seed {given.seed}"
    print(f"| target | executions, {how} | seconds |\n|---|---|---|")
    for name in [given.target] if given.target else TARGETS:
        try:
            count = guided(name, given.seconds) if with_atheris else unguided(name, given.seconds, given.seed)
        except Broken as broken:
            print(f"BROKEN {broken}\n{broken.__cause__ or ''}", file=sys.stderr)
            return 1
        print(f"| {name} | {count:,} | {given.seconds:g} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
