"""A program under test as a process of its own on chosen cores, and what /proc says about it. Linux only."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class StartFailed(Exception):
    """A program did not begin to listen; the message holds what it said."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different: held until the last one is known."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Program:
    """A command that listens on `port`, kept on `cores`; runs in `folder`, where its output goes to a file."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        cores: Collection[int],
        folder: Path,
        environ: dict[str, str] | None = None,
        *,
        start_seconds: float = _START_SECONDS,
    ) -> None:
        self.port = port
        self.ready_seconds = 0.0  # from its start until it listened
        self._start_seconds = start_seconds
        self._began_at = time.monotonic()
        self._output = folder / f"{port}.log"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environ() | (environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        os.sched_setaffinity(self._process.pid, cores)

    def __enter__(self) -> Self:
        deadline = self._began_at + self._start_seconds
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise StartFailed(f"{self._process.args!r} did not start:\n{self.output()}")
            time.sleep(0.02)
        self.ready_seconds = time.monotonic() - self._began_at
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end, and insist."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        """What it said so far."""
        return self._output.read_text()

    def cpu_seconds(self) -> float:
        """User and system time of the process and its descendants so far; resolution 1/100 s."""
        return sum(_cpu_ticks(pid) for pid in _tree(self._process.pid)) / _TICKS_PER_SECOND

    def pss_bytes(self) -> int:
        """Proportional share of memory of the process and its descendants."""
        return sum(_pss(pid) for pid in _tree(self._process.pid))

    def children(self) -> list[int]:
        """Its child processes, the oldest first."""
        return [pid for pid in _tree(self._process.pid) if pid != self._process.pid]

    def descriptors(self) -> int:
        """Open descriptors of the process itself."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def cpu_seconds_of(pid: int) -> float:
    """User and system time of one process so far."""
    return _cpu_ticks(pid) / _TICKS_PER_SECOND


def _environ() -> dict[str, str]:
    """Ours, without what would make the figures somebody's own: settings of the balancer, and a forward proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LB_")}
    return kept | {"no_proxy": "127.0.0.1"}


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _cpu_ticks(pid: int) -> int:
    # The name of the program, in parentheses, may hold blanks; utime and stime are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
