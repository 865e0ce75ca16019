"""The supervisor: holds the sockets, starts the workers, replaces those that die, passes on the signal to stop.

A program of its own (`python -m balancer.workers.supervisor PLAN`) that imports next to nothing, since it lives beside
the workers and does nothing most of the time. What it is told to do is a line of JSON from `balancer.launch`.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from balancer.logs import configure
from balancer.workers.table import Field, Table

logger = logging.getLogger("balancer.workers")

# A worker that died so often before it could serve will not do better the next time.
_MOST_FAILED_STARTS = 5
_LONGEST_PAUSE_SECONDS = 5.0
# One that served for so long had no trouble starting.
_SETTLED_SECONDS = 10.0
# Beyond the time to drain, workers get so long to close what they hold.
_LAST_SECONDS = 10.0
_STOP = b"s"
_READY = b"r"


class _Worker:
    """One worker and its successors. `control` is our end of the pair that tells it to stop, and us that it serves."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        self.serves = False
        self.began_at = 0.0
        self.deaths = 0  # in a row
        self.failed_starts = 0  # in a row
        self.due_at: float | None = None  # when a successor is started


class Supervisor:
    """Runs the workers of `plan` until told to stop."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._table = Table(plan["table"], plan["workers"])
        self._workers = [_Worker(number) for number in range(plan["workers"])]
        self._selector = selectors.DefaultSelector()
        self._complete = False  # whether all have served at once
        self._stops = 0
        self._kill_at: float | None = None
        self._code = 0

    def run(self) -> int:
        """Returns the exit code: 0 when all ended as they should, 1 otherwise."""
        signals = self._hear_signals()
        for worker in self._workers:
            self._start(worker)
        while any(worker.process or worker.due_at is not None for worker in self._workers):
            for key, _ in self._selector.select(self._pause_seconds()):
                if key.fileobj is signals:
                    self._take_signals(signals)
                else:
                    self._take_word(key.data)
            self._bury()
            self._start_due()
        self._remove_directory()
        return self._code

    # -- signals ---------------------------------------------------------------------------------------------------

    def _hear_signals(self) -> socket.socket:
        ours, wakeup = socket.socketpair()
        for each in (ours, wakeup):
            each.setblocking(False)
        signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(ours, selectors.EVENT_READ)
        return ours

    def _take_signals(self, signals: socket.socket) -> None:
        for number in signals.recv(1024):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(signal.Signals(number).name)

    def _stop(self, reason: str) -> None:
        """Let the workers drain; called again, stop them at once."""
        self._stops += 1
        drain_seconds = self._plan["drain_seconds"] if self._stops == 1 else 0.0
        self._kill_at = time.monotonic() + drain_seconds + _LAST_SECONDS
        logger.info("%s: %s", reason, "the workers drain" if self._stops == 1 else "stopping at once")
        for worker in self._workers:
            worker.due_at = None
            if worker.process is None:
                continue
            if worker.serves and worker.control is not None:
                with suppress(OSError):  # it has just died
                    worker.control.send(_STOP)
            else:
                worker.process.kill()  # it has nothing yet that could be lost

    # -- workers ---------------------------------------------------------------------------------------------------

    def _pause_seconds(self) -> float | None:
        waits = [worker.due_at for worker in self._workers if worker.due_at is not None]
        if self._kill_at is not None:
            waits.append(self._kill_at)
        return max(0.0, min(waits) - time.monotonic()) if waits else None

    def _start(self, worker: _Worker) -> None:
        plan, number = self._plan, worker.number
        ours, theirs = socket.socketpair()
        sockets, admin_sockets = plan["sockets"][number], plan["admin_sockets"] if number == 0 else []
        single = {"links": plan["links"], "pages": plan["pages"], "control": theirs.fileno(), "table": plan["table"]}
        place = {
            "number": number,
            "count": plan["workers"],
            "directory": plan["directory"],
            "sockets": sockets,
            "admin_sockets": admin_sockets,
            **single,
        }
        worker.process = subprocess.Popen(  # noqa: S603 - this program, with what it wrote itself
            [*plan["command"], json.dumps(place)],
            pass_fds=[*sockets, *admin_sockets, *single.values()],
            process_group=0,  # Ctrl-C is for us; we pass it on
        )
        theirs.close()
        worker.control, worker.serves, worker.due_at = ours, False, None
        worker.began_at = time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.due_at is not None and now >= worker.due_at:
                self._start(worker)
                self._table.of_all(Field.RESTARTS)[worker.number] += 1
            if self._kill_at is not None and now >= self._kill_at and worker.process is not None:
                worker.process.kill()

    def _take_word(self, worker: _Worker) -> None:
        """The worker serves, or it has closed its end."""
        assert worker.control is not None  # noqa: S101
        try:
            word = worker.control.recv(16)
        except OSError:
            word = b""
        if word != _READY:
            self._selector.unregister(worker.control)
            return
        worker.serves, worker.failed_starts = True, 0
        if not self._complete and all(each.serves for each in self._workers):
            self._complete = True
            logger.info("listening on %s with %d workers", self._plan["url"], len(self._workers))

    def _bury(self) -> None:
        """Take note of those that have ended."""
        for worker in self._workers:
            code = None if worker.process is None else worker.process.poll()
            if code is None:
                continue
            assert worker.process is not None and worker.control is not None  # noqa: S101
            with suppress(KeyError):
                self._selector.unregister(worker.control)
            worker.control.close()
            identifier, worker.process, worker.control = worker.process.pid, None, None
            self._table.clear(worker.number)
            if self._stops:
                self._code = self._code or int(code != 0 and worker.serves)
            else:
                self._replace(worker, identifier, code)

    def _replace(self, worker: _Worker, identifier: int, code: int) -> None:
        lived_seconds = time.monotonic() - worker.began_at
        worker.deaths = worker.deaths + 1 if lived_seconds < _SETTLED_SECONDS else 1
        worker.failed_starts += not worker.serves
        if not self._complete:
            self._give_up(f"worker {worker.number} could not start")
        elif worker.failed_starts >= _MOST_FAILED_STARTS:
            self._give_up(f"worker {worker.number} died {worker.failed_starts} times in a row before it could serve")
        else:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            logger.error("worker %d (pid %d) ended %s and is replaced", worker.number, identifier, how)
            pause_seconds = 0.0 if worker.deaths == 1 else self._plan["pause_seconds"] * 2.0**worker.deaths
            worker.due_at = time.monotonic() + min(pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _give_up(self, why: str) -> None:
        self._code = 1
        logger.error("%s: giving up", why)
        self._stop("trouble")

    def _remove_directory(self) -> None:
        directory = self._plan["directory"]
        for name in os.listdir(directory):  # noqa: PTH208 - pathlib would be half of what is imported
            os.unlink(f"{directory}/{name}")  # noqa: PTH108
        os.rmdir(directory)  # noqa: PTH106


def main() -> int:
    """Carry out the plan on the command line."""
    plan = json.loads(sys.argv[1])
    configure(plan["log_level"], plan["log_format"])
    return Supervisor(plan).run()


if __name__ == "__main__":
    sys.exit(main())
