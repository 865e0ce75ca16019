"""What all requests of the data plane share, and the answers the balancer gives itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from balancer.auth import ClientTokens
from balancer.core.endpoints import Endpoint
from balancer.core.errors import (
    AllBusy,
    BalancerError,
    CutOff,
    Draining,
    InvalidRequest,
    NoEndpoint,
    Unauthorized,
    UpstreamError,
    UpstreamTimeout,
)
from balancer.core.model_names import AutoModel
from balancer.dispatch.dispatcher import Dispatcher
from balancer.proxy.affinity import Affinity
from balancer.proxy.answering import Answering
from balancer.proxy.watch import Watches
from balancer.traffic import Counting
from balancer.wire.headers import served_lines
from balancer.wire.openai import MOST_BODY_VALUES, answer_for
from balancer.wire.stored_responses import StoredResponses

# How long a refused body is still taken in, so that the client comes to read the refusal.
_LINGER_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Gateway:
    """The data plane's surroundings. `auto` decides where a client leaves the model open. `draining`: take nothing
    new, finish what runs.
    """

    dispatcher: Dispatcher
    tokens: ClientTokens
    traffic: Counting
    max_body_bytes: int
    client_write_timeout_seconds: float
    max_body_values: int = MOST_BODY_VALUES
    auto: AutoModel = field(default_factory=AutoModel)
    affinity: Affinity = field(default_factory=Affinity)
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    draining: bool = False
    active: int = 0
    watches: Watches = field(default_factory=Watches)
    stored_responses: StoredResponses = field(default_factory=StoredResponses)
    _served: dict[int, tuple[Endpoint, str | None, bytes]] = field(default_factory=dict)
    _ids: str = field(default_factory=lambda: f"req-{time.time_ns():x}-")
    _count: int = 0

    def new_request_id(self) -> str:
        """Unique in this process and, by the time it began, among others."""
        self._count += 1
        return f"{self._ids}{self._count:x}"

    def served_lines(self, endpoint: Endpoint, model: str | None) -> bytes:
        """The lines that say who served; kept for each endpoint while its configuration and the model are the same."""
        known = self._served.get(endpoint.id)
        if known is None or known[0] is not endpoint or known[1] != model:
            known = self._served[endpoint.id] = (endpoint, model, served_lines(endpoint, model))
        return known[2]


_ERROR_CLASSES: tuple[tuple[type[BalancerError], str], ...] = (
    (InvalidRequest, "invalid_request"),
    (Unauthorized, "unauthorized"),
    (Draining, "draining"),
    (AllBusy, "busy"),
    (NoEndpoint, "no_endpoint"),
    (UpstreamTimeout, "timeout"),
    (CutOff, "cut_off"),
    (UpstreamError, "upstream"),
)


def error_class(error: BalancerError) -> str:
    """The class under which an error is counted; the metrics have one label value for each."""
    return next((name for kind, name in _ERROR_CLASSES if isinstance(error, kind)), "internal")


async def send_error(answering: Answering, error: BalancerError, lines: bytes) -> None:
    """Answer `error` in the OpenAI envelope; `lines` are further ones for the head."""
    answer = answer_for(error)
    lines += b"content-type: application/json\r\n"
    if answer.retry_after_seconds is not None:
        lines += b"retry-after: %d\r\n" % answer.retry_after_seconds
    closes = answer.status == 413 or isinstance(error, Draining)
    await answering.send_head(answer.status, lines, len(answer.body), closes=closes)
    if closes and answering.more_body:
        await answering.send(answer.body, more_body=True)
        await _linger(answering)
        await answering.send(b"", more_body=False)
    else:
        await answering.send(answer.body, more_body=False)


async def _linger(answering: Answering) -> None:
    """Take in for a while what the client still sends: closing on unread bytes would destroy the answer on its way
    to the client (RFC 9112 section 9.6).
    """
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while answering.more_body and await answering.read_body() is not None:
                pass
    except TimeoutError:
        pass
