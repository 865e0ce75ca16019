"""A load tester in a process of its own, as its page is tested against."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

import httpx

from tests.browser.stage import Program, free_port

_LISTENING = re.compile(r"listening on (http://\S+)")


class Tester(Program):
    """A load tester with an empty history in `directory`; `environ` holds further settings of it."""

    __test__ = False

    def __init__(self, directory: Path, **environ: str) -> None:
        settings = {"LT_PORT": str(free_port()), "LT_DATA_DIR": str(directory / "data")}
        super().__init__(["load_tester"], directory, settings | environ)
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def runs(self) -> Any:
        """What its API lists; only of one without a token."""
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            client.get("/api/session")
            return client.get("/api/runs").json()

    def _answers(self) -> bool:
        found = _LISTENING.search(self.log)
        self.url = found[1] if found else ""
        return found is not None
