"""Clients that read slowly or not at all, and pings for those that wait: memory and timers stay bounded."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from contextlib import AsyncExitStack
from typing import Any

import pytest

from balancer.core.endpoints import Provenance, Usage
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer, events_of
from tests.raw_server import RawServer, Script, chunked, read_request
from tests.running import RunningGateway, chat_body, eventually, raw_client, wired

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}\n\n'
LONG = Behaviour(completion_tokens=1_000_000, tokens_per_chunk=500)
WRITE_TIMEOUT_SECONDS = 0.3


class Flood:
    """A stream of 40 MB, far more than all buffers on the way hold together."""

    TOTAL = 40_000_000

    def __init__(self) -> None:
        self.written = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM_HEAD)
        wave = EVENT.replace(b'"x"', b'"%s"' % (b"x" * 2000)) * 30
        while self.written < self.TOTAL:
            writer.write(chunked(wave, last=False))
            await writer.drain()
            self.written += len(wave)
        writer.write(chunked(USAGE + DONE))
        await reader.read()


async def comes_to_rest(number: Any) -> int:
    """The value of `number()` once it has not changed for a while."""
    value, seen = number(), 0
    while seen < 50:
        await asyncio.sleep(0.004)
        seen, value = (seen + 1, value) if number() == value else (0, number())
    return int(value)


@pytest.mark.parametrize("asks", [False, True], ids=["injected", "as asked"])
async def test_a_client_that_does_not_read_holds_the_endpoint_back(asks: bool) -> None:
    flood = Flood()
    async with (
        RawServer(flood) as server,
        # The endpoint's patience is shorter than the client's pause: it must not be used up by it.
        RunningGateway(wired(server.url, timeout=0.15)) as gateway,
    ):
        async with raw_client(gateway.url, receive_buffer=16_384, reads=False) as client:
            client.post(chat_body(stream=True, stream_options={"include_usage": asks}), b"connection: close")
            await eventually(lambda: flood.written)
            assert await comes_to_rest(lambda: flood.written) < 0.75 * flood.TOTAL
            assert gateway.inflight == 1

            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await client.head()
            body = await client.rest()
            assert len(body) > flood.TOTAL
            assert DONE in body[-200:]
            assert (USAGE in body[-200:]) is asks
        record = await gateway.recorded(1)
        assert (record.status, record.attempts[0].outcome) == (200, "success")
        assert record.usage == Usage(7, 9)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_that_takes_nothing_is_dropped(stream: bool) -> None:
    async with (
        FakeServer(LONG) as fake,
        RunningGateway(wired(fake), client_write_timeout_seconds=WRITE_TIMEOUT_SECONDS) as gateway,
    ):
        async with raw_client(gateway.url, receive_buffer=16_384, reads=False) as client:
            client.post(chat_body(stream=stream, max_tokens=1_000_000))
            record = await gateway.recorded(1)
        assert (record.status, record.error) == (499, "client left")
        assert record.attempts[0].outcome == "neutral"
        assert record.usage is not None
        assert record.usage.provenance is Provenance.PARTIAL
        assert gateway.state().breaker.failures == 0
        await fake.wait_for(lambda stats: not stats.connections)


async def test_a_client_that_reads_a_little_is_kept() -> None:
    patience_seconds = 1.0  # far longer than a busy machine keeps this process waiting
    async with RawServer(Flood()) as server:
        endpoints = wired(server.url)
        async with RunningGateway(endpoints, client_write_timeout_seconds=patience_seconds) as gateway:
            async with raw_client(gateway.url, receive_buffer=16_384) as client:
                client.post(chat_body(stream=True))
                until = time.monotonic() + 1.5 * patience_seconds
                while time.monotonic() < until:
                    assert await client.reader.read(65_536)
                    await asyncio.sleep(0.01)
                assert not gateway.traffic.log
            record = await gateway.recorded(1)
            assert record.error == "client left"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_that_takes_nothing_of_a_broken_answer_is_dropped(stream: bool) -> None:
    """What is left to do for such an answer must not wait for a client that takes nothing either."""

    async def breaks_when_clogged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM_HEAD if stream else b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n")
        while not gateway.app.clogged:
            writer.write(chunked(EVENT * 300, last=False) if stream else b"x" * 20_000)
            await asyncio.sleep(0.02)  # long enough to be passed on, so that nothing more is on its way
        writer.transport.abort()

    async with RawServer(breaks_when_clogged) as server:
        endpoints = wired(server.url, include_usage=False)
        async with RunningGateway(endpoints, client_write_timeout_seconds=WRITE_TIMEOUT_SECONDS) as gateway:
            gateway.app.shrink_send_buffers()
            async with raw_client(gateway.url, receive_buffer=16_384, reads=False) as client:
                client.post(chat_body(stream=stream))
                record = await gateway.recorded(1)
                assert "cut after" in record.error
                assert (record.status, record.attempts[0].outcome) == (200, "failed")
                await gateway.settled()


async def test_an_endpoint_that_pauses_is_no_client_that_takes_nothing() -> None:
    async with (
        RawServer(paced(EVENT, 3 * WRITE_TIMEOUT_SECONDS, DONE)) as server,
        RunningGateway(wired(server.url), client_write_timeout_seconds=WRITE_TIMEOUT_SECONDS) as gateway,
    ):
        assert await bytes_of(gateway) == EVENT + DONE


async def test_prompts_are_not_kept_while_their_answers_stream() -> None:
    release = asyncio.Event()
    streams, size = 8, 2_000_000

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM_HEAD + chunked(EVENT, last=False))
        await release.wait()
        writer.write(chunked(DONE))
        await reader.read()

    async with RawServer(script) as server, RunningGateway(wired(server.url)) as gateway, AsyncExitStack() as stack:
        tracemalloc.start()
        try:
            for _ in range(streams):
                client = await stack.enter_async_context(raw_client(gateway.url))
                client.post(chat_body(stream=True, padding="x" * size))
                await client.reader.readuntil(EVENT)
            kept, _ = tracemalloc.get_traced_memory()
            assert kept < streams * size / 2
        finally:
            tracemalloc.stop()
        release.set()
        await gateway.recorded(streams)


# -- pings ------------------------------------------------------------------------------------------------------------


def paced(*pieces: bytes | float | asyncio.Event) -> Script:
    """A stream of pieces in chunks of their own, with pauses between them: in seconds, or until something is so."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM_HEAD)
        for piece in pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                writer.write(chunked(piece, last=False))
        writer.write(chunked())
        await reader.read()

    return script


