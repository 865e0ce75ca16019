"""The load: N connections, each with one request under way at all times, and what came of them.

Raw HTTP/1.1, so that the generator is not what is measured. Counts only whole answers with status 200.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from benchmarks import backend

_WARM_UP_SECONDS = 0.3
_LONGEST_TAIL_SECONDS = 60.0
_PROMPT = "Explain in one paragraph what a load balancer does, and when one is better off without it. " * 2


class LoadError(Exception):
    """An answer was not what the backend sends, so the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One window of one load. `answered` counts all, warm-up and tail included.

    `events` are those of streams that arrived within the window. `cpu_seconds` and `pss_bytes` are of the program under
    load, in the window and at its end.
    """

    seconds: float
    requests: int
    events: int
    cpu_seconds: float
    pss_bytes: int
    p50_seconds: float
    p99_seconds: float
    answered: int


def request_bytes(port: int, model: str, token: str, *, stream: bool, prompt_bytes: int = len(_PROMPT)) -> bytes:
    """A chat request as a client sends it; without another wish its body has about 0.3 KB."""
    messages = [{"role": "user", "content": (_PROMPT * (prompt_bytes // len(_PROMPT) + 1))[:prompt_bytes]}]
    body = json.dumps({"model": model, "messages": messages, "temperature": 0.7, "stream": stream}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        f"authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def wait_for_answer(port: int, token: str, seconds: float) -> float:
    """Ask until the first good answer comes; the seconds it took. Raises LoadError."""
    began_at = time.monotonic()
    body = json.dumps({"model": backend.JSON, "messages": [{"role": "user", "content": "hello"}]})
    last = ""
    while time.monotonic() - began_at < seconds:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        try:
            headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            last = f"{answer.status} {answer.read()[:200]!r}"
            if answer.status == 200:
                return time.monotonic() - began_at
        except OSError as error:
            last = str(error)
        finally:
            connection.close()
        time.sleep(0.05)
    raise LoadError(f"no good answer within {seconds:g} s; the last one: {last}")


class _Connection(asyncio.Protocol):
    """One client: sends the next request when the answer to the last one is complete."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._sent_at = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._count = load.count_events  # nobody counts where there are none
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._count:
            self._load.events += data.count(b"data: ")
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
    def __init__(self, request: bytes, *, count_events: bool) -> None:
        self.request = request
        self.running = True
        self.latencies: list[float] = []
        self.count_events = count_events
        self.events = 0


class Loaded(Protocol):
    """A program under load, as the operating system sees it."""

    def cpu_seconds(self) -> float:
        """Used so far."""

    def pss_bytes(self) -> int:
        """Used now."""


async def run(
    port: int, request: bytes, connections: int, seconds: float, program: Loaded, *, count_events: bool = False
) -> Measured:
    """Load 127.0.0.1:`port`, where `program` listens, for `seconds` and a short warm-up. Raises LoadError."""
    loop = asyncio.get_running_loop()
    load = _Load(request, count_events=count_events)
    clients = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    await asyncio.sleep(_WARM_UP_SECONDS)
    before, events_before = len(load.latencies), load.events
    began_at, cpu_before = time.perf_counter(), program.cpu_seconds()
    await asyncio.sleep(seconds)
    elapsed, used = time.perf_counter() - began_at, program.cpu_seconds() - cpu_before
    latencies, events, pss_bytes = load.latencies[before:], load.events - events_before, program.pss_bytes()
    load.running = False
    try:
        async with asyncio.timeout(_LONGEST_TAIL_SECONDS):
            await asyncio.gather(*(client.ended for client in clients))
    except TimeoutError:
        raise LoadError(f"requests did not end within {_LONGEST_TAIL_SECONDS:g} s") from None
    if not latencies and not events:
        raise LoadError(f"no answer within {seconds:g} s")
    latencies = sorted(latencies) or [elapsed]  # no stream began and ended in the window: each takes longer
    return Measured(
        seconds=elapsed,
        requests=len(latencies),
        events=events,
        cpu_seconds=used,
        pss_bytes=pss_bytes,
        p50_seconds=latencies[len(latencies) // 2],
        p99_seconds=latencies[len(latencies) * 99 // 100],
        answered=len(load.latencies),
    )
