"""The control plane's HTTP client: asks an endpoint for its models and says in words how that went.

Never on the path of a request. Trouble is an answer here, not an exception. What an operator reads is written in this
module, never taken from a library's message, which may quote a header and with it the key.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal

import httpx

from balancer.core.endpoints import Endpoint
from balancer.wire.json_text import decode

MAX_BODY_BYTES = 4 * 2**20
MAX_MODELS = 10_000
MAX_ID_LENGTH = 256

Verdict = Literal["ok", "credentials", "no_models_route", "unreachable", "timeout", "redirect", "not_openai", "error"]
Model = Mapping[str, Any]

_OS_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connecting timed out",
}
_CREDENTIAL_STATUSES = (401, 402, 403)
_NO_ROUTE_STATUSES = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class ModelsAnswer:
    """How GET /models went.

    `status` is None where no HTTP answer came. `models` are as the endpoint sent them, each with a string `id`, no id
    twice. `reason` is for an operator and holds no secret; `latency_seconds` runs to the end of the answer.
    """

    verdict: Verdict
    reason: str
    status: int | None = None
    models: tuple[Model, ...] = ()
    latency_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether a list of models came, be it empty."""
        return self.verdict == "ok"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the models, in the order given."""
        return tuple(model["id"] for model in self.models)


class ControlClient:
    """Talks to endpoints outside the data plane, through the proxies that the environment names.

    `timeout_seconds` bounds a whole exchange. `ca_file` replaces the system's certificate authorities. A `transport`
    stands in for the network, proxies included.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float = 5.0,
        ca_file: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._ca_file = ca_file
        self._transport = transport
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def models(self, endpoint: Endpoint) -> ModelsAnswer:
        """Asks for the models the endpoint lists; whatever the network does, there is an answer in time."""
        started_at = time.monotonic()
        verdict, reason, status, models = await self._models(endpoint)
        return ModelsAnswer(verdict, reason, status, models, time.monotonic() - started_at)

    async def close(self) -> None:
        """Closes the connections; the clients would be made anew if used again."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()
