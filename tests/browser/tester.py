"""A load tester in a process of its own, as its page is tested against."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx

from tests.browser.stage import DEADLINE_SECONDS, eventually, free_port

_ROOT = Path(__file__).resolve().parents[2]
_LISTENING = re.compile(r"listening on (http://\S+)")


class Tester:
    """A load tester with an empty history in `directory`; `environ` holds further settings of it."""

    __test__ = False

    def __init__(self, directory: Path, **environ: str) -> None:
        self._directory = directory
        self._environ = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(_ROOT),
            "LT_PORT": str(free_port()),
            "LT_DATA_DIR": str(directory / "data"),
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "load_tester"], cwd=self._directory, env=self._environ, stdout=log, stderr=log
            )
        eventually(self._listens, "start of the load tester")

    def stop(self) -> None:
        """End it as its operator would; its history stays."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self) -> None:
        """End it and start it again, at the same address."""
        self.stop()
        self.start()

    def runs(self) -> Any:
        """What its API lists; only of one without a token."""
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            client.get("/api/session")
            return client.get("/api/runs").json()

    def _listens(self) -> bool:
        assert self._process is not None
        log = (self._directory / "log").read_text("utf-8")
        assert self._process.poll() is None, f"the load tester did not start:\n{log}"
        found = _LISTENING.search(log)
        self.url = found[1] if found else ""
        return found is not None
