"""Heads of requests that are too long, and what stands where no header field should."""

from __future__ import annotations

import asyncio
import json

import pytest

from balancer.proxy.reception import ClientLimits
from tests.fakes import FakeServer
from tests.raw_server import RawServer, read_request
from tests.running import CHAT_PATH, RawClient, RunningGateway, chat_body, raw_client, request, wired

BODY = chat_body()
LIMITS = ClientLimits(header_bytes=4096, headers=20)


def refusal(answer: bytes) -> tuple[int, str]:
    """Status and code of the one answer there is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1 and b"connection: close" in head, answer[:300]
    return int(head[9:12]), json.loads(body)["error"]["code"]


async def pours(client: RawClient, piece: bytes, most: int) -> bytes:
    """Send `piece` until the server closes; fails if it takes in more than `most` bytes."""
    rest = asyncio.create_task(client.rest())
    sent = 0
    while not rest.done():
        client.send(piece)
        sent += len(piece)
        await asyncio.sleep(0)
        assert sent < most, "no end"
        if sent > most // 2:
            await asyncio.sleep(0.01)
    return await rest


LONG = b"x" * 5000
HEADS = {
    "path": request(BODY, path="/v1/chat/completions?" + LONG.decode()),
    "field": request(BODY, b"x-a: " + LONG),
    "name": request(BODY, LONG + b": a"),
    "fields together": request(BODY, *(b"x-%d: " % number + b"y" * 400 for number in range(12))),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("step", [0, 700])
async def test_a_long_head_is_refused(head: str, step: int) -> None:
    """In one read or in many: the limit is the same."""
    async with (
        FakeServer() as fake,
        RunningGateway(wired(fake), limits=LIMITS) as gateway,
        raw_client(gateway.url) as client,
    ):
        data = HEADS[head]
        for start in range(0, len(data), step or len(data)):
            client.send(data[start : start + (step or len(data))])
            await asyncio.sleep(0.002 if step else 0)
        assert refusal(await client.rest()) == (431, "headers_too_large")
        assert not fake.stats.total_requests


@pytest.mark.parametrize("beginning", [b"GET /", b"GET / HTTP/1.1\r\nx-a: ", b"GET / HTTP/1.1\r\nx"])
async def test_a_head_without_end_is_not_kept(beginning: bytes) -> None:
    async with RunningGateway([], limits=LIMITS) as gateway, raw_client(gateway.url) as client:
        client.send(beginning)
        assert refusal(await pours(client, b"y" * 1000, 1_000_000)) == (431, "headers_too_large")


@pytest.mark.parametrize(("count", "status"), [(18, 200), (19, 431)])
async def test_many_fields_are_refused(count: int, status: int) -> None:
    """`request` has two of its own."""
    async with (
        FakeServer() as fake,
        RunningGateway(wired(fake), limits=LIMITS) as gateway,
        raw_client(gateway.url) as client,
    ):
        client.post(BODY, *(b"x-%d: y" % number for number in range(count)))
        got, _ = await client.head()
        assert got == status


async def test_a_long_body_does_not_count_as_head() -> None:
    """Also not for the request that begins in the same read as it ends, nor for the next."""
    async with (
        FakeServer() as fake,
        RunningGateway(wired(fake), limits=LIMITS) as gateway,
        raw_client(gateway.url) as client,
    ):
        long = request(chat_body(metadata="z" * 300_000))
        client.send(long + request(BODY)[:-1])
        assert (await client.answer())[0] == 200
        client.send(request(BODY)[-1:] + long)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]


CHUNKED = b"POST %b HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n" % CHAT_PATH.encode()


@pytest.mark.parametrize("piece", [b"x-trailer: y\r\n", b"y"])
async def test_trailers_without_end_are_not_kept(piece: bytes) -> None:
    async with RunningGateway([], limits=LIMITS) as gateway, raw_client(gateway.url) as client:
        client.send(CHUNKED + b"%x\r\n%b\r\n0\r\nx: " % (len(BODY), BODY) + b"y\r\n")
        assert refusal(await pours(client, piece * 100, 1_000_000))[0] in (400, 431)


async def test_a_chunk_extension_without_end_is_not_read() -> None:
    async with RunningGateway([], limits=LIMITS) as gateway, raw_client(gateway.url) as client:
        client.send(CHUNKED + b"5;a=")
        assert refusal(await pours(client, b"y" * 1000, 1_000_000)) == (431, "headers_too_large")


async def test_trailers_are_no_headers() -> None:
    """A proxy in front that sets or removes fields of the head could be deceived by them otherwise."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader)).head)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    async with (
        RawServer(script) as server,
        RunningGateway(wired(f"{server.url}/v1"), tokens=["right"]) as gateway,
        raw_client(gateway.url) as client,
    ):
        body = b"%x\r\n%b\r\n0\r\nx-late: yes\r\nauthorization: Bearer right\r\n\r\n" % (len(BODY), BODY)
        client.send(CHUNKED + body)
        assert (await client.answer())[0] == 401
        client.send(CHUNKED.replace(b"host: b", b"host: b\r\nauthorization: Bearer right") + body)
        assert (await client.answer())[0] == 200
    (head,) = heads
    assert b"x-late" not in head.lower()
