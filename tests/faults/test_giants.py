"""Answers of 100 MB pass in bounded memory, streamed or not, also to a client that takes its time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.answers import DONE
from tests.raw_server import RawServer, Script, read_request
from tests.running import RunningGateway, chat_body, raw_client, wired

MEGABYTE = 1 << 20
SIZE_MEGABYTES = 100
# What the process may grow by while 100 MB pass: buffers of both sockets on both sides, and the allocator's slack.
MOST_GROWTH_MEGABYTES = 30
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 4000)


def sends(head: bytes, piece: bytes, end: bytes, digest: list[str]) -> Script:
    """A script that sends 100 MB of `piece` between `head` and `end` and closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        sum_of_all = hashlib.sha256()
        for _ in range(SIZE_MEGABYTES * MEGABYTE // len(piece)):
            writer.write(piece)
            sum_of_all.update(piece)
            await writer.drain()
        writer.write(end)
        sum_of_all.update(end)
        digest.append(sum_of_all.hexdigest())

    return script


def peak_megabytes() -> float:
    """The most memory this process has had since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak of memory")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_hundred_megabytes(streamed: bool) -> None:
    digests: list[str] = []
    kind = b"text/event-stream" if streamed else b"application/json"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n"
    piece, end = (EVENT * 16, DONE) if streamed else (b" " * 65536, b"{}")
    async with (
        RawServer(sends(head, piece, end, digests)) as server,
        RunningGateway(wired(server.url, include_usage=False)) as gateway,
        raw_client(gateway.url) as client,
    ):
        client.post(chat_body(stream=True) if streamed else chat_body(), b"connection: close")
        await client.head()
        forget_peak()
        before = peak_megabytes()
        seen = hashlib.sha256()
        async for data in pieces(client.reader):
            seen.update(data)
        assert [seen.hexdigest()] == digests
        assert peak_megabytes() - before < MOST_GROWTH_MEGABYTES
        await gateway.settled()
        assert (gateway.last.status, gateway.last.error) == (200, "")


async def pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The data of each chunk."""
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    assert await reader.read() == b"\r\n"