async def bytes_of(gateway: RunningGateway, *pinged: asyncio.Event) -> bytes:
    """The stream to its end; of `pinged` the first is set by the first ping, the second by the next one, and so on."""
    body = b""
    async with gateway.client.stream("POST", "/v1/chat/completions", content=chat_body(stream=True)) as response:
        async for part in response.aiter_raw():
            body += part
            for each in pinged[: body.count(PING)]:
                each.set()
    return body


async def test_pings_fill_silence_between_events() -> None:
    for include_usage in (True, False):
        one, two = asyncio.Event(), asyncio.Event()
        # Half an event may have been passed on: then no ping follows, and the pause has an end of its own.
        script = paced(EVENT, one, EVENT, two, EVENT[:20], 0.2, EVENT[20:], b"data: [DONE]\n\n")
        async with RawServer(script) as server:
            endpoints = wired(server.url, include_usage=include_usage)
            async with RunningGateway(endpoints, ping_seconds=0.05) as gateway:
                body = await bytes_of(gateway, one, two)
                assert body.replace(PING, b"") == 3 * EVENT + b"data: [DONE]\n\n"
                # Never inside an event: what was held back may be pinged over, what went out may not.
                assert all(block.startswith((b"data: ", b": ping")) for block in body.split(b"\n\n") if block)
                assert gateway.last.attempts[0].outcome == "success"


async def test_the_ping_that_commits_is_sent() -> None:
    pinged = asyncio.Event()
    script = paced(pinged, EVENT, DONE)
    async with RawServer(script) as server, RunningGateway(wired(server.url), ping_seconds=0.2) as gateway:
        body = await bytes_of(gateway, pinged)
        assert body.startswith(PING)
        assert body.replace(PING, b"") == EVENT + DONE


async def test_the_first_ping_commits() -> None:
    script = paced(0.3, b'data: {"error": {"message": "late"}}\n\n')
    async with (
        RawServer(script) as server,
        FakeServer() as good,
        RunningGateway(wired(server.url, good), ping_seconds=0.05) as gateway,
    ):
        async with gateway.client.stream("POST", "/v1/chat/completions", content=chat_body(stream=True)) as response:
            first = await anext(response.aiter_bytes())
            assert first.startswith(PING)
        await gateway.settled()
        assert good.stats.total_requests == 0


async def test_no_pings_unless_configured() -> None:
    async with (
        RawServer(paced(EVENT, 0.2, b"data: [DONE]\n\n")) as server,
        RunningGateway(wired(server.url)) as gateway,
    ):
        assert await bytes_of(gateway) == EVENT + b"data: [DONE]\n\n"


async def test_silence_under_pings_still_ends_at_the_timeout() -> None:
    async with (
        FakeServer(Behaviour(fault="stall_body", fault_after=2)) as fake,
        RunningGateway(wired(fake, timeout=0.3), ping_seconds=0.05) as gateway,
    ):
        body = await bytes_of(gateway)
        assert PING in body
        assert "silent for 0.3 s" in events_of(body.replace(PING, b"").decode())[-1]["error"]["message"]
        assert gateway.last.attempts[0].outcome == "failed"


async def test_comments_are_held_back_no_longer_than_silence() -> None:
    thoughts: list[bytes | float] = [b": thinking\n\n", 0.02]
    script = paced(*thoughts * 40, EVENT, b"data: [DONE]\n\n")
    async with (
        RawServer(script) as server,
        RunningGateway(wired(server.url, timeout=0.5)) as gateway,
    ):
        async with gateway.client.stream("POST", "/v1/chat/completions", content=chat_body(stream=True)) as response:
            received = b""
            committed_at = None
            async for part in response.aiter_bytes():
                committed_at = committed_at or received or part
                received += part
        assert received == b": thinking\n\n" * 40 + EVENT + b"data: [DONE]\n\n"
        assert committed_at is not None
        assert EVENT not in committed_at


async def test_64_kb_of_comments_commit() -> None:
    committed = asyncio.Event()
    async with (
        RawServer(paced(b": " + b"x" * 70_000 + b"\n\n", committed, EVENT, b"data: [DONE]\n\n")) as server,
        RunningGateway(wired(server.url)) as gateway,
        gateway.client.stream("POST", "/v1/chat/completions", content=chat_body(stream=True)) as response,
    ):
        parts = response.aiter_bytes()
        assert (await anext(parts)).startswith(b": xxx")
        committed.set()
        assert EVENT in b"".join([part async for part in parts])
