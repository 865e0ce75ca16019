"""The balancer under test: the real process with a database of its own, wired through its admin API."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import httpx

from balancer.store import Database
from benchmarks.processes import Program, StartFailed, free_port

# Different shares, so that routing has something to decide and its result can be seen. One backend each.
QUOTAS_PERCENT = (40.0, 30.0, 20.0, 10.0)

# Several workers take connections before they serve.
_ANSWER_SECONDS = 60.0

_TOKEN_FIELDS = ("prompt_tokens_total", "completion_tokens_total")


class AccountingWrong(Exception):
    """The balancer counted something else than was served."""


@dataclass(frozen=True, slots=True)
class Served:
    """Requests and tokens, by whoever counted them."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Served) -> Served:
        return Served(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


class BalancerProgram(Program):
    """Percentage routing over the backends for a client with a token; database and request log on, as always."""

    def __init__(self, backend_ports: Sequence[int], cores: Collection[int], folder: Path, workers: int = 1) -> None:
        port = free_port()
        admin_token = secrets.token_urlsafe()
        database = folder / "balancer.db"
        # As for every start but the first one: migrating takes memory that the process never gives back.
        asyncio.run(_migrate(database))
        environ = {
            "LB_HOST": "127.0.0.1",
            "LB_PORT": str(port),
            "LB_DB_PATH": str(database),
            "LB_ADMIN_TOKEN": admin_token,
            "LB_LOG_LEVEL": "WARNING",
            "LB_WORKERS": str(workers),
        }
        super().__init__([sys.executable, "-m", "balancer", "serve"], port, cores, folder, environ)
        self.client_token = ""
        self._backend_ports = backend_ports
        self._api = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/admin/api",
            headers={"x-admin-token": admin_token},
            trust_env=False,
            timeout=_ANSWER_SECONDS,
        )

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._set_up()
        except httpx.HTTPError as error:
            self.stop()
            raise StartFailed(f"the balancer could not be set up: {error}\n{self.output()}") from None
        return self

    def _set_up(self) -> None:
        self._call("PATCH", "/routing", {"routing_mode": "percentage"})
        endpoints = [
            {
                "name": f"backend-{number}",
                "base_url": f"http://127.0.0.1:{port}/v1",
                "connected": True,
                "token_quota_percent": quota,
            }
            for number, (port, quota) in enumerate(zip(self._backend_ports, cycle(QUOTAS_PERCENT)), start=1)
        ]
        self._call("POST", "/endpoints", endpoints)
        self.client_token = self._call("POST", "/tokens", {"name": "benchmark"})["token"]

    def stop(self) -> None:
        """End the process."""
        self._api.close()
        super().stop()

    def check_accounting(self, served: Served) -> str:
        """Compare what endpoints and client are charged with what was served; returns the result as a sentence.

        Raises AccountingWrong.
        """
        state = self._call("GET", "/state")
        for payers in ("endpoints", "client_tokens"):
            counted = sum((_charged(payer) for payer in state[payers]), Served())
            if counted != served:
                raise AccountingWrong(f"{served} was served, but {payers} were charged {counted}")
        words = (
            f"Served and charged alike: {served.requests:,} requests, {served.prompt_tokens:,} prompt tokens, "
            f"{served.completion_tokens:,} completion tokens"
        )
        if len(self._backend_ports) != len(QUOTAS_PERCENT):
            return f"{words}, {len(self._backend_ports):,} endpoints."
        total = served.prompt_tokens + served.completion_tokens
        shares = (100 * sum(endpoint[field] for field in _TOKEN_FIELDS) / total for endpoint in state["endpoints"])
        return f"{words}. Quotas {_listed(QUOTAS_PERCENT)} %, shares {_listed(shares)} %."

    def _call(self, method: str, path: str, fields: object = None) -> Any:
        return self._api.request(method, path, json=fields).raise_for_status().json()


async def _migrate(database: Path) -> None:
    await (await Database.open(f"sqlite+aiosqlite:///{database}")).close()


def _charged(payer: dict[str, Any]) -> Served:
    return Served(payer["total_requests"], *(payer[field] for field in _TOKEN_FIELDS))


def _listed(percentages: Iterable[float]) -> str:
    return " / ".join(f"{each:.2f}" for each in percentages)
