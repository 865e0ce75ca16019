"""Machine instructions of the hot functions, counted by valgrind: what time on a busy machine cannot tell.

Two runs differ by less than one percent, so that a change of two can be trusted. Prints a Markdown table; with
`--against`, beside the figures of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# `hot.mark` makes this call, and nothing else does.
_MARK = "getpgid"
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)
_CHUNKS = "relay of one chunk"
_STREAMS = ("request, stream of 64, a read each", "request, stream of 128, a read each")


class CountingFailed(Exception):
    """There are no figures; the message says why."""


def count(only: str = "", profile: Path | None = None) -> dict[str, float]:
    """Instructions of one run of each task. `profile`: a folder for callgrind's own files. Raises CountingFailed."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CountingFailed("valgrind is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = profile or Path(temporary)
        folder.mkdir(exist_ok=True)
        for old in folder.glob("callgrind.out*"):
            old.unlink()
        command = [valgrind, "--tool=callgrind", f"--dump-before={_MARK}*"]
        command += [f"--callgrind-out-file={folder}/callgrind.out", "--compress-strings=no" if profile else "--quiet"]
        command += [sys.executable, "-m", "benchmarks.hot", f"{folder}/done.json", "--only", only]
        # Order in sets and addresses in memory must be the same every time.
        environ = os.environ | {"PYTHONHASHSEED": "0"}
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise CountingFailed(ended.stderr)
        done: list[tuple[str, int]] = json.loads((folder / "done.json").read_text())
        # The first mark ends what came before the first task, the second ends the task, and so on.
        return {name: _total(folder / f"callgrind.out.{2 * n + 2}") / count for n, (name, count) in enumerate(done)}


def _total(file: Path) -> int:
    found = _TOTALS.search(file.read_text())
    if found is None:
        raise CountingFailed(f"{file} has no totals")
    return int(found[1])


def with_derived(counted: dict[str, float]) -> dict[str, float]:
    """`counted`, and what a chunk more costs a stream."""
    if not set(_STREAMS) <= counted.keys():
        return counted
    short, long = (counted[name] for name in _STREAMS)
    return counted | {_CHUNKS: (long - short) / 64}


def table(counted: dict[str, float], before: dict[str, float]) -> str:
    """Markdown; with a column for the earlier run if there is one."""
    rows = ["| what | instructions |", "|---|---|"]
    if before:
        rows = ["| what | before | now | change |", "|---|---|---|---|"]
    for name, now in counted.items():
        if name in before:
            change = 100 * (now / before[name] - 1)
            rows.append(f"| {name} | {before[name]:,.0f} | {now:,.0f} | {change:+.1f} % |")
        else:
            rows.append(f"| {name} | {' | ' if before else ''}{now:,.0f} |{' |' if before else ''}")
    return "\n".join(rows)


def main() -> int:
    """Count and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="what has this in its name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--against", type=Path, metavar="FILE", help="figures of an earlier run, to compare with")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="keep callgrind's files there")
    arguments = parser.parse_args()
    before = json.loads(arguments.against.read_text()) if arguments.against else {}
    try:
        counted = with_derived(count(arguments.only, arguments.profile))
    except CountingFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(table(counted, before))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(counted, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
