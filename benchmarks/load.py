"""The load: N connections, each with one request under way at all times, and what came of them.

Raw HTTP/1.1, so that the generator is not what is measured. Counts only whole answers with status 200.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

_WARM_UP_SECONDS = 0.3
_PROMPT = "Explain in one paragraph what a load balancer does, and when one is better off without it. " * 2


class LoadError(Exception):
    """An answer was not what the backend sends, so the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One window of one load. `cpu_seconds` of whom `cpu` reads; `answered` counts all, warm-up and tail included."""

    seconds: float
    requests: int
    cpu_seconds: float
    p50_seconds: float
    p99_seconds: float
    answered: int


def request_bytes(port: int, model: str, token: str, *, stream: bool) -> bytes:
    """A chat request of about 0.3 KB, as a client sends it."""
    messages = [{"role": "user", "content": _PROMPT}]
    body = json.dumps({"model": model, "messages": messages, "temperature": 0.7, "stream": stream}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        f"authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """One client: sends the next request when the answer to the last one is complete."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._sent_at = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(LoadError("the connection was closed before the answer was complete"))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self.ended.set_exception(LoadError(f"answered {status}"))
            self._transport.close()
            return
        self._load.latencies.append(time.perf_counter() - self._sent_at)
        if self._load.running:
            self._send()
        else:
            self.ended.set_result(None)
            self._transport.close()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._load.request)


class _Load:
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.running = True
        self.latencies: list[float] = []


async def run(port: int, request: bytes, connections: int, seconds: float, cpu: Callable[[], float]) -> Measured:
    """Load 127.0.0.1:`port` for `seconds` and a short warm-up. Raises LoadError."""
    loop = asyncio.get_running_loop()
    load = _Load(request)
    clients = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    await asyncio.sleep(_WARM_UP_SECONDS)
    before, began_at, cpu_before = len(load.latencies), time.perf_counter(), cpu()
    await asyncio.sleep(seconds)
    latencies, elapsed, used = load.latencies[before:], time.perf_counter() - began_at, cpu() - cpu_before
    load.running = False
    await asyncio.gather(*(client.ended for client in clients))
    if not latencies:
        raise LoadError(f"no answer within {seconds:g} s")
    latencies.sort()
    return Measured(
        seconds=elapsed,
        requests=len(latencies),
        cpu_seconds=used,
        p50_seconds=latencies[len(latencies) // 2],
        p99_seconds=latencies[len(latencies) * 99 // 100],
        answered=len(load.latencies),
    )
