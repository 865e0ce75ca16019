"""The balancer under test: the real process with a database of its own, wired through its admin API."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from benchmarks.processes import Program, free_port

# Different shares, so that routing has something to decide and its result can be seen.
_QUOTAS_PERCENT = (40.0, 30.0, 20.0, 10.0)


class AccountingWrong(Exception):
    """The balancer counted something else than was served."""


@dataclass(frozen=True, slots=True)
class Served:
    """Requests and tokens, by whoever counted them."""

    requests: int
    prompt_tokens: int
    completion_tokens: int


class BalancerProgram(Program):
    """Started with a client token, percentage routing over the backends, database and request log on."""

    def __init__(self, backend_ports: Sequence[int], cores: Collection[int], folder: Path) -> None:
        port = free_port()
        admin_token = secrets.token_urlsafe()
        environ = {
            "LB_HOST": "127.0.0.1",
            "LB_PORT": str(port),
            "LB_DB_PATH": str(folder / "balancer.db"),
            "LB_ADMIN_TOKEN": admin_token,
            "LB_LOG_LEVEL": "WARNING",
        }
        super().__init__([sys.executable, "-m", "balancer", "serve"], port, cores, folder, environ)
        self.client_token = ""
        self._backend_ports = backend_ports
        self._api = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/admin/api", headers={"x-admin-token": admin_token}, trust_env=False
        )

    def __enter__(self) -> Self:
        super().__enter__()
        self._create("/routing", {"routing_mode": "percentage"}, method="PATCH")
        for number, (port, quota) in enumerate(zip(self._backend_ports, _QUOTAS_PERCENT, strict=True), start=1):
            endpoint = {
                "name": f"backend-{number}",
                "base_url": f"http://127.0.0.1:{port}/v1",
                "connected": True,
                "token_quota_percent": quota,
            }
            self._create("/endpoints", endpoint)
        self.client_token = str(self._create("/tokens", {"name": "benchmark"})["token"])
        return self

    def stop(self) -> None:
        """End the process and the connection to its admin API."""
        self._api.close()
        super().stop()

    def check_accounting(self, served: Served) -> str:
        """Compare what endpoints and client are charged with what was served; returns a sentence about it.

        Raises AccountingWrong.
        """
        state = self._api.get("/state").raise_for_status().json()
        for who in ("endpoints", "client_tokens"):
            counted = Served(
                *(sum(each[field] for each in state[who]) for field in ("total_requests", *_TOKEN_FIELDS))
            )
            if counted != served:
                raise AccountingWrong(f"served {served}, but the {who} were charged with {counted}")
        total = served.prompt_tokens + served.completion_tokens
        shares = (sum(each[field] for field in _TOKEN_FIELDS) / total for each in state["endpoints"])
        return (
            f"{served.requests:,} requests, {served.prompt_tokens:,} prompt and {served.completion_tokens:,} completion "
            f"tokens: counted as served, for endpoints and client. Quotas {_listed(_QUOTAS_PERCENT)} %, "
            f"shares of tokens {_listed(100 * share for share in shares)} %."
        )

    def _create(self, path: str, fields: dict[str, object], method: str = "POST") -> dict[str, object]:
        answer: dict[str, object] = self._api.request(method, path, json=fields).raise_for_status().json()
        return answer


_TOKEN_FIELDS = ("prompt_tokens_total", "completion_tokens_total")


def _listed(percentages: Collection[float] | object) -> str:
    return " / ".join(f"{each:.3g}" for each in percentages)  # type: ignore[attr-defined]
